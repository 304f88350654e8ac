/** Interrupt remapping tables: their allocation, and key 'V'. @xen drivers/passthrough/amd/iommu_intr.c */
import { panic } from '../../../base/assert.js';
import { get } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, preemptPoint } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { CONTROL } from '../../format/amd.js';
import { EXT_FEATURE } from '../../format/amd_features.js';
import type { IntremapTable, IvrsMappings } from './ivrs_mappings.js';
import { type AmdUnit, type AmdVi, say } from './state.js';

/** @xen INTREMAP_MAX_ENTRIES */
const INTREMAP_MAX_ENTRIES = 2048;
const PAGE_SIZE = 4096;

/** Power of two of the pages that hold so many bytes. @xen get_order_from_bytes */
export function getOrderFromBytes(bytes: number): number {
  let order = 0;
  while (PAGE_SIZE * 2 ** order < bytes) order++;
  return order;
}

/** The unit uses 128-bit entries. */
export const gaEnabled = (unit: AmdUnit): boolean => (unit.ctrl & CONTROL.GA_EN) !== 0;
/** Entries of a table. @xen intremap_table_entries */
const entriesOf = (table: IntremapTable, unit: AmdUnit): number =>
  (PAGE_SIZE * 2 ** table.order) / (gaEnabled(unit) ? 16 : 4);

/** A table for `nr` interrupts, 0 for as many as there can be; undefined when memory is short. @xen amd_iommu_alloc_intremap_table */
export function amdIommuAllocIntremapTable(amd: AmdVi, unit: AmdUnit, nr: number): IntremapTable | undefined {
  const entries = nr === 0 ? INTREMAP_MAX_ENTRIES : nr;
  const order = getOrderFromBytes(entries * (gaEnabled(unit) ? 16 : 4));
  const mfn = amd.s.allocXenPages(order);
  return mfn === 0 ? undefined : { mfn, order, freed: false };
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

/** @xen dump_intremap_table */
function dumpIntremapTable(amd: AmdVi, unit: AmdUnit, table: IntremapTable, name: string | undefined): void {
  const wide = gaEnabled(unit);
  const entryWords = wide ? 4 : 1;
  const { ram } = amd.s;
  let title = name;
  for (let i = 0; i < entriesOf(table, unit); i++) {
    const word = i * entryWords;
    const at = ram.peek(table.mfn + Math.floor(word / FRAME_WORDS)) * FRAME_WORDS + (word % FRAME_WORDS);
    const w = (n: number): string => hex(ram.words[at + n]! >>> 0, 8);
    if (
      ram.words[at] === 0 &&
      (!wide || (ram.words[at + 1]! | ram.words[at + 2]! | ram.words[at + 3]!) === 0)
    )
      continue;
    if (title !== undefined) say(amd, `  ${title}:`);
    title = undefined;
    say(amd, `    IRTE[${hex(i, 3)}] ${wide ? `${w(3)}${w(2)}_${w(1)}${w(0)}` : w(0)}`);
  }
}

/** Key 'V'. @xen amd_iommu_dump_intremap_tables */
export function* amdIommuDumpIntremapTables(amd: AmdVi): Co<void> {
  if (amd.sharedIntremap !== undefined) {
    say(amd, '--- Dumping Shared IOMMU Interrupt Remapping Table ---');
    dumpIntremapTable(amd, amd.units[0]!, amd.sharedIntremap, undefined);
    return;
  }
  say(amd, '--- Dumping Per-dev IOMMU Interrupt Remapping Table ---');
  for (const ivrs of amd.mappings.values()) {
    for (let bdf = 0; bdf < amd.ivrsBdfEntries; bdf++) {
      const unit = amd.units[ivrs.unit(bdf)];
      const table = ivrs.intremap.get(bdf);
      if (unit === undefined || table === undefined || ivrs.requestor[bdf] !== bdf) continue;
      dumpIntremapTable(amd, unit, table, formatSbdf(sbdfOf(ivrs.seg, bdf)));
      yield* preemptPoint(amd.s.cpus);
    }
  }
}

/** The unit can use 128-bit entries and 32-bit destinations. */
export const hasXt = (unit: AmdUnit): boolean =>
  get(unit.features, 0, EXT_FEATURE.GA_SUP) === 1 && get(unit.features, 0, EXT_FEATURE.XT_SUP) === 1;
