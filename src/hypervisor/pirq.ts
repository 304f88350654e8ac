/** Physical interrupts as domains name them. @xen arch/x86/irq.c */
import { assert, panic } from '../base/assert.js';
import { E, type Rc } from '../base/errno.js';
import type { Sbdf } from '../base/sbdf.js';
import { type LogLevel, type Pdev, XENLOG } from '../iommu/driver/types.js';
import { type Co, hold } from '../sim/co.js';
import type { Domain, Pirq } from './domain.js';
import { denyAccess, permitAccess } from './io_caps.js';
import type { MsiEntry } from './irq/desc.js';
import { pirqGuestForceUnbind } from './irq/guest_bind.js';
import { destroyIrq, msiFreeIrq, msisOf, pciDisableMsi, pciEnableMsi, setupMsiIrq } from './irq/msi.js';
import { assignIrqVector } from './irq/vectors.js';
import { pciGetPdev } from './passthrough/segment.js';
import type { Xen } from './xen.js';

/** Vectors that devices can use on one CPU. @xen NR_DYNAMIC_VECTORS */
const NR_DYNAMIC_VECTORS = 0xef - 0x20 + 1;
/** Pirqs a guest has beyond the GSIs. @xen extra_domU_irqs */
const EXTRA_DOMU_IRQS = 32;
const FIRST_FREE_GSI = 16;
const MAX_MSI_IRQS = 32;

/** Interrupts of the machine: GSIs and what MSIs may take. @xen nr_irqs */
const nrIrqs = (xen: Xen): number => Math.max(xen.cpu.count * NR_DYNAMIC_VECTORS, 8 * xen.nrIrqsGsi);

/** The IOMMU has taken the first one, to report faults. */
const firstDynamicIrq = (xen: Xen): number => xen.nrIrqsGsi + (xen.iommuEnabled ? 1 : 0);

/** Bits needed to write the number of CPUs. @xen fls */
const fls = (n: number): number => 32 - Math.clz32(n);

/** @xen d->nr_pirqs, arch_hwdom_irqs */
export const nrPirqs = (xen: Xen, d: Domain): number =>
  d === xen.hwdom
    ? Math.min(xen.nrIrqsGsi + Math.min(fls(xen.cpu.count), d.maxVcpus) * NR_DYNAMIC_VECTORS, nrIrqs(xen))
    : xen.nrIrqsGsi + EXTRA_DOMU_IRQS;

export const irqAccessPermitted = (d: Domain, irq: number): boolean => d.irqCaps.contains(irq, irq);

/** The pirq that stands for `irq` in `d`, undefined when it is not mapped. @xen domain_irq_to_pirq */
function domainIrqToPirq(d: Domain, irq: number): Pirq | undefined {
  for (const p of d.pirqs.values()) if (p.irq === irq && p.halfUndone !== true) return p;
  return undefined;
}

/** @xen get_free_pirq: GSIs upwards, everything else from the top down */
function getFreePirq(xen: Xen, d: Domain, gsi: boolean): number {
  if (gsi) {
    for (let i = FIRST_FREE_GSI; i < xen.nrIrqsGsi; i++) if (!d.pirqs.has(i)) return i;
  }
  for (let i = nrPirqs(xen, d) - 1; i >= xen.nrIrqsGsi; i--) if (!d.pirqs.has(i)) return i;
  return E.NOSPC;
}

/** The lowest of `nr` free pirqs in a row, from the top. @xen get_free_pirqs */
function getFreePirqs(xen: Xen, d: Domain, nr: number): number {
  let found = 0;
  for (let i = nrPirqs(xen, d) - 1; i >= xen.nrIrqsGsi; i--) {
    found = d.pirqs.has(i) ? 0 : found + 1;
    if (found === nr) return i;
  }
  return E.NOSPC;
}

/** An interrupt with a vector, for a message; the caller may use it. @returns it, or -ENOSPC. @xen create_irq */
function createIrq(xen: Xen, me: Domain): number {
  for (let irq = firstDynamicIrq(xen); irq < nrIrqs(xen); irq++) {
    if (xen.irqs.descs.has(irq)) continue;
    const vector = assignIrqVector(xen.irqs, xen.irqs.desc(irq));
    if (vector < 0) {
      xen.irqs.descs.delete(irq);
      return vector;
    }
    const rc = permitAccess(xen, me.irqCaps, irq, irq);
    if (rc === 0) xen.irqs.desc(irq).creator = me.domid;
    else {
      const what = `Could not grant d${me.domid} access to IRQ${irq} (error ${rc})`;
      xen.services.printk(XENLOG.G_ERR, what);
    }
    return irq;
  }
  return E.NOSPC;
}

/** A GSI for `d`. @returns the pirq, -EINVAL, -EPERM, -EEXIST or -ENOSPC. @xen allocate_and_map_gsi_pirq */
export function allocateAndMapGsiPirq(
  xen: Xen,
  me: Domain,
  d: Domain,
  index: number,
  wanted: number,
): number {
  if (index < 0 || index >= xen.nrIrqsGsi) return E.INVAL;
  let irq = me.pirqs.get(index)?.irq ?? 0;
  if (irq <= 0) {
    if (me !== xen.hwdom) return E.INVAL;
    irq = index;
  }
  const pirq = allocatePirq(xen, d, wanted, irq, true);
  if (pirq < 0) return pirq;
  let rc = checkPirq(xen, me, d, pirq, irq);
  if (rc !== 0) return rc < 0 ? rc : pirq;
  const granted = !irqAccessPermitted(d, irq);
  rc = permitPirq(xen, d, irq, pirq);
  if (rc !== 0) return rc;
  rc = prepareDomainIrqPirq(xen, d, pirq);
  if (rc === 0) enterPirq(d, pirq, irq, false);
  else if (granted) revoke(xen, d, irq, pirq);
  return rc < 0 ? rc : pirq;
}

/** @xen allocate_pirq */
function allocatePirq(xen: Xen, d: Domain, wanted: number, irq: number, gsi: boolean): number {
  const current = domainIrqToPirq(d, irq)?.pirq ?? 0;
  if (wanted < 0) return current !== 0 ? current : getFreePirq(xen, d, gsi);
  return current !== 0 && current !== wanted ? E.EXIST : wanted;
}

/** @returns 0 to go on, 1 where Xen takes a mapping that is there for this one, -EPERM, -EINVAL. @xen map_domain_pirq */
function checkPirq(xen: Xen, me: Domain, d: Domain, pirq: number, irq: number): Rc {
  if (!irqAccessPermitted(me, irq)) return E.PERM;
  if (pirq < 0 || pirq >= nrPirqs(xen, d) || irq <= 0 || irq >= nrIrqs(xen)) return E.INVAL;
  const oldIrq = d.pirqs.get(pirq)?.irq ?? 0;
  const oldPirq = domainIrqToPirq(d, irq)?.pirq ?? 0;
  return (oldIrq > 0 && oldIrq !== irq) || (oldPirq !== 0 && oldPirq !== pirq) ? 1 : 0;
}

/** @returns 0, also where the domain has it already, or -ENOMEM */
function permitPirq(xen: Xen, d: Domain, irq: number, pirq: number, level: LogLevel = XENLOG.G_ERR): Rc {
  const rc = irqAccessPermitted(d, irq) ? 0 : permitAccess(xen, d.irqCaps, irq, irq);
  const what = `dom${d.domid}: could not permit access to IRQ${irq} (pirq ${pirq})`;
  if (rc !== 0) xen.services.printk(level, what);
  return rc;
}

function revoke(xen: Xen, d: Domain, irq: number, pirq: number): void {
  const what = `dom${d.domid}: could not revoke access to IRQ${irq} (pirq ${pirq})`;
  if (denyAccess(xen, d.irqCaps, irq, irq) !== 0) xen.services.printk(XENLOG.G_ERR, what);
}

/** Room in the books. @returns 0 or -ENOMEM. @xen prepare_domain_irq_pirq */
const prepareDomainIrqPirq = (xen: Xen, d: Domain, pirq: number): Rc =>
  !d.pirqs.has(pirq) && xen.faults.on && xen.faults.take('alloc') ? E.NOMEM : 0;

/** @xen set_domain_irq_pirq */
function enterPirq(d: Domain, pirq: number, irq: number, msi: boolean): void {
  if (!d.pirqs.has(pirq)) d.pirqs.set(pirq, { pirq, irq, msi, dpciActive: false, bound: false });
}

/** How many vectors a device's MSI is to have, and which entry of its MSI-X table is meant. */
export interface MsiInfo {
  readonly sbdf: Sbdf;
  /** MULTI_MSI: vectors asked for. OUT: vectors granted. */
  entryNr: number;
  readonly multi: boolean;
  readonly msix: boolean;
}

/** An MSI for `d`. @returns the first pirq, or a negative errno. @xen allocate_and_map_msi_pirq */
export function* allocateAndMapMsiPirq(
  xen: Xen,
  me: Domain,
  d: Domain,
  index: number,
  wanted: number,
  msi: MsiInfo,
): Co<number> {
  assert(xen.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (!msi.multi && !msi.msix) msi.entryNr = 1;
  const made = msi.multi || index === -1;
  const irq = made ? createIrq(xen, me) : index;
  if (irq < xen.nrIrqsGsi || irq >= nrIrqs(xen)) return E.INVAL;
  const pirq = wanted < 0 && msi.multi ? freeBlock(xen, d, msi) : allocatePirq(xen, d, wanted, irq, false);
  const rc = pirq < 0 ? pirq : yield* mapMessages(xen, me, d, irq, pirq, msi);
  if (rc < 0 && made) destroyIrq(xen, irq);
  return rc;
}

/** Vectors come in powers of two. @xen allocate_pirq for MAP_PIRQ_TYPE_MULTI_MSI */
function freeBlock(xen: Xen, d: Domain, msi: MsiInfo): number {
  const nr = msi.entryNr;
  if (nr <= 0 || nr > MAX_MSI_IRQS) return E.DOM;
  if (nr !== 1 && xen.opts.intremap === 'off') return E.OPNOTSUPP;
  msi.entryNr = 2 ** Math.ceil(Math.log2(nr));
  return getFreePirqs(xen, d, msi.entryNr);
}

/** @xen pci_enable_msi */
function checkMsi(pdev: Pdev, msi: MsiInfo): Rc {
  if (!msi.msix) {
    if (pdev.msiMaxvec === 0) return E.NODEV;
    if (msi.entryNr <= pdev.msiMaxvec) return 0;
    msi.entryNr = pdev.msiMaxvec;
    return E.NFILE;
  }
  if (pdev.msix === undefined) return E.NODEV;
  return msi.entryNr >= pdev.msix.nrEntries ? E.INVAL : 0;
}

/** @returns the first pirq, or what refused it. @xen map_domain_pirq, for messages */
function* mapMessages(xen: Xen, me: Domain, d: Domain, irq: number, pirq: number, msi: MsiInfo): Co<number> {
  const checked = checkPirq(xen, me, d, pirq, irq);
  if (checked !== 0) return checked < 0 ? checked : pirq;
  const granted = !irqAccessPermitted(d, irq);
  const permitted = permitPirq(xen, d, irq, pirq);
  if (permitted !== 0) return permitted;
  let rc = prepareDomainIrqPirq(xen, d, pirq);
  if (rc === 0) {
    const pdev = pciGetPdev(xen, xen.seams.msiNeedsOwner() ? d : undefined, msi.sbdf);
    rc = pdev === undefined ? E.NODEV : checkMsi(pdev, msi);
    if (rc === 0) rc = yield* mapVectors(xen, me, d, pdev!, irq, pirq, msi);
  }
  if (rc < 0 && granted) revoke(xen, d, irq, pirq);
  return rc;
}

function* mapVectors(
  xen: Xen,
  me: Domain,
  d: Domain,
  pdev: Pdev,
  firstIrq: number,
  first: number,
  msi: MsiInfo,
): Co<number> {
  const nr = msi.multi ? msi.entryNr : 1;
  const entry = pciEnableMsi(xen, pdev, {
    irq: firstIrq,
    entryNr: msi.msix ? msi.entryNr : nr,
    msix: msi.msix,
  });
  if (typeof entry === 'number') return entry;
  if (xen.irqs.desc(firstIrq).handler !== 'none') {
    pciDisableMsi(xen, entry);
    entry.irq = -1;
    yield* msiFreeIrq(xen, entry);
    return E.BUSY;
  }
  for (let i = 0; i < nr; i++) {
    const one = entry.group[i]!;
    let rc = i === 0 ? 0 : prepareVector(xen, me, d, one, first, i);
    if (rc === 0) rc = yield* setupMsiIrq(xen, xen.irqs.desc(one.irq), one);
    if (rc < 0) {
      yield* undoVectors(xen, d, pdev, entry, first);
      return rc;
    }
    enterPirq(d, first + i, one.irq, true);
    pdev.msiIrqs = [...pdev.msiIrqs, one.irq];
  }
  return first;
}

/** An interrupt, room in the books and the right for the `i`th of a group; missing the right alone is no error. */
function prepareVector(xen: Xen, me: Domain, d: Domain, one: MsiEntry, first: number, i: number): Rc {
  const irq = createIrq(xen, me);
  if (irq < 0) return irq;
  const rc = prepareDomainIrqPirq(xen, d, first + i);
  if (rc === 0 || xen.seams.groupIsTakenBackWhole()) one.irq = irq;
  if (rc === 0) permitPirq(xen, d, irq, first, XENLOG.G_WARNING);
  return rc;
}

/** Takes a request back. The first interrupt is left to whoever made it. */
function* undoVectors(xen: Xen, d: Domain, pdev: Pdev, entry: MsiEntry, first: number): Co<void> {
  pciDisableMsi(xen, entry);
  for (const { irq } of [...entry.group].reverse()) {
    const pirq = domainIrqToPirq(d, irq);
    if (irq >= 0 && irq !== entry.irq) revoke(xen, d, irq, first);
    if (pirq === undefined) continue;
    if (xen.seams.groupIsTakenBackWhole()) d.pirqs.delete(pirq.pirq);
    else pirq.halfUndone = true;
    forgetMessage(pdev, irq);
  }
  entry.irq = -1;
  yield* msiFreeIrq(xen, entry);
}

function forgetMessage(pdev: Pdev, irq: number): void {
  const at = pdev.msiIrqs.indexOf(irq);
  if (at >= 0) pdev.msiIrqs = pdev.msiIrqs.toSpliced(at, 1);
}

/** The domain no longer has the interrupt. @returns 0, or -ENOMEM: the right stays */
function forgetPirq(xen: Xen, d: Domain, pirq: number, irq: number): Rc {
  d.pirqs.delete(pirq);
  const rc = denyAccess(xen, d.irqCaps, irq, irq);
  const what = `dom${d.domid}: could not deny access to IRQ${irq} (pirq ${pirq})`;
  if (rc !== 0) xen.services.printk(XENLOG.G_ERR, what);
  return rc;
}

/** @returns 0, -EINVAL, -EBUSY for a vector that is not the first of its group, -ENOMEM. @xen unmap_domain_pirq */
export function* unmapDomainPirq(xen: Xen, d: Domain, pirq: number): Co<Rc> {
  assert(xen.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  const info = d.pirqs.get(pirq);
  if (info === undefined) return E.INVAL;
  const entry = info.msi ? xen.irqs.descs.get(info.irq)?.msi : undefined;
  if (entry?.type === 'msi' && entry.entryNr !== 0) {
    xen.services.printk(XENLOG.G_ERR, `dom${d.domid}: trying to unmap secondary MSI pirq ${pirq}`);
    return E.BUSY;
  }
  yield* pirqGuestForceUnbind(xen, d, info);
  // What leads from the interrupt to the pirq is gone, and is written to.
  if (info.halfUndone === true) panic('FATAL PAGE FAULT');
  if (entry === undefined) return forgetPirq(xen, d, pirq, info.irq);
  pciDisableMsi(xen, entry);
  let rc: Rc = 0;
  for (const { irq } of entry.group) {
    const mine = domainIrqToPirq(d, irq);
    const denied = mine === undefined ? 0 : forgetPirq(xen, d, mine.pirq, irq);
    if (denied !== 0) rc = denied;
    forgetMessage(entry.pdev, irq);
  }
  yield* msiFreeIrq(xen, entry);
  return rc;
}

/** What a dead domain still had. @xen free_domain_pirqs */
export function* freeDomainPirqs(xen: Xen, d: Domain): Co<void> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  for (const pirq of [...d.pirqs.keys()].sort((a, b) => a - b)) {
    if (d.pirqs.has(pirq)) yield* unmapDomainPirq(xen, d, pirq);
  }
}

/** No domain has an interrupt of the device any more. */
export function* unmapMessagesOf(xen: Xen, pdev: Pdev): Co<void> {
  for (const entry of [...msisOf(xen, pdev)]) {
    for (const d of xen.domains.values()) {
      const pirq = domainIrqToPirq(d, entry.irq);
      if (pirq !== undefined) yield* unmapDomainPirq(xen, d, pirq.pirq);
    }
  }
}
