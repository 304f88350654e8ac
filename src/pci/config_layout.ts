/**
 * What the bytes of a dump say of a configuration space, once and for all: its capabilities, its base address
 * registers, and for each word the bits software may write and those it clears by writing ones. The masks are derived
 * from the header type and the capabilities, see registers.ts.
 */
import { type Bar, barMask, barsAt, headerBars } from './bars.js';
import { type Capability, findCapability, headerType, listCapabilities, tablesOf } from './capabilities.js';
import * as R from './registers.js';

type BarBytes = readonly (number | undefined)[] | undefined;

export class ConfigLayout {
  static readonly unchanging = true;
  readonly header: number;
  readonly capabilities: readonly Capability[];
  /** Bytes that answer: 256, or 4096 for PCI Express. */
  readonly bytes: number;
  readonly bars: readonly Bar[];
  /** The words as dumped, up to the last one that is not zero for ever. Nobody writes to them. */
  readonly initial: Int32Array;
  /** Writable bits of each word, then write-one-to-clear bits of each word. */
  readonly masks: Int32Array;

  // Word index of a capability; 0 when there is none, or when it is cut off before its control word.
  readonly pm: number;
  readonly exp: number;
  readonly af: number;
  readonly acs: number;
  readonly sriov: number;

  constructor(dump: Uint8Array, barBytes: BarBytes) {
    const all = wordsOf(dump);
    this.header = headerType(all);
    this.capabilities = listCapabilities(all);
    const express = findCapability(this.capabilities, R.CAP.EXP) !== 0;
    this.bytes = express || dump.length > 256 ? 4096 : 256;
    this.bars = headerBars(all, this.header, barBytes);
    const used = lastUsed(all, this.capabilities);
    this.initial = all.slice(0, used);
    this.masks = new Int32Array(2 * used);
    this.dropMissingBars();
    this.fillMasks(barBytes);
    this.pm = this.wordOf(R.CAP.PM);
    this.exp = this.wordOf(R.CAP.EXP);
    this.af = this.wordOf(R.CAP.AF);
    this.acs = this.wordOf(R.EXT_CAP.ACS, true);
    this.sriov = this.wordOf(R.EXT_CAP.SRIOV, true);
  }

  private wordOf(id: number, extended = false): number {
    const at = findCapability(this.capabilities, id, extended) >>> 2;
    return at + 1 < this.initial.length ? at : 0;
  }

  /** Every register of the header and of the capabilities, with the word it is in. */
  forEachRegister(visit: (word: number, r: R.Register) => void): void {
    const each = (at: number, table: R.RegisterTable): void => {
      for (const r of Object.values(table)) if (at + r.word < this.initial.length) visit(at + r.word, r);
    };
    each(0, R.HEADER);
    if (this.header === 1) each(0, R.HEADER1);
    if (this.header === 2) each(0, R.HEADER2);
    for (const cap of this.capabilities) {
      for (const table of tablesOf(this.initial, cap)) each(cap.offset >>> 2, table);
    }
  }

  private fillMasks(barBytes: BarBytes): void {
    const words = this.initial;
    const n = words.length;
    this.forEachRegister((at, r) => {
      const bitsOf = r.mask << r.lo;
      if (r.access === 'rw' || r.access === 'rws') this.masks[at] = this.masks[at]! | bitsOf;
      else this.masks[n + at] = this.masks[n + at]! | bitsOf;
    });
    const acs = this.wordOf(R.EXT_CAP.ACS, true);
    if (acs !== 0) {
      // A control bit without its capability is hardwired to zero.
      this.masks[acs + 1] = this.masks[acs + 1]! & ((words[acs + 1]! & R.ACS_CAPABILITIES.mask) << 16);
    }
    for (const bar of this.bars) this.maskBar(bar);
    const sriov = findCapability(this.capabilities, R.EXT_CAP.SRIOV, true) >>> 2;
    if (sriov !== 0 && sriov + R.SRIOV_WORDS <= n) {
      for (const bar of barsAt(words, sriov + R.SRIOV_BAR_WORD, 6, barBytes, 7)) this.maskBar(bar);
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
      if (!implemented) this.initial[w] = 0;
    }
  }
}

/** Layouts by dump: machines are made again and again from one description, which does not change. */
const known = new WeakMap<Uint8Array, { readonly barBytes: BarBytes; readonly layout: ConfigLayout }>();

export function layoutOf(dump: Uint8Array, barBytes: BarBytes): ConfigLayout {
  const found = known.get(dump);
  if (found !== undefined && found.barBytes === barBytes) return found.layout;
  const layout = new ConfigLayout(dump, barBytes);
  known.set(dump, { barBytes, layout });
  return layout;
}

function wordsOf(dump: Uint8Array): Int32Array {
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
