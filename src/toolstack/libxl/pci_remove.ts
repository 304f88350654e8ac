/** Taking devices from a domain. @xen tools/libs/light/libxl_pci.c libxl__device_pci_remove_common */
import { E } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import { deviceModelRunning, domainType } from './domain_info.js';
import type { QmpConnection } from './event_log.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { AO } from './lines_event.js';
import { PCI } from './lines_pci.js';
import { qdevId } from './pci_add.js';
import { infoRemove, multifunctionCheck, name2bdf } from './pci_assignable.js';
import { deviceFile, devicePciReset, readIrq, readResources, samePci, sbdfOfPci } from './pci_sysfs.js';
import { pciList, pciRemoveXenstore } from './pci_xenstore.js';
import { findInQueryPci, QMP_TIMEOUT_NS, qmpSend } from './qmp.js';
import { type DevicePci, ERROR, PCI_FUNC_ALL } from './types.js';

/** One function on its way out. `waiting`: QEMU was asked and still has it. */
interface Removal {
  readonly p: DevicePci;
  readonly hvm: boolean;
  readonly type: 'pv' | 'pvh' | 'hvm' | 'invalid';
  /** When the wait for the device model ends, in simulated nanoseconds. */
  readonly deadlineNs: number;
  readonly ev: QmpConnection;
  waiting: boolean;
  /** Result of the detach so far. */
  rc: number;
}

/** For `xl pci-detach`: 0 or ERROR_*, with the line that says so. `force` goes on when the guest does not let go. */
export function* devicePciRemove(lx: Libxl, domid: number, p: DevicePci, force: boolean): Co<number> {
  lx.event.begin(force ? AO.pciDestroy : AO.pciRemove, domid);
  const rc = yield* removeCommon(lx, domid, p, force);
  if (rc !== 0) lx.log.error(DOMAIN.addAborted, 'unable to remove device');
  lx.event.end(rc);
  return rc;
}

/**
 * All of a domain's devices, forced: their waits for the device model run side by side.
 * @xen libxl__device_pci_destroy_all
 */
export function* devicePciDestroyAll(lx: Libxl, domid: number): Co<void> {
  const waiting: Removal[] = [];
  for (const p of pciList(lx, domid) ?? []) {
    p.vdevfn &= ~7;
    const r = yield* beginRemove(lx, domid, p, lx.event.qmp(domid));
    if (r.waiting) waiting.push(r);
    else yield* endForced(lx, domid, r);
  }
  for (const r of waiting) yield* endForced(lx, domid, r);
}

function* endForced(lx: Libxl, domid: number, r: Removal): Co<void> {
  yield* finishRemove(lx, domid, r, true);
  lx.event.qmpDispose(r.ev);
  lx.event.watchDeregister(lx.event.watch());
  infoRemove(lx, r.p, 'domid');
}

/** @xen libxl__device_pci_remove_common, device_pci_remove_common_next */
function* removeCommon(lx: Libxl, domid: number, asked: DevicePci, force: boolean): Co<number> {
  const p = { ...asked };
  const watch = lx.event.watch();
  // Nobody has told it of the domain yet.
  const ev = lx.event.qmp(0);
  let rc = p.name === undefined ? 0 : name2bdf(lx, p);
  if (rc === 0) {
    ev.domid = domid;
    rc = yield* removeFunctions(lx, domid, p, ev, force);
  }
  lx.event.qmpDispose(ev);
  lx.event.watchDeregister(watch);
  if (rc === 0) infoRemove(lx, p, 'domid');
  return rc;
}

function* removeFunctions(
  lx: Libxl,
  domid: number,
  p: DevicePci,
  ev: QmpConnection,
  force: boolean,
): Co<number> {
  const slot = p.vdevfn & ~7;
  let mask = 1 << p.func;
  if (p.vfuncMask === PCI_FUNC_ALL) {
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
    const rc = yield* finishRemove(lx, domid, yield* beginRemove(lx, domid, { ...p }, ev), force);
    if (rc !== 0) return rc;
  }
  return 0;
}

/** Checks that the domain has the device and asks QEMU to unplug it. @xen do_pci_remove */
function* beginRemove(lx: Libxl, domid: number, p: DevicePci, ev: QmpConnection): Co<Removal> {
  const type = yield* domainType(lx, domid);
  const r: Removal = {
    p,
    type,
    hvm: type === 'hvm',
    deadlineNs: lx.dom0.clock.nowNs + QMP_TIMEOUT_NS,
    ev,
    waiting: false,
    rc: 0,
  };
  const list = pciList(lx, domid);
  if (list === undefined) r.rc = ERROR.FAIL;
  else if (!list.some((x) => samePci(x, p))) {
    lx.log.error(PCI.removeNotAttached, 'PCI device not attached to this domain', domid);
    r.rc = ERROR.INVAL;
  }
  if (r.rc !== 0) return r;
  if (!r.hvm) {
    if (lx.profile.revoke === 'pv') yield* revokePv(lx, domid, p);
    return r;
  }
  if (deviceModelRunning(lx, domid) === 'unknown') {
    r.rc = ERROR.INVAL;
    return r;
  }
  r.rc = (yield* qmpSend(lx, r.ev, 'device_del', { id: qdevId(p) })).rc;
  r.waiting = r.rc === 0;
  return r;
}

const POLL_NS = 1e9;

/** Polls until QEMU has let go or the time is over, then does the rest. 0 or ERROR_*. */
function* finishRemove(lx: Libxl, domid: number, r: Removal, force: boolean): Co<number> {
  const { clock } = lx.dom0;
  while (r.waiting) {
    yield* lx.dom0.settle();
    const list = yield* qmpSend(lx, r.ev, 'query-pci');
    if (list.rc !== 0) {
      r.rc = list.rc;
      break;
    }
    lx.event.qmpDispose(r.ev);
    const at = findInQueryPci(list.value, qdevId(r.p));
    if (at === undefined) break;
    if (at === ERROR.QEMU_API) {
      r.rc = ERROR.QEMU_API;
      break;
    }
    if (clock.nowNs + POLL_NS >= r.deadlineNs) {
      yield* pause(clock, Math.max(0, r.deadlineNs - clock.nowNs));
      lx.log.warn(PCI.removeTimeout, `timed out waiting for DM to remove ${qdevId(r.p)}`, domid);
      r.rc = ERROR.TIMEDOUT;
      break;
    }
    yield* pause(clock, POLL_NS);
  }
  lx.event.qmpDispose(r.ev);
  if (r.rc !== 0 && !force) return r.rc;
  yield* detached(lx, domid, r);
  yield* pciRemoveXenstore(lx, domid, r.p);
  return 0;
}

/** @xen pci_remove_detached */
function* detached(lx: Libxl, domid: number, r: Removal): Co<void> {
  if (lx.profile.revoke !== 'pv') yield* revokeAll(lx, domid, r.p);
  // One reset for all functions, with the first of them.
  if ((r.p.vdevfn & 7) === 0) yield* devicePciReset(lx, r.p);
  const rc = yield* lx.xc.deassignDevice(domid, sbdfOfPci(r.p));
  if (rc < 0 && (r.hvm || rc !== E.NOSYS)) {
    lx.log.error(PCI.removeDeassign, 'xc_deassign_device failed', domid, rc);
  }
}

const PAGE = 4096;
const hexOf = (n: number): string => `0x${n.toString(16)}`;

/** 4.17: in do_pci_remove, and for PV only. */
function* revokePv(lx: Libxl, domid: number, p: DevicePci): Co<void> {
  const places = {
    open: PCI.revokePvOpen,
    ioport: PCI.revokePvIoport,
    iomem: PCI.revokePvIomem,
    openIrq: PCI.revokePvOpenIrq,
    unmap: PCI.revokePvUnmap,
    irq: PCI.revokePvIrq,
  };
  yield* revoke(lx, domid, p, places, false);
}

function* revokeAll(lx: Libxl, domid: number, p: DevicePci): Co<void> {
  const places = {
    open: PCI.revokeOpen,
    ioport: PCI.revokeIoport,
    iomem: PCI.revokeIomem,
    openIrq: PCI.revokeOpenIrq,
    unmap: PCI.revokeUnmap,
    irq: PCI.revokeIrq,
  };
  yield* revoke(lx, domid, p, places, lx.profile.revoke === 'all-32bit');
}

type Places = Readonly<
  Record<'open' | 'ioport' | 'iomem' | 'openIrq' | 'unmap' | 'irq', (typeof PCI)[keyof typeof PCI]>
>;

/** Takes the permissions back; what fails is only reported. */
function* revoke(lx: Libxl, domid: number, p: DevicePci, at: Places, bits32: boolean): Co<void> {
  const resources = readResources(lx, p, bits32);
  if (typeof resources === 'number') {
    lx.log.error(at.open, `Couldn't open ${deviceFile(p, 'resource')}`, domid, resources);
  } else {
    for (const { start, size, io } of resources) {
      const rc = io
        ? yield* lx.xc.ioportPermission(domid, start, size, false)
        : yield* lx.xc.iomemPermission(domid, Math.floor(start / PAGE), Math.ceil(size / PAGE), false);
      if (rc >= 0) continue;
      const call = io ? 'xc_domain_ioport_permission' : 'xc_domain_iomem_permission';
      lx.log.error(io ? at.ioport : at.iomem, `${call} error ${hexOf(start)}/${hexOf(size)}`, domid, rc);
    }
  }
  const irq = readIrq(lx, p);
  if (irq < 0) lx.log.error(at.openIrq, `Couldn't open ${deviceFile(p, 'irq')}`, domid, irq);
  if (irq <= 0) return;
  const unmapped = yield* lx.xc.unmapPirq(domid, irq);
  if (unmapped < 0) lx.log.error(at.unmap, `xc_physdev_unmap_pirq irq=${irq}`, domid, unmapped);
  const denied = yield* lx.xc.irqPermission(domid, irq, false);
  if (denied < 0) lx.log.error(at.irq, `xc_domain_irq_permission irq=${irq}`, domid, denied);
}
