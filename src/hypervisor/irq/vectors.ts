/** Vectors of interrupts, spread over the priority levels. @xen arch/x86/irq.c _assign_irq_vector */
import { E, type Rc } from '../../base/errno.js';
import { type CpuMask, type IrqDesc, type Irqs, VECTOR_NONE } from './desc.js';

export const FIRST_DYNAMIC_VECTOR = 0x20;
const LAST_DYNAMIC_VECTOR = 0xef;
const LAST_LEGACY_VECTOR = FIRST_DYNAMIC_VECTOR + 0xf;
export const IRQ0_VECTOR = 0xf0;
export const FIRST_HIPRIORITY_VECTOR = 0xf1;
/** What Linux's fast trap and 32-bit hypercalls use. */
const LEGACY_SYSCALL_VECTOR = 0x80;
const HYPERCALL_VECTOR = 0x82;
const STEP = 8;

const isReserved = (vector: number): boolean =>
  vector <= LAST_LEGACY_VECTOR || vector === LEGACY_SYSCALL_VECTOR || vector === HYPERCALL_VECTOR;

/**
 * A vector for `desc` unless it has one that one of `cpus` knows; the one before stays until an interrupt has come by
 * the new one. @returns the vector, or -ENOSPC. @xen assign_irq_vector, set_desc_affinity
 */
export function assignIrqVector(irqs: Irqs, desc: IrqDesc, cpus: CpuMask = irqs.online): Rc {
  // A vector of the 8259A is not one of the I/O APIC's: taking the line over finds a new one.
  if (desc.vector !== VECTOR_NONE && (cpus & desc.cpuMask) !== 0) {
    desc.affinity = cpus;
    return desc.vector;
  }
  let vector = irqs.currentVector;
  let offset = irqs.currentOffset;
  for (let tries = 0; tries <= LAST_DYNAMIC_VECTOR; tries++) {
    vector += STEP;
    if (vector > LAST_DYNAMIC_VECTOR) {
      offset = (offset + 1) % STEP;
      vector = FIRST_DYNAMIC_VECTOR + offset;
    }
    if (vector === irqs.currentVector) break;
    if (isReserved(vector) || irqs.byVector.has(vector)) continue;
    irqs.currentVector = vector;
    irqs.currentOffset = offset;
    desc.oldVector = desc.vector;
    bindVector(irqs, desc, vector, irqs.online);
    desc.affinity = cpus;
    return vector;
  }
  return E.NOSPC;
}

export function bindVector(irqs: Irqs, desc: IrqDesc, vector: number, cpus: CpuMask): void {
  irqs.byVector.set(vector, desc.irq);
  desc.vector = vector;
  desc.cpuMask = cpus;
}

/** @xen _clear_irq_vector */
export function clearIrqVector(irqs: Irqs, desc: IrqDesc): void {
  irqs.byVector.delete(desc.vector);
  desc.vector = VECTOR_NONE;
  desc.cpuMask = 0;
  releaseOldVector(irqs, desc);
}

/** @xen release_old_vec */
export function releaseOldVector(irqs: Irqs, desc: IrqDesc): void {
  if (desc.oldVector === VECTOR_NONE) return;
  irqs.byVector.delete(desc.oldVector);
  desc.oldVector = VECTOR_NONE;
}
