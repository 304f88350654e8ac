/** Devices come and go while dom0 runs; some are kept from everybody. @xen drivers/passthrough/pci.c */
import { E, type Rc } from '../../base/errno.js';
import { formatSbdf, funcOf, sbdf, sbdfOf, slotOf } from '../../base/sbdf.js';
import { type Pdev, XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold, holdWrite } from '../../sim/co.js';
import { unmapMessagesOf } from '../pirq.js';
import type { PciSeg, Xen } from '../xen.js';
import { EXT_CAP_ID, pciConfRead16, pciConfWrite16, pdevFindExtCapability } from './config.js';
import { checkPdev } from './device_check.js';
import { pciCleanupMsi } from './msi.js';
import { iommuAddDevice, iommuEnableDevice, iommuRemoveDevice, listAdd, listDel } from './pci.js';
import { allocPdev, freePdev, vfRing } from './pdev.js';
import { allocPseg, getPseg, pciGetPdev } from './segment.js';
import { sizeVfBars } from './sriov.js';
import { vpciAssignDevice, vpciDetach } from './vpci.js';

/** What dom0's kernel says of a function. @xen struct pci_dev_info */
export interface PciDevInfo {
  readonly isExtfn: boolean;
  readonly isVirtfn: boolean;
  readonly physfn: { readonly bus: number; readonly devfn: number };
}

/** Only the hardware domain may tell Xen of devices. @xen xsm_resource_plug_pci, dummy policy */
const xsmPlugPci = (xen: Xen): Rc => (xen.cpus.current.domid === xen.hwdom.domid ? 0 : E.PERM);

/** @returns 0, -EPERM, -ENOMEM, -ENODEV, or the vendor's error. @xen pci_add_device */
export function* pciAddDevice(
  xen: Xen,
  seg: number,
  bus: number,
  devfn: number,
  info: PciDevInfo | undefined,
  node: number,
): Co<Rc> {
  let type = 'device';
  let pfIsExtfn = false;
  if (info?.isVirtfn === true) {
    type = 'virtual function';
    if (!xen.seams.vfNeedsPf()) {
      const pf = yield* knownPf(xen, seg, info);
      if (pf !== undefined) pfIsExtfn = pf.isExtfn;
      else yield* pciAddDevice(xen, seg, info.physfn.bus, info.physfn.devfn, undefined, node);
    }
  } else if (info?.isExtfn === true) type = 'extended function';

  let ret = xsmPlugPci(xen);
  if (ret !== 0) return ret;
  const pdev = yield* addLocked(xen, seg, bus, devfn, info, pfIsExtfn, node);
  if (typeof pdev === 'number') return pdev;

  ret = 0;
  xen.services.printk(XENLOG.DEBUG, `PCI add ${type} ${formatSbdf(pdev.sbdf)}`);
  if (pdev.phantomStride === 0) return ret;
  for (let func = funcOf(devfn) + pdev.phantomStride; func < 8; func += pdev.phantomStride) {
    xen.services.printk(XENLOG.DEBUG, `PCI phantom ${formatSbdf(sbdf(seg, bus, slotOf(devfn), func))}`);
  }
  return ret;
}

function* knownPf(xen: Xen, seg: number, info: PciDevInfo): Co<Pdev | undefined> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return pciGetPdev(xen, undefined, sbdfOf(seg, (info.physfn.bus << 8) | info.physfn.devfn));
}

/** The part under the lock: the device, or an errno. */
function* addLocked(
  xen: Xen,
  seg: number,
  bus: number,
  devfn: number,
  info: PciDevInfo | undefined,
  pfIsExtfn: boolean,
  node: number,
): Co<Pdev | Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pseg = allocPseg(xen, seg);
  const pdev = allocPdev(xen, pseg, bus, devfn);
  if (pdev === undefined) return E.NOMEM;
  pdev.node = node;
  if (info !== undefined) {
    const rc = yield* takeInfo(xen, pseg, pdev, info, pfIsExtfn);
    if (rc !== 0) return rc;
  }
  if (!pdev.isVirtfn && pdev.vfRlen[0] === 0) sizeVfBars(xen, pdev);
  checkPdev(xen, pdev);
  if (pdev.domain === undefined) {
    const rc = yield* giveToHwdom(xen, pdev);
    if (rc !== 0) return rc;
  } else {
    yield* iommuEnableDevice(xen, pdev);
  }
  pciEnableAcs(xen, pdev);
  return pdev;
}

/** Remembers what dom0 says; a virtual function needs its physical one. */
function* takeInfo(xen: Xen, pseg: PciSeg, pdev: Pdev, info: PciDevInfo, pfIsExtfn: boolean): Co<Rc> {
  pdev.become(info.isVirtfn ? pfIsExtfn : info.isExtfn, info.isVirtfn, info.physfn);
  if (!info.isVirtfn) return 0;
  if (!xen.seams.vfNeedsPf()) return 0;
  const pfAt = sbdfOf(pseg.nr, (info.physfn.bus << 8) | info.physfn.devfn);
  const pf = pciGetPdev(xen, undefined, pfAt);
  if (pf === undefined) {
    xen.services.printk(
      XENLOG.WARNING,
      `Attempted to add SR-IOV VF ${formatSbdf(pdev.sbdf)} without PF ${formatSbdf(pfAt)}`,
    );
    if (pdev.domain !== undefined) yield* listDel(pdev.domain, pdev);
    freePdev(xen, pseg, pdev);
    return E.NODEV;
  }
  // Announced again it stays with the physical function it had, and is itself what dom0 says now.
  const again = pdev.pfPdev !== undefined;
  pdev.pfPdev ??= pf;
  pdev.become(again ? info.isExtfn : pf.isExtfn, true, info.physfn);
  if (!pdev.extCfg) {
    xen.services.printk(XENLOG.WARNING, `${formatSbdf(pdev.sbdf)}: VF without extended config space?`);
  }
  return 0;
}

/** A device without owner becomes dom0's, or stays known without one. */
function* giveToHwdom(xen: Xen, pdev: Pdev): Co<Rc> {
  const d = xen.hwdom;
  pdev.domain = d;
  let rc = yield* listWithVpci(xen, pdev);
  if (rc !== 0) {
    pdev.domain = undefined;
    xen.services.printk(XENLOG.ERR, `Setup of vPCI failed: ${rc}`);
    return rc;
  }
  rc = yield* iommuAddDevice(xen, pdev);
  if (rc !== 0) {
    yield* listDel(d, pdev);
    pdev.domain = undefined;
  }
  return rc;
}

function* listWithVpci(xen: Xen, pdev: Pdev): Co<Rc> {
  const d = xen.hwdom;
  if (d.pciLock === undefined) return listAndAttach(xen, pdev);
  using _pci = yield* holdWrite(d.pciLock);
  return listAndAttach(xen, pdev);
}

function listAndAttach(xen: Xen, pdev: Pdev): Rc {
  xen.hwdom.pdevList.add(pdev);
  const rc = vpciAssignDevice(xen, pdev);
  if (rc !== 0) xen.hwdom.pdevList.remove(pdev);
  return rc;
}

/** Access control services: capability and control words, and the bits Xen turns on. */
const ACS = { CAP: 4, CTRL: 6, SV: 0x01, RR: 0x04, CR: 0x08, UF: 0x10 } as const;

/** Peer-to-peer requests go up through the IOMMU where the device can make them. @xen pci_enable_acs */
export function pciEnableAcs(xen: Xen, pdev: Pdev): void {
  if (pdev.domain?.iommuEnabled !== true) return;
  const pos = pdevFindExtCapability(xen, pdev, EXT_CAP_ID.ACS);
  if (pos === 0) return;
  const cap = pciConfRead16(xen, pdev.sbdf, pos + ACS.CAP);
  const ctrl = pciConfRead16(xen, pdev.sbdf, pos + ACS.CTRL);
  const wanted = ACS.SV | ACS.RR | ACS.CR | ACS.UF;
  pciConfWrite16(xen, pdev.sbdf, pos + ACS.CTRL, ctrl | (cap & wanted));
}

/**
 * The device is forgotten whatever the vendor says, except a physical function that still has virtual ones.
 * @returns 0, -EPERM, -ENODEV, -EBUSY, or the vendor's error. @xen pci_remove_device
 */
export function* pciRemoveDevice(xen: Xen, seg: number, bus: number, devfn: number): Co<Rc> {
  const pseg = getPseg(xen, seg);
  const denied = xsmPlugPci(xen);
  if (denied !== 0) return denied;
  if (pseg === undefined) return E.NODEV;

  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = pseg.alldevs.get((bus << 8) | devfn);
  if (pdev === undefined) return E.NODEV;
  if (xen.seams.pfWithVfsStays() && pfStillInUse(xen, pseg, pdev)) return E.BUSY;

  const d = pdev.domain;
  const listFirst = d?.pciLock !== undefined;
  if (d !== undefined && listFirst) {
    yield* vpciDetach(d);
    yield* listDel(d, pdev);
  }
  if (xen.seams.removalUnmapsMessages()) yield* unmapMessagesOf(xen, pdev);
  yield* pciCleanupMsi(xen, pdev);
  const rc = yield* iommuRemoveDevice(xen, pdev);
  if (d !== undefined && !listFirst) yield* listDel(d, pdev);
  xen.services.printk(XENLOG.DEBUG, `PCI remove device ${formatSbdf(pdev.sbdf)}`);
  freePdev(xen, pseg, pdev);
  return rc;
}

/** Dom0 may go on as if the removal had worked: nobody gets these devices any more. */
function pfStillInUse(xen: Xen, pseg: PciSeg, pdev: Pdev): boolean {
  if (pdev.isVirtfn) return false;
  const others = vfRing(pseg, pdev);
  if (others.length === 0) return false;
  for (const other of others) other.broken = true;
  pdev.broken = true;
  xen.services.printk(
    XENLOG.WARNING,
    `Attempted to remove PCI SR-IOV PF ${formatSbdf(pdev.sbdf)} with VFs still present`,
  );
  return true;
}

/** @xen _pci_hide_device */
function* hide(xen: Xen, pdev: Pdev): Co<void> {
  if (pdev.domain !== undefined) return;
  pdev.domain = xen.domXen;
  yield* listAdd(xen.domXen, pdev);
}

/** Xen keeps the device for itself. @returns 0 or -ENOMEM. @xen pci_hide_device */
export function* pciHideDevice(xen: Xen, seg: number, bus: number, devfn: number): Co<Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = allocPdev(xen, allocPseg(xen, seg), bus, devfn);
  if (pdev === undefined) return E.NOMEM;
  yield* hide(xen, pdev);
  return 0;
}

/** The same, and nobody may write to its configuration space. @returns 0 or -ENOMEM. @xen pci_ro_device */
export function* pciRoDevice(xen: Xen, seg: number, bus: number, devfn: number): Co<Rc> {
  const pseg = allocPseg(xen, seg);
  const pdev = allocPdev(xen, pseg, bus, devfn);
  if (pdev === undefined) return E.NOMEM;
  pseg.roMap.add((bus << 8) | devfn);
  yield* hide(xen, pdev);
  return 0;
}
