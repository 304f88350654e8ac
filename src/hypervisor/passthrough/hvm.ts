/** Interrupts of passed-through devices reach a guest. @xen drivers/passthrough/x86/hvm.c, arch/x86/domctl.c */
import { E, type Rc } from '../../base/errno.js';
import { funcOf, hex, slotOf } from '../../base/sbdf.js';
import { XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold } from '../../sim/co.js';
import type { Domain, Pirq } from '../domain.js';
import { pirqGuestBind, pirqGuestUnbind } from '../irq/guest_bind.js';
import { irqAccessPermitted, nrPirqs } from '../pirq.js';
import type { DomctlOp } from '../public/domctl.js';
import type { Xen } from '../xen.js';
import { forgetSoftirq } from './dpci.js';

type BindOp = Extract<DomctlOp, { cmd: 'bind_pt_irq' | 'unbind_pt_irq' }>;

/** GSI of a virtual interrupt pin. @xen hvm_pci_intx_gsi */
const hvmPciIntxGsi = (device: number, intx: number): number =>
  (((device << 2) + (device >> 3) + intx) & 31) + 16;

/** @xen XEN_DOMCTL_bind_pt_irq */
export function* ptIrqBind(xen: Xen, d: Domain, op: BindOp): Co<Rc> {
  if (!d.isHvm) return E.INVAL;
  if (!callerHasIrq(xen, d, op)) return E.PERM;
  const rc = d.iommuEnabled ? yield* locked(xen, d, op, ptIrqCreateBind) : E.SRCH;
  if (d.iommuEnabled || xen.seams.bindTellsMissingIommu()) tellFailure(xen, d, 'create', rc);
  return rc;
}

/** @xen XEN_DOMCTL_unbind_pt_irq */
export function* ptIrqUnbind(xen: Xen, d: Domain, op: BindOp): Co<Rc> {
  if (!d.isHvm) return E.INVAL;
  if (!callerHasIrq(xen, d, op)) return E.PERM;
  const rc = d.iommuEnabled ? yield* locked(xen, d, op, ptIrqDestroyBind) : 0;
  tellFailure(xen, d, 'destroy', rc);
  return rc;
}

function tellFailure(xen: Xen, d: Domain, what: string, rc: Rc): void {
  if (rc >= 0) return;
  const who = xen.seams.domctlDomainText(d.domid);
  xen.services.printk(XENLOG.G_ERR, `pt_irq_${what}_bind failed (${rc}) for ${who}`);
}

function callerHasIrq(xen: Xen, d: Domain, op: BindOp): boolean {
  const irq = d.pirqs.get(op.machineIrq)?.irq ?? 0;
  const me = xen.domains.get(xen.cpus.current.domid);
  return irq > 0 && me !== undefined && irqAccessPermitted(me, irq);
}

function* locked(xen: Xen, d: Domain, op: BindOp, body: (xen: Xen, d: Domain, op: BindOp) => Co<Rc>): Co<Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return yield* body(xen, d, op);
}

/** @returns 0, -EINVAL, -EBUSY for a line that is bound otherwise, -EOPNOTSUPP, -ENOMEM. @xen pt_irq_create_bind */
function* ptIrqCreateBind(xen: Xen, d: Domain, op: BindOp): Co<Rc> {
  if (op.machineIrq < 0 || op.machineIrq >= nrPirqs(xen, d)) return E.INVAL;
  if (!d.dpci && xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  d.dpci = true;
  const pirq = d.pirqs.get(op.machineIrq)!;
  // It spins until a softirq for an earlier binding has run.
  forgetSoftirq(xen, pirq);
  switch (op.irqType) {
    case 'msi':
      return yield* bindMsi(xen, d, pirq, op);
    case 'pci':
    case 'msi_translate':
      return yield* bindPin(xen, d, pirq, op);
    default:
      return E.OPNOTSUPP;
  }
}

function* bindMsi(xen: Xen, d: Domain, pirq: Pirq, op: BindOp): Co<Rc> {
  if (pirq.bound && pirq.dpciKind !== 'msi') return E.BUSY;
  if (!pirq.bound) {
    const rc = yield* pirqGuestBind(xen, d, pirq, false);
    if (rc !== 0) return rc;
  }
  pirq.dpciKind = 'msi';
  pirq.gmsi = { gvec: op.gvec ?? 0, gflags: op.gflags ?? 0 };
  return 0;
}

/** A line may be wired to several virtual pins; only the first one binds it. */
function* bindPin(xen: Xen, d: Domain, pirq: Pirq, op: BindOp): Co<Rc> {
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  const link = { bus: op.bus ?? 0, device: op.device ?? 0, intx: op.intx ?? 0 };
  pirq.links ??= [];
  pirq.links.push(link);
  if (!pirq.bound) {
    const rc = yield* pirqGuestBind(xen, d, pirq, op.irqType === 'pci');
    if (rc !== 0) {
      pirq.links.pop();
      return rc;
    }
    pirq.dpciKind = op.irqType;
  }
  if (!xen.opts.verbose) return 0;
  const gsi = hvmPciIntxGsi(link.device, link.intx);
  const what = `m_gsi=${pirq.pirq} g_gsi=${gsi} ${pinText(link)}`;
  xen.services.printk(XENLOG.G_INFO, `d${d.domid}: bind: ${what}`);
  return 0;
}

const pinText = (l: { bus: number; device: number; intx: number }): string =>
  `dev=${hex(l.bus, 2)}.${hex(slotOf(l.device), 2)}.${funcOf(l.device)} intx=${l.intx}`;

/** @returns 0, -EINVAL for a pin that was not wired so, -EOPNOTSUPP. @xen pt_irq_destroy_bind */
function* ptIrqDestroyBind(xen: Xen, d: Domain, op: BindOp): Co<Rc> {
  if (!d.dpci) return E.INVAL;
  const pirq = d.pirqs.get(op.machineIrq)!;
  if (op.irqType === 'msi') {
    if (pirq.bound && (pirq.links ?? []).length === 0) yield* unbind(xen, d, pirq);
    return 0;
  }
  const link = { bus: op.bus ?? 0, device: op.device ?? 0, intx: op.intx ?? 0 };
  if (xen.opts.verbose) {
    const dev = `${hex(link.bus, 2)}:${hex(slotOf(link.device), 2)}.${funcOf(link.device)}`;
    const gsi = hvmPciIntxGsi(link.device, link.intx);
    xen.services.printk(
      XENLOG.G_INFO,
      `d${d.domid}: unbind: m_gsi=${pirq.pirq} g_gsi=${gsi} dev=${dev} intx=${link.intx}`,
    );
  }
  const links = pirq.links ?? [];
  const at = links.findIndex((l) => l.bus === link.bus && l.device === link.device && l.intx === link.intx);
  if (at < 0) return E.INVAL;
  links.splice(at, 1);
  const what = !pirq.bound ? 'bogus' : links.length === 0 ? 'final' : 'partial';
  if (pirq.bound && links.length === 0) yield* unbind(xen, d, pirq);
  if (xen.opts.verbose) {
    xen.services.printk(XENLOG.G_INFO, `d${d.domid} ${what} unmap: m_irq=${pirq.pirq} ${pinText(link)}`);
  }
  return 0;
}

function* unbind(xen: Xen, d: Domain, pirq: Pirq): Co<void> {
  yield* pirqGuestUnbind(xen, d, pirq);
  forgetBinding(pirq);
  forgetSoftirq(xen, pirq);
}

function forgetBinding(pirq: Pirq): void {
  pirq.bound = false;
  delete pirq.dpciKind;
  delete pirq.gmsi;
  pirq.links = [];
}

/**
 * Unbinds what a dying guest still has bound. An interrupt in flight stops it there, to be taken up again.
 * @returns 0 or -ERESTART. @xen arch_pci_clean_pirqs, pt_pirq_iterate
 */
export function* archPciCleanPirqs(xen: Xen, d: Domain): Co<Rc> {
  if (!d.iommuEnabled || !d.isHvm || !d.dpci) return 0;
  let rc: Rc = 0;
  for (const pirq of [...d.pirqs.values()].sort((a, b) => a.pirq - b.pirq)) {
    if (!pirq.bound) continue;
    rc = yield* cleanPirq(xen, d, pirq);
    if (rc !== 0 && xen.seams.cleaningStopsInFlight()) break;
  }
  if (rc === 0 && xen.seams.cleaningAsksAgain() && xen.irqs.inFlight.some((one) => one.d === d))
    rc = E.RESTART;
  if (rc === 0) d.dpci = false;
  return rc;
}

/** @xen pci_clean_dpci_irq */
function* cleanPirq(xen: Xen, d: Domain, pirq: Pirq): Co<Rc> {
  yield* pirqGuestUnbind(xen, d, pirq);
  forgetBinding(pirq);
  if (!xen.seams.cleaningKeepsPirqs()) d.pirqs.delete(pirq.pirq);
  return pirq.dpciActive ? E.RESTART : 0;
}
