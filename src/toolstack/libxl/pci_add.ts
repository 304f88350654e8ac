/** Giving a device to a domain. @xen tools/libs/light/libxl_pci.c libxl__device_pci_add */

import { E } from '../../base/errno.js';
import { hex } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import { DEV_RDM_RELAXED } from '../xenctrl.js';
import { deviceModelRunning, domainType } from './domain_info.js';
import type { QmpConnection } from './event_log.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { AO } from './lines_event.js';
import { PCI } from './lines_pci.js';
import {
  infoRemove,
  infoWrite,
  multifunctionCheck,
  name2bdf,
  pciAssignable,
  pciAssignableAdd,
} from './pci_assignable.js';
import {
  bdfText,
  deviceFile,
  devicePciReset,
  pcibackIsAssigned,
  readIrq,
  readResources,
  SYSFS_PCIBACK,
  sbdfOfPci,
  sysfsWriteBdf,
} from './pci_sysfs.js';
import { pciAddXenstore } from './pci_xenstore.js';
import { findInQueryPci, qmpSend } from './qmp.js';
import { type DevicePci, ERROR, PCI_FUNC_ALL } from './types.js';

/** `pci-pt-01_00.0`, the name QEMU knows the device by. */
export const qdevId = (p: DevicePci): string =>
  `pci-pt-${hex(p.bus, 2)}_${hex(p.dev, 2)}.${p.func.toString(16)}`;

/** A policy that nobody chose is strict. */
export const pciSetDefault = (p: DevicePci): void => {
  if (p.rdmPolicy === 'invalid') p.rdmPolicy = 'strict';
};

/** For `xl pci-attach`: 0 or ERROR_*, with the line that says so. */
export function* devicePciAdd(lx: Libxl, domid: number, p: DevicePci): Co<number> {
  lx.event.begin(AO.pciAdd, domid);
  const rc = yield* devicePciAddInternal(lx, domid, p, false);
  if (rc !== 0) lx.log.error(DOMAIN.addAborted, 'unable to add device');
  lx.event.end(rc);
  return rc;
}

/** Adds in order; a failure does not keep the later ones from being tried. The first error, or 0. */
export function* addPcis(lx: Libxl, domid: number, pcidevs: readonly DevicePci[]): Co<number> {
  let first = 0;
  for (const p of pcidevs) {
    const rc = yield* devicePciAddInternal(lx, domid, p, true);
    if (first === 0) first = rc;
  }
  return first;
}

/**
 * The whole sequence for one device. On failure the `domid` node goes, even one that another owner put there, and
 * permissions given before stay.
 */
function* devicePciAddInternal(lx: Libxl, domid: number, asked: DevicePci, starting: boolean): Co<number> {
  const p = { ...asked };
  const rc = yield* tryAdd(lx, domid, p, starting);
  if (rc === 0) return 0;
  const x = (n: number): string => n.toString(16);
  const who = p.name === undefined ? `${x(p.domain)}:${x(p.bus)}:${x(p.dev)}.${x(p.func)}` : `'${p.name}'`;
  lx.log.error(
    p.name === undefined ? PCI.addDoneBdf : PCI.addDoneName,
    `libxl__device_pci_add failed for PCI device ${who} (rc ${rc})`,
    domid,
  );
  infoRemove(lx, p, 'domid');
  return rc;
}

function* tryAdd(lx: Libxl, domid: number, p: DevicePci, starting: boolean): Co<number> {
  if (p.name !== undefined) {
    const rc = name2bdf(lx, p);
    if (rc !== 0) return rc;
  }
  if ((yield* domainType(lx, domid)) === 'hvm') {
    const rc = yield* lx.xc.testAssignDevice(domid, sbdfOfPci(p));
    if (rc !== 0) {
      const why =
        rc === E.OPNOTSUPP ? 'cannot be assigned - no IOMMU' : 'already assigned to a different guest';
      lx.log.error(PCI.addTestAssign, `PCI device ${bdfText(p)} ${why}?`, domid);
      return ERROR.NONSPECIFIC;
    }
  }
  pciSetDefault(p);
  if (p.seize && pcibackIsAssigned(lx, p) === 0) {
    const rc = yield* pciAssignableAdd(lx, p, true);
    if (rc !== 0) return rc;
  }
  if (!pciAssignable(lx, p)) {
    const x = (n: number): string => n.toString(16);
    const who = `${x(p.domain)}:${x(p.bus)}:${x(p.dev)}.${x(p.func)}`;
    lx.log.error(PCI.addNotAssignable, `PCI device ${who} is not assignable`, domid);
    return ERROR.FAIL;
  }
  const rc = infoWrite(lx, p, 'domid', String(domid));
  if (rc !== 0) return rc;
  yield* devicePciReset(lx, p);
  return yield* addFunctions(lx, domid, p, starting);
}

/** With `*`, only the highest function is ever added: the loop ends with its first. */
function* addFunctions(lx: Libxl, domid: number, p: DevicePci, starting: boolean): Co<number> {
  const slot = p.vdevfn & ~7;
  let mask = 1 << p.func;
  if (p.vfuncMask === PCI_FUNC_ALL) {
    if (slot === 0) {
      lx.log.error(PCI.addNeedVslot, 'Must specify a v-slot for multi-function devices', domid);
      return ERROR.INVAL;
    }
    mask = multifunctionCheck(lx, p);
    if (mask < 0) return ERROR.FAIL;
    p.vfuncMask = mask;
  }
  for (let i = 7; i >= 0; i--) {
    if ((mask & (1 << i)) === 0) continue;
    if (p.vfuncMask === mask) {
      p.func = i;
      p.vdevfn = slot | i;
    } else p.vdevfn = slot;
    return yield* doPciAdd(lx, domid, p, starting);
  }
  return 0;
}

/** @xen do_pci_add, pci_add_dm_done */
function* doPciAdd(lx: Libxl, domid: number, p: DevicePci, starting: boolean): Co<number> {
  const type = yield* domainType(lx, domid);
  if (type === 'invalid') return ERROR.FAIL;
  const ev = lx.event.qmp(type === 'hvm' ? domid : 0);
  const plugged = type === 'hvm' ? yield* plug(lx, domid, p, ev) : 0;
  lx.event.qmpDispose(ev);
  lx.xc.countFind();
  if (plugged !== 0) return plugged;
  let rc = yield* grantResources(lx, domid, p);
  if (rc !== 0) return rc;
  const flags = p.rdmPolicy === 'strict' ? 0 : DEV_RDM_RELAXED;
  if (p.rdmPolicy !== 'strict' && p.rdmPolicy !== 'relaxed') {
    lx.log.error(PCI.addRdmFlag, 'unknown rdm check flag.', domid, 0);
    return ERROR.FAIL;
  }
  rc = yield* lx.xc.assignDevice(domid, sbdfOfPci(p), flags);
  if (rc < 0 && (type === 'hvm' || rc !== E.NOSYS)) {
    lx.log.error(PCI.addAssign, 'xc_assign_device failed', domid, rc);
    return ERROR.FAIL;
  }
  return yield* pciAddXenstore(lx, domid, p, starting);
}

/** Plugs the device into the guest's emulated bus and learns where it landed. */
function* plug(lx: Libxl, domid: number, p: DevicePci, ev: QmpConnection): Co<number> {
  const version = deviceModelRunning(lx, domid);
  if (version === 'unknown') return ERROR.INVAL;
  const args: Record<string, unknown> = {
    driver: 'xen-pci-passthrough',
    id: qdevId(p),
    hostaddr: bdfText(p),
  };
  if (p.vdevfn !== 0) args.addr = `${(p.vdevfn >> 3).toString(16)}.${(p.vdevfn & 7).toString(16)}`;
  if (p.permissive) args.permissive = true;
  const added = yield* qmpSend(lx, ev, 'device_add', args);
  if (added.rc !== 0) return added.rc;
  const list = yield* qmpSend(lx, ev, 'query-pci');
  if (list.rc !== 0) return list.rc;
  const at = findInQueryPci(list.value, qdevId(p));
  if (at === ERROR.QEMU_API) {
    const text = `Unexpected response to QMP cmd 'query-pci', received:\n${JSON.stringify(list.value)}`;
    lx.log.error(PCI.addQueryUnexpected, text, domid);
    return ERROR.QEMU_API;
  }
  if (at === undefined) {
    const text = `PCI device id '${qdevId(p)}' wasn't found in QEMU's 'query-pci' response.`;
    lx.log.error(PCI.addQueryMissing, text, domid);
    return ERROR.FAIL;
  }
  p.vdevfn = (at.slot << 3) | at.func;
  return 0;
}

const PAGE = 4096;

/** BARs, the interrupt and pciback's permissive mode. 0 or ERROR_FAIL. */
function* grantResources(lx: Libxl, domid: number, p: DevicePci): Co<number> {
  const resources = readResources(lx, p);
  if (typeof resources === 'number') {
    lx.log.error(PCI.addOpenResource, `Couldn't open ${deviceFile(p, 'resource')}`, domid, resources);
    return ERROR.FAIL;
  }
  for (const { start, size, io } of resources) {
    const rc = io
      ? yield* lx.xc.ioportPermission(domid, start, size, true)
      : yield* lx.xc.iomemPermission(domid, Math.floor(start / PAGE), Math.ceil(size / PAGE), true);
    if (rc >= 0) continue;
    const call = io ? 'xc_domain_ioport_permission' : 'xc_domain_iomem_permission';
    const text = `${call} 0x${start.toString(16)}/0x${size.toString(16)} (error -1)`;
    lx.log.error(io ? PCI.addIoport : PCI.addIomem, text, domid, rc);
    return ERROR.FAIL;
  }
  const irq = readIrq(lx, p);
  if (irq < 0) {
    lx.log.error(PCI.addOpenIrq, `Couldn't open ${deviceFile(p, 'irq')}`, domid, irq);
    return 0;
  }
  const rc = irq === 0 ? 0 : yield* grantIrq(lx, domid, irq);
  if (rc !== 0) return rc;
  if (p.permissive && (yield* sysfsWriteBdf(lx, `${SYSFS_PCIBACK}/permissive`, p)) < 0) {
    lx.log.error(PCI.addPermissive, 'Setting permissive for device', domid);
    return ERROR.FAIL;
  }
  return 0;
}

function* grantIrq(lx: Libxl, domid: number, irq: number): Co<number> {
  const pirq = yield* lx.xc.mapPirq(domid, irq);
  if (pirq < 0) {
    lx.log.error(PCI.addMapPirq, `xc_physdev_map_pirq irq=${irq} (error=-1)`, domid, pirq);
    return ERROR.FAIL;
  }
  const rc = yield* lx.xc.irqPermission(domid, pirq, true);
  if (rc >= 0) return 0;
  lx.log.error(PCI.addIrqPermission, `xc_domain_irq_permission irq=${pirq} (error=-1)`, domid, rc);
  return ERROR.FAIL;
}
