/** What Xen keeps in globals, as it is before anything runs. @xen arch/x86/setup.c __start_xen */
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
import { DOMID, type Frames, type Heap } from '../sim/frames.js';
import { LazySet } from '../sim/lazy_map.js';
import { ListLinks } from '../sim/list_links.js';
import { RANK } from '../sim/lock_ranks.js';
import { type Cpus, SpinLock } from '../sim/locks.js';
import type { MmioMap } from '../sim/mmio.js';
import type { Ram } from '../sim/ram.js';
import { Table } from '../sim/table.js';
import type { ImageSizes } from './boot_memory.js';
import { type CmdlineResult, parseCmdline } from './cmdline.js';
import { Console } from './console.js';
import { Domain } from './domain.js';
import { Irqs } from './irq/desc.js';
import { IoApic, type IoApicDescription } from './irq/io_apic.js';
import { FIRST_DYNAMIC_VECTOR } from './irq/vectors.js';
import type { McfgWindow } from './mmconfig.js';
import { Services } from './passthrough/services.js';
import type { XenVersion } from './public/hypercalls.js';
import { RangeSet } from './rangeset.js';
import type { Release } from './releases/index.js';
import type { Seams } from './seams.js';
import type { Hardware, PciOptions, PciSeg, PhantomOption, Xen } from './xen.js';

export interface XenBootOptions {
  readonly release: Release;
  /** The release's seams, or the repaired ones. */
  readonly seams: Seams;
  readonly cmdline: string;
  readonly dom0MemBytes: number;
  readonly dom0Vcpus: number;
  readonly images: ImageSizes | undefined;
  readonly dmar: Uint8Array | undefined;
  readonly ivrs: Uint8Array | undefined;
  /** Undefined: no I/O APIC is modelled. */
  readonly ioApic: IoApicDescription | undefined;
  /** Windows of the MCFG table. */
  readonly mcfg: readonly McfgWindow[];
  readonly cpuKhz: number;
  readonly hwCaps: readonly number[];
}

/** One I/O APIC, as client boards have. */
const NR_IRQS_GSI = 24;

/** The I/O APIC and the HPET. @xen io_apic.c ioapic_init_mappings, dom0_build.c dom0_setup_permissions */
function platformMmioRo(): RangeSet {
  const set = new RangeSet();
  set.add(0xfec00, 0xfec00);
  set.add(0xfed00, 0xfed00);
  return set;
}

/** How the modelled Xen was built: as Debian builds its packages. */
const versionOf = (hw: Hardware, o: XenBootOptions): XenVersion => ({
  changeset: '',
  compiler: 'x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0',
  compileBy: 'pkg-xen-devel',
  compileDomain: 'lists.alioth.debian.org',
  compileDate: 'Wed Nov  4 16:52:28 UTC 2026',
  buildId: '151b373fd64b321593bf987fd923cd10dabadac4',
  major: o.release.major,
  minor: o.release.minor,
  extra: o.release.extra,
  commandline: o.cmdline,
  capabilities: capabilities(hw),
});

/** @xen arch_get_xen_caps: the interface version, which has been 3.0 for ever */
const capabilities = (hw: Hardware): string =>
  hw.cpu.hap ? 'xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ' : 'xen-3.0-x86_64 ';

class XenState implements Xen {
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
  readonly seams: Seams;
  readonly cmdline: string;
  readonly version: XenVersion;
  readonly cpuKhz: number;
  readonly hwCaps: readonly number[];
  readonly opts: IommuOptions;
  readonly pciOpts: Readonly<PciOptions>;
  readonly pciPhantoms: readonly PhantomOption[];
  readonly extraRanges: readonly ExtraRange[];
  readonly domctlLock: SpinLock;
  readonly pcidevsLock: SpinLock;
  readonly bus2bridgeLock: SpinLock;
  readonly domains = new Table<number, Domain>();
  hwdom: Domain;
  readonly domIo: Domain;
  readonly domXen: Domain;
  domidRover = 0;
  readonly segs: Map<number, PciSeg> = new Table();
  readonly pdevs = new Table<Sbdf, Pdev>();
  readonly pdevLinks = new ListLinks<Pdev>();
  readonly xenRanges = new RangeSet();
  readonly dontFlushIotlb = new LazySet<number>();
  readonly mmioRo = platformMmioRo();
  readonly nrIrqsGsi: number;
  readonly irqs: Irqs;
  iommuEnabled = false;
  driver: IommuDriver | undefined = undefined;
  ops: IommuOps | undefined = undefined;
  booted = false;
  readonly services: XenServices;

  constructor(
    hw: Hardware,
    o: XenBootOptions,
    options: CmdlineResult,
    readonly console: Console,
  ) {
    this.ram = hw.ram;
    this.frames = hw.frames;
    this.heap = hw.heap;
    this.mmio = hw.mmio;
    this.clock = hw.clock;
    this.cpus = hw.cpus;
    this.events = hw.events;
    this.faults = hw.faults;
    this.pci = hw.pci;
    this.cpu = hw.cpu;
    this.e820 = hw.e820;
    this.seams = o.seams;
    this.cmdline = o.cmdline;
    this.version = versionOf(hw, o);
    this.cpuKhz = o.cpuKhz;
    this.hwCaps = o.hwCaps;
    this.opts = options.iommu;
    this.pciOpts = options.pci;
    this.pciPhantoms = options.phantoms;
    this.extraRanges = options.extraRanges;
    this.domctlLock = new SpinLock(hw.cpus, 'domctl_lock', RANK.domctl);
    this.pcidevsLock = new SpinLock(hw.cpus, 'pcidevs_lock', RANK.pcidevs, true);
    this.bus2bridgeLock = new SpinLock(hw.cpus, 'bus2bridge_lock', RANK.bus2bridge);
    this.domIo = this.systemDomain(DOMID.IO);
    this.hwdom = this.domIo;
    this.domXen = this.systemDomain(DOMID.XEN);
    this.nrIrqsGsi = o.ioApic?.pins ?? NR_IRQS_GSI;
    this.irqs = new Irqs(hw.cpu.count, FIRST_DYNAMIC_VECTOR);
    if (o.ioApic !== undefined) this.irqs.ioApic = new IoApic(this, o.ioApic);
    this.services = new Services(this);
  }

  private systemDomain(domid: number): Domain {
    return new Domain(domid, this.cpus, {
      hvm: false,
      hap: false,
      iommu: false,
      system: true,
      pciLock: this.seams.hasPciLock(),
      capsLock: this.seams.hasCapsLock(),
    });
  }
}

/** Xen's state before anything runs. */
export function createXen(hw: Hardware, o: XenBootOptions): { xen: Xen; options: CmdlineResult } {
  const console = new Console(hw.events, hw.clock, o.seams.consoleThreshold());
  const options = parseCmdline(o.cmdline, console);
  return { xen: new XenState(hw, o, options, console), options };
}
