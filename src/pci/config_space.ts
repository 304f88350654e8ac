/**
 * The configuration space of one function: words, and for each word the bits software may write and those it clears
 * by writing ones. Both masks are derived from the header type and the capabilities, see registers.ts.
 */
import { type Bar, barMask, barsAt, headerBars } from './bars.js';
import { type Capability, findCapability, headerType, listCapabilities, tablesOf } from './capabilities.js';
import * as R from './registers.js';

/** What a read returns where nobody answers: all ones of the access's size. */
export const allOnes = (size: number): number => (size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff);

export type ResetKind = 'flr' | 'bus';

export class ConfigSpace {
  /** Up to the last word that is not zero for ever; the rest reads as zero. */
  readonly words: Int32Array;
  /** Bytes that answer: 256, or 4096 for PCI Express. Beyond, reads are all ones. */
  readonly bytes: number;
  readonly header: number;
  readonly capabilities: readonly Capability[];
  readonly bars: readonly Bar[];
  /** Writable bits of each word, then write-one-to-clear bits of each word. */
  private readonly masks: Int32Array;

  constructor(dump: Uint8Array, barBytes?: readonly (number | undefined)[]) {
    const all = toWords(dump);
    this.header = headerType(all);
    this.capabilities = listCapabilities(all);
    const express = findCapability(this.capabilities, R.CAP.EXP) !== 0;
    this.bytes = express || dump.length > 256 ? 4096 : 256;
    this.bars = headerBars(all, this.header, barBytes);
    const used = lastUsed(all, this.capabilities);
    this.words = all.slice(0, used);
    this.masks = new Int32Array(2 * used);
    this.dropMissingBars();
    this.fillMasks(barBytes);
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
    const rw = this.masks[w]! & lanes;
    const cleared = this.masks[this.words.length + w]! & lanes & data;
    this.words[w] = ((before & ~rw) | (data & rw)) & ~cleared;
    return before;
  }

  /** The writable bits of a word: what sizing and tests look at. */
  writable(word: number): number {
    return word < this.words.length ? this.masks[word]! : 0;
  }

  /** All registers back to what they are after a reset; sticky ones stay (PCIe 6.6.1, 6.6.2). */
  reset(kind: ResetKind): void {
    const words = this.words;
    for (const bar of this.bars) {
      const [low, high] = barMask(bar);
      words[bar.word] = words[bar.word]! & ~low;
      if (bar.kind === 'mem64') words[bar.word + 1] = words[bar.word + 1]! & ~high;
    }
    this.forEachRegister((at, r) => {
      if (r.access === 'rws' || r.access === 'w1cs' || (kind === 'flr' && r.keptByFlr === true)) return;
      const mask = r.mask << r.lo;
      words[at] = (words[at]! & ~mask) | ((r.reset << r.lo) & mask);
    });
  }

  private forEachRegister(visit: (word: number, r: R.Register) => void): void {
    const each = (at: number, table: R.RegisterTable): void => {
      for (const r of Object.values(table)) if (at + r.word < this.words.length) visit(at + r.word, r);
    };
    each(0, R.HEADER);
    if (this.header === 1) each(0, R.HEADER1);
    if (this.header === 2) each(0, R.HEADER2);
    for (const cap of this.capabilities) {
      for (const table of tablesOf(this.words, cap)) each(cap.offset >>> 2, table);
    }
  }

  private fillMasks(barBytes: readonly (number | undefined)[] | undefined): void {
    const n = this.words.length;
    this.forEachRegister((at, r) => {
      const bitsOf = r.mask << r.lo;
      if (r.access === 'rw' || r.access === 'rws') this.masks[at] = this.masks[at]! | bitsOf;
      else this.masks[n + at] = this.masks[n + at]! | bitsOf;
    });
    const acs = findCapability(this.capabilities, R.EXT_CAP.ACS, true) >>> 2;
    if (acs !== 0 && acs + 1 < n) {
      // A control bit without its capability is hardwired to zero.
      this.masks[acs + 1] = this.masks[acs + 1]! & ((this.words[acs + 1]! & R.ACS_CAPABILITIES.mask) << 16);
    }
    for (const bar of this.bars) this.maskBar(bar);
    const sriov = findCapability(this.capabilities, R.EXT_CAP.SRIOV, true) >>> 2;
    if (sriov !== 0 && sriov + R.SRIOV_WORDS <= n) {
      for (const bar of barsAt(this.words, sriov + R.SRIOV_BAR_WORD, 6, barBytes, 7)) this.maskBar(bar);
    }
  }

  private maskBar(bar: Bar): void {
    const [low, high] = barMask(bar);
    this.masks[bar.word] = low;
    if (bar.kind === 'mem64') this.masks[bar.word + 1] = high;
  }

  /** A register that is not implemented reads as zero, whatever the dump says. */
  private dropMissingBars(): void {
    const count = [6, 2, 1][this.header] ?? 0;
    for (let i = 0; i < count; i++) {
      const w = 4 + i;
      const implemented = this.bars.some((b) => b.word === w || (b.kind === 'mem64' && b.word + 1 === w));
      if (!implemented) this.words[w] = 0;
    }
  }
}

/** The bits of its word that an access of `size` bytes at `offset` touches. */
export const lane = (offset: number, size: number): number => allOnes(size) << ((offset & 3) * 8);
/** A written value moved to its place in the word. */
export const widen = (offset: number, value: number): number => value << ((offset & 3) * 8);

function toWords(dump: Uint8Array): Int32Array {
  const words = new Int32Array(Math.max(64, dump.length >>> 2));
  for (let i = 0; i + 3 < dump.length; i += 4) {
    words[i >>> 2] = dump[i]! | (dump[i + 1]! << 8) | (dump[i + 2]! << 16) | (dump[i + 3]! << 24);
  }
  return words;
}

/** Words to keep: everything that is not zero, and all registers of the last capability. */
function lastUsed(words: Int32Array, caps: readonly Capability[]): number {
  let used = 16;
  for (const cap of caps) {
    const at = cap.offset >>> 2;
    used = Math.max(used, at + (cap.extended && cap.id === R.EXT_CAP.SRIOV ? R.SRIOV_WORDS : 2));
    for (const table of tablesOf(words, cap)) {
      for (const r of Object.values(table)) used = Math.max(used, at + r.word + 1);
    }
  }
  let last = words.length;
  while (last > used && words[last - 1] === 0) last--;
  return Math.min(last, words.length);
}
