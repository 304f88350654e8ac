/** The vendor's operations on devices, each call traced, and made to fail on request. @xen iommu_call() */
import { E, type Rc } from '../../base/errno.js';
import { withDevfn } from '../../base/sbdf.js';
import type { IommuDomain, IommuOps, Pdev } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import { DOMID } from '../../sim/frames.js';
import type { Xen } from '../xen.js';

/** -EIO when fault injection wants this call to fail, else 0. */
export const injectedError = (xen: Xen): Rc => (xen.faults.on && xen.faults.take('vendorOp') ? E.IO : 0);

function note(
  xen: Xen,
  op: string,
  from: IommuDomain | undefined,
  to: IommuDomain | undefined,
  devfn: number,
  pdev: Pdev,
  rc: Rc,
): void {
  xen.events.emit({
    kind: 'vendorOp',
    op,
    from: from?.domid ?? DOMID.INVALID,
    to: to?.domid ?? DOMID.INVALID,
    sbdf: withDevfn(pdev.sbdf, devfn),
    rc,
  });
}

export function* callAddDevice(xen: Xen, ops: IommuOps, devfn: number, pdev: Pdev): Co<Rc> {
  const rc = injectedError(xen) || (yield* ops.addDevice(devfn, pdev));
  if (xen.events.on) note(xen, 'add_device', undefined, pdev.domain, devfn, pdev, rc);
  return rc;
}

export function* callEnableDevice(xen: Xen, ops: IommuOps, pdev: Pdev): Co<Rc> {
  if (ops.enableDevice === undefined) return 0;
  const rc = injectedError(xen) || (yield* ops.enableDevice(pdev));
  if (xen.events.on) note(xen, 'enable_device', pdev.domain, pdev.domain, pdev.devfn, pdev, rc);
  return rc;
}

/**
 * Never made to fail. In Xen it refuses, before it has done anything, a device without unit and what has no entry of its
 * own; once begun it ends with 0, whatever a flush below it says. @xen intel_iommu_remove_device, amd_iommu_remove_device
 */
export function* callRemoveDevice(xen: Xen, ops: IommuOps, devfn: number, pdev: Pdev): Co<Rc> {
  const rc = yield* ops.removeDevice(devfn, pdev);
  if (xen.events.on) note(xen, 'remove_device', pdev.domain, undefined, devfn, pdev, rc);
  return rc;
}

export function* callAssignDevice(
  xen: Xen,
  ops: IommuOps,
  d: IommuDomain,
  devfn: number,
  pdev: Pdev,
  flag: number,
): Co<Rc> {
  const from = pdev.domain;
  const rc = injectedError(xen) || (yield* ops.assignDevice(d, devfn, pdev, flag));
  if (xen.events.on) note(xen, 'assign_device', from, d, devfn, pdev, rc);
  return rc;
}

export function* callReassignDevice(
  xen: Xen,
  ops: IommuOps,
  source: IommuDomain,
  target: IommuDomain,
  devfn: number,
  pdev: Pdev,
): Co<Rc> {
  const rc = injectedError(xen) || (yield* ops.reassignDevice(source, target, devfn, pdev));
  if (xen.events.on) note(xen, 'reassign_device', source, target, devfn, pdev, rc);
  return rc;
}

export function* callQuarantineInit(xen: Xen, ops: IommuOps, pdev: Pdev, scratchPage: boolean): Co<Rc> {
  const rc = injectedError(xen) || (yield* ops.quarantineInit(pdev, scratchPage));
  if (xen.events.on) note(xen, 'quarantine_init', pdev.domain, pdev.domain, pdev.devfn, pdev, rc);
  return rc;
}
