/** Giving devices to pciback and taking them back. @xen tools/libs/light/libxl_pci.c */
import { hex } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import { DEV_RDM_RELAXED, DOMID_IO } from '../xenctrl.js';
import type { Libxl } from './libxl.js';
import { PCI } from './lines_pci.js';
import {
  bdfText,
  parseBdfName,
  pcibackHasSlot,
  pcibackIsAssigned,
  SYSFS_PCI_DEV,
  SYSFS_PCIBACK,
  samePci,
  sbdfOfPci,
  sysfsDevUnbind,
  sysfsWriteBdf,
} from './pci_sysfs.js';
import { makePci } from './schema.js';
import { type DevicePci, ERROR } from './types.js';

const PCI_INFO_PATH = '/libxl/pci';
const ENOENT = -2;
const NAME_MAX = 64;

/** `/libxl/pci/0000-01-00-0/domid` */
export const infoPath = (p: DevicePci, node: string): string =>
  `${PCI_INFO_PATH}/${hex(p.domain, 4)}-${hex(p.bus, 2)}-${hex(p.dev, 2)}-${p.func.toString(16)}/${node}`;

/** 0 or ERROR_FAIL; the failure is only a warning in the log. @xen pci_info_xs_write */
export function infoWrite(lx: Libxl, p: DevicePci, node: string, value: string): number {
  const path = infoPath(p, node);
  const rc = lx.dom0.xs.write(path, value);
  if (rc === 0) return 0;
  lx.log.warn(PCI.infoWrite, `Write of ${value} to node ${path} failed.`, -1, rc);
  return ERROR.FAIL;
}

export const infoRead = (lx: Libxl, p: DevicePci, node: string): string | undefined =>
  lx.dom0.xs.read(infoPath(p, node));

export const infoRemove = (lx: Libxl, p: DevicePci, node: string): void => {
  lx.dom0.xs.rm(infoPath(p, node));
};

/** Devices bound to pciback that have no `domid` node, in the order of the directory; undefined without pciback. */
export function pciAssignableList(lx: Libxl): DevicePci[] | undefined {
  const names = lx.dom0.fs.readdir(SYSFS_PCIBACK);
  if (!Array.isArray(names)) {
    if (names === ENOENT) lx.log.error(PCI.listNotLoaded, 'Looks like pciback driver not loaded');
    else lx.log.error(PCI.listOpen, `Couldn't open ${SYSFS_PCIBACK}`, -1, names);
    return undefined;
  }
  const out: DevicePci[] = [];
  for (const name of names) {
    const bdf = parseBdfName(name);
    if (bdf === undefined) continue;
    const p = Object.assign(makePci(), bdf);
    if (infoRead(lx, p, 'domid') !== undefined) continue;
    p.name = infoRead(lx, p, 'name');
    out.push(p);
  }
  return out;
}

export const pciAssignable = (lx: Libxl, p: DevicePci): boolean =>
  (pciAssignableList(lx) ?? []).some((x) => samePci(x, p));

/** Makes sure of a slot, then binds. Each message repeats the errno of the one before. @xen pciback_dev_assign */
function* pcibackAssign(lx: Libxl, p: DevicePci): Co<number> {
  const slot = pcibackHasSlot(lx, p);
  if (slot < 0) {
    lx.log.error(PCI.assignSlotCheck, 'Error checking for pciback slot', -1, slot);
    return ERROR.FAIL;
  }
  let rc = slot === 0 ? yield* sysfsWriteBdf(lx, `${SYSFS_PCIBACK}/new_slot`, p) : 0;
  if (rc < 0) {
    lx.log.error(PCI.assignNewSlot, "Couldn't bind device to pciback!", -1, rc);
    return ERROR.FAIL;
  }
  rc = yield* sysfsWriteBdf(lx, `${SYSFS_PCIBACK}/bind`, p);
  if (rc >= 0) return 0;
  lx.log.error(PCI.assignBind, "Couldn't bind device to pciback!", -1, rc);
  return ERROR.FAIL;
}

/** What fails is only reported. @xen pciback_dev_unassign */
function* pcibackUnassign(lx: Libxl, p: DevicePci): Co<void> {
  if (typeof (yield* sysfsDevUnbind(lx, p)) === 'number') {
    lx.log.error(PCI.unassignUnbind, "Couldn't unbind device!");
    return;
  }
  if (pcibackHasSlot(lx, p) <= 0) return;
  const rc = yield* sysfsWriteBdf(lx, `${SYSFS_PCIBACK}/remove_slot`, p);
  if (rc < 0) lx.log.error(PCI.unassignSlot, "Couldn't remove pciback slot", -1, rc);
}

/** 0 or ERROR_FAIL: the name of an assignable device. */
function checkName(lx: Libxl, name: string): number {
  if (name.length > NAME_MAX) {
    lx.log.error(PCI.addNameLong, 'Name too long');
    return ERROR.FAIL;
  }
  if (/[^!-~]/.test(name)) {
    lx.log.error(PCI.addNameChars, 'Names may only include printable characters');
    return ERROR.FAIL;
  }
  return 0;
}

/** Remembers the driver for a later rebind, or says why there will be none. */
function noteDriver(lx: Libxl, p: DevicePci, driver: string, rebind: boolean): void {
  if (!rebind) {
    infoRemove(lx, p, 'driver_path');
    return;
  }
  if (driver !== '') {
    infoWrite(lx, p, 'driver_path', driver);
    return;
  }
  const before = infoRead(lx, p, 'driver_path');
  if (before === undefined) {
    lx.log.warn(PCI.addNotRebound, `${bdfText(p)} not bound to a driver, will not be rebound.`);
  } else {
    lx.log.info(PCI.addRebound, `${bdfText(p)} not bound to a driver, will be rebound to ${before}`);
  }
}

/**
 * Unbind, pciback, quarantine. A device that pciback has already only gets its name and its quarantine. 0 or
 * ERROR_FAIL. @xen libxl__device_pci_assignable_add
 */
export function* pciAssignableAdd(lx: Libxl, p: DevicePci, rebind: boolean): Co<number> {
  if (p.name !== undefined && checkName(lx, p.name) !== 0) return ERROR.FAIL;
  const path = `${SYSFS_PCI_DEV}/${bdfText(p)}`;
  const there = lx.dom0.fs.lstat(path);
  if (typeof there !== 'string') {
    lx.log.error(PCI.addLstat, `Couldn't lstat ${path}`, -1, there);
    return ERROR.FAIL;
  }
  const assigned = pcibackIsAssigned(lx, p);
  if (assigned < 0) return ERROR.FAIL;
  if (assigned > 0) lx.log.warn(PCI.addAlready, `${bdfText(p)} already assigned to pciback`);
  else {
    const driver = yield* sysfsDevUnbind(lx, p);
    if (typeof driver === 'number') {
      lx.log.error(PCI.addUnbind, `Couldn't unbind ${bdfText(p)} from driver`);
      return ERROR.FAIL;
    }
    noteDriver(lx, p, driver, rebind);
    if ((yield* pcibackAssign(lx, p)) !== 0) {
      lx.log.error(PCI.addBind, "Couldn't bind device to pciback!");
      return ERROR.FAIL;
    }
  }
  if (p.name !== undefined) infoWrite(lx, p, 'name', p.name);
  else infoRemove(lx, p, 'name');
  if ((yield* lx.xc.assignDevice(DOMID_IO, sbdfOfPci(p), DEV_RDM_RELAXED)) < 0) {
    lx.log.error(PCI.addQuarantine, `failed to quarantine ${bdfText(p)}`);
    return ERROR.FAIL;
  }
  return 0;
}

/** Finds the device that goes by `p.name` and puts its address into `p`. 0 or ERROR_NOTFOUND. @xen name2bdf */
export function name2bdf(lx: Libxl, p: DevicePci): number {
  for (const entry of lx.dom0.xs.ls(PCI_INFO_PATH) ?? []) {
    const m = /^([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)/.exec(entry);
    if (m === null) continue;
    const [domain, bus, dev, func] = m.slice(1).map((x) => Number.parseInt(x, 16));
    Object.assign(p, { domain, bus, dev, func });
    if (infoRead(lx, p, 'name') === p.name) {
      lx.log.detail(PCI.name2bdf, `'${p.name}' -> ${bdfText(p)}`);
      return 0;
    }
  }
  return ERROR.NOTFOUND;
}

/**
 * Takes the device out of quarantine first: without that nothing is unbound. 0, ERROR_FAIL, ERROR_NOTFOUND (unknown
 * name), or -1. @xen libxl__device_pci_assignable_remove
 */
export function* pciAssignableRemove(lx: Libxl, p: DevicePci, rebind: boolean): Co<number> {
  if (p.name !== undefined) {
    const rc = name2bdf(lx, p);
    if (rc !== 0) return rc;
  }
  if ((yield* lx.xc.deassignDevice(DOMID_IO, sbdfOfPci(p))) < 0) {
    lx.log.error(PCI.removeQuarantine, `failed to de-quarantine ${bdfText(p)}`);
    return ERROR.FAIL;
  }
  const assigned = pcibackIsAssigned(lx, p);
  if (assigned < 0) return ERROR.FAIL;
  if (assigned > 0) yield* pcibackUnassign(lx, p);
  else lx.log.warn(PCI.removeNotBound, 'Not bound to pciback');

  const driver = infoRead(lx, p, 'driver_path');
  if (driver !== undefined && rebind) {
    lx.log.info(PCI.removeRebinding, `Rebinding to driver at ${driver}`);
    const rc = yield* sysfsWriteBdf(lx, `${driver}/bind`, p);
    if (rc < 0) {
      lx.log.error(PCI.removeBind, `Couldn't bind device to ${driver}`, -1, rc);
      return -1;
    }
    infoRemove(lx, p, 'driver_path');
  } else if (rebind) {
    lx.log.warn(PCI.removeNoDriver, "Couldn't find path for original driver; not rebinding");
  }
  infoRemove(lx, p, 'name');
  return 0;
}

/** Bit per function of the device's slot, all of which must be with pciback; -1 when one is not. */
export function multifunctionCheck(lx: Libxl, p: DevicePci): number {
  const { fs } = lx.dom0;
  const names = fs.readdir(SYSFS_PCI_DEV);
  if (!Array.isArray(names)) {
    lx.log.error(PCI.multiOpen, `Couldn't open ${SYSFS_PCI_DEV}`, -1, names);
    return -1;
  }
  let mask = 0;
  for (const name of names) {
    const bdf = parseBdfName(name);
    if (bdf === undefined || bdf.domain !== p.domain || bdf.bus !== p.bus || bdf.dev !== p.dev) continue;
    const path = `${SYSFS_PCIBACK}/${bdfText({ ...p, ...bdf })}`;
    const kind = fs.lstat(path);
    if (typeof kind !== 'string') {
      const who = bdfText({ ...p, ...bdf });
      if (kind === ENOENT) lx.log.error(PCI.multiNotAssigned, `${who} is not assigned to pciback driver`);
      else lx.log.error(PCI.multiLstat, `Couldn't lstat ${path}`, -1, kind);
      return -1;
    }
    mask |= 1 << bdf.func;
  }
  return mask;
}
