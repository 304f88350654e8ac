/**
 * Adding and removing frames of a guest's physical map, with the IOMMU kept in step: p2m, then map or unmap with
 * flush, and only then may a frame be freed. @xen arch/x86/mm/p2m.c, p2m-ept.c (tail of ept_set_entry)
 */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { FLUSHF, IOMMUF } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import { iommuIotlbFlush, iommuLegacyMap, iommuLegacyUnmap } from '../passthrough/iommu.js';
import type { Xen } from '../xen.js';
import { P2M, type P2mType } from './p2m.js';

/** Rights a device gets on a page of this type. @xen p2m_get_iommu_flags */
export function p2mGetIommuFlags(type: P2mType, writable: boolean): number {
  switch (type) {
    case P2M.ramRw:
    case P2M.grantRw:
    case P2M.identity:
    case P2M.mmioDirect:
      return writable ? IOMMUF.readable | IOMMUF.writable : IOMMUF.readable;
    case P2M.ramRo:
      return IOMMUF.readable;
    default:
      return 0;
  }
}

/**
 * Sets 2^order frames at `gfn` (mfn -1 clears them) and brings the IOMMU in step.
 * @returns 0, -ENOMEM, or what the IOMMU says. @xen ept_set_entry
 */
export function* p2mSetEntry(
  xen: Xen,
  d: Domain,
  gfn: number,
  mfn: number,
  order: number,
  type: P2mType,
  writable = true,
): Co<Rc> {
  assert(d.p2m !== undefined, 'only translated guests have a p2m');
  const old = d.p2m.lookup(gfn);
  const oldFlags = old.mfn < 0 ? 0 : p2mGetIommuFlags(old.type, old.writable);
  const flags = mfn < 0 ? 0 : p2mGetIommuFlags(type, writable);
  const rc = d.p2m.setEntry(gfn, mfn, order, type, writable);
  if (rc !== 0) return rc;
  if (oldFlags === flags && (flags === 0 || old.mfn === mfn)) return 0;
  const pages = 2 ** order;
  if (d.iommu.hapPtShare) {
    if (xen.dontFlushIotlb.has(xen.cpus.current.id)) return 0;
    const flushFlags = (flags !== 0 ? FLUSHF.added : 0) | (oldFlags !== 0 ? FLUSHF.modified : 0);
    return yield* iommuIotlbFlush(xen, d, gfn, pages, flushFlags);
  }
  if (!d.iommu.needSync) return 0;
  if (flags !== 0) return yield* iommuLegacyMap(xen, d, gfn, mfn, pages, flags);
  return yield* iommuLegacyUnmap(xen, d, gfn, pages);
}

/** A page of RAM at `gfn`. PV guests map it one to one into the IOMMU. @xen guest_physmap_add_page */
export function* guestPhysmapAddPage(xen: Xen, d: Domain, gfn: number, mfn: number, order: number): Co<Rc> {
  if (d.p2m !== undefined) {
    if (!guestMayChange(xen, d, gfn)) {
      xen.services.domainCrash(d);
      return E.PERM;
    }
    return yield* p2mSetEntry(xen, d, gfn, mfn, order, P2M.ramRw);
  }
  d.pvGfns.set(gfn, mfn);
  if (!d.iommu.needSync) return 0;
  return yield* iommuLegacyMap(xen, d, mfn, mfn, 2 ** order, IOMMUF.readable | IOMMUF.writable);
}

/** @xen guest_physmap_remove_page */
export function* guestPhysmapRemovePage(
  xen: Xen,
  d: Domain,
  gfn: number,
  mfn: number,
  order: number,
): Co<Rc> {
  if (d.p2m !== undefined) {
    if (d.p2m.lookup(gfn).mfn !== mfn) return E.INVAL;
    if (!guestMayChange(xen, d, gfn)) return E.ILSEQ;
    return yield* p2mSetEntry(xen, d, gfn, -1, order, P2M.invalid);
  }
  d.pvGfns.delete(gfn);
  if (!d.iommu.needSync) return 0;
  return yield* iommuLegacyUnmap(xen, d, mfn, 2 ** order);
}

/** Nothing is there, or nothing that only Xen and the toolstack may take away. @xen p2m_is_special */
export function guestMayChange(xen: Xen, d: Domain, gfn: number): boolean {
  const old = d.p2m!.lookup(gfn);
  return old.mfn < 0 || xen.seams.guestMayChange(old.type);
}

/** Device memory for an HVM guest, page by page. @xen map_mmio_regions */
export function* mapMmioRegions(xen: Xen, d: Domain, gfn: number, nr: number, mfn: number): Co<Rc> {
  for (let i = 0; i < nr; i++) {
    const old = d.p2m!.lookup(gfn + i);
    if (old.mfn >= 0 && old.type !== P2M.mmioDirect) return i > 0 ? i : E.PERM;
    const rc = yield* p2mSetEntry(xen, d, gfn + i, mfn + i, 0, P2M.mmioDirect);
    if (rc !== 0) return i > 0 ? i : rc;
  }
  return 0;
}

/** @xen unmap_mmio_regions */
export function* unmapMmioRegions(xen: Xen, d: Domain, gfn: number, nr: number, mfn: number): Co<Rc> {
  for (let i = 0; i < nr; i++) {
    const old = d.p2m!.lookup(gfn + i);
    if (old.mfn !== mfn + i || old.type !== P2M.mmioDirect) return E.INVAL;
    const rc = yield* p2mSetEntry(xen, d, gfn + i, -1, 0, P2M.invalid);
    if (rc !== 0) return rc;
  }
  return 0;
}
