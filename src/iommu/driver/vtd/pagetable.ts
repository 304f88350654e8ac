/** Mapping, unmapping and looking up pages of a domain's I/O page table. @xen drivers/passthrough/vtd/iommu.c */
import { assert, panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { getFrame } from '../../../base/layout.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { FLUSHF, type FlushAcc, IOMMUF, type IommuDomain, type LookupResult } from '../types.js';
import { FRAMES_AT, indexAt, MARK_MASK, PTE_KIND, ptUpdateContigMarkers } from './contig.js';
import {
  addrToDmaPage,
  notMapped,
  PTE_PROT,
  PTE_READ,
  PTE_SNP,
  PTE_SP,
  PTE_WRITE,
  pteHi,
  pteLo,
  ptePresent,
  pteSuperpage,
  queueFreePt,
  tableBase,
  tablePeek,
  writePte,
} from './pte.js';
import type { Vtd } from './state.js';

export const LEVEL_STRIDE = 9;

/** Can a table at `level` be replaced by one larger page? */
export const canCoalesce = (vtd: Vtd, level: number): boolean =>
  level < 3 && (vtd.pageSizes & (1 << (12 + level * LEVEL_STRIDE))) !== 0;

/** Level at which a page of 2^order frames has its entry. */
function levelOf(vtd: Vtd, order: number): number {
  assert(((vtd.pageSizes >> order) & 0x1000) !== 0, 'the units support this page size');
  return order === 0 ? 1 : order / LEVEL_STRIDE + 1;
}

/** IOMMUF has the rights in the order of PTE_READ and PTE_WRITE. */
const RIGHTS_SHIFT = 6;

/** Low bits of an entry with these rights and this order; `flags` as IOMMUF. */
export const entryBits = (vtd: Vtd, flags: number): number =>
  ((flags >>> RIGHTS_SHIFT) & PTE_PROT) |
  ((flags & IOMMUF.orderMask) > 0 ? PTE_SP : 0) |
  (vtd.opts.snoop ? PTE_SNP : 0);

/** `flags` as IOMMUF. @returns 0, -ENOMEM; a dying domain is left alone. @xen intel_iommu_map_page */
export function* intelIommuMapPage(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  flags: number,
  acc: FlushAcc,
): Co<Rc> {
  if (notMapped(vtd, d)) return 0;
  const level = levelOf(vtd, flags & IOMMUF.orderMask);
  using _mapping = yield* hold(d.iommu.mappingLock);
  // No table may grow once they are being freed.
  return d.isDying ? 0 : mapLocked(vtd, d, dfn, mfn, flags, level, acc);
}

function mapLocked(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  flags: number,
  level: number,
  acc: FlushAcc,
): Rc {
  const table = addrToDmaPage(vtd, d, dfn, level, acc, true);
  if (table <= 0) return E.NOMEM;

  const { ram } = vtd.s;
  const base = ram.slot(table) * FRAME_WORDS;
  const { words } = ram;
  const idx = indexAt(dfn, level);
  const at = base + idx * 2;
  const low = entryBits(vtd, flags);
  const oldLo = words[at]!;
  const lo = pteLo(mfn, low);
  const hi = pteHi(mfn);
  if (oldLo === lo && (words[at + 1]! & ~MARK_MASK) === hi) return 0;

  const replaced = level > 1 && isTable(oldLo) ? getFrame(words, at) : 0;
  writePte(vtd, table, base, idx, lo, hi);
  const kind = canCoalesce(vtd, level) ? PTE_KIND.leaf : PTE_KIND.table;
  if (ptUpdateContigMarkers(words, base, idx, level, kind)) {
    coalesce(vtd, d, dfn, mfn, level, low, table, acc);
  }
  acc.flags |= ptePresent(oldLo) ? FLUSHF.added | FLUSHF.modified : FLUSHF.added;
  if (replaced !== 0) queueFreePt(vtd, d, replaced, level - 1);
  return 0;
}

/** Does an entry above level 1 lead to a table? */
const isTable = (lo: number): boolean => ptePresent(lo) && !pteSuperpage(lo);

/** A table has become contiguous: replaces it by one larger page, and so on as far up as sizes allow. */
function coalesce(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  fromLevel: number,
  low: number,
  fromTable: number,
  acc: FlushAcc,
): void {
  let level = fromLevel;
  let table = fromTable;
  for (let contiguous = true; contiguous; ) {
    const replaced = table;
    level++;
    table = addrToDmaPage(vtd, d, dfn, level, acc, false);
    if (table <= 0) panic('Xen BUG at drivers/passthrough/vtd/iommu.c');
    const first = Math.floor(mfn / FRAMES_AT[level]!) * FRAMES_AT[level]!;
    const base = tableBase(vtd, table);
    const idx = indexAt(dfn, level);
    writePte(vtd, table, base, idx, pteLo(first, low | PTE_SP), pteHi(first));
    acc.flags |= FLUSHF.modified | FLUSHF.all;
    vtd.s.queueFreePgtable(d, replaced);
    const kind = canCoalesce(vtd, level) ? PTE_KIND.leaf : PTE_KIND.table;
    contiguous = ptUpdateContigMarkers(vtd.s.ram.words, base, idx, level, kind);
  }
}

/** @returns 0, also where nothing was mapped; -ENOMEM when a larger page could not be split. @xen intel_iommu_unmap_page */
export function* intelIommuUnmapPage(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  order: number,
  acc: FlushAcc,
): Co<Rc> {
  if (notMapped(vtd, d)) return 0;
  const level = levelOf(vtd, order);
  using _mapping = yield* hold(d.iommu.mappingLock);
  return unmapLocked(vtd, d, dfn, level, acc);
}

function unmapLocked(vtd: Vtd, d: IommuDomain, dfn: number, level: number, acc: FlushAcc): Rc {
  const table = addrToDmaPage(vtd, d, dfn, level, acc, false);
  if (table <= 0) return table;
  const { ram } = vtd.s;
  const base = ram.slot(table) * FRAME_WORDS;
  const { words } = ram;
  const idx = indexAt(dfn, level);
  const oldLo = words[base + idx * 2]!;
  if (!ptePresent(oldLo)) return 0;
  const removed = level > 1 && isTable(oldLo) ? getFrame(words, base + idx * 2) : 0;
  writePte(vtd, table, base, idx, 0, 0);
  if (ptUpdateContigMarkers(words, base, idx, level, PTE_KIND.null)) {
    freeEmptied(vtd, d, dfn, level, table, acc);
  }
  acc.flags |= vtd.seams.vtdUnmapFlush();
  if (removed !== 0) queueFreePt(vtd, d, removed, level - 1);
  return 0;
}

/** A table has become empty: takes it out, and so on up to the level at which the unit with fewest levels starts. */
function freeEmptied(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  fromLevel: number,
  fromTable: number,
  acc: FlushAcc,
): void {
  let table = fromTable;
  for (let level = fromLevel + 1; level < vtd.minPtLevels; level++) {
    const emptied = table;
    table = addrToDmaPage(vtd, d, dfn, level, acc, false);
    if (table <= 0) panic('Xen BUG at drivers/passthrough/vtd/iommu.c');
    const base = tableBase(vtd, table);
    const idx = indexAt(dfn, level);
    writePte(vtd, table, base, idx, 0, 0);
    acc.flags |= FLUSHF.all;
    vtd.s.queueFreePgtable(d, emptied);
    if (!ptUpdateContigMarkers(vtd.s.ram.words, base, idx, level, PTE_KIND.null)) return;
  }
}

/** Fills `out`. @returns -EOPNOTSUPP where Xen keeps no table, -ENOENT. @xen intel_iommu_lookup_page */
export function* intelIommuLookupPage(vtd: Vtd, d: IommuDomain, dfn: number, out: LookupResult): Co<Rc> {
  if (notMapped(vtd, d)) return E.OPNOTSUPP;
  using _mapping = yield* hold(d.iommu.mappingLock);
  return lookup(vtd, d, dfn, out);
}

/** @xen addr_to_dma_page_maddr with target 0 */
function lookup(vtd: Vtd, d: IommuDomain, dfn: number, out: LookupResult): Rc {
  const { words } = vtd.s.ram;
  let level = d.iommu.agaw + 2;
  let table = d.iommu.pgdMfn;
  if (table === 0) return E.NOENT;
  for (;;) {
    const at = tablePeek(vtd, table) + indexAt(dfn, level) * 2;
    const lo = words[at]!;
    const frame = getFrame(words, at);
    if (!ptePresent(lo)) return E.NOENT;
    if (level === 1 || pteSuperpage(lo)) {
      out.mfn = frame + (dfn % FRAMES_AT[level]!);
      out.flags =
        ((lo & PTE_READ) !== 0 ? IOMMUF.readable : 0) | ((lo & PTE_WRITE) !== 0 ? IOMMUF.writable : 0);
      // Xen takes an entry whose address is in the first page for none.
      return out.mfn === 0 ? E.NOENT : 0;
    }
    table = frame;
    level--;
  }
}
