/** The IOTLB and the DTE cache: fill, and the invalidations that commands ask for. */
import { type AmdIommuState, DTE_CACHE, IRT_CACHE, IRT_INDEX_BITS, TLB } from './state.js';

/** Highest generation before the IOTLB is emptied and counting starts again. */
const LAST_GEN = 0x7fff_fff0;

/** The slot of a domain id: where its generation is kept. */
export function domainSlot(u: AmdIommuState, domid: number): number {
  const found = u.slots.get(domid);
  if (found !== undefined) return found;
  const slot = u.slots.size;
  if (slot === u.gens.length) {
    u.gens = grown(u.gens);
    u.domids = grown(u.domids);
    const flags = new Uint8Array(u.super.length * 2);
    flags.set(u.super);
    u.super = flags;
  }
  u.slots.set(domid, slot);
  u.domids[slot] = domid;
  renew(u, slot);
  return slot;
}

function grown(old: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const more = new Int32Array(old.length * 2);
  more.set(old);
  return more;
}

/** A new generation: nothing cached for the domain can be found any more. */
function renew(u: AmdIommuState, slot: number): void {
  if (u.nextGen >= LAST_GEN) {
    u.tlb.fill(0);
    for (let s = 0; s < u.slots.size; s++) u.gens[s] = s + 1;
    u.nextGen = u.slots.size + 1;
  }
  u.gens[slot] = u.nextGen++;
  u.super[slot] = 0;
}

/** Word index of the set in which page `dfn` of generation `gen` may be. */
export const tlbSet = (dfn: number, gen: number): number => ((dfn ^ (dfn >>> 8) ^ gen) & (TLB.SETS - 1)) << 4;

/** Puts the walk's result, one 4 KiB piece of it, into the IOTLB. */
export function tlbFill(u: AmdIommuState, slot: number, dfn: number): void {
  const w = u.walked;
  const gen = u.gens[slot]!;
  const set = tlbSet(dfn, gen);
  const way = u.victim[set >>> 4]! & (TLB.WAYS - 1);
  u.victim[set >>> 4] = way + 1;
  const e = set + (way << TLB.SHIFT);
  const t = u.tlb;
  t[e + TLB.DFN_LO] = dfn | 0;
  t[e + TLB.GEN] = gen;
  t[e + TLB.MFN_LO] = w[0]!;
  t[e + TLB.FLAGS] = w[2]! | (w[3]! << 2) | (Math.floor(dfn / 2 ** 32) << 8) | (w[1]! << 16);
  if (w[3]! > 0) u.super[slot] = 1;
}

const entryDfn = (t: Int32Array, e: number): number =>
  ((t[e + TLB.FLAGS]! >>> 8) & 0xff) * 2 ** 32 + (t[e + TLB.DFN_LO]! >>> 0);
const entryMfn = (t: Int32Array, e: number): number =>
  ((t[e + TLB.FLAGS]! >>> 16) & 0xff) * 2 ** 32 + (t[e + TLB.MFN_LO]! >>> 0);
const entryOrder = (t: Int32Array, e: number): number => (t[e + TLB.FLAGS]! >>> 2) & 0x3f;

/** INVALIDATE_DEVTAB_ENTRY. */
export function invalidateDte(u: AmdIommuState, rid: number): void {
  const e = ((rid ^ (rid >>> 8)) & (DTE_CACHE.ENTRIES - 1)) << DTE_CACHE.SHIFT;
  if (u.dteCache[e] === (rid | 0x10000)) u.dteCache[e] = 0;
}

/** INVALIDATE_IOMMU_PAGES for everything a domain id has. */
export function invalidateDomain(u: AmdIommuState, domid: number): void {
  const slot = u.slots.get(domid);
  if (slot !== undefined) renew(u, slot);
}

/**
 * INVALIDATE_IOMMU_PAGES for 2^order pages. A page cached from a larger one goes with all pieces of that one, as
 * hardware that holds it whole would drop it whole.
 */
export function invalidateRange(u: AmdIommuState, domid: number, dfn: number, order: number): void {
  const slot = u.slots.get(domid);
  if (slot === undefined) return;
  const gen = u.gens[slot]!;
  const t = u.tlb;
  const all = order > 0 || u.super[slot] === 1;
  const start = all ? 0 : tlbSet(dfn, gen);
  const end = all ? t.length : start + (TLB.WAYS << TLB.SHIFT);
  const first = dfn - (dfn % 2 ** order);
  const last = first + 2 ** order - 1;
  for (let e = start; e < end; e += 1 << TLB.SHIFT) {
    if (t[e + TLB.GEN] !== gen) continue;
    const span = 2 ** entryOrder(t, e);
    const from = entryDfn(t, e) - (entryDfn(t, e) % span);
    if (from <= last && from + span - 1 >= first) t[e + TLB.GEN] = 0;
  }
}

/** INVALIDATE_INTERRUPT_TABLE. */
export function invalidateInterrupts(u: AmdIommuState, rid: number): void {
  const c = u.irtCache;
  for (let e = 0; e < c.length; e += IRT_CACHE.WORDS) {
    const tag = c[e + IRT_CACHE.TAG]!;
    if (tag !== 0 && (tag - 1) >>> IRT_INDEX_BITS === rid) c[e + IRT_CACHE.TAG] = 0;
  }
}

/** INVALIDATE_IOMMU_ALL. */
export function invalidateAll(u: AmdIommuState): void {
  u.tlb.fill(0);
  u.dteCache.fill(0);
  u.irtCache.fill(0);
  u.super.fill(0);
}

/** One translation the unit could use without looking at memory. Frames. */
export interface CachedTranslation {
  readonly domid: number;
  readonly dfn: number;
  readonly mfn: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** All that the IOTLB still holds and would use. */
export function cachedTranslations(u: AmdIommuState): CachedTranslation[] {
  const byGen = new Map<number, number>();
  for (const [domid, slot] of u.slots) byGen.set(u.gens[slot]!, domid);
  const found: CachedTranslation[] = [];
  const t = u.tlb;
  for (let e = 0; e < t.length; e += 1 << TLB.SHIFT) {
    const domid = byGen.get(t[e + TLB.GEN]!);
    if (domid === undefined) continue;
    const perm = t[e + TLB.FLAGS]!;
    found.push({
      domid,
      dfn: entryDfn(t, e),
      mfn: entryMfn(t, e),
      read: (perm & 1) !== 0,
      write: (perm & 2) !== 0,
    });
  }
  return found;
}

/** One cached device table entry, decoded. */
export interface CachedDevice {
  readonly rid: number;
  readonly kind: number;
  readonly domid: number;
  readonly root: number;
}

/** The device table entries the unit would use without looking at memory. */
export function cachedDevices(u: AmdIommuState): CachedDevice[] {
  const found: CachedDevice[] = [];
  const c = u.dteCache;
  for (let e = 0; e < c.length; e += 1 << DTE_CACHE.SHIFT) {
    if (c[e] === 0) continue;
    found.push({
      rid: c[e]! & 0xffff,
      kind: c[e + DTE_CACHE.KIND]!,
      domid: u.domids[c[e + DTE_CACHE.SLOT]!]!,
      root: c[e + DTE_CACHE.ROOT_HI]! * 0x10_0000 + c[e + DTE_CACHE.ROOT_LO]!,
    });
  }
  return found;
}
