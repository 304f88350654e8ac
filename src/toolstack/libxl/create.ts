/** A domain from a configuration. @xen tools/libs/light/libxl_create.c */
import type { CreateDomain } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import { INVALID_DOMID } from '../xenctrl.js';
import { domainBuild } from './build.js';
import { storeConfig } from './config_store.js';
import { configSetDefault } from './defaults.js';
import { grantVgaIomem, spawnLocalDm } from './dm.js';
import { destroyDomain } from './domain.js';
import { domidRecent } from './domid_history.js';
import type { WatchState } from './event_log.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import { DOMAIN } from './lines_domain.js';
import { AO, EVENT } from './lines_event.js';
import { addPcis } from './pci_add.js';
import { copyConfig } from './schema.js';
import { type DomainConfig, ERROR } from './types.js';
import {
  addConsole,
  addDisk,
  addFramebuffers,
  addKeyboard,
  addNic,
  diskSetDefault,
  nicSetDefault,
} from './vbd_vif.js';

/** `rc` 0 or ERROR_*; `domid` INVALID_DOMID when no domain was made, and set even when it has been destroyed again. */
export interface Created {
  readonly rc: number;
  readonly domid: number;
}

/** @xen libxl_domain_create_new. `d` gets libxl's defaults; what is stored is the caller's configuration. */
export function* domainCreateNew(lx: Libxl, d: DomainConfig): Co<Created> {
  lx.event.begin(AO.create, 0);
  const console = lx.event.watch();
  const created = yield* createOrUndo(lx, d, console);
  lx.event.end(created.rc);
  return created;
}

/** @xen initiate_domain_create, domcreate_complete */
function* createOrUndo(lx: Libxl, d: DomainConfig, console: WatchState): Co<Created> {
  const saved = copyConfig(d);
  let rc = configSetDefault(lx, d);
  if (rc !== 0) {
    lx.event.watchDeregister(console);
    return { rc, domid: INVALID_DOMID };
  }
  const made = yield* domainMake(lx, d);
  const { domid } = made;
  if (made.rc !== 0) lx.log.error(CREATE.cannotMake, `cannot make domain: ${made.rc}`, domid);
  if (domid === INVALID_DOMID) {
    lx.event.watchDeregister(console);
    return { rc: ERROR.FAIL, domid };
  }
  rc = made.rc !== 0 ? ERROR.FAIL : yield* createSteps(lx, domid, d);
  if (rc === 0) consoleAvailable(lx, domid, console);
  lx.event.watchDeregister(console);
  if (rc === 0) {
    updateSaved(saved, d);
    lx.xc.countLock();
    return { rc: storeConfig(lx, domid, saved), domid };
  }
  if ((yield* destroyDomain(lx, domid)) !== 0) {
    lx.log.error(CREATE.cannotDestroy, 'unable to destroy domain following failed creation', domid);
  }
  return { rc: ERROR.FAIL, domid };
}

/** libxl waits for the terminal of the guest's console and tells whoever asked. @xen domcreate_attach_devices */
function consoleAvailable(lx: Libxl, domid: number, console: WatchState): void {
  lx.event.watchRegister(console, `${lx.domainPath(domid)}/console/tty`);
  lx.event.waits();
  lx.event.watchEvent(console);
  lx.event.progress();
  lx.event.watchDeregister(console);
}

/** What the stored configuration takes over from the one that was used. @xen libxl__update_domain_configuration */
function updateSaved(saved: DomainConfig, used: DomainConfig): void {
  saved.nics.forEach((nic, i) => {
    const from = used.nics[i]!;
    Object.assign(nic, { devid: from.devid, nictype: from.nictype, mac: from.mac });
  });
  saved.bInfo.targetMemkb = used.bInfo.targetMemkb;
  saved.bInfo.maxMemkb = used.bInfo.maxMemkb;
  saved.bInfo.videoMemkb = used.bInfo.videoMemkb;
  Object.assign(saved.bInfo.schedParams, { sched: 'credit2', weight: 256, cap: 0 });
  saved.bInfo.archX86.msrRelaxed = used.bInfo.archX86.msrRelaxed ?? false;
}

/** The steps after the domain exists. 0 or ERROR_*. */
function* createSteps(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  lx.dom0.xs.write(`/libxl/${domid}/dm-version`, d.bInfo.deviceModelVersion);
  let rc = deviceDefaults(lx, domid, d);
  if (rc !== 0) return rc;
  lx.log.debug(CREATE.bootloader, 'running bootloader', domid);
  if (d.bInfo.type === 'hvm')
    lx.log.debug(EVENT.skipBootloader, 'not a PV/PVH domain, skipping bootloader', domid);
  else lx.log.debug(EVENT.noBootloader, 'no bootloader configured, using user supplied kernel', domid);
  lx.event.watchDeregister(lx.event.watch());
  rc = yield* domainBuild(lx, domid, d);
  if (rc !== 0) {
    lx.log.error(CREATE.cannotBuild, `cannot (re-)build domain: ${rc}`, domid);
    return ERROR.FAIL;
  }
  for (const disk of d.disks) {
    if (addDisk(lx, domid, disk, d.cInfo.type) === 0) continue;
    lx.log.error(CREATE.addDisks, 'unable to add disk devices', domid);
    return ERROR.INVAL;
  }
  rc = yield* grantRanges(lx, domid, d);
  if (rc !== 0) return rc;
  rc = yield* launchDm(lx, domid, d);
  if (rc !== 0) {
    lx.log.error(CREATE.dmDidNotStart, `device model did not start: ${rc}`, domid);
    return rc;
  }
  for (const nic of d.nics) addNic(lx, domid, nic);
  rc = yield* addPcis(lx, domid, d.pcidevs);
  if (rc !== 0) lx.log.error(CREATE.addPcis, 'unable to add pci devices', domid);
  return rc;
}

function deviceDefaults(lx: Libxl, domid: number, d: DomainConfig): number {
  for (const [i, disk] of d.disks.entries()) {
    const rc = diskSetDefault(lx, domid, disk, d.cInfo.type);
    if (rc === 0) continue;
    lx.log.error(CREATE.diskDefaults, `Unable to set disk defaults for disk ${i}`, domid);
    return rc;
  }
  for (const [i, nic] of d.nics.entries()) {
    const rc = nicSetDefault(lx, domid, nic, d.cInfo.type);
    if (rc === 0) continue;
    lx.log.error(CREATE.nicDefaults, `Unable to set nic defaults for nic ${i}`, domid);
    return rc;
  }
  return 0;
}

/** ioports=, irqs= and iomem= of the configuration. @xen domcreate_launch_dm */
function* grantRanges(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  const b = d.bInfo;
  const x = (n: number): string => n.toString(16);
  for (const { first, number } of b.ioports) {
    const range = `ioports ${x(first)}-${x(first + number - 1)}`;
    lx.log.debug(CREATE.ioports, range, domid);
    const rc = yield* lx.xc.ioportPermission(domid, first, number, true);
    if (rc >= 0) continue;
    lx.log.error(CREATE.ioportsFailed, `failed give domain access to ${range}`, domid, rc);
    return ERROR.FAIL;
  }
  for (const irq of b.irqs) {
    lx.log.debug(CREATE.irq, `irq ${irq}`, domid);
    const pirq = yield* lx.xc.mapPirq(domid, irq);
    const rc = pirq < 0 ? pirq : yield* lx.xc.irqPermission(domid, pirq, true);
    if (rc >= 0) continue;
    lx.log.error(CREATE.irqFailed, `failed give domain access to irq ${irq}`, domid, rc);
    return ERROR.FAIL;
  }
  for (const { start, number, gfn } of b.iomem) {
    const range = `${x(start)}-${x(start + number - 1)}`;
    lx.log.debug(CREATE.iomem, `iomem ${range}`, domid);
    let rc = yield* lx.xc.iomemPermission(domid, start, number, true);
    if (rc < 0) {
      lx.log.error(CREATE.iomemFailed, `failed give domain access to iomem range ${range}`, domid, rc);
      return ERROR.FAIL;
    }
    rc = yield* lx.xc.domctl({
      cmd: 'memory_mapping',
      domid,
      firstGfn: gfn,
      firstMfn: start,
      nrMfns: number,
      add: true,
    });
    if (rc >= 0) continue;
    const text = `failed to map to domain iomem range ${range} to guest address ${x(gfn)}`;
    lx.log.error(CREATE.iomemMapFailed, text, domid, rc);
    return ERROR.FAIL;
  }
  return 0;
}

/** Console, keyboard, device model. A guest without HVM needs a device model for its disks or displays only. */
function* launchDm(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  const ring = Number(lx.dom0.xs.read(`${lx.domainPath(domid)}/store/ring-ref`) ?? 0);
  if (d.cInfo.type === 'hvm') {
    addConsole(lx, domid, ring);
    if (d.bInfo.hvm.vkbDevice) addKeyboard(lx, domid, 0);
    const rc = yield* spawnLocalDm(lx, domid, d);
    const granted = yield* grantVgaIomem(lx, domid, d);
    return rc !== 0 ? rc : granted;
  }
  addFramebuffers(lx, domid, d);
  addConsole(lx, domid, ring);
  const needed = d.vfbs.length > 0 || d.disks.some((x) => x.backend === 'qdisk');
  return needed ? yield* spawnLocalDm(lx, domid, d) : 0;
}

/** A new domain with its nodes in xenstore. It may exist although that failed. @xen libxl__domain_make */
function* domainMake(lx: Libxl, d: DomainConfig): Co<Created> {
  const c = d.cInfo;
  lx.physinfo();
  lx.log.detail(CREATE.passthrough, `passthrough: ${c.passthrough}`);
  const uuid = c.uuid;
  for (;;) {
    const hvm = c.type !== 'pv';
    const op: CreateDomain = {
      cmd: 'createdomain',
      domid: 0,
      flags: {
        hvm,
        hap: hvm && c.hap === true,
        iommu: c.passthrough !== 'disabled',
        nestedVirt: hvm && d.bInfo.nestedHvm === true,
      },
      iommuNoSharept: c.passthrough === 'sync_pt',
      maxVcpus: d.bInfo.maxVcpus,
      handle: uuid,
    };
    const rc = yield* lx.xc.domctl(op);
    if (rc < 0) {
      lx.log.error(CREATE.creationFail, 'domain creation fail', INVALID_DOMID, rc);
      return { rc: ERROR.FAIL, domid: INVALID_DOMID };
    }
    if (!domidRecent(lx, op.domid)) return { rc: domainNodes(lx, op.domid, d), domid: op.domid };
    // The id was given to somebody a moment ago: take the next one.
    yield* lx.xc.domctl({ cmd: 'destroydomain', domid: op.domid });
  }
}

const CONTROL = ['shutdown', 'feature-poweroff', 'feature-reboot', 'feature-suspend'];
const CONTROL_HVM = ['feature-s3', 'feature-s4'];
const GUEST_OWNED = ['data', 'drivers', 'feature', 'attr', 'error'];

function domainNodes(lx: Libxl, domid: number, d: DomainConfig): number {
  const c = d.cInfo;
  const { xs } = lx.dom0;
  const dom = lx.domainPath(domid);
  const vm = `/vm/${c.uuid}`;
  const own = `/libxl/${domid}`;
  const others = xs.ls('/local/domain') ?? [];
  lx.xc.buffers.domainList(others.length + 1);
  const taken = others.some((id) => xs.read(`/local/domain/${id}/name`) === c.name);
  if (taken) {
    lx.log.error(DOMAIN.nameTaken, `Domain with name "${c.name}" already exists.`, domid);
    return ERROR.INVAL;
  }
  const writable: string[] = [];
  xs.transaction((t) => {
    for (const root of [dom, vm, own]) {
      t.rm(root);
      t.mkdir(root);
    }
    t.mkdir(`${own}/device`);
    t.write(`${dom}/vm`, vm);
    t.write(`${dom}/name`, c.name ?? '');
    for (const dir of ['cpu', 'memory', 'device', 'device/suspend/event-channel', 'control'])
      t.mkdir(`${dom}/${dir}`);
    if (c.type === 'hvm') t.mkdir(`${dom}/hvmloader`);
    const nodes = [...CONTROL, ...(c.type === 'hvm' ? CONTROL_HVM : []), 'sysrq'];
    for (const node of [...nodes.map((n) => `control/${n}`), ...GUEST_OWNED]) {
      t.mkdir(`${dom}/${node}`);
      writable.push(`${dom}/${node}`);
    }
    t.write(`${vm}/uuid`, c.uuid);
    t.write(`${vm}/name`, c.name ?? '');
    t.write(`${dom}/control/platform-feature-multiprocessor-suspend`, '1');
    t.write(`${dom}/control/platform-feature-xs_reset_watches`, '1');
    t.write(`${own}/type`, c.type);
    return 0;
  });
  for (const root of [dom, vm]) xs.setPerms(root, ['n0', `r${domid}`]);
  for (const node of writable) xs.setPerms(node, [`n${domid}`]);
  return 0;
}
