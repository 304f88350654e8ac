/** Starting and stopping the device model. @xen tools/libs/light/libxl_dm.c */
import { E } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import { deviceModelOf, settled } from './defaults.js';
import { deviceModelArgs } from './dm_args.js';
import { vncOf } from './dm_display.js';
import type { QmpConnection } from './event_log.js';
import type { Libxl } from './libxl.js';
import { DM } from './lines_dm.js';
import { EVENT } from './lines_event.js';
import { sysfsDevClass } from './pci_sysfs.js';
import { qmpSend } from './qmp.js';
import { type DomainConfig, ERROR } from './types.js';

const START_NS = 20e6;
/** LIBXL_DEVICE_MODEL_START_TIMEOUT */
const START_TIMEOUT_NS = 60e9;

const dmPath = (domid: number): string => `/local/domain/0/device-model/${domid}`;

/** Builds the arguments, spawns, waits for `running`, asks for the terminals. 0 or ERROR_*, each step logged. */
export function* spawnLocalDm(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  let rc = yield* spawn(lx, domid, d);
  if (rc === 0 && d.bInfo.deviceModelVersion === 'qemu_xen') rc = yield* postconfig(lx, domid, d);
  if (rc !== 0) lx.log.error(DM.postconfig, `Post DM startup configs failed, rc=${rc}`, domid);
  return rc;
}

function* spawn(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  const { dom0 } = lx;
  const { xs } = dom0;
  const model = deviceModelOf(lx, d.bInfo);
  if (!lx.isExecutable(model)) {
    lx.log.error(DM.notExecutable, `device model ${model} is not executable`, domid, E.NOENT);
    return spawnFailed(lx, domid, '(null)', ERROR.FAIL);
  }
  if (d.bInfo.type === 'hvm')
    lx.log.debug(EVENT.dmAsRoot, 'dm_restrict disabled, starting QEMU as root', domid);
  const args = deviceModelArgs(lx, domid, d);
  // A failure before the process was named leaves no name to print.
  if (typeof args === 'number') return spawnFailed(lx, domid, '(null)', args);
  const dom = lx.domainPath(domid);
  if (d.bInfo.type === 'hvm') {
    const traditional = d.bInfo.deviceModelVersion === 'qemu_xen_traditional';
    xs.write(`${dom}/hvmloader/bios`, d.bInfo.hvm.bios);
    xs.write(`${dom}/hvmloader/allow-memory-relocate`, traditional ? '1' : '0');
    xs.mkdir(dmPath(domid));
    if (traditional) xs.write(`${dmPath(domid)}/disable_pf`, d.bInfo.hvm.xenPlatformPci ? '0' : '1');
  } else xs.mkdir(dmPath(domid));
  logArguments(lx, domid, args);
  // A process between libxl and QEMU goes once QEMU is up.
  const middle = dom0.processes.spawn(args);
  const process = dom0.processes.spawn(args);
  dom0.processes.exit(middle.pid);
  const watch = lx.event.watch();
  lx.event.watchRegister(watch, `${dmPath(domid)}/state`);
  lx.event.waits();
  lx.event.watchEvent(watch);
  lx.log.debug(EVENT.spawnWatch, `${nameOf(domid)}: spawn watch p=(null)`);
  const pidPath = `${dom}/image/device-model-pid`;
  const written = xs.write(pidPath, String(process.pid));
  if (written !== 0) {
    // The process that waits for it kills it, and ends in its turn.
    dom0.processes.exit(process.pid);
    lx.log.error(DM.recordPid, `write ${pidPath} = ${process.pid}: xenstore write failed`, -1, written);
    const status = `[${process.pid}]: failed startup with non-zero exit status 127`;
    lx.log.error(DM.startupFailed, `${nameOf(domid)} ${status}`);
    return spawnFailed(lx, domid, nameOf(domid), ERROR.FAIL);
  }
  const qemu = dom0.qemu(dom0, domid, process, `${lx.paths.logDir}/qemu-dm-${d.cInfo.name}.log`);
  dom0.deviceModels.set(domid, qemu);
  if (!(yield* qemu.start(settled(d.bInfo.videoMemkb), settled(d.bInfo.maxMemkb)))) {
    yield* pause(dom0.clock, START_TIMEOUT_NS);
    return spawnFailed(lx, domid, nameOf(domid), ERROR.TIMEDOUT);
  }
  yield* pause(dom0.clock, START_NS);
  xs.write(`${dmPath(domid)}/state`, 'running');
  lx.event.watchEvent(watch);
  lx.log.debug(EVENT.spawnWatch, `${nameOf(domid)}: spawn watch p=running`);
  lx.event.watchDeregister(watch);
  const end = `(dying as expected) [${middle.pid}] died due to fatal signal Killed`;
  lx.log.debug(EVENT.childExit, `${nameOf(domid)} ${end}`);
  lx.event.watchDeregister(watch);
  return 0;
}

function spawnFailed(lx: Libxl, domid: number, what: string, rc: number): number {
  lx.log.error(DM.spawnFailed, `${what}: spawn failed (rc=${rc})`, domid);
  return rc;
}

const nameOf = (domid: number): string => `domain ${domid} device model`;

function logArguments(lx: Libxl, domid: number, args: readonly string[]): void {
  lx.log.debug(DM.spawning, `Spawning device-model ${args[0]} with arguments:`, domid);
  for (const arg of args) lx.log.debug(DM.spawningArg, `  ${arg}`, domid);
  lx.log.debug(DM.spawningEnv, `Spawning device-model ${args[0]} with additional environment:`, domid);
  lx.log.debug(DM.spawningEnvArg, '  XEN_QEMU_CONSOLE_LIMIT=1048576', domid);
  lx.log.debug(DM.spawningEnvArg, `  XEN_DOMAIN_ID=${domid}`, domid);
}

/** Terminals of the serial ports, and where VNC listens, go into xenstore. */
function* postconfig(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  const ev = lx.event.qmp(domid);
  const rc = yield* askDeviceModel(lx, domid, d, ev);
  lx.event.qmpDispose(ev);
  return rc;
}

function* askDeviceModel(lx: Libxl, domid: number, d: DomainConfig, ev: QmpConnection): Co<number> {
  const { xs } = lx.dom0;
  const dom = lx.domainPath(domid);
  const chardevs = yield* qmpSend(lx, ev, 'query-chardev');
  if (chardevs.rc !== 0) return chardevs.rc;
  for (const item of chardevs.value as { label: string; filename: string }[]) {
    const port = /^serial([0-9]+)$/.exec(item.label)?.[1];
    if (port !== undefined && item.filename.startsWith('pty:')) {
      xs.write(`${dom}/serial/${port}/tty`, item.filename.slice('pty:'.length));
    }
  }
  const vnc = vncOf(d);
  if (vnc === undefined) return 0;
  const reply = yield* qmpSend(lx, ev, 'query-vnc');
  if (reply.rc !== 0) return reply.rc;
  const info = reply.value as { enabled: boolean; host: string; service: string };
  if (info.enabled) {
    xs.write(`${dom}/console/vnc-listen`, info.host);
    xs.write(`${dom}/console/vnc-port`, info.service);
  }
  if (!vnc.passwd) return 0;
  const changed = yield* qmpSend(lx, ev, 'change-vnc-password', { password: vnc.passwd });
  if (changed.rc === 0) xs.write(`${dom}/console/vnc-pass`, vnc.passwd);
  return changed.rc;
}

const VGA_CLASS = 0x030000;
const VGA_IOMEM = { first: 0xa0, pages: 0x20 };

/**
 * Gives the legacy VGA window to the guest, once, for the first display among its devices. The stub domain gets it
 * too; without one its id reads as 0, which is dom0. 0 or a negative errno. @xen libxl__grant_vga_iomem_permission
 */
export function* grantVgaIomem(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  if (!d.bInfo.hvm.gfxPassthru) return 0;
  if (!d.pcidevs.some((p) => sysfsDevClass(lx, p) === VGA_CLASS)) return 0;
  const { first, pages } = VGA_IOMEM;
  const range = `${first.toString(16)}-${(first + pages - 1).toString(16)}`;
  const stubdom = 0;
  let rc = yield* lx.xc.iomemPermission(stubdom, first, pages, true);
  if (rc < 0) {
    const text = `failed to give stubdom${stubdom} access to iomem range ${range} for VGA passthru`;
    lx.log.error(DM.vgaStubdom, text, domid, rc);
    return rc;
  }
  rc = yield* lx.xc.iomemPermission(domid, first, pages, true);
  if (rc < 0) {
    const text = `failed to give dom${domid} access to iomem range ${range} for VGA passthru`;
    lx.log.error(DM.vgaGuest, text, domid, rc);
  }
  return Math.min(rc, 0);
}

/** True while a device model serves the domain. @xen libxl__dm_active */
export const dmActive = (lx: Libxl, domid: number): boolean =>
  lx.dom0.xs.read(`${lx.domainPath(domid)}/image/device-model-pid`) !== undefined;

/** Kills it and removes its nodes. @xen libxl__destroy_device_model */
export function* destroyDeviceModel(lx: Libxl, domid: number): Co<number> {
  const { dom0 } = lx;
  lx.log.debug(EVENT.dmByPid, "Didn't find dm UID; destroying by pid", domid);
  dom0.xs.rm(dmPath(domid));
  const dm = dom0.deviceModels.get(domid);
  if (dm !== undefined) {
    yield* dm.stop();
    lx.log.debug(EVENT.dmSignaled, 'Device Model signaled');
    dom0.processes.exit(dm.pid);
    dom0.deviceModels.delete(domid);
  }
  return 0;
}
