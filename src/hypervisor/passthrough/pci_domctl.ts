/** XEN_DOMCTL_assign_device and its relatives. @xen drivers/passthrough/pci.c iommu_do_pci_domctl */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { busOf, devfnOf, formatSbdf, type Sbdf, segOf } from '../../base/sbdf.js';
import { DEV_RDM_RELAXED, XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import type { DomctlOp } from '../public/domctl.js';
import type { Xen } from '../xen.js';
import { assignDevice, deassignDevice, deviceAssigned, platformOps } from './pci.js';

/** The commands that concern devices. */
export type PciDomctl = Extract<
  DomctlOp,
  { cmd: 'assign_device' | 'deassign_device' | 'test_assign_device' | 'get_device_group' }
>;
type AssignOp = Exclude<PciDomctl, { cmd: 'get_device_group' }>;
type GroupOp = Extract<PciDomctl, { cmd: 'get_device_group' }>;

/** @xen XEN_DOMCTL_DEV_PCI */
const DEV_PCI = 0;

export function* iommuDoPciDomctl(xen: Xen, op: PciDomctl, d: Domain | undefined): Co<Rc> {
  switch (op.cmd) {
    case 'assign_device':
      assert(d !== undefined, 'the domain is known');
      return yield* doAssign(xen, op, d);
    case 'deassign_device':
      return yield* doDeassign(xen, op, d!);
    case 'test_assign_device':
      return yield* doTestAssign(xen, op, d);
    case 'get_device_group':
      return yield* getDeviceGroup(xen, op, d);
    default:
      return E.NOSYS;
  }
}

/** Devices are nothing a domain gives to itself. */
const isCurrent = (xen: Xen, d: Domain | undefined): boolean =>
  d !== undefined && d.domid === xen.cpus.current.domid;

function* doAssign(xen: Xen, op: AssignOp, d: Domain): Co<Rc> {
  if (isCurrent(xen, d)) return E.INVAL;
  if (op.dev !== DEV_PCI) return E.NODEV;
  if (d.isDying || (op.flags & ~DEV_RDM_RELAXED) !== 0) return E.INVAL;
  const at = op.machineSbdf;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const rc = deviceAssigned(xen, segOf(at), busOf(at), devfnOf(at));
  if (rc !== 0) return rc;
  return yield* assignDevice(xen, d, segOf(at), busOf(at), devfnOf(at), op.flags);
}

function* doTestAssign(xen: Xen, op: AssignOp, d: Domain | undefined): Co<Rc> {
  if (isCurrent(xen, d)) return E.INVAL;
  if (op.dev !== DEV_PCI) return E.NODEV;
  if (op.flags !== 0) return E.INVAL;
  const at = op.machineSbdf;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  if (deviceAssigned(xen, segOf(at), busOf(at), devfnOf(at)) === 0) return 0;
  xen.services.printk(XENLOG.G_INFO, `${formatSbdf(at)} already assigned, or non-existent`);
  return E.INVAL;
}

function* doDeassign(xen: Xen, op: AssignOp, d: Domain): Co<Rc> {
  if (isCurrent(xen, d)) return E.INVAL;
  if (op.dev !== DEV_PCI) return E.NODEV;
  if (op.flags !== 0) return E.INVAL;
  const at = op.machineSbdf;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return yield* deassignDevice(xen, d, segOf(at), busOf(at), devfnOf(at));
}

function* getDeviceGroup(xen: Xen, op: GroupOp, d: Domain | undefined): Co<Rc> {
  const found: number[] = [];
  const rc = d === undefined ? 0 : yield* iommuGetDeviceGroup(xen, d, op.machineSbdf, op.maxSdevs, found);
  op.sdevArray = rc === 0 ? found : [];
  return rc;
}

/**
 * Other devices of `d` that the IOMMU cannot tell from this one, as bus << 16 | devfn << 8.
 * @returns 0, or the vendor's error. @xen iommu_get_device_group
 */
function* iommuGetDeviceGroup(xen: Xen, d: Domain, at: Sbdf, max: number, found: number[]): Co<Rc> {
  if (!d.iommuEnabled) return 0;
  const ops = platformOps(xen);
  const group = ops.getDeviceGroupId(segOf(at), busOf(at), devfnOf(at));
  if (group < 0) return group;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  for (let p = d.pdevList.first; p !== undefined; p = p.listNext) {
    if (p.seg !== segOf(at) || p.sbdf === at) continue;
    const id = ops.getDeviceGroupId(p.seg, p.bus, p.devfn);
    if (id < 0) return id;
    if (id === group && found.length < max) found.push((p.bus << 16) | (p.devfn << 8));
  }
  return 0;
}
