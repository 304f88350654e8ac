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

/**
 * Entries `idx` to before `end` of a table, with the marks that mapping one after the other would leave. `made`: the
 * table was made for them.
 */
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
  const step = 2 ** (flags & IOMMUF.orderMask);
  const low = entryBits(vtd, flags);
  // Frames that do not stand where their own number says can never become one larger page, and bear no marks.
  const marked = canCoalesce(vtd, level) && indexAt(mfn, level) === idx;
  if (marked && (end - idx === PTE_NUM || joins(t, base, idx, mfn, step, low))) return false;
  // One that was made from a larger page is full.
  const empty = made && t[base] === 0;
  if (!empty && !isEmpty(t, base + idx * 2, base + end * 2)) return false;
  if (end < PTE_NUM && marked && t[base + end * 2] !== 0) return false;
  const hi = pteHi(mfn);
  if (pteHi(mfn + (end - idx - 1) * step) !== hi) return false;
  // Runs that reached over the first entry end before it.
  t[base + idx * 2 + 1] = hi;
  ptUpdateContigMarkers(t, base, idx, level, PTE_KIND.table);
  storeLow(t, base + idx * 2, base + end * 2, pteLo(mfn, low), (step * 4096) | 0);
  // An empty table has the marks of a full one, and zeros beside them.
  if (empty && marked && hi === 0) t[base + idx * 2 + 1] = freshMarks[idx]!;
  else for (let i = idx; i < end; i++) t[base + i * 2 + 1] = marked ? hi | freshMarks[i]! : hi;
  if (marked) endRuns(t, base, idx, end);
  if (vtd.opts.nonCoherent && vtd.seams.vtdWritesBack()) vtd.s.syncCache(table, idx * 2, (end - idx) * 2);
  return true;
}

/** Nothing but marks in these entries? */
function isEmpty(t: Int32Array, from: number, end: number): boolean {
  for (let at = from; at < end; at += 2) {
    if (t[at] !== 0 || (t[at + 1]! & ~MARK_MASK) !== 0) return false;
  }
  return true;
}

/** The lower words of entries, each of which leads `step` bytes further. */
function storeLow(t: Int32Array, from: number, end: number, first: number, step: number): void {
  let lo = first;
  for (let at = from; at < end; at += 2) {
    t[at] = lo;
    lo = (lo + step) | 0;
  }
}

/** Does the entry before continue what now starts? */
const joins = (t: Int32Array, base: number, idx: number, mfn: number, step: number, low: number): boolean =>
  idx > 0 && mfn >= step && t[base + idx * 2 - 2] === pteLo(mfn - step, low);

/** Of the runs from entry `idx` on, those that would reach over `end` end there: they start where `end` has its bits. */
function endRuns(t: Int32Array, base: number, idx: number, end: number): void {
  for (let i = end & (end - 1); i >= idx; i &= i - 1) {
    const at = base + i * 2 + 1;
    t[at] = (t[at]! & ~MARK_MASK) | ((31 - Math.clz32(end - i)) << MARK_SHIFT);
    if (i === 0) return;
  }
}
