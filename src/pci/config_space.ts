/**
 * The configuration space of one function: words, and what reads, writes and resets make of them. Which bits can be
 * written is in the layout, see config_layout.ts.
 */
import { type Field, get } from '../base/layout.js';
import { type Bar, barAddress, barMask } from './bars.js';
import type { Capability } from './capabilities.js';
import { ConfigLayout } from './config_layout.js';

/** What a read returns where nobody answers: all ones of the access's size. */
export const allOnes = (size: number): number => (size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff);

export type ResetKind = 'flr' | 'bus';

/** The registers of functions that power on together: those of the description, until one of them changes. */
export class ConfigWords {
  private own = false;
  constructor(public words: Int32Array) {}
  /** For somebody who writes. */
  writable(): Int32Array {
    if (!this.own) {
      this.words = this.words.slice();
      this.own = true;
    }
    return this.words;
  }
}

export class ConfigSpace {
  /** Words that are kept: up to the last one that is not zero for ever; the rest reads as zero. */
  readonly length: number;

  /** The function's registers lie in `store` from word `at` on. */
  constructor(
    dump: Uint8Array,
    barBytes?: readonly (number | undefined)[],
    private readonly layout: ConfigLayout = new ConfigLayout(dump, barBytes),
    private readonly store = new ConfigWords(layout.initial),
    private readonly at = 0,
  ) {
    this.length = layout.initial.length;
  }

  /** A register by its word, below `length`. */
  word(w: number): number {
    return this.store.words[this.at + w]!;
  }
  /** A word changes without a write. */
  put(w: number, value: number): void {
    this.store.writable()[this.at + w] = value;
  }
  /** A field of what begins at word `from`. */
  field(from: number, f: Field): number {
    return get(this.store.words, this.at + from, f);
  }
  /** Where a base address register points. */
  barAddress(bar: Bar): number {
    return barAddress(this.store.words, this.at, bar);
  }
  /** All words that are kept, as they are now. */
  save(): Int32Array {
    return this.store.words.slice(this.at, this.at + this.length);
  }
  load(saved: Int32Array): void {
    this.store.writable().set(saved, this.at);
  }

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
    const word = w < this.length ? this.store.words[this.at + w]! : 0;
    return size === 4 ? word >>> 0 : (word >>> shift) & (size === 2 ? 0xffff : 0xff);
  }

  /**
   * Stores what is writable. The result says what the word held before; `widen` and `lane` give the written bits in
   * their place to those who look for commands in them.
   */
  write(offset: number, size: number, value: number): number {
    const w = offset >>> 2;
    if (w >= this.length || (offset & 3) + size > 4) return 0;
    const lanes = lane(offset, size);
    const data = widen(offset, value);
    const before = this.word(w);
    const { masks } = this.layout;
    const rw = masks[w]! & lanes;
    const cleared = masks[this.length + w]! & lanes & data;
    this.put(w, ((before & ~rw) | (data & rw)) & ~cleared);
    return before;
  }

  /** The writable bits of a word: what sizing and tests look at. */
  writable(word: number): number {
    return word < this.length ? this.layout.masks[word]! : 0;
  }

  /** All registers back to what they are after a reset; sticky ones stay (PCIe 6.6.1, 6.6.2). */
  reset(kind: ResetKind): void {
    for (const bar of this.bars) {
      const [low, high] = barMask(bar);
      this.put(bar.word, this.word(bar.word) & ~low);
      if (bar.kind === 'mem64') this.put(bar.word + 1, this.word(bar.word + 1) & ~high);
    }
    this.layout.forEachRegister((at, r) => {
      if (r.access === 'rws' || r.access === 'w1cs' || (kind === 'flr' && r.keptByFlr === true)) return;
      const mask = r.mask << r.lo;
      this.put(at, (this.word(at) & ~mask) | ((r.reset << r.lo) & mask));
    });
  }
}

/** The bits of its word that an access of `size` bytes at `offset` touches. */
export const lane = (offset: number, size: number): number => allOnes(size) << ((offset & 3) * 8);
/** A written value moved to its place in the word. */
export const widen = (offset: number, value: number): number => value << ((offset & 3) * 8);
