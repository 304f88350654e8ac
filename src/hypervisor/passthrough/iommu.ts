/**
 * Common IOMMU code: mapping, flushing and the domctl gate. Set-up is in iommu_setup.ts and reached from here too.
 * @xen drivers/passthrough/iommu.c
 */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import {
  FLUSHF,
  type FlushAcc,
  INVALID_DFN,
  IOMMUF,
  type IommuDomain,
  type LookupResult,
  XENLOG,
} from '../../iommu/driver/types.js';
import { type Co, preemptPoint } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import type { Xen } from '../xen.js';
import { platformOps } from './pci.js';
import { iommuDoPciDomctl, type PciDomctl } from './pci_domctl.js';

export {
  dumpIommuInfo,
  dumpIommuPageTables,
  iommuDomainDestroy,
  iommuDomainInit,
  iommuFreePgtables,
  iommuHwdomInit,
  iommuSetup,
} from './iommu_setup.js';

const PAGE_SHIFT = 12;
/** Orders of the superpages that both vendors have: 2 MiB and 1 GiB. */
const SUPERPAGE_ORDERS = [9, 18] as const;
/** Mappings between two preemption checks. */
const PREEMPT_EVERY = 0x1000;

/** Runs what waits for a moment without locks, as the exit of a hypercall does. @xen process_pending_softirqs */
export const processPendingSoftirqs = (xen: Xen): void => xen.services.processPendingSoftirqs();

/** @xen iommu_do_domctl */
export function* iommuDoDomctl(xen: Xen, op: PciDomctl, d: Domain | undefined): Co<Rc> {
  if ((d === undefined ? xen.iommuEnabled : d.iommuEnabled) === false) return E.OPNOTSUPP;
  return yield* iommuDoPciDomctl(xen, op, d);
}

/** Order of the largest page that fits the addresses and what is left to do. @xen mapping_order */
export function mappingOrder(pageSizes: number, dfn: number, mfn: number, nr: number): number {
  assert((pageSizes & 0x1fff) === 0x1000, '4 KiB is the smallest page');
  let order = 0;
  for (let i = 0; i < SUPERPAGE_ORDERS.length; i++) {
    const larger = SUPERPAGE_ORDERS[i]!;
    if ((pageSizes & (1 << (PAGE_SHIFT + larger))) === 0) continue;
    // The low bits of a frame number are those of its low 32 bits.
    const below = (1 << larger) - 1;
    if (nr <= below || ((dfn | mfn) & below) !== 0) break;
    order = larger;
  }
  return order;
}

/** No event is listened to, no step is made to fail, and no other CPU can come between. */
const isUnobserved = (xen: Xen): boolean => !xen.events.on && !xen.faults.on && !xen.cpus.exploring;

const hex = (n: number): string => n.toString(16);
const hex5 = (n: number): string => hex(n).padStart(5, '0');

/**
 * Maps `pageCount` frames. When one fails the ones before are unmapped, and a guest is crashed.
 * @returns 0 or the vendor's error; `acc` has what is left to flush. @xen iommu_map
 */
export function* iommuMap(
  xen: Xen,
  d: IommuDomain,
  dfn0: number,
  mfn0: number,
  pageCount: number,
  flags: number,
  acc: FlushAcc,
): Co<Rc> {
  if (!d.iommuEnabled) return 0;
  assert((flags & IOMMUF.orderMask) === 0, 'the order is not for callers to say');
  const ops = platformOps(xen);
  const inRuns = pageCount > 1 && isUnobserved(xen);
  let rc: Rc = 0;
  let done = 0;
  for (let i = 0, pages = 0; i < pageCount; i += pages) {
    const dfn = dfn0 + i;
    const mfn = mfn0 + i;
    const order = mappingOrder(ops.pageSizes, dfn, mfn, pageCount - i);
    pages = 1 << order;
    if (inRuns && ops.mapRun !== undefined) {
      const most = Math.floor((pageCount - i) / pages);
      const mapped = ops.mapRun(d, dfn, mfn, most, flags | order, acc);
      if (mapped > 0) {
        pages *= mapped;
        continue;
      }
    }
    if ((flags & IOMMUF.preempt) !== 0 && ++done % PREEMPT_EVERY === 0) yield* preemptPoint(xen.cpus);
    rc = yield* ops.mapPage(d, dfn, mfn, flags | order, acc);
    if (rc === 0) continue;
    if (!d.isShuttingDown) {
      xen.services.printk(
        XENLOG.ERR,
        `d${d.domid}: IOMMU mapping dfn ${hex(dfn)} to mfn ${hex5(mfn)} failed: ${rc}`,
      );
    }
    yield* iommuUnmap(xen, d, dfn0, i, 0, acc);
    if (d !== xen.hwdom) xen.services.domainCrash(d, 'iommu.c iommu_map');
    break;
  }
  if (pageCount > 1 && rc !== 0 && (yield* iommuIotlbFlushAll(xen, d, acc.flags)) === 0) acc.flags = 0;
  return rc;
}

/** Maps and flushes. @xen iommu_legacy_map */
export function* iommuLegacyMap(
  xen: Xen,
  d: IommuDomain,
  dfn: number,
  mfn: number,
  pageCount: number,
  flags: number,
): Co<Rc> {
  assert((flags & IOMMUF.preempt) === 0, 'there is no continuation here');
  const acc: FlushAcc = { flags: 0 };
  const rc = yield* iommuMap(xen, d, dfn, mfn, pageCount, flags, acc);
  if (rc !== 0 || xen.dontFlushIotlb.has(xen.cpus.current.id)) return rc;
  return yield* iommuIotlbFlush(xen, d, dfn, pageCount, acc.flags);
}

/**
 * Unmaps `pageCount` frames. An error crashes a guest and ends it; for the hardware domain it goes on.
 * @returns 0 or the first error. @xen iommu_unmap
 */
export function* iommuUnmap(
  xen: Xen,
  d: IommuDomain,
  dfn0: number,
  pageCount: number,
  flags: number,
  acc: FlushAcc,
): Co<Rc> {
  if (!d.iommuEnabled) return 0;
  assert((flags & ~IOMMUF.preempt) === 0, 'only preemption is for callers to ask');
  const ops = platformOps(xen);
  let rc: Rc = 0;
  let done = 0;
  for (let i = 0, pages = 0; i < pageCount; i += pages) {
    const dfn = dfn0 + i;
    const order = mappingOrder(ops.pageSizes, dfn, 0, pageCount - i);
    pages = 1 << order;
    if ((flags & IOMMUF.preempt) !== 0 && ++done % PREEMPT_EVERY === 0) yield* preemptPoint(xen.cpus);
    const err = yield* ops.unmapPage(d, dfn, order, acc);
    if (err === 0) continue;
    if (!d.isShuttingDown) {
      xen.services.printk(XENLOG.ERR, `d${d.domid}: IOMMU unmapping dfn ${hex(dfn)} failed: ${err}`);
    }
    if (rc === 0) rc = err;
    if (d === xen.hwdom) continue;
    xen.services.domainCrash(d, 'iommu.c iommu_unmap');
    break;
  }
  if (pageCount > 1 && rc !== 0 && (yield* iommuIotlbFlushAll(xen, d, acc.flags)) === 0) acc.flags = 0;
  return rc;
}

/** Unmaps and flushes. @xen iommu_legacy_unmap */
export function* iommuLegacyUnmap(xen: Xen, d: IommuDomain, dfn: number, pageCount: number): Co<Rc> {
  const acc: FlushAcc = { flags: 0 };
  const rc = yield* iommuUnmap(xen, d, dfn, pageCount, 0, acc);
  if (rc !== 0 || xen.dontFlushIotlb.has(xen.cpus.current.id)) return rc;
  return yield* iommuIotlbFlush(xen, d, dfn, pageCount, acc.flags);
}

/** @returns 0 with `out` filled in, -EOPNOTSUPP, or the vendor's error. @xen iommu_lookup_page */
export function* iommuLookupPage(xen: Xen, d: IommuDomain, dfn: number, out: LookupResult): Co<Rc> {
  if (!d.iommuEnabled) return E.OPNOTSUPP;
  const ops = platformOps(xen);
  return ops.lookupPage === undefined ? E.OPNOTSUPP : yield* ops.lookupPage(d, dfn, out);
}

/** @returns 0, -EINVAL for INVALID_DFN, or the vendor's error, which crashes a guest. @xen iommu_iotlb_flush */
export function* iommuIotlbFlush(
  xen: Xen,
  d: IommuDomain,
  dfn: number,
  pageCount: number,
  flushFlags: number,
): Co<Rc> {
  if (!d.iommuEnabled || pageCount === 0 || flushFlags === 0) return 0;
  if (dfn === INVALID_DFN) return E.INVAL;
  const rc = yield* platformOps(xen).iotlbFlush(d, dfn, pageCount, flushFlags);
  if (rc === 0) return 0;
  if (!d.isShuttingDown) {
    const what = `dfn ${hex(dfn)}, page count ${pageCount} flags ${hex(flushFlags)}`;
    xen.services.printk(XENLOG.ERR, `d${d.domid}: IOMMU IOTLB flush failed: ${rc}, ${what}`);
  }
  if (d !== xen.hwdom) xen.services.domainCrash(d, 'iommu.c iommu_iotlb_flush');
  return rc;
}

/** @xen iommu_iotlb_flush_all */
export function* iommuIotlbFlushAll(xen: Xen, d: IommuDomain, flushFlags: number): Co<Rc> {
  if (!d.iommuEnabled || flushFlags === 0) return 0;
  const rc = yield* platformOps(xen).iotlbFlush(d, INVALID_DFN, 0, flushFlags | FLUSHF.all);
  if (rc === 0) return 0;
  if (!d.isShuttingDown) {
    xen.services.printk(XENLOG.ERR, `d${d.domid}: IOMMU IOTLB flush all failed: ${rc}`);
  }
  if (d !== xen.hwdom) xen.services.domainCrash(d, 'iommu.c iommu_iotlb_flush_all');
  return rc;
}
