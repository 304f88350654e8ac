/**
 * Mapping a run of pages at once: what intelIommuMapPage() does page by page, for a caller that nobody watches between
 * two pages. Dom0's identity map is some thousand pages at each boot.
 */

import { FLUSHF, type FlushAcc, IOMMUF, type IommuDomain } from '../types.js';
import { freshMarks, indexAt, MARK_MASK, MARK_SHIFT, PTE_KIND, ptUpdateContigMarkers } from './contig.js';
import { canCoalesce, entryBits, LEVEL_STRIDE } from './pagetable.js';
import { addrToDmaPage, notMapped, PTE_NUM, pteHi, pteLo, tableBase } from './pte.js';
import type { Vtd } from './state.js';

/**
 * Maps up to `most` pages of 2^order frames that lie in one table. `flags` as IOMMUF.
 * @returns how many; 0 where the pages must be mapped one by one: entries in use, a run that joins another one, a
 * table that becomes one larger page, frames on both sides of a multiple of 4 GiB, or no memory
 */
export function mapRun(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  most: number,
  flags: number,
  acc: FlushAcc,
): number {
  const order = flags & IOMMUF.orderMask;
  const level = order / LEVEL_STRIDE + 1;
  const idx = indexAt(dfn, level);
  const end = Math.min(idx + most, PTE_NUM);
  if (end - idx < 2 || notMapped(vtd, d) || d.isDying) return 0;
  const lock = d.iommu.mappingLock;
  lock.checkBeforeWait();
  lock.acquire();
  const tables = d.iommu.pgtables.length;
  const table = addrToDmaPage(vtd, d, dfn, level, acc, true);
  const grown = d.iommu.pgtables.length > tables;
  const mapped = table > 0 && fillRun(vtd, table, idx, end, mfn, flags, level, grown);
  lock.release();
  if (!mapped) return 0;
  acc.flags |= FLUSHF.added;
  return end - idx;
}

/** Entries as they stand in a table, and what they were made from. */
class RunImage {
  constructor(
    readonly idx: number,
    readonly end: number,
    /** Words of the first entry, without mark. */
    readonly lo: number,
    readonly hi: number,
    readonly bytes: number,
    readonly marked: boolean,
    readonly words: Int32Array,
  ) {}
}

/** How many images are kept: a host's identity map has about ten runs. */
const IMAGES = 16;

/**
 * What a run looks like depends on these numbers and nothing else, and every machine made from one description has the
 * same ones: the last few are kept.
 */
class RunImages {
  private readonly kept: RunImage[] = [];
  private oldest = 0;

  of(idx: number, end: number, lo: number, hi: number, bytes: number, marked: boolean): Int32Array {
    for (let i = 0; i < this.kept.length; i++) {
      const k = this.kept[i]!;
      if (k.lo !== lo || k.idx !== idx || k.end !== end) continue;
      if (k.hi === hi && k.bytes === bytes && k.marked === marked) return k.words;
    }
    const words = imageOf(idx, end, lo, hi, bytes, marked);
    this.kept[this.oldest] = new RunImage(idx, end, lo, hi, bytes, marked, words);
    this.oldest = (this.oldest + 1) % IMAGES;
    return words;
  }
}
const runImages = new RunImages();

/** Entries `idx` to before `end`, each of which leads `bytes` further, with the marks that mapping one by one leaves. */
function imageOf(
  idx: number,
  end: number,
  first: number,
  hi: number,
  step: number,
  marked: boolean,
): Int32Array {
  const t = new Int32Array(2 * (end - idx));
  let lo = first;
  for (let i = idx; i < end; i++) {
    const at = 2 * (i - idx);
    t[at] = lo;
    t[at + 1] = marked ? hi | freshMarks[i]! : hi;
    lo = (lo + step) | 0;
  }
  if (marked) endRuns(t, idx, end);
  return t;
}

/** Of the runs from entry `idx` on, those that would reach over `end` end there: they start where `end` has its bits. */
function endRuns(t: Int32Array, idx: number, end: number): void {
  for (let i = end & (end - 1); i >= idx; i &= i - 1) {
    const at = 2 * (i - idx) + 1;
    t[at] = (t[at]! & ~MARK_MASK) | ((31 - Math.clz32(end - i)) << MARK_SHIFT);
    if (i === 0) return;
  }
}

/** Entries `idx` to before `end` of a table. `made`: the table was made for them. */
function fillRun(
  vtd: Vtd,
  table: number,
  idx: number,
  end: number,
  mfn: number,
  flags: number,
  level: number,
  made: boolean,
): boolean {
  const base = tableBase(vtd, table);
  const t = vtd.s.ram.words;
  const step = 1 << (flags & IOMMUF.orderMask);
  const low = entryBits(vtd, flags);
  // Frames that do not stand where their own number says can never become one larger page, and bear no marks.
  const marked = canCoalesce(vtd, level) && indexAt(mfn, level) === idx;
  if (marked && (end - idx === PTE_NUM || joins(t, base, idx, mfn, step, low))) return false;
  // One that was made from a larger page is full.
  const empty = made && t[base] === 0;
  if (!empty && !isEmpty(t, base, idx, end)) return false;
  if (end < PTE_NUM && marked && t[base + end * 2] !== 0) return false;
  const hi = pteHi(mfn);
  if (pteHi(mfn + (end - idx - 1) * step) !== hi) return false;
  // Runs that reached over the first entry end before it.
  t[base + idx * 2 + 1] = hi;
  ptUpdateContigMarkers(t, base, idx, level, PTE_KIND.table);
  const image = runImages.of(idx, end, pteLo(mfn, low), hi, (step * 4096) | 0, marked);
  t.set(image, base + idx * 2);
  if (vtd.opts.nonCoherent && vtd.seams.vtdWritesBack()) vtd.s.syncCache(table, idx * 2, (end - idx) * 2);
  return true;
}

/** Nothing but marks in these entries? The mark of an empty one tells how many behind it are empty too. */
function isEmpty(t: Int32Array, base: number, idx: number, end: number): boolean {
  for (let i = idx; i < end; ) {
    const hi = t[base + i * 2 + 1]!;
    if (t[base + i * 2] !== 0 || (hi & ~MARK_MASK) !== 0) return false;
    i += 1 << (hi >>> MARK_SHIFT);
  }
  return true;
}

/** Does the entry before continue what now starts? */
const joins = (t: Int32Array, base: number, idx: number, mfn: number, step: number, low: number): boolean =>
  idx > 0 && mfn >= step && t[base + idx * 2 - 2] === pteLo(mfn - step, low);
