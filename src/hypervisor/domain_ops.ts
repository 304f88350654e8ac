/** Life and death of domains. @xen common/domain.c, arch/x86/domain.c */
import { assert } from '../base/assert.js';
import { E, type Rc } from '../base/errno.js';
import type { IommuDomain } from '../iommu/driver/types.js';
import { XENLOG } from '../iommu/driver/types.js';
import { type Co, preemptPoint } from '../sim/co.js';
import { DOMID, FRAME_TYPE } from '../sim/frames.js';
import { Domain, DYING } from './domain.js';
import { evtchnDestroy, freeSharedPages } from './event_channel.js';
import { P2m } from './mm/p2m.js';
import { iommuDomainDestroy, iommuDomainInit, iommuFreePgtables } from './passthrough/iommu.js';
import { pciReleaseDevices } from './passthrough/pci.js';
import { freeDomainPirqs } from './pirq.js';
import type { CreateDomain } from './public/domctl.js';
import { SHUTDOWN } from './public/domctl.js';
import type { Xen } from './xen.js';

/** A frame for tables of a domain's p2m, owned by Xen; 0 when memory is short. */
export function allocXenFrame(xen: Xen): number {
  const mfn = xen.heap.alloc(0, DOMID.XEN, FRAME_TYPE.p2mTable);
  if (mfn < 0) return 0;
  xen.ram.clearFrame(mfn);
  return mfn;
}

/** What is wrong with a createdomain request, or 0. @xen sanitise_domain_config */
function sanitiseDomainConfig(xen: Xen, op: CreateDomain): Rc {
  const refuse = (why: string): Rc => {
    xen.console.printk(XENLOG.INFO, why);
    return E.INVAL;
  };
  if (op.maxVcpus < 1) return refuse('No vCPUS');
  if (op.flags.hap && !op.flags.hvm) return refuse('HAP requested for non-HVM guest');
  if (op.flags.iommu && !xen.iommuEnabled) return refuse('IOMMU requested but not available');
  if (!op.flags.iommu && op.iommuNoSharept) return refuse('IOMMU options specified but IOMMU not requested');
  if (op.flags.hap && !xen.cpu.hap) return refuse('HAP requested but not available');
  return 0;
}

/** The id asked for, or the next free one after the last dealt. @xen XEN_DOMCTL_createdomain */
function pickDomid(xen: Xen, asked: number): number {
  if (asked > 0 && asked < DOMID.FIRST_RESERVED) return xen.domains.has(asked) ? E.EXIST : asked;
  for (let dom = xen.domidRover + 1; dom !== xen.domidRover; dom++) {
    if (dom === DOMID.FIRST_RESERVED) dom = 1;
    if (!xen.domains.has(dom)) {
      xen.domidRover = dom;
      return dom;
    }
  }
  return E.NOMEM;
}

/** @returns 0 with `op.domid` set, -EINVAL, -EEXIST or -ENOMEM. @xen domain_create, arch_domain_create */
export function* domainCreate(xen: Xen, op: CreateDomain): Co<Rc> {
  const domid = pickDomid(xen, op.domid);
  if (domid < 0) return domid;
  const refused = sanitiseDomainConfig(xen, op);
  if (refused !== 0) return refused;
  if (xen.faults.on && xen.faults.take('domainAlloc')) return E.NOMEM;
  const d = new Domain(domid, xen.cpus, {
    hvm: op.flags.hvm,
    hap: op.flags.hap,
    iommu: op.flags.iommu,
    pciLock: xen.seams.hasPciLock(),
    capsLock: xen.seams.hasCapsLock(),
  });
  d.handle = op.handle;
  d.maxVcpus = op.maxVcpus;
  if (op.flags.hvm) {
    const root = allocXenFrame(xen);
    if (root === 0) return E.NOMEM;
    d.p2m = new P2m(
      xen.ram,
      root,
      () => allocXenFrame(xen),
      () => xen.seams.vtdWritesBack?.() ?? true,
    );
  }
  const rc = yield* iommuDomainInit(xen, d, op.iommuNoSharept);
  if (rc !== 0) {
    freeP2m(xen, d);
    return rc;
  }
  xen.domains.set(domid, d);
  op.domid = domid;
  if (xen.events.on) xen.events.emit({ kind: 'domain', domid, what: 'create' });
  return 0;
}

function freeP2m(xen: Xen, d: Domain): void {
  for (const mfn of d.p2m?.tables ?? []) xen.heap.release(mfn, 0);
  d.p2m = undefined;
}

/** A guest stops, for good or bad reasons. @xen domain_shutdown */
export function domainShutdown(xen: Xen, d: Domain, reason: number): void {
  if (d === xen.hwdom) xen.console.printk(XENLOG.WARNING, 'Hardware Dom0 shutdown');
  if (d.isShuttingDown) return;
  d.isShuttingDown = true;
  d.isShutDown = true;
  d.shutdownCode = reason;
  if (xen.events.on) xen.events.emit({ kind: 'domain', domid: d.domid, what: 'shutdown' });
}

/** @xen domain_crash: `where` is what Xen's __FILE__:__LINE__ says, when the caller prints no line of its own */
export function domainCrash(xen: Xen, dom: IommuDomain, where?: string): void {
  const d = dom as Domain;
  if (where !== undefined) xen.console.printk(XENLOG.ERR, `domain_crash called from ${where}`);
  if (!d.isShuttingDown) {
    const cpu = xen.cpus.current;
    xen.console.printk(
      XENLOG.WARNING,
      cpu.domid === d.domid
        ? `Domain ${d.domid} (vcpu#0) crashed on cpu#${cpu.id}:`
        : `Domain ${d.domid} reported crashed by domain ${cpu.domid} on cpu#${cpu.id}:`,
    );
  }
  if (!d.crashed && xen.events.on) xen.events.emit({ kind: 'domain', domid: d.domid, what: 'crash' });
  d.crashed = true;
  domainShutdown(xen, d, SHUTDOWN.crash);
}

/** Steps of domain_relinquish_resources(), where a continuation takes up again. */
const STEP = { devices: 0, iommuPagetables: 1, pages: 2, done: 3 } as const;
/** Extents freed between two preemption checks. */
const PAGES_BATCH = 512;

/** @returns 0, -ERESTART, or the error of a device that would not go. @xen domain_relinquish_resources */
function* domainRelinquishResources(xen: Xen, d: Domain): Co<Rc> {
  if (d.relinquishStep === STEP.devices) {
    const rc = yield* pciReleaseDevices(xen, d);
    if (rc !== 0 && xen.seams.releaseErrorStops(rc)) return rc;
    d.relinquishStep = STEP.iommuPagetables;
  }
  if (d.relinquishStep === STEP.iommuPagetables) {
    const rc = yield* iommuFreePgtables(xen, d);
    if (rc !== 0) return rc;
    d.relinquishStep = STEP.pages;
  }
  if (d.relinquishStep === STEP.pages) {
    for (let n = 0; d.extents.length > 0; n++) {
      if (n === PAGES_BATCH) return E.RESTART;
      const x = d.extents.pop()!;
      xen.heap.release(x.mfn, x.order);
      d.totPages -= 2 ** x.order;
    }
    d.relinquishStep = STEP.done;
  }
  return 0;
}

/** @returns 0 once dead; -ERESTART asks to be called again; -EINVAL for oneself. @xen domain_kill */
export function* domainKill(xen: Xen, d: Domain): Co<Rc> {
  if (d.domid === xen.cpus.current.domid) return E.INVAL;
  if (d.dying === DYING.alive) {
    d.pauseCount += 1;
    d.dying = DYING.dying;
    d.outstandingPages = 0;
    evtchnDestroy(xen, d);
  }
  if (d.dying === DYING.dying) {
    const rc = yield* domainRelinquishResources(xen, d);
    if (rc !== 0) return rc;
    d.dying = DYING.dead;
    yield* completeDomainDestroy(xen, d);
  }
  return 0;
}

/** The last reference is gone. @xen complete_domain_destroy, arch_domain_destroy */
function* completeDomainDestroy(xen: Xen, d: Domain): Co<void> {
  assert(d.pdevList.size === 0, 'a dead domain owns no devices');
  yield* freeDomainPirqs(xen, d);
  yield* iommuDomainDestroy(xen, d);
  freeP2m(xen, d);
  freeSharedPages(xen, d);
  xen.domains.delete(d.domid);
  yield* preemptPoint(xen.cpus);
  if (xen.events.on) xen.events.emit({ kind: 'domain', domid: d.domid, what: 'destroy' });
}
