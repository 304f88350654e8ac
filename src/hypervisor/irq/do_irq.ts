/** A message has arrived at a CPU. @xen arch/x86/irq.c do_IRQ, __do_IRQ_guest */
import { hvmDoIrqDpci } from '../passthrough/dpci.js';
import type { Xen } from '../xen.js';
import { VECTOR_NONE } from './desc.js';

/**
 * Tells the guests whose interrupt has this vector. `rounds`: see InFlight.
 * @returns the interrupt, -1 when nobody has the vector
 */
export function doIrq(xen: Xen, vector: number, rounds = 0): number {
  const irq = xen.irqs.byVector.get(vector);
  if (irq === undefined) return -1;
  const desc = xen.irqs.desc(irq);
  const { moving } = xen.irqs;
  const moves = desc.pendingMask !== 0 || desc.oldVector !== VECTOR_NONE;
  if (moves && !moving.includes(irq)) moving.push(irq);
  for (const d of desc.guests) {
    if (!d.isHvm) continue;
    for (const pirq of d.pirqs.values()) if (pirq.irq === irq) hvmDoIrqDpci(xen, d, pirq, rounds);
  }
  return irq;
}
