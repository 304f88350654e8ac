/**
 * The IVRS table of ACPI: which AMD IOMMUs there are, which devices they serve, which memory they must reach
 * (48882, chapter 5). `encodeIvrs(parseIvrs(x))` gives back x, byte for byte, for every table that parses.
 * Hostile input ends in one InputError that names the offset.
 */
import { InputError } from '../../base/assert.js';
import { ByteReader, ByteWriter, type U64 } from './bytes.js';

/** IVRSinfo, bits of the word at offset 36 (5.2.1). */
export const IVRS_INFO = { EFR_SUP: 1 } as const;
export const IVRS_HEADER_BYTES = 48;
/** Block types (5.2.2, 5.2.3). */
export const IVHD_TYPE = { BASIC: 0x10, EFR: 0x11, ACPI: 0x40 } as const;
export const IVMD_TYPE = { ALL: 0x20, ONE: 0x21, RANGE: 0x22, IOMMU: 0x23 } as const;
/** Flags of an IVMD (5.2.3, table 107). */
export const IVMD_FLAG = { UNITY: 1, READ: 2, WRITE: 4, EXCLUSION: 8 } as const;
/** Device entry types (5.2.2.2). */
export const IVHD_DEV = {
  PAD4: 0,
  ALL: 1,
  SELECT: 2,
  START: 3,
  END: 4,
  PAD8: 64,
  ALIAS_SELECT: 66,
  ALIAS_START: 67,
  EXT_SELECT: 70,
  EXT_START: 71,
  SPECIAL: 72,
  ACPI_HID: 240,
} as const;
/** Varieties of a special device entry. */
export const SPECIAL = { IOAPIC: 1, HPET: 2 } as const;

/** One device entry. `id` is a requester id; fields beyond those of its type are absent. */
export interface IvhdEntry {
  readonly type: number;
  readonly id: number;
  /** Data setting: interrupt pass bits and system management. */
  readonly data: number;
  /** 66, 67: the id the device uses instead; 72: the id of the I/O APIC or HPET. */
  readonly usedId?: number;
  /** 66, 67: reserved bytes 4 and 7. 72: handle and variety. */
  readonly byte4?: number;
  readonly byte7?: number;
  /** 70, 71: extended data; bit 31 forbids ATS. */
  readonly ext?: number;
  /** 240: names as eight bytes each, and the unique id. */
  readonly hid?: string;
  readonly cid?: string;
  readonly uidFormat?: number;
  readonly uid?: Uint8Array;
  /** Anything after the first four bytes of a type this codec does not know. */
  readonly rest?: Uint8Array;
}

export interface Ivhd {
  readonly kind: 'ivhd';
  readonly type: number;
  readonly flags: number;
  /** Requester id of the IOMMU. */
  readonly deviceId: number;
  readonly capOffset: number;
  /** Address of the registers, bytes. */
  readonly base: number;
  readonly segment: number;
  readonly info: number;
  /** Type 10h: feature attributes; 11h and 40h: number of performance counters and the like. */
  readonly attr: number;
  /** 11h and 40h: image of the extended feature register, and a second quadword. */
  readonly efr?: U64;
  readonly efr2?: U64;
  readonly entries: readonly IvhdEntry[];
}

export interface Ivmd {
  readonly kind: 'ivmd';
  readonly type: number;
  readonly flags: number;
  readonly deviceId: number;
  /** RANGE: the last device; IOMMU: its capability offset. */
  readonly auxData: number;
  readonly reserved: U64;
  /** Bytes. */
  readonly start: number;
  readonly length: number;
  /** Bytes after the defined ones. */
  readonly rest: Uint8Array;
}

export interface IvrsUnknown {
  readonly kind: 'unknown';
  readonly type: number;
  /** The block after its type byte and length, header fields included. */
  readonly bytes: Uint8Array;
}

export type IvrsBlock = Ivhd | Ivmd | IvrsUnknown;

export interface Ivrs {
  readonly revision: number;
  readonly checksum: number;
  readonly oemId: string;
  readonly oemTableId: string;
  readonly oemRevision: number;
  readonly creatorId: string;
  readonly creatorRevision: number;
  readonly info: number;
  readonly reserved: U64;
  readonly blocks: readonly IvrsBlock[];
}

export const isIvhdType = (type: number): boolean =>
  type === IVHD_TYPE.BASIC || type === IVHD_TYPE.EFR || type === IVHD_TYPE.ACPI;
export const isIvmdType = (type: number): boolean => type >= IVMD_TYPE.ALL && type <= IVMD_TYPE.IOMMU;
const ivhdHeaderBytes = (type: number): number => (type === IVHD_TYPE.BASIC ? 24 : 40);

/** Bytes of a device entry; 0 where only the entry itself knows (ACPI_HID). Bits 7:6 of the type tell. */
const entryBytes = (type: number): number => (type >= 0xf0 ? 0 : 4 << (type >>> 6));

/** @throws InputError naming `source` and the offset */
export function parseIvrs(bytes: Uint8Array, source = 'IVRS'): Ivrs {
  const r = new ByteReader(bytes, source, 'dump the table again: /sys/firmware/acpi/tables/IVRS');
  if (r.text(4) !== 'IVRS') throw r.error(0, 'no IVRS signature');
  const length = r.u32();
  if (length > bytes.length) throw r.error(4, `the table says ${length} bytes, the file has ${bytes.length}`);
  if (length < IVRS_HEADER_BYTES) throw r.error(4, `a length of ${length} bytes is too short for an IVRS`);
  if (length < bytes.length)
    throw r.error(length, `${bytes.length - length} bytes follow the end of the table`);
  const head = {
    revision: r.u8(),
    checksum: r.u8(),
    oemId: r.text(6),
    oemTableId: r.text(8),
    oemRevision: r.u32(),
    creatorId: r.text(4),
    creatorRevision: r.u32(),
    info: r.u32(),
    reserved: r.u64(),
  };
  const blocks: IvrsBlock[] = [];
  while (r.at < length) blocks.push(parseBlock(r, length));
  return { ...head, blocks };
}

function parseBlock(r: ByteReader, tableEnd: number): IvrsBlock {
  const start = r.at;
  const type = r.u8();
  const flags = r.u8();
  const bytes = r.u16();
  if (bytes < 4 || start + bytes > tableEnd)
    throw r.error(start + 2, `a block of type 0x${type.toString(16)} has the impossible length ${bytes}`);
  const end = start + bytes;
  if (isIvhdType(type)) {
    if (bytes < ivhdHeaderBytes(type)) throw r.error(start + 2, `an IVHD of ${bytes} bytes is too short`);
    return parseIvhd(r, type, flags, end);
  }
  if (isIvmdType(type)) {
    if (bytes < 32) throw r.error(start + 2, `an IVMD of ${bytes} bytes is too short`);
    const deviceId = r.u16();
    const auxData = r.u16();
    const reserved = r.u64();
    const from = r.address();
    const length = r.address();
    const rest = r.bytes(end - r.at);
    return { kind: 'ivmd', type, flags, deviceId, auxData, reserved, start: from, length, rest };
  }
  r.at = start + 1;
  const kept = new Uint8Array(bytes - 3);
  kept[0] = r.u8();
  r.at += 2;
  kept.set(r.bytes(bytes - 4), 1);
  return { kind: 'unknown', type, bytes: kept };
}

function parseIvhd(r: ByteReader, type: number, flags: number, end: number): Ivhd {
  const deviceId = r.u16();
  const capOffset = r.u16();
  const base = r.address();
  const segment = r.u16();
  const info = r.u16();
  const attr = r.u32();
  const efr = type === IVHD_TYPE.BASIC ? undefined : r.u64();
  const efr2 = type === IVHD_TYPE.BASIC ? undefined : r.u64();
  const entries: IvhdEntry[] = [];
  while (r.at < end) entries.push(parseEntry(r, end));
  const common = {
    kind: 'ivhd',
    type,
    flags,
    deviceId,
    capOffset,
    base,
    segment,
    info,
    attr,
    entries,
  } as const;
  return efr === undefined || efr2 === undefined ? common : { ...common, efr, efr2 };
}

function parseEntry(r: ByteReader, end: number): IvhdEntry {
  const start = r.at;
  const type = r.u8();
  const fixed = entryBytes(type);
  const need = fixed === 0 ? 22 : fixed;
  if (start + need > end)
    throw r.error(start, `a device entry of type 0x${type.toString(16)} reaches beyond its IVHD`);
  const head = { type, id: r.u16(), data: r.u8() };
  if (fixed === 4) return head;
  if (type === IVHD_DEV.ALIAS_SELECT || type === IVHD_DEV.ALIAS_START || type === IVHD_DEV.SPECIAL)
    return { ...head, byte4: r.u8(), usedId: r.u16(), byte7: r.u8() };
  if (type === IVHD_DEV.EXT_SELECT || type === IVHD_DEV.EXT_START) return { ...head, ext: r.u32() };
  if (fixed !== 0) return { ...head, rest: r.bytes(fixed - 4) };
  const names = { hid: r.text(8), cid: r.text(8), uidFormat: r.u8() };
  const uidBytes = r.u8();
  if (r.at + uidBytes > end) throw r.error(start + 21, 'a unique id reaches beyond its IVHD');
  return { ...head, ...names, uid: r.bytes(uidBytes) };
}

/** The table as firmware would hold it. The checksum is the one given; see `sealIvrs`. */
export function encodeIvrs(t: Ivrs): Uint8Array {
  const w = new ByteWriter();
  w.text('IVRS', 4);
  w.u32(0);
  w.u8(t.revision);
  w.u8(t.checksum);
  w.text(t.oemId, 6);
  w.text(t.oemTableId, 8);
  w.u32(t.oemRevision);
  w.text(t.creatorId, 4);
  w.u32(t.creatorRevision);
  w.u32(t.info);
  w.u64(t.reserved);
  for (const b of t.blocks) {
    const start = w.at;
    if (b.kind === 'unknown') {
      w.u8(b.type);
      w.u8(b.bytes[0] ?? 0);
      w.u16(b.bytes.length + 3);
      w.bytes(b.bytes.subarray(1));
      continue;
    }
    w.u8(b.type);
    w.u8(b.flags);
    w.u16(0);
    w.u16(b.deviceId);
    if (b.kind === 'ivhd') encodeIvhd(w, b);
    else encodeIvmd(w, b);
    w.patch16(start + 2, w.at - start);
  }
  w.patch32(4, w.at);
  return w.take();
}

function encodeIvhd(w: ByteWriter, b: Ivhd): void {
  w.u16(b.capOffset);
  w.address(b.base);
  w.u16(b.segment);
  w.u16(b.info);
  w.u32(b.attr);
  if (b.type !== IVHD_TYPE.BASIC) {
    w.u64(b.efr ?? [0, 0]);
    w.u64(b.efr2 ?? [0, 0]);
  }
  for (const e of b.entries) encodeEntry(w, e);
}

function encodeIvmd(w: ByteWriter, b: Ivmd): void {
  w.u16(b.auxData);
  w.u64(b.reserved);
  w.address(b.start);
  w.address(b.length);
  w.bytes(b.rest);
}

function encodeEntry(w: ByteWriter, e: IvhdEntry): void {
  w.u8(e.type);
  w.u16(e.id);
  w.u8(e.data);
  if (e.usedId !== undefined) {
    w.u8(e.byte4 ?? 0);
    w.u16(e.usedId);
    w.u8(e.byte7 ?? 0);
  } else if (e.ext !== undefined) w.u32(e.ext);
  else if (e.hid !== undefined) {
    const uid = e.uid ?? new Uint8Array(0);
    w.text(e.hid, 8);
    w.text(e.cid ?? '', 8);
    w.u8(e.uidFormat ?? 0);
    w.u8(uid.length);
    w.bytes(uid);
  } else w.bytes(e.rest ?? new Uint8Array(Math.max(0, entryBytes(e.type) - 4)));
}

/** A table of these blocks with a plain header and a right checksum. */
export function makeIvrs(blocks: readonly IvrsBlock[], info = 0): Uint8Array {
  return sealIvrs(
    encodeIvrs({
      revision: 2,
      checksum: 0,
      oemId: 'XPSIM',
      oemTableId: 'XPSIM',
      oemRevision: 1,
      creatorId: 'XPSM',
      creatorRevision: 1,
      info,
      reserved: [0, 0],
      blocks,
    }),
  );
}

/** The same bytes with the checksum that makes them sum to zero. */
export function sealIvrs(bytes: Uint8Array): Uint8Array {
  if (bytes.length < IVRS_HEADER_BYTES)
    throw new InputError('IVRS', '', 'the table is shorter than its header', 'give the whole table');
  const sealed = bytes.slice();
  sealed[9] = 0;
  sealed[9] = -sealed.reduce((sum, b) => sum + b, 0) & 0xff;
  return sealed;
}
