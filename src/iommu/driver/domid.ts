/**
 * Pseudo domain ids: 0x8000 and up, dealt to devices so that each quarantined one has an id of its own.
 * @xen drivers/passthrough/x86/iommu.c
 */
import { assert, panic } from '../../base/assert.js';
import { DOMID } from '../../sim/frames.js';
import type { SpinLock } from '../../sim/locks.js';

/** @xen DOMID_MASK: ids of real domains lie below or at it */
export const DOMID_MASK = 0x7fff;
/** Pseudo ids of one map. @xen UINT16_MAX - DOMID_MASK */
const IDS = 0xffff - DOMID_MASK;

/** Where the next search starts. One for all units, so that an id is not dealt again soon. @xen iommu_alloc_domid start */
export class DomidCursor {
  start = 0;
}

/** One bit per pseudo id. @xen vtd_iommu.pseudo_domid_map, amd_iommu.domid_map */
export class DomidMap {
  /** Grows with the highest id dealt. */
  private bits = new Int32Array(8);
  test(idx: number): boolean {
    const w = idx >>> 5;
    return w < this.bits.length && ((this.bits[w]! >>> (idx & 31)) & 1) === 1;
  }
  set(idx: number): void {
    const w = idx >>> 5;
    if (w >= this.bits.length) this.grow(w);
    this.bits[w]! |= 1 << (idx & 31);
  }
  private grow(w: number): void {
    const grown = new Int32Array(2 ** Math.ceil(Math.log2(w + 1)));
    grown.set(this.bits);
    this.bits = grown;
  }
  clear(idx: number): void {
    if (this.test(idx)) this.bits[idx >>> 5]! &= ~(1 << (idx & 31));
  }
  /** First free index at or after `from`; IDS when there is none. */
  nextFree(from: number): number {
    let idx = from;
    while (idx < IDS && this.test(idx)) idx += this.bits[idx >>> 5] === -1 ? 32 - (idx & 31) : 1;
    return Math.min(idx, IDS);
  }
}

/** The map of one unit, with `reserve` taken unless it is DOMID.INVALID. @xen iommu_init_domid */
export function iommuInitDomid(reserve: number): DomidMap {
  const map = new DomidMap();
  if (reserve !== DOMID.INVALID) {
    assert(reserve > DOMID_MASK, 'a reserved id is a pseudo id');
    map.set(reserve & DOMID_MASK);
  }
  return map;
}

/** A pseudo id, or DOMID.INVALID when all are dealt. @xen iommu_alloc_domid */
export function iommuAllocDomid(pcidevsLock: SpinLock, cursor: DomidCursor, map: DomidMap): number {
  assert(pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  let idx = map.nextFree(cursor.start);
  if (idx >= IDS) idx = map.nextFree(0);
  if (idx >= IDS) return DOMID.INVALID;
  map.set(idx);
  cursor.start = idx + 1;
  return idx | (DOMID_MASK + 1);
}

/** DOMID.INVALID is ignored. @xen iommu_free_domid */
export function iommuFreeDomid(pcidevsLock: SpinLock, domid: number, map: DomidMap): void {
  assert(pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (domid === DOMID.INVALID) return;
  assert(domid > DOMID_MASK, 'only pseudo ids are freed');
  const idx = domid & DOMID_MASK;
  if (!map.test(idx)) panic('Xen BUG at drivers/passthrough/x86/iommu.c');
  map.clear(idx);
}
