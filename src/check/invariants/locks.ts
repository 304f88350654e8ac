/** Which locks are taken in which order, what needs one, and what must hold whenever pcidevs_lock is free. */

import { XenBug } from '../../base/assert.js';
import { formatSbdf } from '../../base/sbdf.js';
import { iommuIdentityMapping } from '../../hypervisor/passthrough/identity.js';
import {
  assignDevice,
  deassignDevice,
  deviceAssigned,
  iommuAddDevice,
  iommuEnableDevice,
} from '../../hypervisor/passthrough/pci.js';
import { pciGetPdev } from '../../hypervisor/passthrough/segment.js';
import { archIommuUsePermitted } from '../../hypervisor/passthrough/x86_iommu.js';
import { runAlone } from '../../sim/co.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { ownershipInvariants } from './ownership.js';

const violation = (id: string, what: string): Violation => ({ id, what });

/** @xen common/domctl.c iocaps_double_lock */
function lowerIdFirst(w: World): Violation | undefined {
  const held: number[] = [];
  for (const e of w.last?.events ?? []) {
    const domid = e.kind === 'lock' ? CAPS_LOCK.exec(e.lock)?.[1] : undefined;
    if (e.kind !== 'lock' || domid === undefined) continue;
    if (e.action === 'release') held.splice(held.lastIndexOf(Number(domid)), 1);
    else {
      const higher = held.find((h) => h >= Number(domid));
      if (higher !== undefined)
        return violation('INV-L5', `the rights of d${domid} are locked under those of d${higher}`);
      held.push(Number(domid));
      if (held.length > 1) w.count('two domains locked by id');
    }
  }
  return undefined;
}
const CAPS_LOCK = /^d(\d+)\.caps_lock$/;

/** What asserts pcidevs_lock, called without it. @xen drivers/passthrough/pci.c, x86/iommu.c: ASSERT(pcidevs_locked()) */
function bareCallsAreBugs(w: World): Violation | undefined {
  const { xen } = w.machine;
  const [device] = w.layout.devices;
  const pdev = device === undefined ? undefined : w.pdev(device.sbdf);
  if (w.last?.command.op !== 'testAssign' || pdev === undefined || xen.pcidevsLock.heldByCurrent())
    return undefined;
  const { seg, bus, devfn } = pdev;
  const guest = [...xen.domains.values()].find((d) => d !== xen.hwdom && d.iommuEnabled && !d.isDying);
  const bare: Record<string, () => unknown> = {
    device_assigned: () => deviceAssigned(xen, seg, bus, devfn),
    pci_get_pdev: () => pciGetPdev(xen, undefined, pdev.sbdf),
    ...(pdev.domain === undefined
      ? {}
      : {
          iommu_add_device: () => runAlone(iommuAddDevice(xen, pdev)),
          iommu_enable_device: () => runAlone(iommuEnableDevice(xen, pdev)),
        }),
    iommu_identity_mapping: () => runAlone(iommuIdentityMapping(xen, xen.hwdom, 'x', 0, 0, 0)),
  };
  // Refusals for a domain that may not use the IOMMU come before the assertion.
  if (guest !== undefined && archIommuUsePermitted(xen, guest)) {
    bare.assign_device = () => runAlone(assignDevice(xen, guest, seg, bus, devfn, 0));
    bare.deassign_device = () => runAlone(deassignDevice(xen, guest, seg, bus, devfn));
  }
  for (const [name, call] of Object.entries(bare)) {
    if (!isBug(call)) return violation('INV-L6', `${name} runs without pcidevs_lock`);
  }
  return undefined;
}

function isBug(call: () => unknown): boolean {
  try {
    call();
  } catch (e) {
    return e instanceof XenBug;
  }
  return false;
}

/** Set-up and scan let pcidevs_lock go now and then: whatever others rely on holds whenever it is free. */
export function freeLockMeansRest(w: World): Violation | undefined {
  if (w.machine.xen.pcidevsLock.owner !== undefined) return undefined;
  for (const i of ownershipInvariants) {
    const v = ALWAYS.includes(i.id) ? i.holds(w) : undefined;
    if (v !== undefined) return violation('INV-L7', `pcidevs_lock is free, and ${v.what}`);
  }
  for (const device of w.layout.devices) {
    if (w.pdev(device.sbdf)?.domain !== undefined || w.unsettled.has(device.sbdf) || w.lost.has(device.sbdf))
      continue;
    if (w.reach(device.sbdf, 0x100, false) >= 0)
      return violation(
        'INV-L7',
        `pcidevs_lock is free, and ${formatSbdf(device.sbdf)} of nobody reaches memory`,
      );
  }
  return undefined;
}
const ALWAYS = ['INV-O1', 'INV-O2', 'INV-O3', 'INV-P3'];

export const lockInvariants: readonly Invariant[] = [
  { id: 'INV-L5', title: 'rights of two domains are locked in order of domain id', holds: lowerIdFirst },
  { id: 'INV-L6', title: 'what needs pcidevs_lock is a bug without it', holds: bareCallsAreBugs },
  { id: 'INV-L7', title: 'whenever pcidevs_lock is free, owners and lists agree', holds: freeLockMeansRest },
];
