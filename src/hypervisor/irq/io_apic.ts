/**
 * The I/O APIC: what each pin's redirection entry says, written through the IOMMU's remapping table. Steps and order of
 * the boot are those of Xen, since each write is an invalidation of an interrupt entry. @xen arch/x86/io_apic.c
 */
import { E, type Rc } from '../../base/errno.js';
import { type Co, hold } from '../../sim/co.js';
import { RANK } from '../../sim/lock_ranks.js';
import { SpinLock } from '../../sim/locks.js';
import type { Xen } from '../xen.js';
import type { CpuMask, IoApicPins, IrqDesc, Irqs, Rte } from './desc.js';
import { assignIrqVector, bindVector, FIRST_HIPRIORITY_VECTOR, IRQ0_VECTOR } from './vectors.js';

/** What firmware says of it. */
export interface IoApicDescription {
  readonly id: number;
  readonly pins: number;
  /** ISA interrupts that are not on the pin of their number, or are level triggered. @xen INT_SRC_OVR */
  readonly overrides: readonly { readonly irq: number; readonly pin: number; readonly level?: boolean }[];
  /** Xen's console: the interrupt of its UART, if it has one. */
  readonly serialIrq?: number;
}

const LEGACY_IRQS = 16;
/** @xen dest_LowestPrio, flat mode's delivery */
const LOWEST_PRIORITY = 1;

const blank = (): Rte => ({
  vector: 0,
  deliveryMode: 0,
  logical: false,
  level: false,
  masked: true,
  dest: 0,
});

export class IoApic implements IoApicPins {
  /** As Xen means them; what the hardware holds refers to the remapping table. */
  readonly rtes: Rte[];
  /** Pins that dom0 has set up. @xen mp_ioapic_routing pin_programmed */
  readonly programmed = new Set<number>();
  readonly lock: SpinLock;

  constructor(
    readonly xen: Xen,
    readonly description: IoApicDescription,
  ) {
    this.rtes = Array.from({ length: description.pins }, blank);
    this.lock = new SpinLock(xen.cpus, 'ioapic_lock', RANK.ioapic);
  }

  get id(): number {
    return this.description.id;
  }

  /** The ISA interrupt of a pin, -1 for none. @xen find_irq_entry, pin_2_irq */
  private isaIrq(pin: number): number {
    const { overrides } = this.description;
    const override = overrides.find((o) => o.pin === pin);
    if (override !== undefined) return override.irq;
    const moved = overrides.some((o) => o.irq === pin);
    return pin < LEGACY_IRQS && !moved ? pin : -1;
  }

  private isLevel(irq: number): boolean {
    return this.description.overrides.some((o) => o.irq === irq && o.level === true);
  }

  /** @xen __ioapic_write_entry */
  *write(pin: number, change: Partial<Rte>): Co<void> {
    using _ioapic = yield* hold(this.lock);
    const rte = this.rtes[pin]!;
    Object.assign(rte, change);
    const { ops, opts } = this.xen;
    if (opts.intremap === 'off' || ops?.updateIreFromApic === undefined) return;
    const low =
      rte.vector |
      (rte.deliveryMode << 8) |
      (rte.logical ? 1 << 11 : 0) |
      (rte.level ? 1 << 15 : 0) |
      (rte.masked ? 1 << 16 : 0);
    yield* ops.updateIreFromApic(0, this.description.id, pin, low, (rte.dest << 24) >>> 0);
  }

  /** Firmware's entries, now through the remapping table. @xen restore_IO_APIC_setup */
  *restore(): Co<void> {
    for (let pin = 0; pin < this.rtes.length; pin++) yield* this.write(pin, {});
  }

  /** @xen enable_IO_APIC, setup_IO_APIC, check_timer */
  *setUp(irqs: Irqs): Co<void> {
    for (let pin = 0; pin < this.rtes.length; pin++) yield* this.write(pin, blank());
    const serial = this.description.serialIrq;
    bindVector(irqs, irqs.desc(0), IRQ0_VECTOR, 1);
    if (serial !== undefined) bindVector(irqs, irqs.desc(serial), FIRST_HIPRIORITY_VECTOR, irqs.online);
    for (let pin = 0; pin < this.rtes.length; pin++) {
      const irq = this.isaIrq(pin);
      if (irq >= 0) yield* this.setUpIsa(irqs, irqs.desc(irq), pin);
    }
    const timer = irqs.desc(0);
    timer.action = 'arch/x86/time.c#timer_interrupt';
    timer.disabled = false;
    yield* this.write(timer.pin, { masked: false });
  }

  private *setUpIsa(irqs: Irqs, desc: IrqDesc, pin: number): Co<void> {
    const level = this.isLevel(desc.irq);
    desc.pin = pin;
    const vector = assignIrqVector(irqs, desc);
    // The other CPUs are not up yet; an interrupt of high priority is for all that come.
    if (vector < FIRST_HIPRIORITY_VECTOR) desc.cpuMask = 1;
    desc.affinity = desc.cpuMask;
    desc.handler = level ? 'level' : 'edge';
    yield* this.write(pin, {
      vector,
      deliveryMode: LOWEST_PRIORITY,
      logical: true,
      level,
      masked: level,
      dest: 1,
    });
  }

  /** Xen's console takes its interrupt. @xen ns16550_init_postirq */
  *setUpSerial(irqs: Irqs): Co<void> {
    const { serialIrq } = this.description;
    if (serialIrq === undefined) return;
    const desc = irqs.desc(serialIrq);
    if (desc.pin < 0) return;
    desc.action = 'drivers/char/ns16550.c#ns16550_interrupt';
    desc.disabled = false;
    // Seen on every recorded host with a serial console: the pin is written twice.
    yield* this.write(desc.pin, { masked: false });
    yield* this.write(desc.pin, { masked: false });
  }

  /** All CPUs are up: each pin is aimed at those of its interrupt. @xen setup_ioapic_dest */
  *aim(irqs: Irqs): Co<void> {
    for (let pin = 0; pin < this.rtes.length; pin++) {
      const irq = this.isaIrq(pin);
      if (irq < 0) continue;
      const desc = irqs.desc(irq);
      yield* this.write(pin, { dest: desc.cpuMask, vector: desc.vector });
    }
  }

  /**
   * dom0 wants an interrupt line. @returns 0; -EEXIST when Xen or dom0 had it before; -EINVAL for no such pin.
   * @xen mp_register_gsi, io_apic_set_pci_routing
   */
  *registerGsi(irqs: Irqs, gsi: number, level: boolean): Co<Rc> {
    if (gsi < 0 || gsi >= this.rtes.length) return E.INVAL;
    const desc = irqs.desc(gsi);
    if (!desc.disabled && desc.handler !== 'none') return E.EXIST;
    if (this.programmed.has(gsi)) return E.EXIST;
    this.programmed.add(gsi);
    if (gsi >= LEGACY_IRQS) desc.pin = gsi;
    const vector = assignIrqVector(irqs, desc);
    if (vector < 0) return vector;
    desc.handler = level ? 'level' : 'edge';
    yield* this.write(gsi, {
      vector,
      deliveryMode: LOWEST_PRIORITY,
      logical: true,
      level,
      masked: true,
      dest: desc.cpuMask,
    });
    return 0;
  }

  /** @xen set_ioapic_affinity_irq */
  *setAffinity(desc: IrqDesc, cpus: CpuMask): Co<void> {
    if (assignIrqVector(this.xen.irqs, desc, cpus) < 0 || desc.pin < 0) return;
    yield* this.write(desc.pin, { dest: cpus & desc.cpuMask, vector: desc.vector });
  }

  /** @xen mask_IO_APIC_irq, unmask_IO_APIC_irq */
  *setMask(desc: IrqDesc, masked: boolean): Co<void> {
    if (desc.pin >= 0) yield* this.write(desc.pin, { masked });
  }
}
