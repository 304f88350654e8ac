/**
 * I/O page tables: mapping and unmapping with superpages that split and join, and the flushes that follow.
 * Callers hold no lock; the domain's mapping_lock is taken here. @xen drivers/passthrough/amd/iommu_map.c
 */
import { assert, panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { FLUSHF, type FlushAcc, INVALID_DFN, IOMMUF, type IommuDomain } from '../types.js';
import { initContigMarks, PTE_KIND, ptUpdateContigMarkers } from './contig.js';
import { amdIommuFlushAllPages, amdIommuFlushPages } from './iommu_cmd.js';
import { type AmdVi, amdError } from './state.js';

/** Bits of an entry's words: FC, IR and IW in the upper one; Present and Next Level in the lower. */
const PR = 1;
const FC = 1 << 28;
const IR = 1 << 29;
const IW = 1 << 30;
const NEXT_LEVEL_SHIFT = 9;
const FRAME_LO = 0xffff_f000 | 0;
/** Results of a walk that is no frame. */
const NO_TABLE = 0;
const BROKEN = -1;

const SPAN = [0, 1, 512, 512 ** 2, 512 ** 3, 512 ** 4, 512 ** 5] as const;
/** Index of `dfn` in a table of `level`. @xen pfn_to_pde_idx */
const indexAt = (dfn: number, level: number): number =>
  dfn < 0x8000_0000 && level <= 4 ? (dfn >>> (9 * (level - 1))) & 511 : Math.floor(dfn / SPAN[level]!) % 512;

const frameOf = (lo: number, hi: number): number => (hi & 0xf_ffff) * 0x10_0000 + (lo >>> 12);
const nextLevelOf = (lo: number): number => (lo >>> NEXT_LEVEL_SHIFT) & 7;

function pteWritten(amd: AmdVi, table: number, idx: number, lo: number, hi: number): void {
  const at = amd.s.ram.peek(table) * FRAME_WORDS + idx * 2;
  const t = amd.s.ram.words;
  amd.s.events.emit({
    kind: 'entry',
    unit: -1,
    table: 'pte',
    id: table * 4096 + idx * 8,
    before: [lo >>> 0, hi >>> 0],
    after: [t[at]! >>> 0, t[at + 1]! >>> 0],
  });
}

/** Writes a present entry; `nextLevel` 0 makes it a page. @xen set_iommu_pde_present */
export function setIommuPdePresent(
  amd: AmdVi,
  table: number,
  idx: number,
  nextMfn: number,
  nextLevel: number,
  perm: number,
): void {
  const at = amd.s.ram.slot(table) * FRAME_WORDS + idx * 2;
  const t = amd.s.ram.words;
  const lo = t[at]!;
  const hi = t[at + 1]!;
  // FC is set in pages: it avoids trouble with ATS devices.
  t[at + 1] = Math.floor(nextMfn / 0x10_0000) | perm | (nextLevel === 0 ? FC : 0);
  t[at] = ((nextMfn % 0x10_0000) << 12) | (nextLevel << NEXT_LEVEL_SHIFT) | PR;
  if (amd.s.events.on) pteWritten(amd, table, idx, lo, hi);
}

/** A fresh table with contiguity marks, 0 when memory is short. */
function newTable(amd: AmdVi, d: IommuDomain): number {
  const mfn = amd.s.allocPgtable(d);
  if (mfn === 0) {
    amdError(amd, 'cannot allocate I/O page table');
    return 0;
  }
  const at = amd.s.ram.slot(mfn) * FRAME_WORDS;
  initContigMarks(amd.s.ram.words, at);
  return mfn;
}

const tableWords = (amd: AmdVi, table: number): number => amd.s.ram.slot(table) * FRAME_WORDS;

/**
 * The old entry goes to `amd.old`; with nothing to change its Present bit is cleared there. True when the table is
 * now contiguous. @xen set_iommu_pte_present
 */
function setIommuPtePresent(
  amd: AmdVi,
  table: number,
  dfn: number,
  mfn: number,
  level: number,
  perm: number,
): boolean {
  const base = tableWords(amd, table);
  const idx = indexAt(dfn, level);
  const t = amd.s.ram.words;
  const lo = t[base + idx * 2]!;
  const hi = t[base + idx * 2 + 1]!;
  amd.old[1] = hi;
  const same =
    (lo & PR) !== 0 && nextLevelOf(lo) === 0 && frameOf(lo, hi) === mfn && (hi & (IR | IW)) === perm;
  amd.old[0] = same ? lo & ~PR : lo;
  if (same) return false;
  setIommuPdePresent(amd, table, idx, mfn, 0, perm);
  return ptUpdateContigMarkers(amd.s.ram.words, base, idx, level, PTE_KIND.leaf);
}

/** The old entry goes to `amd.old`. True when the table is now empty. @xen clear_iommu_pte_present */
function clearIommuPtePresent(amd: AmdVi, table: number, dfn: number, level: number): boolean {
  const base = tableWords(amd, table);
  const idx = indexAt(dfn, level);
  const t = amd.s.ram.words;
  const lo = t[base + idx * 2]!;
  const hi = t[base + idx * 2 + 1]!;
  amd.old[0] = lo;
  amd.old[1] = hi;
  t[base + idx * 2] = 0;
  t[base + idx * 2 + 1] = 0;
  if (amd.s.events.on) pteWritten(amd, table, idx, lo, hi);
  return ptUpdateContigMarkers(t, base, idx, level, PTE_KIND.null);
}

/** Fills a new table with the 512 pieces of one larger page. @xen set_iommu_ptes_present */
function setIommuPtesPresent(amd: AmdVi, table: number, mfn: number, level: number, perm: number): void {
  const base = tableWords(amd, table);
  const t = amd.s.ram.words;
  const span = SPAN[level]!;
  for (let i = 0; i < 512; i++) {
    const frame = mfn + i * span;
    const at = base + i * 2;
    t[at + 1] = Math.floor(frame / 0x10_0000) | FC | perm;
    t[at] = (t[at]! & ~FRAME_LO) | ((frame % 0x10_0000) << 12) | PR;
  }
}

/** A new table of `nextLevel` in place of the entry for `dfn`; 0 when memory is short. */
function installTable(
  amd: AmdVi,
  d: IommuDomain,
  table: number,
  dfn: number,
  level: number,
  super_: boolean,
): number {
  const fresh = newTable(amd, d);
  if (fresh === 0) return 0;
  const idx = indexAt(dfn, level);
  const base = tableWords(amd, table);
  if (super_) {
    const lo = amd.s.ram.words[base + idx * 2]!;
    const hi = amd.s.ram.words[base + idx * 2 + 1]!;
    if (!amd.seams.amdFillsBeforeLinking()) setIommuPdePresent(amd, table, idx, fresh, level - 1, IR | IW);
    const rights = amd.seams.amdSplitKeepsRights() ? hi & (IR | IW) : IR | IW;
    setIommuPtesPresent(amd, fresh, frameOf(lo, hi), level - 1, rights);
  }
  setIommuPdePresent(amd, table, idx, fresh, level - 1, IR | IW);
  ptUpdateContigMarkers(amd.s.ram.words, base, idx, level, PTE_KIND.table);
  return fresh;
}

/**
 * The table of level `target` that covers `dfn`. Superpages in the way are split; missing tables are made when `map`.
 * @returns its frame, NO_TABLE, or BROKEN. @xen iommu_pde_from_dfn
 */
function iommuPdeFromDfn(
  amd: AmdVi,
  d: IommuDomain,
  dfn: number,
  target: number,
  acc: FlushAcc,
  map: boolean,
): number {
  let table = d.iommu.rootMfn;
  let level = d.iommu.pagingMode;
  if (table === 0 || level < target) return BROKEN;
  // A frame that the table cannot represent cannot have a mapping.
  if (dfn >= SPAN[level]! * 512) return NO_TABLE;
  for (; level > target; level--) {
    const at = amd.s.ram.peek(table) * FRAME_WORDS + indexAt(dfn, level) * 2;
    const lo = amd.s.ram.words[at]!;
    const next = frameOf(lo, amd.s.ram.words[at + 1]!);
    if ((lo & PR) !== 0 && nextLevelOf(lo) === 0 && next !== 0) {
      const fresh = installTable(amd, d, table, dfn, level, true);
      if (fresh === 0) return BROKEN;
      acc.flags |= FLUSHF.modified;
      table = fresh;
    } else if ((lo & PR) === 0) {
      if (!map) return NO_TABLE;
      if (next !== 0) return BROKEN;
      const fresh = installTable(amd, d, table, dfn, level, false);
      if (fresh === 0) return BROKEN;
      table = fresh;
    } else table = next;
  }
  return table;
}

/** A table and all below it. @xen queue_free_pt */
function queueFreePt(amd: AmdVi, d: IommuDomain, table: number, level: number): void {
  if (level > 1) {
    const base = amd.s.ram.peek(table) * FRAME_WORDS;
    for (let i = 0; i < 512; i++) {
      const lo = amd.s.ram.words[base + i * 2]!;
      const next = nextLevelOf(lo);
      if ((lo & PR) === 0 || next === 0) continue;
      assert(next < level, 'levels fall');
      queueFreePt(amd, d, frameOf(lo, amd.s.ram.words[base + i * 2 + 1]!), next);
    }
  }
  amd.s.queueFreePgtable(d, table);
}

/** @xen amd_iommu_alloc_root; the mapping lock is held */
export function amdIommuAllocRoot(amd: AmdVi, d: IommuDomain): Rc {
  if (d.iommu.rootMfn !== 0 || d === amd.s.domIo) return 0;
  d.iommu.rootMfn = amd.s.allocPgtable(d);
  return d.iommu.rootMfn === 0 ? E.NOMEM : 0;
}

/** What a lower table leaves behind when its contents now stand in one entry above. */
function freeReplaced(amd: AmdVi, d: IommuDomain, order: number, oldLo: number, oldHi: number): void {
  if (order > 0 && nextLevelOf(oldLo) !== 0) queueFreePt(amd, d, frameOf(oldLo, oldHi), nextLevelOf(oldLo));
}

/** @xen amd_iommu_map_page */
export function* amdIommuMapPage(
  amd: AmdVi,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  flags: number,
  acc: FlushAcc,
): Co<Rc> {
  const order = flags & IOMMUF.orderMask;
  const perm = ((flags & IOMMUF.readable) !== 0 ? IR : 0) | ((flags & IOMMUF.writable) !== 0 ? IW : 0);
  let level = Math.floor(order / 9) + 1;
  let oldLo = 0;
  let oldHi = 0;
  let failed: Rc = 0;
  {
    using _lock = yield* hold(d.iommu.mappingLock);
    // Nothing of a dying domain is mapped any more; its tables are about to be freed.
    if (d.isDying) return 0;
    failed = amdIommuAllocRoot(amd, d);
    if (failed === 0) {
      let table = iommuPdeFromDfn(amd, d, dfn, level, acc, true);
      if (table <= 0) failed = E.FAULT;
      else {
        let contig = setIommuPtePresent(amd, table, dfn, mfn, level, perm);
        oldLo = amd.old[0]!;
        oldHi = amd.old[1]!;
        while (contig && ++level < d.iommu.pagingMode) {
          const lower = table;
          table = iommuPdeFromDfn(amd, d, dfn, level, acc, false);
          if (table <= 0) panic('Xen BUG at drivers/passthrough/amd/iommu_map.c');
          contig = setIommuPtePresent(amd, table, dfn, mfn - (mfn % SPAN[level]!), level, perm);
          acc.flags |= FLUSHF.modified | FLUSHF.all;
          amd.s.queueFreePgtable(d, lower);
        }
      }
    }
  }
  if (failed !== 0) {
    const what = failed === E.NOMEM ? 'root table alloc failed,' : 'invalid IO pagetable entry';
    amdError(amd, `${what} dfn = ${dfn.toString(16)}`);
    const site =
      failed === E.NOMEM ? 'amd/iommu_map.c amd_iommu_map_page root' : 'amd/iommu_map.c amd_iommu_map_page';
    amd.s.domainCrash(d, site);
    return failed;
  }
  acc.flags |= FLUSHF.added;
  if ((oldLo & PR) !== 0) {
    acc.flags |= amd.seams.amdReplaceFlush();
    freeReplaced(amd, d, order, oldLo, oldHi);
  }
  return 0;
}

/** @xen amd_iommu_unmap_page */
export function* amdIommuUnmapPage(
  amd: AmdVi,
  d: IommuDomain,
  dfn: number,
  order: number,
  acc: FlushAcc,
): Co<Rc> {
  let level = Math.floor(order / 9) + 1;
  let oldLo = 0;
  let oldHi = 0;
  let table: number;
  {
    using _lock = yield* hold(d.iommu.mappingLock);
    if (d.iommu.rootMfn === 0) return 0;
    table = iommuPdeFromDfn(amd, d, dfn, level, acc, false);
    if (table > 0) {
      let free = clearIommuPtePresent(amd, table, dfn, level);
      oldLo = amd.old[0]!;
      oldHi = amd.old[1]!;
      while (free && ++level < d.iommu.pagingMode) {
        const lower = table;
        table = iommuPdeFromDfn(amd, d, dfn, level, acc, false);
        if (table <= 0) panic('Xen BUG at drivers/passthrough/amd/iommu_map.c');
        free = clearIommuPtePresent(amd, table, dfn, level);
        acc.flags |= FLUSHF.all;
        amd.s.queueFreePgtable(d, lower);
      }
    }
  }
  if (table === BROKEN) {
    amdError(amd, `invalid IO pagetable entry dfn = ${dfn.toString(16)}`);
    amd.s.domainCrash(d, 'amd/iommu_map.c amd_iommu_unmap_page');
    return E.FAULT;
  }
  if (amd.seams.amdWasPresent(oldLo, oldHi)) {
    acc.flags |= FLUSHF.modified;
    freeReplaced(amd, d, order, oldLo, oldHi);
  }
  return 0;
}

/** Aligned blocks of 2^order frames that a range touches. @xen flush_count */
const flushCount = (dfn: number, pageCount: number, order: number): number =>
  Math.floor((dfn + pageCount - 1) / 2 ** order) + 1 - Math.floor(dfn / 2 ** order);

/** The smallest single flush that covers the range, or everything. @xen amd_iommu_flush_iotlb_pages */
export function* amdIommuFlushIotlbPages(
  amd: AmdVi,
  d: IommuDomain,
  dfn: number,
  pageCount: number,
  flushFlags: number,
): Co<Rc> {
  const all = (flushFlags & FLUSHF.all) !== 0;
  if (!all) {
    assert(pageCount > 0 && dfn !== INVALID_DFN, 'a flush of a range names it');
    assert(flushFlags !== 0, 'something is to be flushed');
  }
  if ((flushFlags & FLUSHF.modified) === 0) return 0;
  if (all) yield* amdIommuFlushAllPages(amd, d);
  else if (pageCount === 1) yield* amdIommuFlushPages(amd, d, dfn, 0);
  else if (flushCount(dfn, pageCount, 9) === 1) yield* amdIommuFlushPages(amd, d, dfn, 9);
  else if (flushCount(dfn, pageCount, 18) === 1) yield* amdIommuFlushPages(amd, d, dfn, 18);
  else yield* amdIommuFlushAllPages(amd, d);
  return 0;
}
