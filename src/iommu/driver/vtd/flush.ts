/**
 * Telling hardware that a table changed: context cache, IOTLB, device caches and the write buffer, by register or
 * by queue. Fault site `flush`: the unit did what it was told, and reporting it failed (-EIO).
 * @xen drivers/passthrough/vtd/iommu.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold } from '../../../sim/co.js';
import { GCMD, GRAN, VTD_REG } from '../../format/vtd.js';
import { FLUSHF, INVALID_DFN, type IommuDomain } from '../types.js';
import { devInvalidateIotlb } from './ats.js';
import { getIommuDid } from './did.js';
import { queueInvalidateContextSync, queueInvalidateIotlbSync } from './qinval.js';
import { dmarReadl, dmarWritel, FLUSH, type Vtd, type VtdIommu } from './state.js';
import { iommuFlushWait } from './wait.js';

/** Nothing had to be flushed, so nothing flushed the write buffer either. Xen returns 1. */
export const NEEDS_WRITE_BUFFER_FLUSH = 1;
/** Bit 63 of CCMD and of the IOTLB register: do it, and still at it. Bit 31 of the upper word. */
const BUSY = 0x8000_0000 | 0;

const injected = (iommu: VtdIommu): boolean => iommu.faults.on && iommu.faults.take('flush');

/** @xen vtd_flush_context_reg */
function* flushContextReg(iommu: VtdIommu, did: number, sid: number, gran: number): Co<Rc> {
  const lo = gran === GRAN.GLOBAL ? 0 : gran === GRAN.DOMAIN ? did : (sid << 16) | did;
  using _register = yield* hold(iommu.registerLock);
  iommu.reg.write64(VTD_REG.CCMD, lo, BUSY | (gran << 29));
  yield* iommuFlushWait('context', iommu, VTD_REG.CCMD + 4, BUSY);
  return 0;
}

/** `nonPresent`: the entry was not there before. @xen flush_context_qi, vtd_flush_context_reg */
function* flushContext(
  iommu: VtdIommu,
  did: number,
  sid: number,
  gran: number,
  nonPresent: boolean,
): Co<number> {
  if (iommu.flush === FLUSH.noop) return E.IO;
  let tag = did;
  if (nonPresent) {
    if (!iommu.cachingMode) return NEEDS_WRITE_BUFFER_FLUSH;
    // Hardware that remembers absent entries tags them with id 0.
    tag = 0;
  }
  const rc =
    iommu.flush === FLUSH.queued
      ? yield* queueInvalidateContextSync(iommu, tag, sid, 0, gran)
      : yield* flushContextReg(iommu, tag, sid, gran);
  return injected(iommu) ? E.IO : rc;
}

/** @xen vtd_flush_iotlb_reg */
function* flushIotlbReg(iommu: VtdIommu, gran: number, did: number, order: number, dfn: number): Co<Rc> {
  const drain = (iommu.readDrain ? 1 << 17 : 0) | (iommu.writeDrain ? 1 << 16 : 0);
  const at = iommu.iotlbOffset;
  using _register = yield* hold(iommu.registerLock);
  if (gran === GRAN.DEVICE_OR_PAGE) {
    iommu.reg.write64(at, ((dfn & 0xf_ffff) << 12) | order, Math.floor(dfn / 0x10_0000) | 0);
  }
  iommu.reg.write64(at + 8, 0, BUSY | (gran << 28) | drain | (gran === GRAN.GLOBAL ? 0 : did));
  yield* iommuFlushWait('iotlb', iommu, at + 12, BUSY);
  return 0;
}

/** @xen flush_iotlb_qi, vtd_flush_iotlb_reg */
function* flushIotlb(
  iommu: VtdIommu,
  did: number,
  dfn: number,
  order: number,
  gran: number,
  nonPresent: boolean,
): Co<number> {
  if (iommu.flush === FLUSH.noop) return E.IO;
  if (nonPresent && !iommu.cachingMode) return NEEDS_WRITE_BUFFER_FLUSH;
  let rc = 0;
  if (iommu.flush === FLUSH.queued) {
    rc = yield* queueInvalidateIotlbSync(iommu, gran, did, order, dfn);
    if (iommu.flushDevIotlb) {
      const devRc = yield* devInvalidateIotlb(iommu, did, dfn, order, gran);
      if (rc === 0) rc = devRc;
    }
  } else rc = yield* flushIotlbReg(iommu, gran, did, order, dfn);
  return injected(iommu) ? E.IO : rc;
}

/** @xen iommu_flush_iotlb_dsi */
export function* iommuFlushIotlbDsi(iommu: VtdIommu, did: number, nonPresent: boolean): Co<number> {
  return yield* flushIotlb(iommu, did, 0, 0, GRAN.DOMAIN, nonPresent);
}

/** Pages when the unit can, the whole domain otherwise. @xen iommu_flush_iotlb_psi */
export function* iommuFlushIotlbPsi(
  iommu: VtdIommu,
  did: number,
  dfn: number,
  order: number,
  nonPresent: boolean,
): Co<number> {
  if (!iommu.pageSelective || order > iommu.maxAmask) {
    return yield* iommuFlushIotlbDsi(iommu, did, nonPresent);
  }
  return yield* flushIotlb(iommu, did, dfn, order, GRAN.DEVICE_OR_PAGE, nonPresent);
}

/** @xen iommu_flush_write_buffer */
export function* iommuFlushWriteBuffer(iommu: VtdIommu): Co<void> {
  if (!iommu.vtd.rwbfQuirk && !iommu.rwbf) return;
  using _register = yield* hold(iommu.registerLock);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  dmarWritel(iommu, VTD_REG.GCMD, (sts | GCMD.WBF) >>> 0);
  yield* iommuFlushWait('write buffer', iommu, VTD_REG.GSTS, GCMD.WBF);
}

/**
 * The context entry of `bdf` changed, which had `did` unless `nonPresent`: that entry is flushed, then all pages of
 * the id. The second is tried even when the first failed.
 * @xen domain_context_mapping_one, domain_context_unmap_one (their common part)
 */
export function* flushContextEntry(iommu: VtdIommu, did: number, bdf: number, nonPresent: boolean): Co<Rc> {
  const rc = yield* flushContext(iommu, did, bdf, GRAN.DEVICE_OR_PAGE, nonPresent);
  const ret = yield* iommuFlushIotlbDsi(iommu, did, nonPresent);
  if (rc > 0 || ret > 0) yield* iommuFlushWriteBuffer(iommu);
  if (rc < 0) return rc;
  if (ret < 0) return ret;
  return 0;
}

/** @xen iommu_flush_all */
export function* iommuFlushAll(vtd: Vtd): Co<Rc> {
  let first = 0;
  for (const drhd of vtd.drhds) {
    const iommu = drhd.iommu!;
    const contextRc = yield* flushContext(iommu, 0, 0, GRAN.GLOBAL, false);
    const iotlbRc = yield* flushIotlb(iommu, 0, 0, 0, GRAN.GLOBAL, false);
    if (first === 0) first = contextRc < 0 ? contextRc : Math.min(iotlbRc, 0);
  }
  return first;
}

/**
 * Flushes what map and unmap calls changed for `d`: pages if the range is a naturally aligned power of two, else the
 * domain. `flags` are FLUSHF. @xen iommu_flush_iotlb
 */
export function* iommuFlushIotlb(
  vtd: Vtd,
  d: IommuDomain,
  dfn: number,
  pageCount: number,
  flags: number,
): Co<Rc> {
  const everything = (flags & FLUSHF.all) !== 0;
  if (!everything) {
    assert(pageCount > 0 && dfn !== INVALID_DFN && flags !== 0, 'a flush names what changed, and where');
  }
  const order = everything ? vtd.seams.vtdFlushAllOrder() : selectiveOrder(dfn, pageCount);
  let ret = 0;
  for (let i = 0; i < vtd.drhds.length; i++) {
    const iommu = vtd.drhds[i]!.iommu!;
    if (!d.iommu.uses(iommu.index)) continue;
    const did = getIommuDid(iommu, d.domid);
    if (did === -1) continue;
    const rc =
      order < 0
        ? yield* iommuFlushIotlbDsi(iommu, did, false)
        : yield* iommuFlushIotlbPsi(iommu, did, everything ? 0 : dfn, order, (flags & FLUSHF.modified) === 0);
    if (rc > 0) yield* iommuFlushWriteBuffer(iommu);
    else if (ret === 0) ret = rc;
  }
  return ret;
}

/** Order of a range that one page-selective request can name, else -1. */
function selectiveOrder(dfn: number, pageCount: number): number {
  if (pageCount > MANY) return orderOfMany(dfn, pageCount);
  return (pageCount & (pageCount - 1)) === 0 && (dfn & (pageCount - 1)) === 0
    ? 31 - Math.clz32(pageCount)
    : -1;
}
/** Up to so many the low 31 bits of both numbers tell. */
const MANY = 0x4000_0000;

function orderOfMany(dfn: number, pageCount: number): number {
  let order = 0;
  let size = 1;
  while (size < pageCount) {
    size *= 2;
    order++;
  }
  return size === pageCount && dfn % pageCount === 0 ? order : -1;
}
