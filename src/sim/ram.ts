/**
 * Simulated physical memory. Frames get their 4 KiB on first write; an untouched frame reads as zero.
 * Bytes that hardware sees live in one growing Int32Array: frame `mfn` is at word `slot(mfn) * 1024`.
 */
import { XenBug } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';

export const FRAME_WORDS = 1024;
/** Frames covered by one piece of the frame-to-slot directory. */
const CHUNK = 4096;
const EMPTY = new Int32Array(0);

export class Ram {
  /** Slot 0 is the zero frame: untouched frames read from it, and nobody writes to it. */
  words = new Int32Array(32 * FRAME_WORDS);
  private used = 1;
  private readonly chunks: Int32Array[] = [];

  constructor(
    /** Frames of the machine's physical address space; addresses beyond abort. */
    readonly frames: number,
  ) {}

  /** The slot to read `mfn` from: 0, the zero frame, while it is untouched. */
  peek(mfn: number): number {
    const chunk = this.chunks[Math.floor(mfn / CHUNK)];
    return chunk === undefined ? 0 : (chunk[mfn % CHUNK] ?? 0);
  }

  /** The slot to write `mfn` to; touches it. */
  slot(mfn: number): number {
    const at = Math.floor(mfn / CHUNK);
    let chunk = this.chunks[at];
    if (chunk === undefined) {
      if (!(mfn >= 0 && mfn < this.frames))
        throw new XenBug(`frame ${mfn.toString(16)} is outside physical memory`);
      while (this.chunks.length <= at) this.chunks.push(EMPTY);
      chunk = EMPTY;
    }
    if (chunk.length === 0) {
      chunk = new Int32Array(CHUNK);
      this.chunks[at] = chunk;
    }
    const found = chunk[mfn % CHUNK]!;
    if (found !== 0) return found;
    return this.touch(chunk, mfn);
  }

  private touch(chunk: Int32Array, mfn: number): number {
    if (this.used >= LIMITS.touchedFramesMax) throw new XenBug('more simulated memory touched than allowed');
    const slot = this.used++;
    if ((slot + 1) * FRAME_WORDS > this.words.length) {
      const grown = new Int32Array(this.words.length * 2);
      grown.set(this.words);
      this.words = grown;
    }
    chunk[mfn % CHUNK] = slot;
    return slot;
  }

  /** Index into `words` of a 4-byte-aligned machine address, for reading. */
  at(addr: number): number {
    return this.peek(Math.floor(addr / 4096)) * FRAME_WORDS + ((addr % 4096) >>> 2);
  }
  read32(addr: number): number {
    return this.words[this.at(addr)]!;
  }
  write32(addr: number, value: number): void {
    const w = this.slot(Math.floor(addr / 4096)) * FRAME_WORDS + ((addr % 4096) >>> 2);
    this.words[w] = value;
  }
  read8(addr: number): number {
    return (this.words[this.at(addr - (addr % 4))]! >>> ((addr % 4) * 8)) & 0xff;
  }
  write8(addr: number, value: number): void {
    const shift = (addr % 4) * 8;
    const base = addr - (addr % 4);
    this.write32(base, (this.read32(base) & ~(0xff << shift)) | ((value & 0xff) << shift));
  }
  /** Zeroes a frame; an untouched one stays untouched. @xen clear_page, scrub_page */
  clearFrame(mfn: number): void {
    const slot = this.peek(mfn);
    if (slot !== 0) this.words.fill(0, slot * FRAME_WORDS, (slot + 1) * FRAME_WORDS);
  }
  /** Frames touched so far. */
  get touched(): number {
    return this.used - 1;
  }
}
