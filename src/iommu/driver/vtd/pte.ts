/** Second-level entries as the driver writes and walks them. @xen drivers/passthrough/vtd/iommu.h, iommu.c */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { getFrame } from '../../../base/layout.js';
import type { EventStream } from '../../../sim/events.js';
import { FRAME_WORDS, type Ram } from '../../../sim/ram.js';
import { FLUSHF, type FlushAcc, type IommuDomain } from '../types.js';
import { FRAMES_AT, indexAt, initContigMarks, MARK_MASK, PTE_KIND, ptUpdateContigMarkers } from './contig.js';
import type { Vtd } from './state.js';

export const PTE_NUM = 512;
export const PTE_READ = 1;
export const PTE_WRITE = 2;
export const PTE_PROT = 3;
export const PTE_SP = 0x80;
export const PTE_SNP = 0x800;

/** @xen dma_pte_present, dma_pte_superpage */
export const ptePresent = (lo: number): boolean => (lo & PTE_PROT) !== 0;
export const pteSuperpage = (lo: number): boolean => (lo & PTE_SP) !== 0;
/** Words of an entry that maps `mfn` with the low bits `low`. */
export const pteLo = (mfn: number, low: number): number => (mfn << 12) | low;
export const pteHi = (mfn: number): number => (mfn / 0x10_0000) & 0xf_ffff;
/** First word of a table that will be written. */
export const tableBase = (vtd: Vtd, mfn: number): number => vtd.s.ram.slot(mfn) * FRAME_WORDS;
/** First word of a table that is only read. */
export const tablePeek = (vtd: Vtd, mfn: number): number => vtd.s.ram.peek(mfn) * FRAME_WORDS;

/** Stores an entry, mark included, and makes it visible to hardware. */
export function writePte(vtd: Vtd, table: number, base: number, idx: number, lo: number, hi: number): void {
  storePte(vtd, table, base, idx, lo, hi);
  if (vtd.opts.nonCoherent) syncPte(vtd, table, idx);
}

function syncPte(vtd: Vtd, table: number, idx: number): void {
  if (vtd.seams.vtdWritesBack()) vtd.s.syncCache(table, idx * 2, 2);
}

/** Stores an entry, mark included. Units that do not snoop caches may not see it yet. */
export function storePte(vtd: Vtd, table: number, base: number, idx: number, lo: number, hi: number): void {
  const { words } = vtd.s.ram;
  const at = base + idx * 2;
  const { events } = vtd.s;
  if (events.on) {
    storeAndTell(events, words, table * PTE_NUM + idx, at, lo, hi);
    return;
  }
  words[at] = lo;
  words[at + 1] = hi;
}

/** `entry`: its address in memory, in entries. */
function storeAndTell(
  events: EventStream,
  words: Int32Array,
  entry: number,
  at: number,
  lo: number,
  hi: number,
): void {
  const before = [words[at]! >>> 0, words[at + 1]! >>> 0];
  words[at] = lo;
  words[at + 1] = hi;
  events.emit({ kind: 'entry', unit: -1, table: 'pte', id: entry * 8, before, after: [lo >>> 0, hi >>> 0] });
}

/** A table of `d`'s pool, with contiguity marks unless it is to be a root; 0 when memory is short. @xen iommu_alloc_pgtable */
export function allocTable(vtd: Vtd, d: IommuDomain, marks: boolean): number {
  const mfn = vtd.s.allocPgtable(d);
  if (mfn === 0) return 0;
  if (marks) {
    const base = tableBase(vtd, mfn);
    initContigMarks(vtd.s.ram.words, base);
  }
  if (vtd.opts.nonCoherent) vtd.s.syncCache(mfn, 0, FRAME_WORDS);
  return mfn;
}

/** The root of `d`'s table, made when missing; 0 when memory is short. */
export function rootOf(vtd: Vtd, d: IommuDomain): number {
  const hd = d.iommu;
  if (hd.pgdMfn === 0) hd.pgdMfn = allocTable(vtd, d, false);
  return hd.pgdMfn;
}

/**
 * The table that holds the entry of `dfn` at level `target`. A larger page on the way is split; tables are made
 * only if `alloc`. The caller holds mapping_lock.
 * @returns the table's frame, 0 when there is none, -ENOMEM. @xen addr_to_dma_page_maddr
 */
export function addrToDmaPage(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  target: number,
  acc: FlushAcc | undefined,
  alloc: boolean,
): number {
  assert(d.iommu.mappingLock.heldByCurrent(), 'mapping_lock is held');
  const found = descend(vtd.s.ram, d.iommu, dfn, target);
  return found > 0 ? found : growTo(vtd, d, dfn, target, acc, alloc);
}

/** The table at level `target`, if only tables lead there; 0 where something else does. */
function descend(ram: Ram, hd: IommuDomain['iommu'], dfn: number, target: number): number {
  const { words } = ram;
  let table = hd.pgdMfn;
  if (table === 0) return 0;
  for (let level = hd.agaw + 2; level > target; level--) {
    const at = (ram.peekTable(table, level) << 10) + indexAt(dfn, level) * 2;
    const lo = words[at]!;
    if ((lo & PTE_PROT) === 0 || (lo & PTE_SP) !== 0) return 0;
    table = getFrame(words, at);
  }
  return table;
}

/** As addrToDmaPage(), where tables must be made, or are not. */
function growTo(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  target: number,
  acc: FlushAcc | undefined,
  alloc: boolean,
): number {
  const hd = d.iommu;
  const { ram } = vtd.s;
  let table = hd.pgdMfn;
  if (table === 0 && alloc) table = rootOf(vtd, d);
  if (table === 0) return alloc ? E.NOMEM : 0;
  let level = hd.agaw + 2;
  for (; level > target; level--) {
    const at = ram.peek(table) * FRAME_WORDS + indexAt(dfn, level) * 2;
    const lo = ram.words[at]!;
    if (!ptePresent(lo) && !alloc) return 0;
    if (!ptePresent(lo) || pteSuperpage(lo)) break;
    table = getFrame(ram.words, at);
  }
  for (; level > target && table > 0; level--) {
    table = insertTable(vtd, d, table, indexAt(dfn, level), level, acc);
  }
  return table;
}

/** Puts a table in the place of an absent entry, or of a large page, whose mapping the table then repeats. */
function insertTable(
  vtd: Vtd,
  d: IommuDomain,
  parent: number,
  idx: number,
  level: number,
  acc: FlushAcc | undefined,
): number {
  const table = allocTable(vtd, d, true);
  if (table === 0) return E.NOMEM;
  const { ram } = vtd.s;
  const base = tableBase(vtd, parent);
  const child = tableBase(vtd, table);
  const lo = ram.words[base + idx * 2]!;
  if (ptePresent(lo)) {
    splitPage(ram.words, child, lo, getFrame(ram.words, base + idx * 2), level);
    if (vtd.opts.nonCoherent) vtd.s.syncCache(table, 0, FRAME_WORDS);
    if (acc !== undefined) acc.flags |= FLUSHF.modified;
  }
  // Upper levels allow everything: the leaf decides.
  writePte(vtd, parent, base, idx, pteLo(table, PTE_PROT), pteHi(table));
  ptUpdateContigMarkers(ram.words, base, idx, level, PTE_KIND.table);
  return table;
}

/** Fills a table, marks already in it, with the pages that the large page at `level` consisted of. */
function splitPage(t: Int32Array, child: number, lo: number, mfn: number, level: number): void {
  const step = FRAMES_AT[level - 1]!;
  const low = lo & 0xfff & (step === 1 ? ~PTE_SP : ~0);
  for (let i = 0; i < PTE_NUM; i++) {
    const frame = mfn + i * step;
    t[child + i * 2] = pteLo(frame, low);
    t[child + i * 2 + 1] = (t[child + i * 2 + 1]! & MARK_MASK) | pteHi(frame);
  }
}

/** Queues a table and those below it for freeing after the next flush. @xen queue_free_pt */
export function queueFreePt(vtd: Vtd, d: IommuDomain, mfn: number, level: number): void {
  if (level > 1) {
    const base = tablePeek(vtd, mfn);
    const { words } = vtd.s.ram;
    for (let i = 0; i < PTE_NUM; i++) {
      const lo = words[base + i * 2]!;
      if (ptePresent(lo) && !pteSuperpage(lo)) queueFreePt(vtd, d, getFrame(words, base + i * 2), level - 1);
    }
  }
  vtd.s.queueFreePgtable(d, mfn);
}

/**
 * Root that a context entry of a unit with `levels` levels gets: `pgdMfn` unless 0, the shared p2m, or the domain's
 * own table, made down to the fewest levels any unit has. The caller holds mapping_lock.
 * @returns 0 when memory is short. @xen domain_pgd_maddr
 */
export function domainPgd(vtd: Vtd, d: IommuDomain, pgdMfn: number, levels: number): number {
  assert(d.iommu.mappingLock.heldByCurrent(), 'mapping_lock is held');
  let root = vtd.seams.vtdGivenRoot(pgdMfn);
  if (root === 0 && d.iommu.hapPtShare) {
    root = d.p2mRootMfn();
    if (!vtd.seams.vtdSkipsLevelsOfShared()) return root;
  } else if (root === 0) {
    if (d.iommu.pgdMfn === 0) addrToDmaPage(vtd, d, 0, vtd.minPtLevels, undefined, true);
    root = d.iommu.pgdMfn;
  }
  // A unit with fewer levels starts further down.
  for (let l = 4; root !== 0 && l > levels; l--) root = getFrame(vtd.s.ram.words, tablePeek(vtd, root));
  return root;
}

/** Nothing to map: tables are shared with the p2m, or the hardware domain goes untranslated. */
export const notMapped = (vtd: Vtd, d: IommuDomain): boolean =>
  d.iommu.hapPtShare || (vtd.opts.hwdomPassthrough && d === vtd.s.hwdom);

/** @xen intel_iommu_domain_init */
export function intelIommuDomainInit(d: IommuDomain): Rc {
  d.iommu.usesNone();
  // @xen DEFAULT_DOMAIN_ADDRESS_WIDTH: 48 bits
  d.iommu.agaw = 2;
  return 0;
}
