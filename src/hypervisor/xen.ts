/** The hypervisor's state: what Xen keeps in globals. Functions take it as first argument. */
import type { Sbdf } from '../base/sbdf.js';
import type {
  CpuFacts,
  E820Entry,
  ExtraRange,
  IommuDriver,
  IommuOps,
  IommuOptions,
  Pdev,
  XenServices,
} from '../iommu/driver/types.js';
import type { PciHost } from '../pci/bus.js';
import type { Clock } from '../sim/clock.js';
import type { EventStream } from '../sim/events.js';
import type { Faults } from '../sim/faults.js';
import type { Frames, Heap } from '../sim/frames.js';
import { LazyMap, LazySet } from '../sim/lazy_map.js';
import type { ListLinks } from '../sim/list_links.js';
import type { Cpus, SpinLock } from '../sim/locks.js';
import type { MmioMap } from '../sim/mmio.js';
import type { Ram } from '../sim/ram.js';
import { Table } from '../sim/table.js';
import type { Console } from './console.js';
import type { Domain } from './domain.js';
import type { Irqs } from './irq/desc.js';
import type { XenVersion } from './public/hypercalls.js';
import type { RangeSet } from './rangeset.js';
import type { Seams } from './seams.js';

/** One PCI segment. @xen struct pci_seg */
export class PciSeg {
  /** Devices by bdf; newest first when listed. @xen alldevs_list */
  readonly alldevs: Map<number, Pdev> = new Table();
  /** Those whose config space nobody may write, by bdf. */
  readonly roMap = new LazySet<number>();
  /** By bus number: the bridge above it. @xen bus2bridge */
  readonly bus2bridge = new LazyMap<number, { bus: number; devfn: number }>();
  constructor(readonly nr: number) {}
}

/** One entry of `pci-phantom=`. */
export interface PhantomOption {
  readonly seg: number;
  readonly bus: number;
  readonly slot: number;
  readonly stride: number;
}

/** `pci={no-}serr,perr,quirks` */
export interface PciOptions {
  /** System errors of devices are switched off (`no-serr`). */
  maskSerr: boolean;
  /** Parity errors are (`no-perr`). */
  maskPerr: boolean;
  quirks: boolean;
}

/** Where each piece of the simulated hardware is. */
export interface Hardware {
  readonly ram: Ram;
  readonly frames: Frames;
  readonly heap: Heap;
  readonly mmio: MmioMap;
  readonly clock: Clock;
  readonly cpus: Cpus;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly pci: PciHost;
  readonly cpu: CpuFacts;
  readonly e820: readonly E820Entry[];
}

export interface Xen extends Hardware {
  readonly console: Console;
  readonly seams: Seams;
  readonly cmdline: string;
  readonly version: XenVersion;
  readonly cpuKhz: number;
  /** CPUID leaves as `xl info` prints them. */
  readonly hwCaps: readonly number[];
  readonly opts: IommuOptions;
  readonly pciOpts: Readonly<PciOptions>;
  readonly pciPhantoms: readonly PhantomOption[];
  readonly extraRanges: readonly ExtraRange[];

  readonly domctlLock: SpinLock;
  readonly pcidevsLock: SpinLock;
  readonly bus2bridgeLock: SpinLock;

  /** Ordinary domains by id, dom0 included; dom_io and dom_xen are not in it. */
  readonly domains: Map<number, Domain>;
  hwdom: Domain;
  readonly domIo: Domain;
  readonly domXen: Domain;
  /** Next id tried for a new domain: `rover`. @xen common/domctl.c XEN_DOMCTL_createdomain */
  domidRover: number;

  readonly segs: Map<number, PciSeg>;
  /** Every device by sbdf. */
  readonly pdevs: Map<Sbdf, Pdev>;
  readonly pdevLinks: ListLinks<Pdev>;

  /** Frames of Xen's image, which no table of dom0's devices maps. @xen xen_in_range */
  readonly xenRanges: RangeSet;
  /** Device memory that dom0 may only read: I/O APICs, HPET, memory-mapped config space. @xen mmio_ro_ranges */
  readonly mmioRo: RangeSet;
  /** CPUs in the middle of a batch, which flushes once in its end. @xen iommu_dont_flush_iotlb */
  readonly dontFlushIotlb: LazySet<number>;
  /** Interrupt lines of the I/O APICs. @xen nr_irqs_gsi */
  readonly nrIrqsGsi: number;

  /** Interrupts, their vectors and the I/O APIC. @xen irq_desc[] */
  readonly irqs: Irqs;

  /** @xen iommu_enabled */
  iommuEnabled: boolean;
  driver: IommuDriver | undefined;
  ops: IommuOps | undefined;
  readonly services: XenServices;
  /** @xen system_state */
  booted: boolean;
}
