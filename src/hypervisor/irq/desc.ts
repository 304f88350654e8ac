/** Interrupts of the machine as Xen keeps them. @xen struct irq_desc, arch/x86/irq.c */
import type { Rc } from '../../base/errno.js';
import type { Sbdf } from '../../base/sbdf.js';
import type { MsiDesc, MsiMsg, Pdev } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import { LazyMap } from '../../sim/lazy_map.js';
import { Table } from '../../sim/table.js';
import type { Domain, InFlight } from '../domain.js';

/** A mask of CPUs; Xen's flat mode knows eight, and addresses all there are with it. */
export type CpuMask = number;
const CPUS_MAX = 8;
export const onlineCpus = (count: number): CpuMask => (1 << Math.min(count, CPUS_MAX)) - 1;

/** Which hardware an interrupt comes from. @xen hw_irq_controller */
export type IrqHandler =
  | 'none'
  | '8259A'
  | 'edge'
  | 'level'
  | 'dma_msi'
  | 'amd_iommu_msi'
  | 'msi_maskable'
  | 'msi';

/** @xen IRQ_VECTOR_UNASSIGNED */
export const VECTOR_NONE = -1;

/** One message of a device. @xen struct msi_desc */
export interface MsiEntry extends MsiDesc {
  readonly type: 'msi' | 'msix';
  /** Number of the vector in its group, or of the entry in the MSI-X table. */
  readonly entryNr: number;
  /** Vectors of the group, on its first one. */
  readonly nvec: number;
  readonly pos: number;
  readonly is64: boolean;
  readonly maskbit: boolean;
  readonly pdev: Pdev;
  /** All vectors of its request, this one included. */
  group: readonly MsiEntry[];
  irq: number;
  hostMasked: boolean;
  guestMasked: boolean;
  /** As composed, before remapping, and as hardware was told. */
  msg: MsiMsg;
  sent: MsiMsg;
}

export class IrqDesc {
  vector = VECTOR_NONE;
  /** The one before, on CPUs that it has left. */
  oldVector = VECTOR_NONE;
  /** CPUs that it goes to with the next interrupt, 0 for none. @xen pending_mask, IRQ_MOVE_PENDING */
  pendingMask: CpuMask = 0;
  handler: IrqHandler = 'none';
  disabled = true;
  /** Who handles it: Xen itself, by the name of the function, or the domains of `guests`. */
  action: string | undefined = undefined;
  guests: Domain[] = [];
  /** Whoever bound it first lets others join. */
  shareable = false;
  /** Bound to guests. @xen IRQ_GUEST */
  isGuest = false;
  affinity: CpuMask;
  cpuMask: CpuMask = 0;
  msi: MsiEntry | undefined = undefined;
  /** Who asked for it, -1 for Xen itself: destroying it takes the right to it back. @xen creator_domid */
  creator = -1;
  /** The pin of the I/O APIC that it comes from, -1 for none. @xen irq_2_pin */
  pin = -1;

  constructor(
    readonly irq: number,
    allCpus: CpuMask,
  ) {
    this.affinity = allCpus;
  }
}

/** A redirection entry; the destination is a mask of CPUs. @xen struct IO_APIC_route_entry */
export interface Rte {
  vector: number;
  deliveryMode: number;
  logical: boolean;
  level: boolean;
  masked: boolean;
  dest: CpuMask;
}

/** What the rest of Xen asks of the I/O APIC; io_apic.ts is one. */
export interface IoApicPins {
  /** Its APIC id. */
  readonly id: number;
  readonly rtes: readonly Rte[];
  restore(): Co<void>;
  setUp(irqs: Irqs): Co<void>;
  setUpSerial(irqs: Irqs): Co<void>;
  aim(irqs: Irqs): Co<void>;
  registerGsi(irqs: Irqs, gsi: number, level: boolean): Co<Rc>;
  setAffinity(desc: IrqDesc, cpus: CpuMask): Co<void>;
  setMask(desc: IrqDesc, masked: boolean): Co<void>;
}

/** @xen irq_desc[], current_vector */
export class Irqs {
  readonly descs: Map<number, IrqDesc> = new Table();
  /** Interrupts that have each vector. All CPUs share them, as in flat mode. */
  readonly byVector: Map<number, number> = new Table();
  /** Messages of devices, the first of each request, in the order in which they were asked for. @xen pdev->msi_list */
  readonly msis = new LazyMap<Sbdf, MsiEntry[]>();
  /** Softirqs for interrupts that guests have not been told of. */
  readonly inFlight: InFlight[] = [];
  /** Interrupts that came while they had a move to make. */
  readonly moving: number[] = [];
  /** By interrupt: the CPU that its vCPU runs on when a domain binds it, where somebody foretells it. */
  readonly boundOn = new LazyMap<number, number>();
  currentVector: number;
  currentOffset = 0;
  readonly online: CpuMask;
  /** Undefined where the firmware describes none. */
  ioApic: IoApicPins | undefined = undefined;

  constructor(cpus: number, firstVector: number) {
    this.online = onlineCpus(cpus);
    this.currentVector = firstVector;
  }

  /** Made on first use. */
  desc(irq: number): IrqDesc {
    let d = this.descs.get(irq);
    if (d === undefined) {
      d = new IrqDesc(irq, this.online);
      this.descs.set(irq, d);
    }
    return d;
  }
}
