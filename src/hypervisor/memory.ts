/** XENMEM_*: giving memory to domains and taking it back. @xen common/memory.c */
import { E, type Rc } from '../base/errno.js';
import { FLUSHF } from '../iommu/driver/types.js';
import type { Co } from '../sim/co.js';
import { FRAME_TYPE } from '../sim/frames.js';
import type { Domain } from './domain.js';
import { memoryExchange, transferPage } from './exchange.js';
import { ownsFrame, takeExtent } from './extents.js';
import { P2M } from './mm/p2m.js';
import { guestMayChange, guestPhysmapAddPage, guestPhysmapRemovePage, p2mSetEntry } from './mm/physmap.js';
import { markPopulateOnDemand, podGivenBack, podIsReplaced, setPodTarget } from './mm/pod.js';
import { iommuIotlbFlush } from './passthrough/iommu.js';
import type { MemoryOp } from './public/memory.js';
import type { Xen } from './xen.js';

/** Largest extent a caller may ask for, as an order: 1 GiB. @xen max_order() of dom0 */
const ORDER_MAX = 18;

/** @returns extents done, or a negative errno when none was. */
export function* memoryOp(xen: Xen, op: MemoryOp): Co<number> {
  if (op.cmd === 'reserved_device_memory_map') return reservedDeviceMemoryMap(xen, op);
  const d = xen.domains.get(op.domid);
  if (d === undefined) return E.SRCH;
  switch (op.cmd) {
    case 'populate_physmap':
      return yield* populatePhysmap(xen, d, op);
    case 'decrease_reservation':
      return yield* decreaseReservation(xen, d, op.gfns, op.order);
    case 'exchange':
      return yield* memoryExchange(xen, d, op);
    case 'gnttab_transfer':
      return yield* transferPage(xen, d, op);
    case 'remove_from_physmap': {
      const mfn = mfnAt(d, op.gfn);
      return mfn < 0 ? E.INVAL : yield* guestPhysmapRemovePage(xen, d, op.gfn, mfn, 0);
    }
    case 'add_to_physmap_range':
      return d.p2m === undefined ? E.ACCES : yield* addToPhysmapRange(xen, d, op.idx, op.gpfn, op.size);
    case 'set_mem_type':
      return d.p2m === undefined ? E.INVAL : yield* setMemType(xen, d, op.gfn, op.nr, op.readOnly);
    case 'set_memory_map':
      return xen.faults.on && xen.faults.take('alloc') ? E.NOMEM : 0;
    case 'add_to_physmap':
      return 0;
    case 'set_pod_target':
      return setPodTarget(d, op.targetPages);
    case 'maximum_gpfn':
      return d.maxGfn();
  }
}

const mfnAt = (d: Domain, gfn: number): number => d.p2m?.lookup(gfn).mfn ?? d.pvGfns.get(gfn) ?? -1;

/** Page by page; stops at the first that is not RAM. @xen arch/x86/hvm/dm.c set_mem_type */
function* setMemType(xen: Xen, d: Domain, gfn: number, nr: number, readOnly: boolean): Co<Rc> {
  if (nr > 2 ** ORDER_MAX || gfn + nr - 1 > d.maxGfn()) return E.INVAL;
  for (let i = 0; i < nr; i++) {
    const { mfn, type } = d.p2m!.lookup(gfn + i);
    if (type !== P2M.ramRw && type !== P2M.ramRo) return E.INVAL;
    const rc = yield* p2mSetEntry(xen, d, gfn + i, mfn, 0, readOnly ? P2M.ramRo : P2M.ramRw, !readOnly);
    if (rc !== 0) return rc;
  }
  return 0;
}

/** @xen populate_physmap */
function* populatePhysmap(
  xen: Xen,
  d: Domain,
  op: Extract<MemoryOp, { cmd: 'populate_physmap' }>,
): Co<number> {
  if (op.order > ORDER_MAX) return E.INVAL;
  if (op.pod === true) {
    // A refusal ends it and is not told. PV guests are promised nothing.
    const refused = op.gfns.findIndex((gfn) => d.isHvm && markPopulateOnDemand(d, gfn, op.order) !== 0);
    return refused < 0 ? op.gfns.length : refused;
  }
  const mfns: number[] = [];
  for (const gfn of op.gfns) {
    if (d.isDying || d.totPages + 2 ** op.order > d.maxPages) break;
    const mfn = xen.heap.alloc(op.order, d.domid, FRAME_TYPE.writable);
    if (mfn < 0) break;
    d.extents.push({ mfn, order: op.order });
    d.totPages += 2 ** op.order;
    const rc = yield* guestPhysmapAddPage(xen, d, gfn, mfn, op.order);
    if (rc !== 0) break;
    podIsReplaced(d, gfn, op.order);
    mfns.push(mfn);
  }
  op.mfns = mfns;
  return mfns.length;
}

/** @xen decrease_reservation, guest_remove_page: unmapped and flushed first, freed after */
function* decreaseReservation(xen: Xen, d: Domain, gfns: readonly number[], order: number): Co<number> {
  if (order > ORDER_MAX) return E.INVAL;
  let done = 0;
  for (const gfn of gfns) {
    if (!podGivenBack(d, gfn, order)) {
      const mfn = mfnAt(d, gfn);
      if (mfn < 0) break;
      if ((yield* guestRemovePage(xen, d, gfn, mfn, order)) !== 0) break;
    }
    done += 1;
  }
  return done;
}

/**
 * Out of the physical map, flushed at once whatever the batch says, and freed. -ENXIO for a page of a PV guest that
 * another call is stealing, and which it alone unmaps. @xen guest_remove_page
 */
function* guestRemovePage(xen: Xen, d: Domain, gfn: number, mfn: number, order: number): Co<Rc> {
  if (d.p2m !== undefined && !guestMayChange(xen, d, gfn)) return E.PERM;
  if (d.p2m === undefined && !ownsFrame(d, mfn)) return E.NXIO;
  const cpu = xen.cpus.current.id;
  const deferred = xen.seams.freeingFlushesAtOnce() && xen.dontFlushIotlb.delete(cpu);
  const rc = xen.seams.removalResult(yield* guestPhysmapRemovePage(xen, d, gfn, mfn, order));
  if (deferred) xen.dontFlushIotlb.add(cpu);
  if (rc === 0) releaseFrom(xen, d, mfn, order);
  return rc;
}

/** Frames moved at once. @xen xenmem_add_to_physmap, its array of pages */
const BATCH_MAX = 16;

/**
 * Moves the pages at `idx` to `gpfn`; one flush of each range follows in the end.
 * @returns 0 or the first error; what came before it stands. @xen xenmem_add_to_physmap, XENMAPSPACE_gmfn_range
 */
function* addToPhysmapRange(xen: Xen, d: Domain, idx: number, gpfn: number, size: number): Co<Rc> {
  if (size > BATCH_MAX) return E.INVAL;
  const cpu = xen.cpus.current.id;
  if (d.iommuEnabled) xen.dontFlushIotlb.add(cpu);
  let done = 0;
  let rc: Rc = 0;
  while (done < size && rc === 0) {
    rc = yield* addToPhysmapOne(xen, d, idx + done, gpfn + done);
    if (rc === 0) done += 1;
  }
  if (rc === 0 || xen.seams.failedBatchEnds()) xen.dontFlushIotlb.delete(cpu);
  const tried = rc !== 0 && xen.seams.batchFlushesWhereItStopped() ? done + 1 : done;
  const from = yield* iommuIotlbFlush(xen, d, idx, tried, FLUSHF.modified);
  const to = yield* iommuIotlbFlush(xen, d, gpfn, done, FLUSHF.added | FLUSHF.modified);
  return rc !== 0 ? rc : from !== 0 ? from : to;
}

/** @xen xenmem_add_to_physmap_one, XENMAPSPACE_gmfn */
function* addToPhysmapOne(xen: Xen, d: Domain, gfn: number, gpfn: number): Co<Rc> {
  const page = d.p2m!.lookup(gfn);
  if (page.mfn < 0 || page.type === P2M.mmioDirect) return E.INVAL;
  const old = d.p2m!.lookup(gpfn);
  if (!guestMayChange(xen, d, gpfn)) return E.PERM;
  if (gfn === gpfn) return 0;
  let rc: Rc = 0;
  if (old.mfn >= 0) rc = yield* guestRemovePage(xen, d, gpfn, old.mfn, 0);
  if (rc === 0) rc = yield* guestPhysmapRemovePage(xen, d, gfn, page.mfn, 0);
  return rc !== 0 ? rc : yield* guestPhysmapAddPage(xen, d, gpfn, page.mfn, 0);
}

/** Takes 2^order frames out of the domain's extents and frees them. */
function releaseFrom(xen: Xen, d: Domain, mfn: number, order: number): void {
  if (!takeExtent(d, mfn, order)) return;
  d.totPages -= 2 ** order;
  xen.heap.release(mfn, order);
}

/** RMRR or unity ranges of one device or of all. @returns 0 or -ENOBUFS with `needed`. @xen XENMEM_reserved_device_memory_map */
function reservedDeviceMemoryMap(xen: Xen, op: Extract<MemoryOp, { cmd: 'reserved_device_memory_map' }>): Rc {
  const ALL = 1;
  if ((op.flags & ~ALL) !== 0) return E.INVAL;
  if (xen.ops === undefined || !xen.iommuEnabled) {
    op.entries = [];
    op.needed = 0;
    return 0;
  }
  const found: { startPfn: number; nrPages: number }[] = [];
  const rc = xen.ops.getReservedDeviceMemory((start, frames, sbdf) => {
    if (op.flags !== ALL && sbdf !== op.sbdf) return 0;
    // A range of no frames asks whether the device is of interest.
    if (frames !== 0) found.push({ startPfn: start, nrPages: frames });
    return 1;
  });
  if (rc < 0) return rc;
  op.needed = found.length;
  if (found.length > op.maxEntries) return E.NOBUFS;
  op.entries = found;
  return 0;
}
