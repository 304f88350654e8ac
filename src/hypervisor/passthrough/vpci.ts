/**
 * Virtual config space of devices, as far as ownership drives it. Only a PVH hardware domain has one here.
 * @xen drivers/vpci/vpci.c
 */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import type { IommuDomain, Pdev } from '../../iommu/driver/types.js';
import { type Co, holdWrite } from '../../sim/co.js';
import type { Xen } from '../xen.js';

/** @xen has_vpci */
const hasVpci = (xen: Xen, d: IommuDomain): boolean => d === xen.hwdom && d.isHvm;

/** @returns 0 or -ENOMEM. @xen vpci_assign_device, vpci_add_handlers */
export function vpciAssignDevice(xen: Xen, pdev: Pdev): Rc {
  const d = pdev.domain;
  assert(d !== undefined, 'the device has an owner');
  assert(d.pciLock === undefined || d.pciLock.writeHeldByCurrent(), 'pci_lock is held for writing');
  if (!hasVpci(xen, d)) return 0;
  return xen.faults.on && xen.faults.take('alloc') ? E.NOMEM : 0;
}

/** vPCI state follows an assignment in releases where domains have a pci_lock. */
export function* vpciAttach(xen: Xen, d: IommuDomain, pdev: Pdev): Co<Rc> {
  if (d.pciLock === undefined) return 0;
  using _pci = yield* holdWrite(d.pciLock);
  return vpciAssignDevice(xen, pdev);
}

/** @xen vpci_reset_device, under the owner's pci_lock */
export function* vpciResetDevice(xen: Xen, pdev: Pdev, d: IommuDomain): Co<Rc> {
  return yield* vpciAttach(xen, d, pdev);
}

/** Nothing is kept per device, so that only the lock shows. @xen vpci_deassign_device */
export function* vpciDetach(d: IommuDomain): Co<void> {
  if (d.pciLock === undefined) return;
  using _pci = yield* holdWrite(d.pciLock);
}
