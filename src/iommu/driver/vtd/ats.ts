/**
 * Devices with a translation cache of their own: enabling it, and invalidating it after the unit's.
 * @xen drivers/passthrough/ats.c, drivers/passthrough/vtd/x86/ats.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { get } from '../../../base/layout.js';
import { formatSbdf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { CONTEXT, GRAN, TT } from '../../format/vtd.js';
import { type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { contextTableOf } from './context_table.js';
import { didToDomainId } from './did.js';
import { acpiFindMatchedAtsrUnit } from './drhd.js';
import { qinvalDeviceIotlbSync } from './qinval.js';
import type { DrhdUnit, Vtd, VtdIommu } from './state.js';

const PCI_CAP_ID_EXP = 0x10;
const PCI_EXP_FLAGS = 2;
const PCI_EXP_TYPE_RC_END = 9;
const PCI_EXT_CAP_ID_ATS = 0xf;
const ATS_REG_CAP = 4;
const ATS_REG_CTL = 6;
const ATS_QUEUE_DEPTH_MASK = 0x1f;
const ATS_ENABLE = 0x8000;

/** Position of the ATS capability when it may be used behind this unit, else 0; -ENOMEM. @xen ats_device */
export function atsDevice(vtd: Vtd, pdev: Pdev, drhd: DrhdUnit): number {
  const iommu = drhd.iommu!;
  if (!vtd.opts.ats || !vtd.opts.qinval || !iommu.queuedInval || !iommu.devIotlb) return 0;
  const exp = vtd.s.pciFindCap(pdev.sbdf, PCI_CAP_ID_EXP);
  const flags = exp === 0 ? 0 : vtd.s.confRead(pdev.sbdf, exp + PCI_EXP_FLAGS, 2);
  const integrated = ((flags >> 4) & 0xf) === PCI_EXP_TYPE_RC_END;
  if (!integrated && acpiFindMatchedAtsrUnit(vtd, pdev) === undefined) return 0;
  const pos = vtd.s.pciFindExtCap(pdev.sbdf, PCI_EXT_CAP_ID_ATS);
  if (pos === 0 || iommu.flushDevIotlb) return pos;
  if (vtd.seams.vtdAllocatesAtsUnit() && vtd.s.faults.on && vtd.s.faults.take('alloc')) return E.NOMEM;
  iommu.flushDevIotlb = true;
  return pos;
}

/** @xen enable_ats_device */
export function enableAtsDevice(vtd: Vtd, pdev: Pdev, iommu: VtdIommu): void {
  const pos = vtd.s.pciFindExtCap(pdev.sbdf, PCI_EXT_CAP_ID_ATS);
  assert(pos !== 0, `${formatSbdf(pdev.sbdf)} has an ATS capability`);
  const control = vtd.s.confRead(pdev.sbdf, pos + ATS_REG_CTL, 2);
  if ((control & ATS_ENABLE) !== 0) {
    if (iommu.atsDevices.includes(pdev)) return;
  } else vtd.s.confWrite(pdev.sbdf, pos + ATS_REG_CTL, 2, control | ATS_ENABLE);
  pdev.atsCapPos = pos;
  pdev.atsEnabled = true;
  const depth = vtd.s.confRead(pdev.sbdf, pos + ATS_REG_CAP, 2) & ATS_QUEUE_DEPTH_MASK;
  pdev.atsQueueDepth = depth === 0 ? ATS_QUEUE_DEPTH_MASK + 1 : depth;
  iommu.atsDevices.unshift(pdev);
}

/** @xen disable_ats_device */
export function disableAtsDevice(vtd: Vtd, pdev: Pdev, iommu: VtdIommu): void {
  const capPos = pdev.atsCapPos;
  assert(capPos !== 0, `ATS of ${formatSbdf(pdev.sbdf)} was enabled`);
  const control = vtd.s.confRead(pdev.sbdf, capPos + ATS_REG_CTL, 2);
  vtd.s.confWrite(pdev.sbdf, capPos + ATS_REG_CTL, 2, control & ~ATS_ENABLE);
  pdev.atsEnabled = false;
  const at = iommu.atsDevices.indexOf(pdev);
  if (at >= 0) iommu.atsDevices.splice(at, 1);
}

/** Does the device's entry carry this id and let it use its cache? @xen device_in_domain */
function deviceInDomain(iommu: VtdIommu, pdev: Pdev, did: number): boolean {
  const { ram } = iommu.vtd.s;
  const table = contextTableOf(iommu, pdev.bus);
  if (table === 0) return false;
  const at = ram.peek(table) * FRAME_WORDS + pdev.devfn * 4;
  return get(ram.words, at, CONTEXT.DID) === did && get(ram.words, at, CONTEXT.TT) === TT.DEV_IOTLB;
}

/**
 * A device did not answer in time, and is given to no guest again: releases that wait for ever keep the code for it.
 * @xen drivers/passthrough/pci.c iommu_dev_iotlb_flush_timeout
 */
function* devIotlbFlushTimeout(iommu: VtdIommu, d: IommuDomain, pdev: Pdev): Co<void> {
  const { vtd } = iommu;
  using _pcidevs = yield* hold(vtd.s.pcidevsLock);
  disableAtsDevice(vtd, pdev, iommu);
  if (pdev.domain !== d) return;
  if (vtd.seams.vtdHidesSilentDevice()) {
    d.pdevList.remove(pdev);
    pdev.domain = vtd.s.domXen;
    vtd.s.domXen.pdevList.add(pdev);
  } else pdev.broken = true;
  if (!d.isShuttingDown)
    vtd.s.printk(XENLOG.ERR, `dom${d.domid}: ATS device ${formatSbdf(pdev.sbdf)} flush failed`);
  if (d !== vtd.s.hwdom) vtd.s.domainCrash(d, 'pci.c iommu_dev_iotlb_flush_timeout');
}

/** One request to a device, for the domain of hardware id `did`. @xen qinval_device_iotlb_sync, dev_invalidate_sync */
function* requestForget(iommu: VtdIommu, pdev: Pdev, did: number, lo: number, hi: number): Co<Rc> {
  const rc = yield* qinvalDeviceIotlbSync(iommu, pdev, lo, hi);
  if (rc !== E.TIMEDOUT) return rc;
  if (pdev.broken) return 0;
  const d = iommu.vtd.s.domainById(didToDomainId(iommu, did));
  if (d !== undefined) yield* devIotlbFlushTimeout(iommu, d, pdev);
  return rc;
}

/** All of a device's cache: S, and every address bit below 63 set. */
export function* forgetTranslations(iommu: VtdIommu, pdev: Pdev, did: number): Co<Rc> {
  return yield* requestForget(iommu, pdev, did, 0xffff_f001 | 0, 0x7fff_ffff);
}

/** Invalidates the caches of the unit's devices as the IOTLB was. @xen dev_invalidate_iotlb */
export function* devInvalidateIotlb(
  iommu: VtdIommu,
  did: number,
  dfn: number,
  order: number,
  gran: number,
): Co<Rc> {
  let ret = 0;
  if (!iommu.devIotlb) return ret;
  for (let i = 0; i < iommu.atsDevices.length; ) {
    const pdev = iommu.atsDevices[i]!;
    if (gran === GRAN.GLOBAL || deviceInDomain(iommu, pdev, did)) {
      const rc =
        gran === GRAN.DEVICE_OR_PAGE
          ? yield* invalidatePages(iommu, pdev, did, dfn, order)
          : yield* forgetTranslations(iommu, pdev, did);
      if (ret === 0) ret = rc;
    }
    // One that did not answer has left the list.
    if (iommu.atsDevices[i] === pdev) i += 1;
  }
  return ret;
}

/** The size is told by the lowest clear address bit. */
function* invalidatePages(iommu: VtdIommu, pdev: Pdev, did: number, dfn: number, order: number): Co<Rc> {
  let frame = dfn;
  if (order > 0) {
    const half = 2 ** (order - 1);
    frame = Math.floor(dfn / (2 * half)) * 2 * half + half - 1;
  }
  const lo = ((frame & 0xf_ffff) << 12) | (order > 0 ? 1 : 0);
  return yield* requestForget(iommu, pdev, did, lo, Math.floor(frame / 0x10_0000) | 0);
}
