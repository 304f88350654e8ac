/** A device changes hands. @xen drivers/passthrough/pci.c */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { formatSbdf, type Sbdf, sbdfOf, slotOf, withDevfn } from '../../base/sbdf.js';
import { type IommuDomain, type IommuOps, type Pdev, XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold, holdWrite } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import type { Xen } from '../xen.js';
import { archPciCleanPirqs } from './hvm.js';
import {
  callAddDevice,
  callAssignDevice,
  callEnableDevice,
  callQuarantineInit,
  callReassignDevice,
  callRemoveDevice,
} from './iommu_call.js';
import { pciCleanupMsi, pdevMsixAssign } from './msi.js';
import { pcidevsLocked, pciGetPdev } from './segment.js';
import { vpciAttach, vpciDetach } from './vpci.js';
import { archIommuUsePermitted } from './x86_iommu.js';

/** The vendor's driver: there is one wherever a domain has its IOMMU enabled. */
export function platformOps(xen: Xen): IommuOps {
  assert(xen.ops !== undefined, 'an IOMMU driver is there');
  return xen.ops;
}

const at = (seg: number, bus: number, devfn: number): Sbdf => sbdfOf(seg, (bus << 8) | devfn);

/** Tables for a device that is about to be owned by d[IO]. @xen iommu_quarantine_dev_init */
export function* iommuQuarantineDevInit(xen: Xen, pdev: Pdev): Co<Rc> {
  if (xen.opts.quarantine === 'none') return 0;
  return yield* callQuarantineInit(xen, platformOps(xen), pdev, xen.opts.quarantine === 'scratch-page');
}

/** A new device under the IOMMU. A phantom that fails is only reported. @xen iommu_add_device */
export function* iommuAddDevice(xen: Xen, pdev: Pdev): Co<Rc> {
  if (pdev.domain === undefined) return E.INVAL;
  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  if (!pdev.domain.iommuEnabled) return 0;

  const ops = platformOps(xen);
  let devfn = pdev.devfn;
  let rc = yield* callAddDevice(xen, ops, devfn, pdev);
  if (rc !== 0 || pdev.phantomStride === 0) return rc;
  for (;;) {
    devfn += pdev.phantomStride;
    if (slotOf(devfn) !== slotOf(pdev.devfn)) return 0;
    rc = yield* callAddDevice(xen, ops, devfn, pdev);
    if (rc !== 0) {
      const phantom = formatSbdf(withDevfn(pdev.sbdf, devfn));
      xen.services.printk(XENLOG.WARNING, `IOMMU: add ${phantom} failed (${rc})`);
    }
  }
}

/** @xen iommu_enable_device */
export function* iommuEnableDevice(xen: Xen, pdev: Pdev): Co<Rc> {
  if (pdev.domain === undefined) return E.INVAL;
  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  if (!pdev.domain.iommuEnabled) return 0;
  return yield* callEnableDevice(xen, platformOps(xen), pdev);
}

/** Phantoms first; one that fails stops it before the device itself. @xen iommu_remove_device */
export function* iommuRemoveDevice(xen: Xen, pdev: Pdev): Co<Rc> {
  if (pdev.domain === undefined) return E.INVAL;
  if (!pdev.domain.iommuEnabled) return 0;

  const ops = platformOps(xen);
  let devfn = pdev.devfn;
  while (pdev.phantomStride !== 0) {
    devfn += pdev.phantomStride;
    if (slotOf(devfn) !== slotOf(pdev.devfn)) break;
    const rc = yield* callRemoveDevice(xen, ops, devfn, pdev);
    if (rc === 0) continue;
    const phantom = formatSbdf(withDevfn(pdev.sbdf, devfn));
    xen.services.printk(XENLOG.ERR, `IOMMU: remove ${phantom} failed (${rc})`);
    return rc;
  }
  return yield* callRemoveDevice(xen, ops, pdev.devfn, pdev);
}

/** 0: free to be assigned; -ENODEV: unknown; -EBUSY: a guest's, or hidden. @xen device_assigned */
export function deviceAssigned(xen: Xen, seg: number, bus: number, devfn: number): Rc {
  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  const pdev = pciGetPdev(xen, undefined, at(seg, bus, devfn));
  if (pdev === undefined) return E.NODEV;
  return pdev.domain !== xen.hwdom && pdev.domain !== xen.domIo ? E.BUSY : 0;
}

/**
 * Gives a free device to `d`, the device first and then its phantoms. When a phantom fails everything is taken back.
 * @returns 0, -EXDEV, -EBADF, -EBUSY, or the vendor's error. @xen assign_device
 */
export function* assignDevice(
  xen: Xen,
  d: Domain,
  seg: number,
  bus: number,
  firstDevfn: number,
  flag: number,
): Co<Rc> {
  if (d.iommuEnabled === false) return 0;
  if (!archIommuUsePermitted(xen, d)) return E.XDEV;

  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  let devfn = firstDevfn;
  const pdev = pciGetPdev(xen, undefined, at(seg, bus, devfn));
  const owner = pdev?.domain;
  assert(
    pdev !== undefined && owner !== undefined && (owner === xen.hwdom || owner === xen.domIo),
    'device_assigned() has cleared the device',
  );

  let rc: Rc = pdev.broken && d !== xen.hwdom && d !== xen.domIo ? E.BADF : 0;
  if (rc === 0) {
    yield* vpciDetach(owner);
    rc = pdevMsixAssign(xen, pdev);
  }
  if (rc === 0 && owner !== xen.domIo) rc = yield* iommuQuarantineDevInit(xen, pdev);
  if (rc === 0) {
    const ops = platformOps(xen);
    pdev.faultCount = 0;
    rc = yield* callAssignDevice(xen, ops, d, devfn, pdev, flag);
    while (pdev.phantomStride !== 0 && rc === 0) {
      devfn += pdev.phantomStride;
      if (slotOf(devfn) !== slotOf(pdev.devfn)) break;
      rc = xen.seams.phantomAssignResult(yield* callAssignDevice(xen, ops, d, devfn, pdev, flag));
    }
    if (rc === 0) rc = yield* vpciAttach(xen, d, pdev);
  }

  if (rc !== 0) yield* assignFailed(xen, d, pdev, devfn, rc);
  else if (d === xen.domIo) pdev.quarantine = true;
  return rc;
}

/** Reports, and takes back what a phantom left half done. @xen assign_device, from its label `done` */
function* assignFailed(xen: Xen, d: Domain, pdev: Pdev, devfn: number, rc: Rc): Co<void> {
  const phantom = devfn !== pdev.devfn;
  const what = `${phantom ? 'phantom function ' : ''}(${formatSbdf(withDevfn(pdev.sbdf, devfn))})`;
  xen.services.printk(XENLOG.G_WARNING, `${xen.services.pd(d)}: assign ${what} failed (${rc})`);
  if (!phantom) return;
  if ((yield* deassignDevice(xen, d, pdev.seg, pdev.bus, pdev.devfn)) === 0) return;
  // Nobody knows any more which of its functions translate for whom.
  pdev.broken = true;
  if (d !== xen.hwdom && d !== xen.domIo) xen.services.domainCrash(d, 'pci.c assign_device');
}

/**
 * Takes a device from `d`, phantoms first: to quarantine, or to the hardware domain.
 * @returns 0, -EINVAL, -ENODEV, or the vendor's error. @xen deassign_device
 */
export function* deassignDevice(
  xen: Xen,
  d: IommuDomain,
  seg: number,
  bus: number,
  firstDevfn: number,
): Co<Rc> {
  if (d.iommuEnabled === false) return E.INVAL;

  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  let devfn = firstDevfn;
  const pdev = pciGetPdev(xen, d, at(seg, bus, devfn));
  if (pdev === undefined) return E.NODEV;

  let target = xen.hwdom;
  if (xen.seams.quarantinesLeaving(pdev.quarantine, xen.opts.quarantine) && pdev.domain !== xen.domIo) {
    const rc = yield* iommuQuarantineDevInit(xen, pdev);
    if (rc !== 0) return rc;
    target = xen.domIo;
  }

  const ops = platformOps(xen);
  let rc: Rc = 0;
  while (pdev.phantomStride !== 0 && rc === 0) {
    devfn += pdev.phantomStride;
    if (slotOf(devfn) !== slotOf(pdev.devfn)) break;
    rc = yield* callReassignDevice(xen, ops, d, target, devfn, pdev);
  }
  if (rc === 0) {
    yield* vpciDetach(d);
    devfn = pdev.devfn;
    rc = yield* callReassignDevice(xen, ops, d, target, devfn, pdev);
  }
  if (rc === 0) {
    if (pdev.domain === xen.hwdom) pdev.quarantine = false;
    pdev.faultCount = 0;
    rc = yield* vpciAttach(xen, target, pdev);
  }
  if (rc !== 0) {
    const which = formatSbdf(withDevfn(pdev.sbdf, devfn));
    xen.services.printk(XENLOG.G_ERR, `${xen.services.pd(d)}: deassign (${which}) failed (${rc})`);
  }
  return rc;
}

/** A domain goes, and its devices leave it. @returns 0, -ERESTART, or what a device said. @xen pci_release_devices */
export function* pciReleaseDevices(xen: Xen, d: Domain): Co<Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const rc = yield* archPciCleanPirqs(xen, d);
  if (rc !== 0) return rc;
  return xen.seams.releaseSetsFailuresAside() ? yield* releaseAll(xen, d) : yield* releaseWalking(xen, d);
}

function* releaseOne(xen: Xen, d: Domain, pdev: Pdev): Co<Rc> {
  if (xen.seams.leavingFreesMessages()) yield* pciCleanupMsi(xen, pdev);
  return yield* deassignDevice(xen, d, pdev.seg, pdev.bus, pdev.devfn);
}

/** A plain walk: devices that fail stay where they are. */
function* releaseWalking(xen: Xen, d: Domain): Co<Rc> {
  let ret: Rc = 0;
  let next = d.pdevList.first;
  while (next !== undefined) {
    const pdev = next;
    next = pdev.listNext;
    ret = xen.seams.releaseResult(ret, yield* releaseOne(xen, d, pdev));
  }
  return ret;
}

/** The list is emptied from its head; devices that fail go back to the front in the end. */
function* releaseAll(xen: Xen, d: Domain): Co<Rc> {
  const failed: Pdev[] = [];
  let ret: Rc = 0;
  for (let pdev = d.pdevList.first; pdev !== undefined; pdev = d.pdevList.first) {
    const rc = yield* releaseOne(xen, d, pdev);
    if (rc === 0) continue;
    if (pdev.domain === d) {
      yield* listDel(d, pdev);
      failed.push(pdev);
    }
    ret = xen.seams.releaseResult(ret, rc);
  }
  for (let pdev = failed.pop(); pdev !== undefined; pdev = failed.pop()) yield* listAdd(d, pdev);
  return ret;
}

/** Enters a device in the list of `d`, under the lock of that list where there is one. */
export function* listAdd(d: IommuDomain, pdev: Pdev): Co<void> {
  if (d.pciLock === undefined) {
    d.pdevList.add(pdev);
    return;
  }
  using _pci = yield* holdWrite(d.pciLock);
  d.pdevList.add(pdev);
}

export function* listDel(d: IommuDomain, pdev: Pdev): Co<void> {
  if (d.pciLock === undefined) {
    d.pdevList.remove(pdev);
    return;
  }
  using _pci = yield* holdWrite(d.pciLock);
  d.pdevList.remove(pdev);
}
