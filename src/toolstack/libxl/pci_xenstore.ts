/** The PCI back end's nodes in xenstore. @xen tools/libs/light/libxl_pci.c libxl__device_pci_add_xenstore */
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import type { XenstoreView } from '../dom0.js';
import { atoi } from '../xlu/cnum.js';
import { loadConfig, storeConfig } from './config_store.js';
import { deviceDestroy } from './device.js';
import { domainType, domidToName } from './domain_info.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { PCI } from './lines_pci.js';
import { bdfText, parseBdfName, samePci } from './pci_sysfs.js';
import { makePci } from './schema.js';
import { type DevicePci, ERROR } from './types.js';

/** enum xenbus_state */
export const XENBUS = {
  initialising: '1',
  initWait: '2',
  initialised: '3',
  connected: '4',
  closing: '5',
  closed: '6',
  reconfiguring: '7',
} as const;

export const pciBackendPath = (domid: number): string => `/local/domain/0/backend/pci/${domid}/0`;
const pciFrontendPath = (domid: number): string => `/local/domain/${domid}/device/pci/0`;

const BACKEND_TRIES = 100;
const BACKEND_PAUSE_NS = 100e6;

/** Ten seconds at most. 0 or ERROR_FAIL. @xen libxl__wait_for_backend */
export function* waitForBackend(lx: Libxl, backend: string, state: string): Co<number> {
  const { clock } = lx.dom0;
  const endNs = clock.nowNs + BACKEND_TRIES * BACKEND_PAUSE_NS;
  for (let i = 0; i < BACKEND_TRIES; i++) {
    yield* lx.dom0.settle();
    if (clock.nowNs > endNs) {
      lx.dom0.stopWaiting(endNs);
      break;
    }
    const now = lx.dom0.xs.read(`${backend}/state`);
    if (now === undefined) {
      lx.log.error(DOMAIN.backendMissing, `Backend ${backend} does not exist`);
      return ERROR.FAIL;
    }
    if (now === state) return 0;
    yield* pause(lx.dom0.clock, BACKEND_PAUSE_NS);
  }
  lx.log.error(DOMAIN.backendNotReady, `Backend ${backend} not ready`);
  return ERROR.FAIL;
}

function createBackend(lx: Libxl, t: XenstoreView, domid: number): void {
  const [back, front] = [pciBackendPath(domid), pciFrontendPath(domid)];
  t.rm(back);
  t.mkdir(back);
  t.write(`${back}/frontend`, front);
  t.write(`${back}/frontend-id`, String(domid));
  t.write(`${back}/online`, '1');
  t.write(`${back}/state`, XENBUS.initialising);
  t.write(`${back}/domain`, domidToName(lx, domid) ?? '');
  t.rm(front);
  t.mkdir(front);
  t.write(`${front}/backend`, back);
  t.write(`${front}/backend-id`, '0');
  t.write(`${front}/state`, XENBUS.initialising);
}

function writeDevice(t: XenstoreView, back: string, n: number, p: DevicePci): void {
  const on = (b: boolean): string => (b ? '1' : '0');
  t.write(`${back}/key-${n}`, bdfText(p));
  t.write(`${back}/dev-${n}`, bdfText(p));
  if (p.vdevfn !== 0) t.write(`${back}/vdevfn-${n}`, p.vdevfn.toString(16));
  if (p.name !== undefined) t.write(`${back}/name-${n}`, p.name);
  t.write(
    `${back}/opts-${n}`,
    `msitranslate=${on(p.msitranslate)},power_mgmt=${on(p.powerMgmt)},` +
      `permissive=${on(p.permissive)},rdm_policy=${p.rdmPolicy}`,
  );
  t.write(`${back}/state-${n}`, XENBUS.initialising);
}

/** 0 or ERROR_*. `starting`: the domain is being created, so the configuration need not be touched. */
export function* pciAddXenstore(lx: Libxl, domid: number, p: DevicePci, starting: boolean): Co<number> {
  const { xs } = lx.dom0;
  const back = pciBackendPath(domid);
  const before = xs.read(`${back}/num_devs`);
  const type = yield* domainType(lx, domid);
  if (type === 'invalid') return ERROR.FAIL;
  if (before !== undefined && !starting && type === 'pv') {
    const rc = yield* waitForBackend(lx, back, XENBUS.connected);
    if (rc !== 0) return rc;
  }
  lx.log.debug(PCI.xenstoreAdding, 'Adding new pci device to xenstore', domid);
  const num = before === undefined ? 0 : atoi(before);
  if (!starting) lx.xc.countLock();
  const config = starting ? undefined : loadConfig(lx, domid);
  if (config !== undefined) {
    lx.log.debug(PCI.xenstoreConfig, 'Adding new pci device to config', domid);
    const at = config.pcidevs.findIndex((x) => samePci(x, p));
    if (at < 0) config.pcidevs.push({ ...p });
    else config.pcidevs[at] = { ...p };
    storeConfig(lx, domid, config);
  }
  if (before === undefined) lx.log.debug(PCI.xenstoreBackend, 'Creating pci backend', domid);
  const rc = xs.transaction((t) => {
    if (before === undefined) createBackend(lx, t, domid);
    writeDevice(t, back, num, p);
    t.write(`${back}/num_devs`, String(num + 1));
    if (num > 0 && !starting) t.write(`${back}/state`, XENBUS.reconfiguring);
    return 0;
  });
  if (rc !== 0) return ERROR.FAIL;
  if (before === undefined) {
    xs.setPerms(back, ['n0', `r${domid}`]);
    xs.setPerms(pciFrontendPath(domid), [`n${domid}`, 'r0']);
  }
  yield* lx.dom0.settle();
  return 0;
}

/** What moves down by one when an earlier device goes; the first three are always there. */
const ENTRIES = ['state', 'dev', 'key', 'vdev', 'opts', 'vdevfn', 'name'];

/** 0 or ERROR_*. @xen libxl__device_pci_remove_xenstore */
export function* pciRemoveXenstore(lx: Libxl, domid: number, p: DevicePci): Co<number> {
  const { xs } = lx.dom0;
  const back = pciBackendPath(domid);
  const text = xs.read(`${back}/num_devs`);
  if (text === undefined) return ERROR.INVAL;
  const num = atoi(text);
  const type = yield* domainType(lx, domid);
  if (type === 'invalid') return ERROR.FAIL;
  const pv = type === 'pv';
  if (pv && (yield* waitForBackend(lx, back, XENBUS.connected)) < 0) {
    lx.log.debug(PCI.removeNotReady, `pci backend at ${back} is not ready`, domid);
    return ERROR.FAIL;
  }
  let at = 0;
  while (at < num && xs.read(`${back}/dev-${at}`) !== bdfText(p)) at++;
  if (at === num) {
    lx.log.error(PCI.removeNotFound, "Couldn't find the device on xenstore", domid);
    return ERROR.INVAL;
  }
  xs.transaction((t) => {
    t.write(`${back}/state-${at}`, XENBUS.closing);
    t.write(`${back}/state`, XENBUS.reconfiguring);
    return 0;
  });
  if (pv && (yield* waitForBackend(lx, back, XENBUS.connected)) < 0) {
    lx.log.debug(PCI.removeNotReadyAgain, `pci backend at ${back} is not ready`, domid);
    return ERROR.FAIL;
  }
  xs.transaction((t) => {
    compact(t, back, at, num);
    return 0;
  });
  if (num === 1) deviceDestroy(lx, domid, 'pci', 'pci', 0);
  yield* lx.dom0.settle();
  return 0;
}

function compact(t: XenstoreView, back: string, at: number, num: number): void {
  for (const entry of ENTRIES) t.rm(`${back}/${entry}-${at}`);
  t.write(`${back}/num_devs`, String(num - 1));
  for (let j = at + 1; j < num; j++) {
    for (const entry of ENTRIES) {
      const value = t.read(`${back}/${entry}-${j}`);
      if (value === undefined) continue;
      t.write(`${back}/${entry}-${j - 1}`, value);
      t.rm(`${back}/${entry}-${j}`);
    }
  }
}

/** The devices a domain has, as the back end's nodes tell; undefined when it has no PCI back end. */
export function pciList(lx: Libxl, domid: number): DevicePci[] | undefined {
  const { xs } = lx.dom0;
  const back = pciBackendPath(domid);
  const num = xs.read(`${back}/num_devs`);
  if (num === undefined) return undefined;
  return Array.from({ length: atoi(num) }, (_, i) => {
    const p = Object.assign(makePci(), parseBdfName(xs.read(`${back}/dev-${i}`) ?? ''));
    p.vdevfn = Number.parseInt(xs.read(`${back}/vdevfn-${i}`) ?? '0', 16);
    p.name = xs.read(`${back}/name-${i}`);
    readOptions(p, xs.read(`${back}/opts-${i}`) ?? '');
    return p;
  });
}

function readOptions(p: DevicePci, text: string): void {
  for (const option of text.split(',')) {
    const [key, value] = option.trim().split('=');
    if (key === 'msitranslate') p.msitranslate = value !== '0';
    else if (key === 'power_mgmt') p.powerMgmt = value !== '0';
    else if (key === 'permissive') p.permissive = value !== '0';
    else if (key === 'rdm_policy') p.rdmPolicy = (value ?? 'invalid') as DevicePci['rdmPolicy'];
  }
}
