/** How a CPU reaches configuration space: I/O ports 0xCF8-0xCFF (PCI 3.2.2.3.2) and ECAM (PCIe 7.2.2). */
import { sbdfOf } from '../base/sbdf.js';
import type { MmioDevice } from '../sim/mmio.js';
import type { PciHost } from './bus.js';
import { allOnes } from './config_space.js';

export const CONFIG_ADDRESS = 0xcf8;
export const CONFIG_DATA = 0xcfc;
const ENABLE = 0x8000_0000;

/** Mechanism 1: segment 0, the first 256 bytes of each function. */
export class ConfigPorts {
  /** CONFIG_ADDRESS. Bits 30:24 and 1:0 are hardwired to zero. */
  private address = 0;
  constructor(private readonly host: PciHost) {}

  /** `port` is 0xCF8..0xCFF; unsigned. The address register answers to 4-byte accesses alone. */
  read(port: number, size: number): number {
    if (port < CONFIG_DATA) return port === CONFIG_ADDRESS && size === 4 ? this.address >>> 0 : allOnes(size);
    if ((this.address & ENABLE) === 0) return allOnes(size);
    return this.host.configRead(this.sbdf, (this.address & 0xfc) | (port & 3), size);
  }
  write(port: number, size: number, value: number): void {
    if (port < CONFIG_DATA) {
      if (port === CONFIG_ADDRESS && size === 4) this.address = value & 0x80ff_fffc;
    } else if ((this.address & ENABLE) !== 0) {
      this.host.configWrite(this.sbdf, (this.address & 0xfc) | (port & 3), size, value);
    }
  }
  private get sbdf(): number {
    return (this.address >>> 8) & 0xffff;
  }
}

/** A segment's configuration space in memory: 1 MiB a bus, 4 KiB a function. Offset 0 is bus `firstBus`. */
export class EcamWindow implements MmioDevice {
  constructor(
    private readonly host: PciHost,
    readonly seg: number,
    readonly firstBus = 0,
  ) {}

  read(offset: number, size: number): number {
    return this.host.configRead(this.sbdfAt(offset), offset % 4096, size);
  }
  write(offset: number, size: number, value: number): void {
    this.host.configWrite(this.sbdfAt(offset), offset % 4096, size, value);
  }
  read32(offset: number): number {
    return this.read(offset, 4);
  }
  write32(offset: number, value: number): void {
    this.write(offset, 4, value);
  }
  /** Two configuration writes: an 8-byte one does not exist. */
  write64(offset: number, lo: number, hi: number): void {
    this.write(offset, 4, lo);
    this.write(offset + 4, 4, hi);
  }
  private sbdfAt(offset: number): number {
    return sbdfOf(this.seg, (this.firstBus << 8) + Math.floor(offset / 4096));
  }
}

/** The memory behind base address registers: whoever software mapped there answers. Offset 0 is address `base`. */
export class BarWindow implements MmioDevice {
  constructor(
    private readonly host: PciHost,
    readonly base: number,
  ) {}
  read32(offset: number): number {
    const hit = this.host.decode(this.base + offset);
    return hit?.fn.regions?.[hit.bar.index]?.read32(hit.offset) ?? 0xffff_ffff;
  }
  write32(offset: number, value: number): void {
    const hit = this.host.decode(this.base + offset);
    hit?.fn.regions?.[hit.bar.index]?.write32(hit.offset, value);
  }
  write64(offset: number, lo: number, hi: number): void {
    const hit = this.host.decode(this.base + offset);
    hit?.fn.regions?.[hit.bar.index]?.write64(hit.offset, lo, hi);
  }
}
