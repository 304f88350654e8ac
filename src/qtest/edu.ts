/**
 * QEMU's educational device, as far as it moves data: a 4 KiB buffer of its own at device address 0x40000, and one DMA
 * engine that takes 100 ms of simulated time. (QEMU docs/specs/edu)
 */
import type { Clock } from '../sim/clock.js';
import type { MmioDevice } from '../sim/mmio.js';

/** A DMA of a device; false when it was refused. Reads leave their bytes in `data`. */
export type BusAccess = (address: number, data: Uint8Array, write: boolean) => boolean;

export const EDU = { SRC: 0x80, DST: 0x88, CNT: 0x90, CMD: 0x98, BUFFER: 0x40000, BYTES: 4096 } as const;
export const EDU_CMD = { RUN: 1, TO_PCI: 2, IRQ: 4 } as const;
export const EDU_DMA_NS = 100_000_000;

const IDENTIFICATION = 0x0100_00ed;

export class Edu implements MmioDevice {
  /** SRC, DST, CNT, CMD: low and high words. */
  private readonly dma = new Int32Array(8);
  private readonly buffer = new Uint8Array(EDU.BYTES);
  private inverted = 0;

  constructor(
    private readonly clock: Clock,
    private readonly bus: BusAccess,
    /** Bits of a bus address beyond these are dropped: the property dma_mask. */
    private readonly addressBits: number,
  ) {}

  /** A system reset does not reach the registers: QEMU's model has no reset of its own. */
  read32(offset: number): number {
    if (offset === 0x00) return IDENTIFICATION;
    if (offset === 0x04) return this.inverted >>> 0;
    if (offset >= EDU.SRC && offset < EDU.CMD + 8) return this.dma[(offset - EDU.SRC) >>> 2]! >>> 0;
    return offset < 0x80 && REGISTERS.has(offset) ? 0 : 0xffff_ffff;
  }

  write32(offset: number, value: number): void {
    if (offset === 0x04) this.inverted = ~value;
    // A 4-byte write sets the whole register.
    else if (offset >= EDU.SRC && offset % 8 === 0) this.write64(offset, value, 0);
  }

  write64(offset: number, lo: number, hi: number): void {
    if (offset < EDU.SRC || offset > EDU.CMD || offset % 8 !== 0 || this.running) return;
    if (offset === EDU.CMD && (lo & EDU_CMD.RUN) === 0) return;
    const at = (offset - EDU.SRC) >>> 2;
    this.dma[at] = lo;
    this.dma[at + 1] = hi;
    if (offset === EDU.CMD) this.clock.after(EDU_DMA_NS, () => this.run());
  }

  private get running(): boolean {
    return (this.dma[6]! & EDU_CMD.RUN) !== 0;
  }

  private at(register: number): number {
    const i = (register - EDU.SRC) >>> 2;
    return (this.dma[i + 1]! >>> 0) * 2 ** 32 + (this.dma[i]! >>> 0);
  }

  private run(): void {
    const toPci = (this.dma[6]! & EDU_CMD.TO_PCI) !== 0;
    const inside = this.at(toPci ? EDU.SRC : EDU.DST) - EDU.BUFFER;
    const bytes = this.at(EDU.CNT);
    if (inside >= 0 && inside + bytes <= EDU.BYTES) {
      const address = this.at(toPci ? EDU.DST : EDU.SRC) % 2 ** this.addressBits;
      this.bus(address, this.buffer.subarray(inside, inside + bytes), toPci);
    }
    this.dma[6] = this.dma[6]! & ~EDU_CMD.RUN;
  }
}

/** Registers below 0x80 that read as zero while the device does nothing but DMA: factorial, status, interrupts. */
const REGISTERS: ReadonlySet<number> = new Set([0x08, 0x20, 0x24]);
