/** XEN_DOMCTL_*: dom0's tools manage domains. @xen common/domctl.c, arch/x86/domctl.c */
import { E, type Rc } from '../base/errno.js';
import { XENLOG } from '../iommu/driver/types.js';
import { type Co, hold } from '../sim/co.js';
import { DOMID } from '../sim/frames.js';
import { paddrFrames } from './cpu.js';
import { type Domain, DYING } from './domain.js';
import { domainCreate, domainKill } from './domain_ops.js';
import { hvmLoad, hvmSave } from './hvm_context.js';
import { denyAccess, permitAccess, underCapsLock, underCapsLocks } from './io_caps.js';
import { runOn } from './irq/move.js';
import { mapMmioRegions, unmapMmioRegions } from './mm/physmap.js';
import { softirqsElsewhere } from './passthrough/dpci.js';
import { ptIrqBind, ptIrqUnbind } from './passthrough/hvm.js';
import { iommuDoDomctl } from './passthrough/iommu.js';
import { nrPirqs } from './pirq.js';
import type { DomainInfo, DomctlOp } from './public/domctl.js';
import type { Xen } from './xen.js';

type Op<C extends DomctlOp['cmd']> = Extract<DomctlOp, { cmd: C }>;
type DeviceOp = Extract<DomctlOp, { cmd: 'assign_device' | 'deassign_device' | 'test_assign_device' }>;
type GeneralOp = Op<'createdomain'> | Op<'getdomaininfo'>;
/** Commands on a domain that is there. */
type WithDomain = Exclude<DomctlOp, DeviceOp | GeneralOp | Op<'get_device_group'>>;

const MAX_IOPORTS = 0x1_0000;
/** How often a continuation is taken up before Xen would be called stuck. */
const CONTINUATIONS_MAX = 1_000_000;

/** The hypercall, with its continuations: -ERESTART takes the domctl lock anew each time. @xen do_domctl */
export function* doDomctl(xen: Xen, op: DomctlOp): Co<Rc> {
  for (let n = 0; n < CONTINUATIONS_MAX; n++) {
    const rc = yield* domctlOnce(xen, op);
    if (rc !== E.RESTART) {
      if (xen.events.on) xen.events.emit({ kind: 'hypercall', op: `domctl:${op.cmd}`, args: op, rc });
      return rc;
    }
    softirqsElsewhere(xen);
  }
  return E.RESTART;
}

function* domctlOnce(xen: Xen, op: DomctlOp): Co<Rc> {
  switch (op.cmd) {
    case 'assign_device':
    case 'deassign_device':
    case 'test_assign_device':
      return yield* deviceDomctl(xen, op);
    case 'createdomain':
    case 'getdomaininfo':
      return yield* anyDomctl(xen, op);
    default:
      return yield* domainDomctl(xen, op);
  }
}

/** d[IO] takes and gives devices; whether one is free can be asked for nobody. @xen do_domctl, first switch */
function* deviceDomctl(xen: Xen, op: DeviceOp): Co<Rc> {
  const asks = op.cmd === 'test_assign_device';
  const d = !asks && op.domid === DOMID.IO ? xen.domIo : xen.domains.get(op.domid);
  if (d === undefined && !(asks && op.domid === DOMID.INVALID)) return E.SRCH;
  using _domctl = yield* hold(xen.domctlLock);
  return yield* iommuDoDomctl(xen, op, d);
}

/** Commands for which no domain needs to be there. */
function* anyDomctl(xen: Xen, op: GeneralOp): Co<Rc> {
  if (op.cmd === 'getdomaininfo' && xen.seams.smallDomctlsTakeNoLock()) return getDomainInfo(xen, op);
  using _domctl = yield* hold(xen.domctlLock);
  return op.cmd === 'createdomain' ? yield* domainCreate(xen, op) : getDomainInfo(xen, op);
}

/** What newer Xen answers without the domctl lock. @xen do_domctl, second switch */
const SMALL: ReadonlySet<DomctlOp['cmd']> = new Set<DomctlOp['cmd']>([
  'iomem_permission',
  'memory_mapping',
  'irq_permission',
  'ioport_permission',
  'ioport_mapping',
  'bind_pt_irq',
  'unbind_pt_irq',
]);

function* domainDomctl(xen: Xen, op: WithDomain | Op<'get_device_group'>): Co<Rc> {
  const d = xen.domains.get(op.domid);
  if (d === undefined) return E.SRCH;
  if (op.cmd === 'get_device_group') return yield* groupDomctl(xen, d, op);
  if (SMALL.has(op.cmd) && xen.seams.smallDomctlsTakeNoLock()) return yield* domctlOn(xen, d, op);
  using _domctl = yield* hold(xen.domctlLock);
  return yield* domctlOn(xen, d, op);
}

function* groupDomctl(xen: Xen, d: Domain, op: Op<'get_device_group'>): Co<Rc> {
  if (xen.seams.smallDomctlsTakeNoLock()) return yield* iommuDoDomctl(xen, op, d);
  using _domctl = yield* hold(xen.domctlLock);
  return yield* iommuDoDomctl(xen, op, d);
}

function* domctlOn(xen: Xen, d: Domain, op: WithDomain): Co<Rc> {
  switch (op.cmd) {
    case 'destroydomain':
      return yield* domainKill(xen, d);
    case 'pausedomain':
      return pauseDomain(xen, d);
    case 'unpausedomain':
      return unpauseDomain(xen, d);
    case 'max_mem':
      d.maxPages = Math.floor(op.maxKb / 4);
      return 0;
    case 'max_vcpus':
      return d === caller(xen) || op.max !== d.maxVcpus ? E.INVAL : 0;
    case 'setvcpuaffinity':
      return setVcpuAffinity(xen, d, op);
    case 'setdomainhandle':
      d.handle = op.handle;
      return 0;
    case 'irq_permission':
      return yield* underCapsLocks(caller(xen), d, true, () => irqPermission(xen, d, op));
    case 'iomem_permission':
      return yield* underCapsLocks(caller(xen), d, true, () => iomemPermission(xen, d, op));
    case 'ioport_permission':
      return yield* underCapsLocks(caller(xen), d, true, () => ioportPermission(xen, d, op));
    case 'memory_mapping':
      return yield* underCapsLocks(caller(xen), d, false, () => memoryMapping(xen, d, op));
    case 'ioport_mapping':
      return yield* underCapsLocks(caller(xen), d, xen.seams.mappingPortsGrantsThem(), () =>
        ioportMapping(xen, d, op),
      );
    case 'bind_pt_irq':
      return yield* underCapsLock(caller(xen), () => ptIrqBind(xen, d, op));
    case 'unbind_pt_irq':
      return yield* underCapsLock(caller(xen), () => ptIrqUnbind(xen, d, op));
    case 'gethvmcontext':
      return hvmSave(xen, d);
    case 'sethvmcontext':
      return hvmLoad(xen, d, op);
    case 'shadow_op':
      return shadowOp(xen, d, op);
    case 'mem_sharing_op':
      return memSharingOp(xen, d, op);
    case 'vm_event_op':
      return vmEventOp(xen, d, op);
  }
}

/** Only the first vCPU is somewhere: it stays if it may, else it goes to the lowest CPU. @xen vcpu_affinity_domctl */
function setVcpuAffinity(xen: Xen, d: Domain, { hard, vcpu }: Op<'setvcpuaffinity'>): Rc {
  if (vcpu >= d.maxVcpus) return E.INVAL;
  if (hard === undefined) return 0;
  const online = hard.filter((cpu) => cpu < xen.cpu.count);
  if (online.length === 0) return E.INVAL;
  if (vcpu === 0 && !online.includes(d.processor)) runOn(xen, d, Math.min(...online));
  return 0;
}

const caller = (xen: Xen): Domain => xen.domains.get(xen.cpus.current.domid) ?? xen.hwdom;

/** @xen domain_pause_by_systemcontroller */
const CONTROLLER_PAUSES_MAX = 255;

function pauseDomain(xen: Xen, d: Domain): Rc {
  if (d === caller(xen)) return E.INVAL;
  if (d.controllerPauseCount >= CONTROLLER_PAUSES_MAX) return E.OVERFLOW;
  d.controllerPauseCount += 1;
  d.pauseCount += 1;
  if (xen.events.on) xen.events.emit({ kind: 'domain', domid: d.domid, what: 'pause' });
  return 0;
}

function unpauseDomain(xen: Xen, d: Domain): Rc {
  if (d.controllerPauseCount === 0) return E.INVAL;
  d.controllerPauseCount -= 1;
  d.pauseCount -= 1;
  if (xen.events.on) xen.events.emit({ kind: 'domain', domid: d.domid, what: 'unpause' });
  return 0;
}

/** The domain of this id; older Xen goes on to the next one alive. @xen XEN_DOMCTL_getdomaininfo */
function getDomainInfo(xen: Xen, op: Op<'getdomaininfo'>): Rc {
  let best = xen.domains.get(op.domid);
  if (best === undefined && op.domid >= DOMID.FIRST_RESERVED)
    return xen.seams.domainInfoIsExact() ? E.SRCH : E.INVAL;
  for (const d of best !== undefined || xen.seams.domainInfoIsExact() ? [] : xen.domains.values()) {
    if (d.domid > op.domid && (best === undefined || d.domid < best.domid)) best = d;
  }
  if (best === undefined) return E.SRCH;
  op.info = domainInfo(xen, best);
  return 0;
}

/** @xen getdomaininfo */
export function domainInfo(xen: Xen, d: Domain): DomainInfo {
  const running = d === caller(xen);
  return {
    domid: d.domid,
    flags: {
      dying: d.dying === DYING.dead,
      hvm: d.isHvm,
      shutdown: d.isShutDown,
      paused: d.controllerPauseCount > 0,
      blocked: !running && d.pauseCount === 0 && !d.isShutDown,
      running,
      hap: d.hap,
    },
    shutdownReason: Math.max(0, d.shutdownCode),
    totPages: d.totPages,
    maxPages: d.maxPages,
    outstandingPages: d.outstandingPages,
    cpuTimeNs: running ? xen.clock.nowNs : 0,
    nrOnlineVcpus: d.maxVcpus,
    maxVcpuId: d.maxVcpus - 1,
    handle: d.handle,
    sharedInfoFrame: d.xenPages?.[0] ?? 0,
  };
}

function* irqPermission(xen: Xen, d: Domain, op: Op<'irq_permission'>): Co<Rc> {
  const me = caller(xen);
  if (op.pirq < 0 || op.pirq >= nrPirqs(xen, me)) return E.INVAL;
  // dom0's kernel has mapped the interrupts of the devices it enabled one to one.
  const irq = me.pirqs.get(op.pirq)?.irq ?? op.pirq;
  if (!me.irqCaps.contains(irq, irq)) return E.PERM;
  return (op.allow ? permitAccess : denyAccess)(xen, d.irqCaps, irq, irq);
}

function* iomemPermission(xen: Xen, d: Domain, op: Op<'iomem_permission'>): Co<Rc> {
  const end = op.firstMfn + op.nrMfns - 1;
  if (end < op.firstMfn) return E.INVAL;
  if (!caller(xen).iomemCaps.contains(op.firstMfn, end)) return E.PERM;
  return (op.allow ? permitAccess : denyAccess)(xen, d.iomemCaps, op.firstMfn, end);
}

function* ioportPermission(xen: Xen, d: Domain, op: Op<'ioport_permission'>): Co<Rc> {
  const end = op.firstPort + op.nrPorts;
  if (end <= op.firstPort || end > MAX_IOPORTS) return E.INVAL;
  if (!caller(xen).ioportCaps.contains(op.firstPort, end - 1)) return E.PERM;
  return (op.allow ? permitAccess : denyAccess)(xen, d.ioportCaps, op.firstPort, end - 1);
}

/** @xen XEN_DOMCTL_memory_mapping */
function* memoryMapping(xen: Xen, d: Domain, op: Op<'memory_mapping'>): Co<Rc> {
  const end = op.firstMfn + op.nrMfns - 1;
  if (end < op.firstMfn || end >= paddrFrames(xen.cpu)) return E.INVAL;
  if (d.p2m === undefined && xen.seams.nothingToMapNeedsNoRight()) return 0;
  if (!caller(xen).iomemCaps.contains(op.firstMfn, end)) return E.PERM;
  if ((op.add || xen.seams.unmapNeedsTargetRight()) && !d.iomemCaps.contains(op.firstMfn, end)) return E.PERM;
  if (d.p2m === undefined) return 0;
  const hex = (n: number): string => n.toString(16);
  const who = xen.seams.domctlDomainText(d.domid);
  const what = `${who} gfn=${hex(op.firstGfn)} mfn=${hex(op.firstMfn)} nr=${hex(op.nrMfns)}`;
  const log = (level: 5 | 7, text: string): void => xen.console.printk(level, text);
  if (op.add) {
    log(XENLOG.G_DEBUG, `memory_map:add: ${what}`);
    const rc = yield* mapMmioRegions(xen, d, op.firstGfn, op.nrMfns, op.firstMfn);
    if (rc < 0) log(XENLOG.G_WARNING, `memory_map:fail: ${what} ret:${rc}`);
    return rc;
  }
  log(XENLOG.G_DEBUG, `memory_map:remove: ${what}`);
  const rc = yield* unmapMmioRegions(xen, d, op.firstGfn, op.nrMfns, op.firstMfn);
  if (rc < 0) {
    const range = `[${hex(op.firstMfn)},${hex(end)}]`;
    xen.console.printk(XENLOG.ERR, `memory_map: error ${rc} removing ${who} access to ${range}`);
  }
  return rc;
}

/** @xen XEN_DOMCTL_ioport_mapping */
function* ioportMapping(xen: Xen, d: Domain, op: Op<'ioport_mapping'>): Co<Rc> {
  const { firstGport: g, firstMport: m, nrPorts: np } = op;
  const what = `gport=${g.toString(16)} mport=${m.toString(16)} nr=${np.toString(16)}`;
  if (!d.isHvm) {
    xen.console.printk(XENLOG.G_ERR, 'ioport_map against non-HVM domain');
    return E.OPNOTSUPP;
  }
  if (np < 1 || g + np > MAX_IOPORTS || m + np > MAX_IOPORTS) {
    xen.console.printk(XENLOG.G_ERR, `ioport_map:invalid:dom${op.domid} ${what}`);
    return E.INVAL;
  }
  if (!caller(xen).ioportCaps.contains(m, m + np - 1)) return E.PERM;
  const grants = xen.seams.mappingPortsGrantsThem();
  const end = m + np - 1;
  if (op.add && !grants && !d.ioportCaps.contains(m, end)) return E.PERM;
  const who = xen.seams.ioportMapDomainText(d.domid);
  xen.console.printk(XENLOG.G_INFO, `ioport_map:${op.add ? 'add' : 'remove'}: ${who} ${what}`);
  const refused = xen.seams.ioportMapConflict(d.ioportMaps, g, m, np, op.add);
  if (refused !== 0) return refused;
  const at = d.ioportMaps.findIndex((p) => p.mport === m);
  if (!op.add) {
    if (at >= 0) d.ioportMaps = d.ioportMaps.toSpliced(at, 1);
    if (!grants) return 0;
    const kept = denyAccess(xen, d.ioportCaps, m, end);
    const range = `[${m.toString(16)},${end.toString(16)}]`;
    if (kept !== 0)
      xen.console.printk(XENLOG.ERR, `ioport_map: error ${kept} denying ${who} access to ${range}`);
    return kept;
  }
  if (at >= 0) d.ioportMaps = d.ioportMaps.with(at, { gport: g, mport: m, np });
  else if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  else d.ioportMaps = [...d.ioportMaps, { gport: g, mport: m, np }];
  const rc = grants ? permitAccess(xen, d.ioportCaps, m, end) : 0;
  if (rc !== 0 && at < 0) d.ioportMaps = d.ioportMaps.slice(0, -1);
  return rc;
}

/** Log-dirty mode and devices exclude each other. @xen paging_domctl, paging_log_dirty_enable */
function shadowOp(xen: Xen, d: Domain, op: Op<'shadow_op'>): Rc {
  if (d === caller(xen) || d.isDying) return E.INVAL;
  if (op.op === 'off') {
    d.logDirty = false;
    return 0;
  }
  if (d.pdevList.size > 0 && xen.seams.logDirtyRefusesDevices()) return E.INVAL;
  if (d.logDirty) return E.INVAL;
  d.logDirty = true;
  return 0;
}

/** Only with EPT. @xen mem_sharing_control */
function memSharingOp(xen: Xen, d: Domain, op: Op<'mem_sharing_op'>): Rc {
  if (op.enable) {
    if (!d.isHvm || xen.cpu.vendor !== 'intel') return E.OPNOTSUPP;
    if (!d.hap) return E.NODEV;
    if (d.iommuEnabled && op.forkWithIommu !== true) return E.XDEV;
  }
  d.memSharing = op.enable;
  return 0;
}

/** The paging ring needs HAP, no PoD and no IOMMU. @xen vm_event_domctl, vm_event_enable */
function vmEventOp(xen: Xen, d: Domain, op: Op<'vm_event_op'>): Rc {
  if (d === caller(xen)) return E.INVAL;
  if (d.isDying || op.ring === 'monitor') return 0;
  if (!op.enable) {
    if (!d.pagingRing) return E.INVAL;
    d.pagingRing = false;
    return 0;
  }
  if (xen.hwdom.isHvm) return E.OPNOTSUPP;
  if (!d.hap) return E.NODEV;
  if (d.iommuEnabled) return E.MLINK;
  if (d.podEntries > 0) return E.XDEV;
  if (d.pagingRing) return E.BUSY;
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  d.pagingRing = true;
  return 0;
}
