/** Memory-mapped registers: who answers at a physical address that is not RAM. Offsets are relative to the region. */
export interface MmioDevice {
  /** A naturally aligned read of 1, 2 or 4 bytes, unsigned. */
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  /** An 8-byte access by one instruction; `lo` and `hi` are 32-bit words. */
  write64(offset: number, lo: number, hi: number): void;
  /** One byte. Devices that nobody writes bytes to do without. */
  write8?(offset: number, value: number): void;
}

class Region {
  constructor(
    readonly base: number,
    readonly bytes: number,
    readonly device: MmioDevice,
  ) {}
}

/** The physical address map beside RAM. */
export class MmioMap {
  private readonly regions: Region[] = [];
  add(base: number, bytes: number, device: MmioDevice): void {
    this.regions.push(new Region(base, bytes, device));
  }
  /** The device at `addr` and where its region starts; undefined where nobody answers. @xen ioremap */
  find(addr: number): Region | undefined {
    for (const r of this.regions) if (addr >= r.base && addr < r.base + r.bytes) return r;
    return undefined;
  }
}
