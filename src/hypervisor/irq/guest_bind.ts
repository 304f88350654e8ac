/** Interrupts that belong to domains. @xen arch/x86/irq.c pirq_guest_bind */
import { panic } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { XENLOG } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import type { Domain, Pirq } from '../domain.js';
import type { Xen } from '../xen.js';
import type { IrqDesc } from './desc.js';
import { runOn, setAffinity } from './move.js';

/** @xen irq_max_guests */
const MAX_GUESTS = 32;

/** @returns 0, -EINVAL for a pirq without interrupt, -EBUSY where others do not share, -ENOMEM. */
export function* pirqGuestBind(xen: Xen, d: Domain, pirq: Pirq, willShare: boolean): Co<Rc> {
  const desc = xen.irqs.desc(pirq.irq);
  const refuse = (why: string): Rc => {
    xen.services.printk(XENLOG.G_INFO, `Cannot bind IRQ${pirq.pirq} to dom${d.domid}. ${why}`);
    return E.BUSY;
  };
  if (!desc.isGuest) {
    if (desc.action !== undefined) return refuse(`In use by '${desc.action}'.`);
    if (xen.faults.on && xen.faults.take('alloc')) {
      refuse('Out of memory.');
      return E.NOMEM;
    }
    desc.isGuest = true;
    desc.shareable = willShare;
    const cpu = xen.irqs.boundOn.get(pirq.irq);
    if (cpu !== undefined) runOn(xen, d, cpu);
    yield* setAffinity(xen, desc, 2 ** d.processor);
    desc.disabled = false;
    yield* startup(xen, desc);
  } else if (!willShare || !desc.shareable) {
    return refuse(willShare ? 'Others do not share.' : 'Will not share with others.');
  }
  if (desc.guests.length >= MAX_GUESTS) {
    const why = `already at max share ${MAX_GUESTS} (increase with irq-max-guests= option)`;
    xen.services.printk(XENLOG.G_INFO, `Cannot bind IRQ${pirq.pirq} to ${xen.services.pd(d)}: ${why}`);
    return E.BUSY;
  }
  desc.guests.push(d);
  pirq.bound = true;
  return 0;
}

/** @throws HostCrash when the interrupt is nobody's, as that of a device which was removed. @xen pirq_guest_unbind */
export function* pirqGuestUnbind(xen: Xen, d: Domain, pirq: Pirq): Co<void> {
  const desc = xen.irqs.descs.get(pirq.irq);
  if (desc?.isGuest !== true) panic('Xen BUG at arch/x86/irq.c');
  yield* unbind(xen, d, pirq, desc);
}

/** Whatever is bound, if anything is. @xen pirq_guest_force_unbind */
export function* pirqGuestForceUnbind(xen: Xen, d: Domain, pirq: Pirq): Co<void> {
  const desc = xen.irqs.descs.get(pirq.irq);
  if (desc?.guests.includes(d) === true) yield* unbind(xen, d, pirq, desc);
}

/** @xen __pirq_guest_unbind */
function* unbind(xen: Xen, d: Domain, pirq: Pirq, desc: IrqDesc): Co<void> {
  pirq.bound = false;
  const at = desc.guests.indexOf(d);
  if (at >= 0) desc.guests.splice(at, 1);
  if (desc.guests.length > 0) return;
  yield* mask(xen, desc);
  desc.disabled = true;
  desc.isGuest = false;
  yield* mask(xen, desc);
}

/** The guest of a message unmasks it when it has its event channel. @xen arch_evtchn_bind_pirq */
export function unmaskForGuest(xen: Xen, irq: number): void {
  const { msi } = xen.irqs.desc(irq);
  if (msi !== undefined) msi.guestMasked = false;
}

/** @xen handler->startup: an MSI that cannot be masked is on once its device says so */
function* startup(xen: Xen, desc: IrqDesc): Co<void> {
  if (desc.msi !== undefined) {
    desc.msi.hostMasked = false;
    desc.msi.guestMasked = desc.msi.maskbit;
    return;
  }
  if (xen.irqs.ioApic !== undefined) yield* xen.irqs.ioApic.setMask(desc, false);
}

/** Both handler->disable and ->shutdown; edges of the I/O APIC stay on. */
function* mask(xen: Xen, desc: IrqDesc): Co<void> {
  if (desc.msi !== undefined) desc.msi.hostMasked = desc.msi.maskbit;
  else if (desc.handler === 'level' && xen.irqs.ioApic !== undefined)
    yield* xen.irqs.ioApic.setMask(desc, true);
}
