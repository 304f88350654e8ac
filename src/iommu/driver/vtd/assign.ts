/** Moving a function between domains, and adding or removing it. @xen drivers/passthrough/vtd/iommu.c */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { type Co, holdWrite } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { iommuFreeDomid } from '../domid.js';
import { DEV_RDM_RELAXED, type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { atsDevice, enableAtsDevice } from './ats.js';
import { quarantineSkip } from './context.js';
import { domainContextMapping, domainContextUnmap, hasEntry } from './device_context.js';
import { checkCleanupDomidMap } from './did.js';
import { acpiFindMatchedDrhdUnit } from './drhd.js';
import { quarantineTeardown } from './quarantine.js';
import { pciVtdQuirk } from './quirks.js';
import { rangeText, rmrrCovers, rmrrMapping } from './rmrr.js';
import { type RmrrUnit, VTDPREFIX, type Vtd } from './state.js';

const bdfAt = (pdev: Pdev, devfn: number): number => (pdev.bus << 8) | devfn;

const isSystemDomain = (d: IommuDomain): boolean => d.domid === DOMID.IO || d.domid === DOMID.XEN;

/**
 * Hands (devfn of) `pdev` over, reserved ranges of the source included. The owner changes with the primary function.
 * @returns what domainContextMapping() returns, or an errno of taking back a reserved range.
 * @xen reassign_device_ownership
 */
export function* reassignDeviceOwnership(
  vtd: Vtd,
  source: IommuDomain,
  target: IommuDomain,
  devfn: number,
  pdev: Pdev,
): Co<Rc> {
  const rmrrFirst = vtd.seams.vtdRmrrFollowsContext();
  if (rmrrFirst && source !== vtd.s.hwdom) {
    const rc = yield* unmapRmrrsOf(vtd, source, devfn, pdev);
    if (rc !== GO_ON) return rc;
  }
  let ret = 0;
  if (!quarantineSkip(target, pdev.arch.rootMfn)) {
    if (vtd.opts.intremap === 'off' && target !== vtd.s.hwdom && !isSystemDomain(target)) {
      vtd.untrustedMsi = true;
    }
    if (!vtd.seams.vtdReassignsDirectly()) {
      ret = yield* domainContextUnmap(vtd, source, devfn, pdev);
      if (ret !== 0) return ret;
    }
    ret = yield* domainContextMapping(vtd, target, devfn, pdev);
    if (ret === 0 && pdev.devfn === devfn && !quarantineSkip(source, pdev.arch.rootMfn)) {
      const drhd = acpiFindMatchedDrhdUnit(vtd, pdev);
      if (drhd !== undefined) checkCleanupDomidMap(vtd, source, pdev, drhd.iommu!);
    }
  } else {
    ret = yield* domainContextUnmap(vtd, source, devfn, pdev);
  }
  if (ret !== 0) return ret;

  if (devfn === pdev.devfn && pdev.domain !== target) yield* moveToList(source, target, pdev);
  // Firmware may go on using the ranges while dom0 has the device, so they stay.
  if (vtd.rmrrs.length === 0 || source === vtd.s.hwdom || rmrrFirst) return 0;
  return Math.min(yield* unmapRmrrsOf(vtd, source, devfn, pdev), 0);
}

/** No result ended it. */
const GO_ON = 1;
/** Takes the reserved ranges of a function back. @returns GO_ON, or the result that ended it */
function* unmapRmrrsOf(vtd: Vtd, source: IommuDomain, devfn: number, pdev: Pdev): Co<Rc> {
  for (const rmrr of vtd.rmrrs) {
    if (!rmrrCovers(rmrr, pdev.seg, bdfAt(pdev, devfn))) continue;
    const ret = yield* rmrrMapping(vtd, source, 'x', rmrr, 0);
    if (vtd.seams.vtdRmrrUnmapEnds(ret)) return ret;
  }
  return GO_ON;
}

/** Releases from 4.19 guard each domain's list by a lock of that domain. */
function* moveToList(source: IommuDomain, target: IommuDomain, pdev: Pdev): Co<void> {
  if (source.pciLock === undefined || target.pciLock === undefined) {
    source.pdevList.remove(pdev);
    target.pdevList.add(pdev);
    pdev.domain = target;
    return;
  }
  yield* leaveList(source, pdev);
  pdev.domain = target;
  yield* joinList(target, pdev);
}
function* leaveList(d: IommuDomain, pdev: Pdev): Co<void> {
  using _list = yield* holdWrite(d.pciLock!);
  d.pdevList.remove(pdev);
}
function* joinList(d: IommuDomain, pdev: Pdev): Co<void> {
  using _list = yield* holdWrite(d.pciLock!);
  d.pdevList.add(pdev);
}

/** Says that a reserved range is shared. @returns -EPERM unless the caller takes the risk */
function checkSharedRmrr(vtd: Vtd, d: IommuDomain, rmrr: RmrrUnit, bdf: number, flag: number): Rc {
  const relaxed = (flag & DEV_RDM_RELAXED) !== 0;
  const who = formatSbdf(sbdfOf(rmrr.segment, bdf));
  vtd.s.printk(
    relaxed ? XENLOG.G_WARNING : XENLOG.G_ERR,
    `${VTDPREFIX} It's ${relaxed ? 'risky' : 'disallowed'} to assign ${who} with shared RMRR at ` +
      `${rmrr.base.toString(16)} for ${vtd.s.pd(d)}.`,
  );
  return vtd.seams.vtdMaySplitRmrr(relaxed) ? 0 : E.PERM;
}

/** `flag`: XEN_DOMCTL_DEV_RDM_RELAXED. @returns -EPERM for a shared reserved range. @xen intel_iommu_assign_device */
export function* intelIommuAssignDevice(
  vtd: Vtd,
  d: IommuDomain,
  devfn: number,
  pdev: Pdev,
  flag: number,
): Co<Rc> {
  if (vtd.drhds.length === 0) return E.NODEV;
  const source = pdev.domain;
  assert(source !== undefined, 'the device has an owner');
  return vtd.rmrrs.length === 0
    ? yield* reassignDeviceOwnership(vtd, source, d, devfn, pdev)
    : yield* assignWithRmrrs(vtd, source, d, devfn, pdev, flag);
}

function* assignWithRmrrs(
  vtd: Vtd,
  source: IommuDomain,
  d: IommuDomain,
  devfn: number,
  pdev: Pdev,
  flag: number,
): Co<Rc> {
  const bdf = bdfAt(pdev, devfn);
  for (const rmrr of vtd.rmrrs) {
    if (!rmrrCovers(rmrr, pdev.seg, bdf) || rmrr.scope.devices.length <= 1) continue;
    const rc = checkSharedRmrr(vtd, d, rmrr, bdf, flag);
    if (rc !== 0) return rc;
  }
  if (d === vtd.s.domIo) return yield* reassignDeviceOwnership(vtd, source, d, devfn, pdev);

  const late = vtd.seams.vtdRmrrFollowsContext();
  let ret = late ? 0 : yield* mapRmrrs(vtd, d, pdev, bdf, flag);
  if (ret === 0) ret = yield* reassignDeviceOwnership(vtd, source, d, devfn, pdev);
  if (ret === 0 && late) ret = yield* mapRmrrs(vtd, d, pdev, bdf, flag);
  if (ret === 0 || d === vtd.s.hwdom) return ret;
  yield* unmapRmrrs(vtd, d, pdev, bdf);
  return ret;
}

/** Stops at the first range that cannot be mapped. */
function* mapRmrrs(vtd: Vtd, d: IommuDomain, pdev: Pdev, bdf: number, flag: number): Co<Rc> {
  for (const rmrr of vtd.rmrrs) {
    if (!rmrrCovers(rmrr, pdev.seg, bdf)) continue;
    const ret = yield* rmrrMapping(vtd, d, 'rw', rmrr, flag);
    if (ret === 0) continue;
    const text = `${vtd.s.pd(d)}: cannot map reserved region ${rangeText(rmrr)}: ${ret}`;
    vtd.s.printk(XENLOG.G_ERR, VTDPREFIX + text);
    return ret;
  }
  return 0;
}

function* unmapRmrrs(vtd: Vtd, d: IommuDomain, pdev: Pdev, bdf: number): Co<void> {
  for (const rmrr of vtd.rmrrs) {
    if (!rmrrCovers(rmrr, pdev.seg, bdf)) continue;
    const rc = yield* rmrrMapping(vtd, d, 'x', rmrr, 0);
    if (rc === 0 || rc === E.NOENT) continue;
    const text = `${vtd.s.pd(d)}: cannot unmap reserved region ${rangeText(rmrr)}: ${rc}`;
    vtd.s.printk(XENLOG.ERR, VTDPREFIX + text);
    vtd.s.domainCrash(d, 'vtd/iommu.c intel_iommu_assign_device');
    return;
  }
}

/** A reserved range that cannot be mapped does not stop the device. @xen intel_iommu_add_device */
export function* intelIommuAddDevice(vtd: Vtd, devfn: number, pdev: Pdev): Co<Rc> {
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  const d = pdev.domain;
  if (d === undefined) return E.INVAL;
  for (const rmrr of vtd.rmrrs) {
    if (rmrrCovers(rmrr, pdev.seg, bdfAt(pdev, devfn))) yield* rmrrMapping(vtd, d, 'rw', rmrr, 0);
  }
  return yield* domainContextMapping(vtd, d, devfn, pdev);
}

/** @xen intel_iommu_enable_device */
export function intelIommuEnableDevice(vtd: Vtd, pdev: Pdev): Rc {
  const drhd = acpiFindMatchedDrhdUnit(vtd, pdev);
  const pos = drhd === undefined ? E.NODEV : atsDevice(vtd, pdev, drhd);
  pciVtdQuirk(vtd, pdev);
  if (pos > 0) enableAtsDevice(vtd, pdev, drhd!.iommu!);
  return Math.min(pos, 0);
}

/** @xen intel_iommu_remove_device */
export function* intelIommuRemoveDevice(vtd: Vtd, devfn: number, pdev: Pdev): Co<Rc> {
  const d = pdev.domain;
  if (d === undefined) return E.INVAL;
  const rc = yield* domainContextUnmap(vtd, d, devfn, pdev);
  if (rc !== 0) return rc;
  for (const rmrr of vtd.rmrrs) {
    if (rmrrCovers(rmrr, pdev.seg, bdfAt(pdev, devfn))) yield* rmrrMapping(vtd, d, 'x', rmrr, 0);
  }
  const drhd = hasEntry(pdev) ? acpiFindMatchedDrhdUnit(vtd, pdev) : undefined;
  yield* quarantineTeardown(vtd, pdev, drhd);
  if (drhd !== undefined) {
    iommuFreeDomid(vtd.s.pcidevsLock, pdev.arch.pseudoDomid, drhd.iommu!.pseudoDomids!);
    pdev.arch.pseudoDomid = DOMID.INVALID;
  }
  return 0;
}
