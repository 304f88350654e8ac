/**
 * Interrupts follow the virtual CPU that they are for: asked to when it runs on another CPU, they move when they come
 * the next time, since only then nothing is lost. @xen arch/x86/irq.c, common/sched/core.c sched_move_irqs
 */
import type { Co } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import type { Xen } from '../xen.js';
import type { CpuMask, IrqDesc } from './desc.js';
import { setMsiAffinity } from './msi.js';
import { releaseOldVector } from './vectors.js';

/** The scheduler runs the first vCPU of `d`, whose all interrupts of devices are, on `cpu`. */
export function runOn(xen: Xen, d: Domain, cpu: number): void {
  // Destinations are masks of the first CPUs: nothing can be aimed at others.
  if (((2 ** cpu) & xen.irqs.online) === 0) return;
  d.processor = cpu;
  if (d.isHvm) hvmMigratePirqs(xen, d);
  else evtchnMovePirqs(xen, d);
}

/** @xen evtchn_move_pirqs */
function evtchnMovePirqs(xen: Xen, d: Domain): void {
  for (const c of d.eventChannels.values()) {
    const pirq = c.state === 'pirq' ? d.pirqs.get(c.pirq) : undefined;
    if (pirq !== undefined) irqSetAffinity(xen, pirq.irq, d.processor);
  }
}

/** Messages that reach the guest as such; pins stay where they are. @xen hvm_migrate_pirqs */
function hvmMigratePirqs(xen: Xen, d: Domain): void {
  for (const pirq of d.pirqs.values())
    if (pirq.dpciKind === 'msi') irqSetAffinity(xen, pirq.irq, d.processor);
}

/** @xen irq_set_affinity */
function irqSetAffinity(xen: Xen, irq: number, cpu: number): void {
  const desc = xen.irqs.descs.get(irq);
  if (desc !== undefined && isAimed(desc)) desc.pendingMask = 2 ** cpu;
}

/** @xen handler->set_affinity is there */
const isAimed = ({ handler }: IrqDesc): boolean => handler !== 'none' && handler !== '8259A';

/** @xen handler->set_affinity */
export function* setAffinity(xen: Xen, desc: IrqDesc, cpus: CpuMask): Co<void> {
  const { ioApic } = xen.irqs;
  if (!isAimed(desc)) return;
  if (desc.msi !== undefined) yield* setMsiAffinity(xen, desc, cpus);
  else if (ioApic !== undefined) yield* ioApic.setAffinity(desc, cpus);
}

/**
 * What taking an interrupt does for a move: the one before is complete, the one that was asked for is made. A level is
 * masked meanwhile and let go again, an edge let go. @xen irq_complete_move, move_native_irq, move_masked_irq
 */
export function* irqArrives(xen: Xen, irq: number): Co<void> {
  const desc = xen.irqs.descs.get(irq);
  if (desc === undefined) return;
  releaseOldVector(xen.irqs, desc);
  const cpus = desc.pendingMask;
  if (cpus === 0 || desc.disabled) return;
  const pins = desc.msi === undefined ? xen.irqs.ioApic : undefined;
  if (pins !== undefined && desc.handler === 'level') yield* pins.setMask(desc, true);
  desc.pendingMask = 0;
  yield* setAffinity(xen, desc, cpus);
  if (pins !== undefined) yield* pins.setMask(desc, false);
}

/** Interrupts that came since somebody looked. */
export function* moveArrived(xen: Xen): Co<void> {
  for (const irq of xen.irqs.moving.splice(0)) yield* irqArrives(xen, irq);
}
