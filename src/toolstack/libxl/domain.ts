/** The later life of a domain. @xen tools/libs/light/libxl_domain.c */
import { E } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import { dropConfig } from './config_store.js';
import { devicesDestroy } from './device.js';
import { destroyDeviceModel, dmActive } from './dm.js';
import { domainType } from './domain_info.js';
import { markDomidRecent } from './domid_history.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { AO } from './lines_event.js';
import { devicePciDestroyAll } from './pci_remove.js';
import { qmpSocket } from './qmp.js';
import { ERROR } from './types.js';

/** For `xl destroy`: 0 or ERROR_*, with the line that says so. @xen libxl_domain_destroy */
export function* domainDestroy(lx: Libxl, domid: number): Co<number> {
  lx.event.begin(AO.destroy, domid);
  const rc = yield* destroyDomain(lx, domid);
  if (rc !== 0) lx.log.error(DOMAIN.destroyCb, 'Destruction of domain failed', domid);
  lx.event.end(rc);
  return rc;
}

/** @xen libxl__domain_destroy */
export function* destroyDomain(lx: Libxl, domid: number): Co<number> {
  const rc = yield* destroyDomid(lx, domid);
  if (rc !== 0) lx.log.error(DOMAIN.destroyCallback, 'Unable to destroy guest', domid);
  return rc;
}

/** Devices, pause, device model, the other devices, nodes, and then the domain itself. */
function* destroyDomid(lx: Libxl, domid: number): Co<number> {
  if ((yield* lx.xc.findDomain(domid)) === undefined) {
    lx.log.error(DOMAIN.nonExistent, 'Non-existant domain', domid);
    return ERROR.DOMAIN_NOTFOUND;
  }
  yield* devicePciDestroyAll(lx, domid);
  const paused = yield* lx.xc.domctl({ cmd: 'pausedomain', domid });
  if (paused < 0) lx.log.error(DOMAIN.pauseFailed, 'xc_domain_pause failed', domid, paused);
  if ((yield* domainType(lx, domid)) === 'invalid') return ERROR.FAIL;
  if (dmActive(lx, domid)) yield* destroyDeviceModel(lx, domid);
  yield* devicesDestroy(lx, domid);
  removeNodes(lx, domid);
  markDomidRecent(lx, domid);
  const { pid } = lx.dom0.processes.spawn(['xl']);
  lx.event.forked(pid, domid);
  const rc = yield* destroyInXen(lx, domid);
  lx.dom0.processes.exit(pid);
  if (rc === 0) return 0;
  lx.log.error(DOMAIN.destroyFailed, 'xc_domain_destroy failed', domid, rc);
  return ERROR.FAIL;
}

/** Attempts at one domctl that says -ERESTART or -EAGAIN, which a kernel would repeat by itself. */
const DESTROY_TRIES = 1000;
const RETRY_NS = 1e6;

function* destroyInXen(lx: Libxl, domid: number): Co<number> {
  for (let i = 0; ; i++) {
    // In a process of its own, whose buffers nobody counts.
    const rc = yield* lx.xc.hv.domctl({ cmd: 'destroydomain', domid });
    if (rc === 0) lx.dom0.xs.fireSpecial('@releaseDomain');
    if ((rc !== E.RESTART && rc !== E.AGAIN) || i === DESTROY_TRIES) return rc;
    yield* pause(lx.dom0.clock, RETRY_NS);
  }
}

function removeNodes(lx: Libxl, domid: number): void {
  const { xs } = lx.dom0;
  const dom = lx.domainPath(domid);
  const vm = xs.read(`${dom}/vm`);
  if (vm !== undefined) {
    lx.xc.countLock();
    lx.xc.countFind(true);
    dropConfig(lx, domid, vm.slice('/vm/'.length));
    const rc = xs.rm(vm);
    if (rc < 0) lx.log.error(DOMAIN.rmVm, `xs_rm failed for ${vm}`, domid, rc);
  }
  const rc = xs.rm(dom);
  if (rc < 0) lx.log.error(DOMAIN.rmDom, `xs_rm failed for ${dom}`, domid, rc);
  xs.rm(`/libxl/${domid}`);
}

export function* domainPause(lx: Libxl, domid: number): Co<number> {
  lx.event.begin(AO.pause, domid);
  const rc = yield* lx.xc.domctl({ cmd: 'pausedomain', domid });
  if (rc < 0) lx.log.error(DOMAIN.pausing, 'Pausing domain', domid, rc);
  if (rc < 0) lx.event.fail();
  else lx.event.end(0);
  return rc < 0 ? ERROR.FAIL : 0;
}

export function* domainUnpause(lx: Libxl, domid: number): Co<number> {
  lx.event.begin(AO.unpause, domid);
  lx.xc.countFind();
  resumeDeviceModel(lx, domid);
  const rc = yield* lx.xc.domctl({ cmd: 'unpausedomain', domid });
  if (rc < 0) lx.log.error(DOMAIN.unpausing, 'Unpausing domain', domid, rc);
  lx.event.end(rc < 0 ? ERROR.FAIL : 0);
  return rc < 0 ? ERROR.FAIL : 0;
}

/** The device models of the simulator never stop, so that only the log hears of it. @xen libxl__dm_resume */
function resumeDeviceModel(lx: Libxl, domid: number): void {
  const dm = lx.dom0.deviceModels.get(domid);
  if (dm === undefined) return;
  const ev = lx.event.qmp(domid);
  lx.xc.countLock();
  lx.event.qmpSend(ev, 'cont', qmpSocket(lx, domid));
  lx.event.qmpAnswered(ev, dm.version);
  lx.event.qmpDispose(ev);
  lx.event.watchDeregister(lx.event.watch());
}

const ACK_TIMEOUT_NS = 60e9;
const ACK_STEP_NS = 100e6;

/**
 * Asks the guest through control/shutdown and waits until it has taken the word. ERROR_NOPARAVIRT for an HVM guest
 * whose drivers never said that they listen. @xen libxl__domain_pvcontrol
 */
export function* pvControl(lx: Libxl, domid: number, command: 'poweroff' | 'reboot'): Co<number> {
  lx.event.begin(command === 'reboot' ? AO.reboot : AO.shutdown, domid);
  const rc = yield* ask(lx, domid, command);
  if (rc === ERROR.NOPARAVIRT || rc === ERROR.FAIL) lx.event.fail();
  else lx.event.end(rc);
  return rc;
}

function* ask(lx: Libxl, domid: number, command: 'poweroff' | 'reboot'): Co<number> {
  const { xs } = lx.dom0;
  const type = yield* domainType(lx, domid);
  if (type === 'invalid') return ERROR.FAIL;
  const control = `${lx.domainPath(domid)}/control`;
  if (type === 'hvm' && xs.read(`${control}/feature-${command}`) !== '1') return ERROR.NOPARAVIRT;
  if (xs.write(`${control}/shutdown`, command) < 0) return ERROR.FAIL;
  const watch = lx.event.watch();
  lx.event.watchRegister(watch, `${control}/shutdown`);
  lx.event.waits();
  lx.event.watchEvent(watch);
  const rc = yield* acknowledged(lx, `${control}/shutdown`);
  if (rc === 0) lx.event.watchEvent(watch);
  lx.event.watchDeregister(watch);
  return rc;
}

/** 0 once the guest has emptied the node, or ERROR_TIMEDOUT. @xen pvcontrol_cb */
function* acknowledged(lx: Libxl, node: string): Co<number> {
  for (let ns = 0; ns <= ACK_TIMEOUT_NS; ns += ACK_STEP_NS) {
    yield* lx.dom0.settle();
    if (!lx.dom0.xs.read(node)) return 0;
    yield* pause(lx.dom0.clock, ACK_STEP_NS);
  }
  lx.log.error(DOMAIN.notAcknowledged, `guest didn't acknowledge control request: ${ERROR.TIMEDOUT}`);
  return ERROR.TIMEDOUT;
}

export function* domainRename(lx: Libxl, domid: number, to: string): Co<number> {
  const { xs } = lx.dom0;
  for (const info of yield* lx.xc.domainList()) {
    if (info.domid === domid || xs.read(`${lx.domainPath(info.domid)}/name`) !== to) continue;
    lx.log.error(DOMAIN.nameTaken, `Domain with name "${to}" already exists.`, domid);
    return ERROR.INVAL;
  }
  const vm = xs.read(`${lx.domainPath(domid)}/vm`);
  return xs.transaction((t) => {
    const rc = t.write(`${lx.domainPath(domid)}/name`, to);
    if (rc < 0 || vm === undefined) return rc;
    return t.write(`${vm}/name`, to);
  });
}
