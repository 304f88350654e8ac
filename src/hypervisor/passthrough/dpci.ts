/** An interrupt of a passed-through device is handed to its HVM guest by a softirq. @xen drivers/passthrough/x86/hvm.c */
import { assert } from '../../base/assert.js';
import type { Domain, InFlight, Pirq } from '../domain.js';
import type { Xen } from '../xen.js';

/** The softirq is raised once, however many interrupts there are. @xen hvm_do_IRQ_dpci, raise_softirq_for */
export function hvmDoIrqDpci(xen: Xen, d: Domain, pirq: Pirq, rounds: number): void {
  if (!d.dpci || !pirq.bound || pirq.dpciActive) return;
  pirq.dpciActive = true;
  xen.irqs.inFlight.push({ d, pirq, rounds });
  if (rounds === 0) dpciSoftirq(xen, pirq);
}

/** The other CPUs get on while one hypercall is taken up again. */
export function softirqsElsewhere(xen: Xen): void {
  for (const one of [...xen.irqs.inFlight]) if (--one.rounds <= 0) dpciSoftirq(xen, one.pirq);
}

/** All that waits runs. */
export function allDpciSoftirqs(xen: Xen): void {
  for (const one of [...xen.irqs.inFlight]) dpciSoftirq(xen, one.pirq);
}

/** @xen dpci_softirq, hvm_dirq_assist */
function dpciSoftirq(xen: Xen, pirq: Pirq): void {
  const one = forgetSoftirq(xen, pirq);
  if (one !== undefined)
    assert(one.d.dpci, `hvm_dirq_assist: d${one.d.domid} has no table of interrupts any more`);
}

/** @returns what was in flight, if anything. @xen pt_pirq_softirq_reset */
export function forgetSoftirq(xen: Xen, pirq: Pirq): InFlight | undefined {
  const at = xen.irqs.inFlight.findIndex((one) => one.pirq === pirq);
  pirq.dpciActive = false;
  return at < 0 ? undefined : xen.irqs.inFlight.splice(at, 1)[0];
}
