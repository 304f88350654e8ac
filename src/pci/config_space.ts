/**
 * The configuration space of one function: words, and what reads, writes and resets make of them. Which bits can be
 * written is in the layout, see config_layout.ts.
 */
import { type Bar, barMask } from './bars.js';
import type { Capability } from './capabilities.js';
import { ConfigLayout } from './config_layout.js';

/** What a read returns where nobody answers: all ones of the access's size. */
export const allOnes = (size: number): number => (size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff);

export type ResetKind = 'flr' | 'bus';

export class ConfigSpace {
  /** `words` is where the function keeps its registers, already filled; without it they are made. */
  constructor(
    dump: Uint8Array,
    barBytes?: readonly (number | undefined)[],
    private readonly layout: ConfigLayout = new ConfigLayout(dump, barBytes),
    /** Up to the last word that is not zero for ever; the rest reads as zero. */
    readonly words: Int32Array = layout.initial.slice(),
  ) {}

  /** Bytes that answer: 256, or 4096 for PCI Express. Beyond, reads are all ones. */
  get bytes(): number {
    return this.layout.bytes;
  }
  get header(): number {
    return this.layout.header;
  }
  get capabilities(): readonly Capability[] {
    return this.layout.capabilities;
  }
  get bars(): readonly Bar[] {
    return this.layout.bars;
  }

  /** The value of an aligned access of 1, 2 or 4 bytes, unsigned. An access over a word's end reads all ones. */
  read(offset: number, size: number): number {
    const shift = (offset & 3) * 8;
    if (offset >= this.bytes || shift + size * 8 > 32) return allOnes(size);
    const w = offset >>> 2;
    const word = w < this.words.length ? this.words[w]! : 0;
    return size === 4 ? word >>> 0 : (word >>> shift) & (size === 2 ? 0xffff : 0xff);
  }

  /**
   * Stores what is writable. The result says what the word held before; `widen` and `lane` give the written bits in
   * their place to those who look for commands in them.
   */
  write(offset: number, size: number, value: number): number {
    const w = offset >>> 2;
    if (w >= this.words.length || (offset & 3) + size > 4) return 0;
    const lanes = lane(offset, size);
    const data = widen(offset, value);
    const before = this.words[w]!;
    const { masks } = this.layout;
    const rw = masks[w]! & lanes;
    const cleared = masks[this.words.length + w]! & lanes & data;
    this.words[w] = ((before & ~rw) | (data & rw)) & ~cleared;
    return before;
  }

  /** The writable bits of a word: what sizing and tests look at. */
  writable(word: number): number {
    return word < this.words.length ? this.layout.masks[word]! : 0;
  }

  /** All registers back to what they are after a reset; sticky ones stay (PCIe 6.6.1, 6.6.2). */
  reset(kind: ResetKind): void {
    const words = this.words;
    for (const bar of this.bars) {
      const [low, high] = barMask(bar);
      words[bar.word] = words[bar.word]! & ~low;
      if (bar.kind === 'mem64') words[bar.word + 1] = words[bar.word + 1]! & ~high;
    }
    this.layout.forEachRegister((at, r) => {
      if (r.access === 'rws' || r.access === 'w1cs' || (kind === 'flr' && r.keptByFlr === true)) return;
      const mask = r.mask << r.lo;
      words[at] = (words[at]! & ~mask) | ((r.reset << r.lo) & mask);
    });
  }
}

/** The bits of its word that an access of `size` bytes at `offset` touches. */
export const lane = (offset: number, size: number): number => allOnes(size) << ((offset & 3) * 8);
/** A written value moved to its place in the word. */
export const widen = (offset: number, value: number): number => value << ((offset & 3) * 8);
