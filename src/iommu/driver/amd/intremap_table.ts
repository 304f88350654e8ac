/** Interrupt remapping tables: who has one, which of its entries are used, and key 'V'. @xen drivers/passthrough/amd/iommu_intr.c */
import { panic } from '../../../base/assert.js';
import { get } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { RANK } from '../../../sim/lock_ranks.js';
import { SpinLock } from '../../../sim/locks.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { CONTROL, IRTE32, IRTE32_WORDS, IRTE128, IRTE128_WORDS } from '../../format/amd.js';
import { EXT_FEATURE } from '../../format/amd_features.js';
import type { IntremapTable, IvrsMappings } from './ivrs_mappings.js';
import { type AmdUnit, type AmdVi, say } from './state.js';

/** Entries that a table has at most, and what stands for none. @xen INTREMAP_MAX_ENTRIES */
export const INTREMAP_MAX_ENTRIES = 2048;
const PAGE_SIZE = 4096;

/** Power of two of the pages that hold so many bytes. @xen get_order_from_bytes */
export function getOrderFromBytes(bytes: number): number {
  let order = 0;
  while (PAGE_SIZE * 2 ** order < bytes) order++;
  return order;
}

/** The unit uses 128-bit entries: in x2APIC mode, which nothing here sets up. */
export const gaEnabled = (unit: AmdUnit): boolean => (unit.ctrl & CONTROL.GA_EN) !== 0;
const entryWords = (unit: AmdUnit): number => (gaEnabled(unit) ? IRTE128_WORDS : IRTE32_WORDS);

/** The unit can use 128-bit entries and 32-bit destinations. */
export const hasXt = (unit: AmdUnit): boolean =>
  get(unit.features, 0, EXT_FEATURE.GA_SUP) === 1 && get(unit.features, 0, EXT_FEATURE.XT_SUP) === 1;

/** A table for `nr` interrupts, 0 for as many as there can be; undefined when memory is short. @xen amd_iommu_alloc_intremap_table */
export function amdIommuAllocIntremapTable(amd: AmdVi, unit: AmdUnit, nr: number): IntremapTable | undefined {
  const bytes = entryWords(unit) * 4;
  const order = getOrderFromBytes((nr === 0 ? INTREMAP_MAX_ENTRIES : nr) * bytes);
  const mfn = amd.s.allocXenPages(order);
  if (mfn === 0) return undefined;
  return { mfn, order, inuse: new Uint8Array((PAGE_SIZE * 2 ** order) / bytes), freed: false };
}

/**
 * The device's table; phantom functions, whose ids are higher, lose it with it. Freeing one twice kills Xen.
 * @xen amd_iommu_free_intremap_table
 */
export function amdIommuFreeIntremapTable(amd: AmdVi, ivrs: IvrsMappings, bdf: number): void {
  const table = ivrs.intremap.get(bdf);
  if (table === undefined) return;
  if (table.freed) panic('Xen BUG at common/page_alloc.c');
  table.freed = true;
  for (let other = bdf + 1; (other & 7) !== 0; other++)
    if (ivrs.intremap.get(other) === table) ivrs.intremap.delete(other);
  ivrs.intremap.delete(bdf);
  amd.s.freeXenPages(table.mfn, table.order);
}

/** The table of every device that has one of its own; the shared one. */
export function freeAllIntremapTables(amd: AmdVi): void {
  if (amd.opts.amdPerdevIntremap) {
    for (const ivrs of amd.mappings.values())
      for (const bdf of [...ivrs.intremap.keys()]) amdIommuFreeIntremapTable(amd, ivrs, bdf);
  } else if (amd.sharedIntremap !== undefined) {
    amd.s.freeXenPages(amd.sharedIntremap.mfn, amd.sharedIntremap.order);
    amd.sharedIntremap = undefined;
  }
}

/** The lock of an id's table, or of the one that all share. @xen get_intremap_lock */
export function getIntremapLock(amd: AmdVi, ivrs: IvrsMappings, reqId: number): SpinLock {
  if (!amd.opts.amdPerdevIntremap) return amd.sharedIntremapLock;
  let lock = ivrs.intremapLocks.get(reqId);
  if (lock === undefined) {
    lock = new SpinLock(amd.s.cpus, `intremap_lock of ${formatSbdf(sbdfOf(ivrs.seg, reqId))}`, RANK.iommu);
    ivrs.intremapLocks.set(reqId, lock);
  }
  return lock;
}

/**
 * The first of `nr` free entries in a row, at a multiple of `nr`, a power of two; INTREMAP_MAX_ENTRIES when there are
 * none. @xen alloc_intremap_entry
 */
export function allocIntremapEntry(table: IntremapTable, nr: number): number {
  const { inuse } = table;
  for (let slot = 0; slot + nr <= inuse.length; slot += nr) {
    const used = inuse.subarray(slot, slot + nr).lastIndexOf(1);
    if (used >= 0) continue;
    inuse.fill(1, slot, slot + nr);
    return slot;
  }
  return INTREMAP_MAX_ENTRIES;
}

/** Index of the entry's first word in RAM, for writing and reading. @xen get_intremap_entry */
export function getIntremapEntry(amd: AmdVi, unit: AmdUnit, table: IntremapTable, index: number): number {
  const word = index * entryWords(unit);
  return amd.s.ram.slot(table.mfn + Math.floor(word / FRAME_WORDS)) * FRAME_WORDS + (word % FRAME_WORDS);
}

/** What an interrupt becomes. */
export interface Irte {
  readonly vector: number;
  readonly intType: number;
  readonly destMode: number;
  readonly dest: number;
}

/** Writes an entry, the half with RemapEn last where there are two. @xen update_intremap_entry */
export function updateIntremapEntry(amd: AmdVi, unit: AmdUnit, at: number, irte: Irte): void {
  const t = amd.s.ram.words;
  if (gaEnabled(unit)) {
    const wide = new Int32Array(IRTE128_WORDS);
    set128(wide, irte);
    for (let w = IRTE128_WORDS - 1; w >= 0; w--) t[at + w] = wide[w]!;
    return;
  }
  t[at] =
    1 |
    (irte.intType << IRTE32.INT_TYPE.lo) |
    (irte.destMode << IRTE32.DM.lo) |
    ((irte.dest & 0xff) << IRTE32.DEST.lo) |
    (irte.vector << IRTE32.VECTOR.lo);
}

function set128(t: Int32Array, irte: Irte): void {
  t[0] = 1 | (irte.intType << IRTE128.INT_TYPE.lo) | (irte.destMode << IRTE128.DM.lo);
  t[0] |= irte.dest << IRTE128.DEST_LO.lo;
  t[2] = irte.vector;
  t[3] = (irte.dest >>> 24) << IRTE128.DEST_HI.lo;
}

/** Clears an entry, the half with RemapEn first, and its mark. @xen free_intremap_entry */
export function freeIntremapEntry(amd: AmdVi, unit: AmdUnit, table: IntremapTable, index: number): void {
  const at = getIntremapEntry(amd, unit, table, index);
  for (let w = 0; w < entryWords(unit); w++) amd.s.ram.words[at + w] = 0;
  table.inuse[index] = 0;
}

/** The words of an entry, for the event stream. */
export function irteWords(amd: AmdVi, unit: AmdUnit, at: number): number[] {
  return Array.from(amd.s.ram.words.subarray(at, at + entryWords(unit)), (w) => w >>> 0);
}

/** @xen dump_intremap_table */
function dumpIntremapTable(amd: AmdVi, unit: AmdUnit, table: IntremapTable, name: string | undefined): void {
  const { ram } = amd.s;
  const words = entryWords(unit);
  let title = name;
  for (let i = 0; i < table.inuse.length; i++) {
    const word = i * words;
    const at = ram.peek(table.mfn + Math.floor(word / FRAME_WORDS)) * FRAME_WORDS + (word % FRAME_WORDS);
    const entry = irteWords(amd, unit, at);
    if (entry.every((w) => w === 0)) continue;
    if (title !== undefined) say(amd, `  ${title}:`);
    title = undefined;
    const [w0 = '', w1 = '', w2 = '', w3 = ''] = entry.map((w) => hex(w, 8));
    say(amd, `    IRTE[${hex(i, 3)}] ${words === 1 ? w0 : `${w3}${w2}_${w1}${w0}`}`);
  }
}

/** Key 'V'. @xen amd_iommu_dump_intremap_tables */
export function* amdIommuDumpIntremapTables(amd: AmdVi): Co<void> {
  if (amd.sharedIntremap !== undefined) {
    say(amd, '--- Dumping Shared IOMMU Interrupt Remapping Table ---');
    using _lock = yield* hold(amd.sharedIntremapLock);
    dumpIntremapTable(amd, amd.units[0]!, amd.sharedIntremap, undefined);
    return;
  }
  say(amd, '--- Dumping Per-dev IOMMU Interrupt Remapping Table ---');
  for (const ivrs of amd.mappings.values()) {
    for (let bdf = 0; bdf < amd.ivrsBdfEntries; bdf++) {
      const unit = amd.units[ivrs.unit(bdf)];
      const table = ivrs.intremap.get(bdf);
      if (unit === undefined || table === undefined || ivrs.requestor[bdf] !== bdf) continue;
      using _lock = yield* hold(getIntremapLock(amd, ivrs, bdf));
      dumpIntremapTable(amd, unit, table, formatSbdf(sbdfOf(ivrs.seg, bdf)));
    }
  }
}
