/** Root and context tables in memory. @xen drivers/passthrough/vtd/iommu.c */
import { assert } from '../../../base/assert.js';
import { getFrame, set, setFrame } from '../../../base/layout.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { CONTEXT_WORDS, ROOT, ROOT_WORDS } from '../../format/vtd.js';
import { allocPgtableMaddr, type VtdIommu } from './state.js';

/** Frame of the bus's context table, 0 while there is none. */
export function contextTableOf(iommu: VtdIommu, bus: number): number {
  const { ram } = iommu;
  const at = ram.peek(iommu.rootMfn) * FRAME_WORDS + bus * ROOT_WORDS;
  // Bit 0: present.
  return (ram.words[at]! & 1) === 0 ? 0 : getFrame(ram.words, at);
}

/** The bus's context table, made when it is missing; 0 when there is no memory for it. @xen bus_to_context_maddr */
export function busToContextMaddr(iommu: VtdIommu, bus: number): number {
  assert(iommu.lock.heldByCurrent(), 'iommu->lock is held');
  const found = contextTableOf(iommu, bus);
  if (found !== 0) return found;
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

/** Index into RAM's words of an entry that will be written. */
export const contextEntryAt = (iommu: VtdIommu, table: number, devfn: number): number =>
  iommu.ram.slot(table) * FRAME_WORDS + devfn * CONTEXT_WORDS;

/** Four words as events show them: unsigned. */
export const copyQuad = (t: Int32Array, at: number): readonly number[] => [
  t[at]! >>> 0,
  t[at + 1]! >>> 0,
  t[at + 2]! >>> 0,
  t[at + 3]! >>> 0,
];
