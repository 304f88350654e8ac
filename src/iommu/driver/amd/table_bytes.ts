/** Fields of the IVRS as Xen reads them: in place, little-endian. Beyond the end of the table everything is zero. */
export const u8 = (t: Uint8Array, at: number): number => t[at] ?? 0;
export const u16 = (t: Uint8Array, at: number): number => u8(t, at) | (u8(t, at + 1) << 8);
export const u32 = (t: Uint8Array, at: number): number => u16(t, at) + u16(t, at + 2) * 0x1_0000;
export const u64 = (t: Uint8Array, at: number): number => u32(t, at) + u32(t, at + 4) * 2 ** 32;
export const text = (t: Uint8Array, at: number, n: number): string =>
  String.fromCharCode(...t.subarray(at, at + n));

/** Offsets in the table and in the header of its blocks. @xen struct acpi_table_ivrs, struct acpi_ivrs_header */
export const IVRS = { LENGTH: 4, INFO: 36, BLOCKS: 48 } as const;
export const BLOCK = { TYPE: 0, FLAGS: 1, LENGTH: 2, DEVICE_ID: 4 } as const;
export const BLOCK_HEADER_BYTES = 6;
