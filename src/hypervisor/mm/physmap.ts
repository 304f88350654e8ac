/**
 * Adding and removing frames of a guest's physical map, with the IOMMU kept in step: p2m, then map or unmap with
 * flush, and only then may a frame be freed. @xen arch/x86/mm/p2m.c, p2m-ept.c (tail of ept_set_entry)
 */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { FLUSHF, IOMMUF, XENLOG } from '../../iommu/driver/types.js';
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
    case P2M.mmioDirect:
      return writable ? IOMMUF.readable | IOMMUF.writable : IOMMUF.readable;
    case P2M.ramRo:
      return IOMMUF.readable;
    default:
      return 0;
  }
}

/**
 * Sets 2^order frames at `gfn` (mfn -1 clears them), in pages as large as both addresses allow.
 * @returns 0 or the last error; what came before and after it stands. @xen p2m_set_entry
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
  const end = 2 ** order;
  let rc: Rc = 0;
  for (let i = 0; i < end; ) {
    const to = mfn < 0 ? -1 : mfn + i;
    const step = pageOrder(d, gfn + i, to, end - i);
    const one = yield* setEntry(xen, d, gfn + i, to, step, type, writable);
    if (one !== 0) rc = one;
    i += 2 ** step;
  }
  return rc;
}

function pageOrder(d: Domain, gfn: number, mfn: number, left: number): number {
  const fits = (size: number): boolean =>
    left >= size && left % size === 0 && gfn % size === 0 && (mfn < 0 || mfn % size === 0);
  if (left < 512) return 0;
  return d.hap && fits(2 ** 18) ? 18 : fits(512) ? 9 : 0;
}

/** One entry, with the IOMMU brought in step before the tables it replaced are freed. @xen ept_set_entry */
function* setEntry(
  xen: Xen,
  d: Domain,
  gfn: number,
  mfn: number,
  order: number,
  type: P2mType,
  writable: boolean,
): Co<Rc> {
  const { p2m } = d;
  assert(p2m !== undefined, 'only translated guests have a p2m');
  const wasPresent = p2m.isPresent(gfn, order);
  const old = p2m.lookup(gfn);
  const flags = mfn < 0 ? 0 : p2mGetIommuFlags(type, writable);
  // Nothing changes for devices; what is cleared is flushed whatever it was.
  const same =
    mfn >= 0 && old.mfn === mfn && old.order >= order && p2mGetIommuFlags(old.type, old.writable) === flags;
  let rc = p2m.setEntry(gfn, mfn, order, type, writable);
  if (!xen.seams.tablesOutliveFlush()) for (const table of p2m.takeUnlinked()) xen.heap.release(table, 0);
  if (rc === 0 && !same) rc = yield* followInIommu(xen, d, gfn, mfn, 2 ** order, flags, wasPresent);
  for (const table of p2m.takeUnlinked()) xen.heap.release(table, 0);
  return rc;
}

function* followInIommu(
  xen: Xen,
  d: Domain,
  gfn: number,
  mfn: number,
  pages: number,
  flags: number,
  wasPresent: boolean,
): Co<Rc> {
  if (d.iommu.hapPtShare) {
    if (xen.dontFlushIotlb.has(xen.cpus.current.id)) return 0;
    const flushFlags = (flags !== 0 ? FLUSHF.added : 0) | (wasPresent ? FLUSHF.modified : 0);
    return yield* iommuIotlbFlush(xen, d, gfn, pages, flushFlags);
  }
  if (!d.iommu.needSync) return 0;
  if (flags !== 0) return yield* iommuLegacyMap(xen, d, gfn, mfn, pages, flags);
  return yield* iommuLegacyUnmap(xen, d, gfn, pages);
}

/** A page of RAM at `gfn`. PV guests map it one to one into the IOMMU. @xen guest_physmap_add_page */
export function* guestPhysmapAddPage(xen: Xen, d: Domain, gfn: number, mfn: number, order: number): Co<Rc> {
  if (d.p2m !== undefined) {
    const refused = specialIn(xen, d, gfn, order);
    if (refused >= 0) {
      const old = d.p2m.lookup(refused);
      const was = `(${hex(old.mfn)},${old.type},${ACCESS_RWX})`;
      const due = `(${hex(mfn + refused - gfn)},${P2M.ramRw},${ACCESS_RWX})`;
      xen.services.printk(XENLOG.G_ERR, `d${d.domid}: GFN ${hex(refused)} ${was} -> ${due} not permitted`);
      xen.services.domainCrash(d, 'arch/x86/mm/p2m.c p2m_add_page');
      return E.PERM;
    }
    return yield* p2mSetEntry(xen, d, gfn, mfn, order, P2M.ramRw);
  }
  // Nobody finds the page by its number before it is mapped, so that nobody frees it meanwhile.
  const rights = IOMMUF.readable | IOMMUF.writable;
  const rc = d.iommu.needSync ? yield* iommuLegacyMap(xen, d, mfn, mfn, 2 ** order, rights) : 0;
  if (rc === 0) d.pvGfns.set(gfn, mfn);
  return rc;
}

/** @returns 0, -EILSEQ where something else is mapped, or an error of the IOMMU. @xen guest_physmap_remove_page */
export function* guestPhysmapRemovePage(
  xen: Xen,
  d: Domain,
  gfn: number,
  mfn: number,
  order: number,
): Co<Rc> {
  if (d.p2m !== undefined) {
    for (let i = 0; i < 2 ** order; ) {
      const old = d.p2m.lookup(gfn + i);
      if (old.mfn >= 0 && (old.mfn !== mfn + i || !xen.seams.guestMayChange(old.type))) return E.ILSEQ;
      i += 2 ** old.order - ((gfn + i) % 2 ** old.order);
    }
    return yield* p2mSetEntry(xen, d, gfn, -1, order, P2M.invalid);
  }
  d.pvGfns.delete(gfn);
  if (!d.iommu.needSync) return 0;
  return yield* iommuLegacyUnmap(xen, d, mfn, 2 ** order);
}

/** The first of 2^order guest frames that RAM must not replace, -1 when there is none. */
function specialIn(xen: Xen, d: Domain, gfn: number, order: number): number {
  for (let i = 0; i < 2 ** order; ) {
    const old = d.p2m!.lookup(gfn + i);
    if (old.mfn >= 0 && !xen.seams.guestMayChange(old.type)) return gfn + i;
    i += 2 ** old.order - ((gfn + i) % 2 ** old.order);
  }
  return -1;
}

/** Nothing is there, or nothing that only Xen and the toolstack may take away. @xen p2m_is_special */
export function guestMayChange(xen: Xen, d: Domain, gfn: number): boolean {
  const old = d.p2m!.lookup(gfn);
  return old.mfn < 0 || xen.seams.guestMayChange(old.type);
}

/** Entries that one hypercall sets. @xen MAP_MMIO_MAX_ITER */
const MAP_MMIO_MAX_ITER = 64;

/** @xen mmio_order */
const mmioOrder = (d: Domain, gfn: number, mfn: number, left: number): number =>
  d.hap && left >= 512 && gfn % 512 === 0 && mfn % 512 === 0 ? 9 : 0;

/** Device memory for an HVM guest. @returns 0, an error at once, or how many frames were done. @xen map_mmio_regions */
export function* mapMmioRegions(xen: Xen, d: Domain, gfn: number, nr: number, mfn: number): Co<Rc> {
  return yield* eachMmioPage(xen, d, gfn, nr, mfn, true);
}

/** @returns as `mapMmioRegions`. @xen unmap_mmio_regions */
export function* unmapMmioRegions(xen: Xen, d: Domain, gfn: number, nr: number, mfn: number): Co<Rc> {
  return yield* eachMmioPage(xen, d, gfn, nr, mfn, false);
}

function* eachMmioPage(xen: Xen, d: Domain, gfn: number, nr: number, mfn: number, add: boolean): Co<Rc> {
  let i = 0;
  for (let n = 0; i < nr && n < MAP_MMIO_MAX_ITER; n++) {
    const large = mmioOrder(d, gfn + i, mfn + i, nr - i);
    const size = 2 ** large;
    const split =
      d.p2m!.lookup(gfn + i).order < large || (add && xen.mmioRo.overlaps(mfn + i, mfn + i + size - 1));
    const order = split ? 0 : large;
    const rc = add
      ? yield* setMmioP2mEntry(xen, d, gfn + i, mfn + i, order)
      : yield* clearMmioP2mEntry(xen, d, gfn + i, order);
    if (rc < 0) return i > 0 ? i : rc;
    i += 2 ** order;
  }
  return i === nr ? 0 : i;
}

/** @xen set_mmio_p2m_entry, set_typed_p2m_entry */
function* setMmioP2mEntry(xen: Xen, d: Domain, gfn: number, mfn: number, order: number): Co<Rc> {
  const old = d.p2m!.lookup(gfn);
  if (old.mfn >= 0 && old.type === P2M.mmioDirect) {
    if (old.mfn === mfn) return 0;
    const was = `(${hex(old.mfn)},${old.order},${old.type},${ACCESS_RWX})`;
    const due = `(${hex(mfn)},${order},${P2M.mmioDirect},${ACCESS_RWX})`;
    xen.services.printk(XENLOG.G_ERR, `d${d.domid}: GFN ${hex(gfn)} ${was} -> ${due} not permitted`);
    xen.services.domainCrash(d, 'arch/x86/mm/p2m.c set_typed_p2m_entry');
    return E.PERM;
  }
  const writable = !xen.mmioRo.contains(mfn, mfn);
  return yield* p2mSetEntry(xen, d, gfn, mfn, order, P2M.mmioDirect, writable);
}

/** @xen clear_mmio_p2m_entry: whatever device memory is there */
function* clearMmioP2mEntry(xen: Xen, d: Domain, gfn: number, order: number): Co<Rc> {
  const old = d.p2m!.lookup(gfn);
  if (old.mfn < 0 || old.type !== P2M.mmioDirect) return E.INVAL;
  return yield* p2mSetEntry(xen, d, gfn, -1, order, P2M.invalid);
}

/** @xen p2m_access_rwx */
const ACCESS_RWX = 7;
/** As C prints with %#lx. */
const hex = (n: number): string => (n === 0 ? '0' : `0x${n.toString(16)}`);
