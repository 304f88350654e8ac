/** A message has arrived at a CPU. @xen arch/x86/irq.c do_IRQ, __do_IRQ_guest */
import { hvmDoIrqDpci } from '../passthrough/dpci.js';
import type { Xen } from '../xen.js';

/**
 * Tells the guests whose interrupt has this vector. `rounds`: see InFlight.
 * @returns the interrupt, -1 when nobody has the vector
 */
export function doIrq(xen: Xen, vector: number, rounds = 0): number {
  const irq = xen.irqs.byVector.get(vector);
  if (irq === undefined) return -1;
  for (const d of xen.irqs.desc(irq).guests) {
    if (!d.isHvm) continue;
    for (const pirq of d.pirqs.values()) if (pirq.irq === irq) hvmDoIrqDpci(xen, d, pirq, rounds);
  }
  return irq;
}
