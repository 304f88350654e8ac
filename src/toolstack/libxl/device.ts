/** Xenstore nodes of PV devices in general. @xen tools/libs/light/libxl_device.c */
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import type { XenstoreView } from '../dom0.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { EVENT } from './lines_event.js';

type Nodes = readonly (readonly [string, string])[];

export interface Device {
  readonly domid: number;
  readonly devid: number;
  /** Directory of the front end, `vbd`; the back end's may differ, as a console's does not. */
  readonly kind: string;
  readonly backendKind: string;
}

/** Console 0 sits outside `device/`. */
const frontendPath = (d: Device): string =>
  d.kind === 'console' && d.devid === 0
    ? `/local/domain/${d.domid}/console`
    : `/local/domain/${d.domid}/device/${d.kind}/${d.devid}`;
export const backendPath = (d: Device): string =>
  `/local/domain/0/backend/${d.backendKind}/${d.domid}/${d.devid}`;
const libxlPath = (d: Device): string => `/libxl/${d.domid}/device/${d.kind}/${d.devid}`;

/** Front end, back end and libxl's own copy, in one transaction. @xen libxl__device_generic_add */
export function deviceGenericAdd(lx: Libxl, d: Device, back: Nodes, front: Nodes, roFront: Nodes = []): void {
  const [fe, be, own] = [frontendPath(d), backendPath(d), libxlPath(d)];
  const { xs } = lx.dom0;
  xs.transaction((t) => {
    t.rm(own);
    t.write(`${own}/frontend`, fe);
    t.write(`${own}/backend`, be);
    t.rm(fe);
    t.mkdir(fe);
    t.write(`${fe}/backend`, be);
    for (const [k, v] of [...front, ...roFront]) t.write(`${fe}/${k}`, v);
    t.rm(be);
    t.mkdir(be);
    t.write(`${be}/frontend`, fe);
    for (const [k, v] of back) t.write(`${be}/${k}`, v);
    for (const [k, v] of back) t.write(`${own}/${k}`, v);
    return 0;
  });
  xs.setPerms(fe, d.kind === 'console' ? ['n0', `r${d.domid}`] : [`n${d.domid}`, 'r0']);
  xs.setPerms(be, ['n0', `r${d.domid}`]);
}

/** Removes a node and every parent that has become empty, up to the roots. @xen libxl__xs_path_cleanup */
function pathCleanup(t: XenstoreView, path: string): void {
  t.rm(path);
  for (
    let p = path.slice(0, path.lastIndexOf('/'));
    p.lastIndexOf('/') > 0;
    p = p.slice(0, p.lastIndexOf('/'))
  ) {
    const left = t.ls(p);
    if (left === undefined || left.length > 0) return;
    t.rm(p);
  }
}

/** @xen libxl__device_destroy */
export function deviceDestroy(
  lx: Libxl,
  domid: number,
  kind: string,
  backendKind: string,
  devid: number,
): void {
  const d: Device = { domid, devid, kind, backendKind };
  lx.dom0.xs.transaction((t) => {
    pathCleanup(t, frontendPath(d));
    pathCleanup(t, libxlPath(d));
    pathCleanup(t, backendPath(d));
    return 0;
  });
}

const DESTROY_TIMEOUT_NS = 10e9;
const DESTROY_STEP_NS = 100e6;

/**
 * Asks each back end to close, waits for it as long as it reacts, and removes the nodes whatever came of it: the
 * domain is being destroyed. @xen libxl__devices_destroy
 */
export function* devicesDestroy(lx: Libxl, domid: number): Co<number> {
  const { xs } = lx.dom0;
  const root = `/libxl/${domid}/device`;
  for (const kind of xs.ls(root) ?? []) {
    for (const id of xs.ls(`${root}/${kind}`) ?? []) {
      const be = xs.read(`${root}/${kind}/${id}/backend`);
      if (be === undefined) continue;
      const backendKind = be.split('/')[5] ?? kind;
      if (backendKind !== 'console') {
        lx.xc.countFind(true);
        if (QEMU_BACKENDS.has(backendKind)) yield* leaveToQemu(lx, domid, backendKind);
        else yield* closeBackend(lx, be);
      }
      deviceDestroy(lx, domid, kind, backendKind, Number(id));
    }
  }
  return 0;
}

/** Kinds that QEMU serves, and their numbers. @xen QEMU_BACKEND, libxl__device_kind */
const QEMU_BACKENDS: ReadonlyMap<string, number> = new Map([
  ['qdisk', 3],
  ['vfb', 5],
  ['vkbd', 6],
]);
/** LIBXL_QEMU_BODGE_TIMEOUT */
const QEMU_NS = 2e9;

/** A paused guest's QEMU is gone, and nobody answers: libxl gives it some time. @xen device_qemu_timeout, device_hotplug */
function* leaveToQemu(lx: Libxl, domid: number, kind: string): Co<void> {
  lx.event.waits();
  yield* pause(lx.dom0.clock, QEMU_NS);
  if (!lx.event.on) return;
  const named = lx.profile.kindNumbers ? String(QEMU_BACKENDS.get(kind)) : kind;
  lx.log.debug(EVENT.noScripts, `backend_kind ${named}, no need to execute scripts`, domid);
  lx.log.debug(EVENT.noHotplug, 'No hotplug script to execute', domid);
  lx.event.watchDeregister(lx.event.watch());
}

/** @xen libxl__initiate_device_generic_remove: `online` 0, state 5, then wait for 6. */
function* closeBackend(lx: Libxl, be: string): Co<void> {
  const { xs } = lx.dom0;
  if (xs.read(`${be}/state`) === undefined || xs.read(`${be}/state`) === '6') return;
  xs.transaction((t) => {
    t.write(`${be}/online`, '0');
    t.write(`${be}/state`, '5');
    return 0;
  });
  // Only back ends that somebody serves answer; `hotplug-status` is what a served one has.
  const served = xs.read(`${be}/hotplug-status`) !== undefined;
  for (let ns = 0; ns < DESTROY_TIMEOUT_NS; ns += DESTROY_STEP_NS) {
    yield* lx.dom0.settle();
    const state = xs.read(`${be}/state`);
    if (!served || state === undefined || state === '6') return;
    yield* pause(lx.dom0.clock, DESTROY_STEP_NS);
  }
  lx.log.debug(DOMAIN.deviceTimeout, `Timeout reached, initiating forced remove`);
}
