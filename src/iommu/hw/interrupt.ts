/** A message-signalled interrupt as it leaves an IOMMU. */
export interface Interrupt {
  readonly vector: number;
  /** APIC id: 8 bits, or 32 in x2APIC mode. */
  readonly dest: number;
  readonly logical: boolean;
  readonly deliveryMode: number;
  readonly level: boolean;
  readonly redirectionHint: boolean;
}

/** A write of `data` to 0xFEEx_xxxx (`addrLo`) as a machine without remapping understands it. */
export const asSent = (addrLo: number, data: number): Interrupt => ({
  vector: data & 0xff,
  dest: (addrLo >>> 12) & 0xff,
  logical: (addrLo & 0x4) !== 0,
  deliveryMode: (data >>> 8) & 7,
  level: (data & 0x8000) !== 0,
  redirectionHint: (addrLo & 0x8) !== 0,
});
