/** Root and context tables in memory. @xen drivers/passthrough/vtd/iommu.c */
import { assert } from '../../../base/assert.js';
import { getFrame, set, setFrame } from '../../../base/layout.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { ROOT, ROOT_WORDS } from '../../format/vtd.js';
import { allocPgtableMaddr, NO_TABLE, type VtdIommu } from './state.js';

const FRAME_BYTES = FRAME_WORDS * 4;
/** Root and context entries are 16 bytes. */
const ENTRY_SHIFT = 4;
/** Bit 0 of a root entry. */
const PRESENT = 1;

/** Index into RAM's words of a bus's root entry, for reading. The root stays where it is once it was written to. */
function rootEntryAt(iommu: VtdIommu, bus: number): number {
  if (iommu.rootAt === 0) iommu.rootAt = iommu.ram.peek(iommu.rootMfn) * FRAME_BYTES;
  return (iommu.rootAt + (bus << ENTRY_SHIFT)) >>> 2;
}

/** Frame of the bus's context table, 0 while there is none. */
export function contextTableOf(iommu: VtdIommu, bus: number): number {
  const { words } = iommu.ram;
  const at = rootEntryAt(iommu, bus);
  return (words[at]! & PRESENT) === 0 ? 0 : getFrame(words, at);
}

/** Makes the bus's context table; 0 when there is no memory for it. */
function addContextTable(iommu: VtdIommu, bus: number): number {
  const { s, opts } = iommu.vtd;
  const mfn = allocPgtableMaddr(iommu.vtd, 0);
  if (mfn === 0) return 0;
  const at = s.ram.slot(iommu.rootMfn) * FRAME_WORDS + bus * ROOT_WORDS;
  const before = s.events.on ? copyQuad(s.ram.words, at) : undefined;
  setFrame(s.ram.words, at, mfn);
  set(s.ram.words, at, ROOT.P, 1);
  if (opts.nonCoherent) s.syncCache(iommu.rootMfn, bus * ROOT_WORDS, ROOT_WORDS);
  if (before !== undefined) {
    const after = copyQuad(s.ram.words, at);
    s.events.emit({ kind: 'entry', unit: iommu.index, table: 'root', id: bus, before, after });
  }
  return mfn;
}

/** Finds where the table of a root entry lies, and keeps that: it stays there. False when it cannot be made. */
function findTable(iommu: VtdIommu, bus: number, root: number): boolean {
  const { ram } = iommu;
  const present = (ram.words[root]! & PRESENT) !== 0;
  const table = present ? getFrame(ram.words, root) : addContextTable(iommu, bus);
  if (table === 0 && iommu.vtd.seams.vtdNoticesMissingContextTable()) return false;
  iommu.tableAt = ram.slot(table) * FRAME_BYTES;
  const at = rootEntryAt(iommu, bus);
  iommu.tableLo = table === 0 ? NO_TABLE : ram.words[at]!;
  iommu.tableHi = ram.words[at + 1]!;
  return true;
}

/**
 * Index into RAM's words of the entry of (bus, devfn), which may be written. The bus's table is made when it is
 * missing; 0 when there is no memory for it. @xen bus_to_context_maddr
 */
export function contextEntryAt(iommu: VtdIommu, bus: number, devfn: number): number {
  assert(iommu.lock.heldByCurrent(), 'iommu->lock is held');
  const { ram } = iommu;
  const root = rootEntryAt(iommu, bus);
  const found = ram.words[root] === iommu.tableLo && ram.words[root + 1] === iommu.tableHi;
  if (!found && !findTable(iommu, bus, root)) return 0;
  const at = (iommu.tableAt + (devfn << ENTRY_SHIFT)) >>> 2;
  ram.writes(at);
  return at;
}

/** Four words as events show them: unsigned. */
export const copyQuad = (t: Int32Array, at: number): readonly number[] => [
  t[at]! >>> 0,
  t[at + 1]! >>> 0,
  t[at + 2]! >>> 0,
  t[at + 3]! >>> 0,
];
