/**
 * An endpoint's DMA engine with the registers of QEMU's `edu` teaching device (1234:11e8): a 4 KiB buffer that is
 * copied to or from memory. @see QEMU docs/specs/edu
 */
import type { MmioDevice } from '../sim/mmio.js';
import type { PciHost } from './bus.js';
import type { DmaResult } from './dma.js';
import type { PciFunction } from './function.js';

/** Offsets in base address register 0. The 64-bit ones are two words. */
export const EDU = {
  ID: 0x00,
  LIVENESS: 0x04,
  DMA_SOURCE: 0x80,
  DMA_TARGET: 0x88,
  DMA_COUNT: 0x90,
  DMA_COMMAND: 0x98,
} as const;
export const EDU_ID = 0x0100_00ed;
/** The buffer as the engine's source and target registers name it. */
export const EDU_BUFFER = 0x4_0000;
export const EDU_BUFFER_BYTES = 4096;
export const EDU_COMMAND = { START: 1, TO_MEMORY: 2 } as const;

export class DmaEngine implements MmioDevice {
  readonly buffer = new Uint8Array(EDU_BUFFER_BYTES);
  private readonly registers = new Int32Array(EDU.DMA_COMMAND / 4 + 2);
  /** How the last transfer ended; undefined before the first one. */
  last: DmaResult | undefined = undefined;
  /** Requester id to use; -1 for the function's own one. A device may use its phantom functions' ids. */
  requesterId = -1;

  constructor(
    private readonly host: PciHost,
    private readonly fn: PciFunction,
  ) {
    fn.regions = [this];
  }

  read32(offset: number): number {
    if (offset === EDU.ID) return EDU_ID;
    const w = offset >>> 2;
    return offset === EDU.LIVENESS || (offset >= EDU.DMA_SOURCE && w < this.registers.length)
      ? this.registers[w]! >>> 0
      : 0xffff_ffff;
  }

  write32(offset: number, value: number): void {
    const w = offset >>> 2;
    if (offset === EDU.LIVENESS) this.registers[w] = ~value;
    else if (offset === EDU.DMA_COMMAND) this.start(value);
    else if (offset >= EDU.DMA_SOURCE && w < this.registers.length) this.registers[w] = value;
  }

  write64(offset: number, lo: number, hi: number): void {
    this.write32(offset + 4, hi);
    this.write32(offset, lo);
  }

  /** Done at once: the start bit never reads as one. */
  private start(command: number): void {
    this.registers[EDU.DMA_COMMAND >>> 2] = command & ~EDU_COMMAND.START;
    if ((command & EDU_COMMAND.START) === 0) return;
    const toMemory = (command & EDU_COMMAND.TO_MEMORY) !== 0;
    const source = this.register64(EDU.DMA_SOURCE);
    const target = this.register64(EDU.DMA_TARGET);
    const bytes = this.register64(EDU.DMA_COUNT);
    const inBuffer = (toMemory ? source : target) - EDU_BUFFER;
    // QEMU aborts the whole machine here; silicon would wrap or stop. Nothing is moved.
    if (inBuffer < 0 || bytes < 1 || inBuffer + bytes > EDU_BUFFER_BYTES) return;
    this.last = this.host.dma(this.fn, {
      address: toMemory ? target : source,
      bytes,
      write: toMemory,
      data: this.buffer.subarray(inBuffer, inBuffer + bytes),
      ...(this.requesterId < 0 ? {} : { rid: this.requesterId }),
    });
  }

  private register64(offset: number): number {
    const w = offset >>> 2;
    return (this.registers[w + 1]! >>> 0) * 2 ** 32 + (this.registers[w]! >>> 0);
  }
}
