/** A small Xen without silicon: real PCI functions, and a driver that only writes down what it is asked. */
import { sbdf } from '../../src/base/sbdf.js';
import { defaultIommuOptions } from '../../src/hypervisor/cmdline.js';
import { Console } from '../../src/hypervisor/console.js';
import { Domain } from '../../src/hypervisor/domain.js';
import { Irqs } from '../../src/hypervisor/irq/desc.js';
import { FIRST_DYNAMIC_VECTOR } from '../../src/hypervisor/irq/vectors.js';
import { P2m } from '../../src/hypervisor/mm/p2m.js';
import { iommuSetup } from '../../src/hypervisor/passthrough/iommu.js';
import { scanPciDevices, setupHwdomPciDevices } from '../../src/hypervisor/passthrough/scan.js';
import { Services } from '../../src/hypervisor/passthrough/services.js';
import { RangeSet } from '../../src/hypervisor/rangeset.js';
import { findRelease, seamsOf } from '../../src/hypervisor/releases/index.js';
import type { Seams } from '../../src/hypervisor/seams.js';
import type { PhantomOption, Xen } from '../../src/hypervisor/xen.js';
import { buildFunctions, type FunctionSpec } from '../../src/inputs/build.js';
import { defaultE820 } from '../../src/inputs/e820.js';
import {
  type E820Entry,
  FLUSHF,
  type FlushAcc,
  type GrdmFn,
  type IommuDomain,
  type IommuOps,
  type IommuOptions,
  type LookupResult,
  type Pdev,
} from '../../src/iommu/driver/types.js';
import { PciHost } from '../../src/pci/bus.js';
import { RootComplex } from '../../src/pci/dma.js';
import { Clock } from '../../src/sim/clock.js';
import { type Co, hold, holdWrite, runAlone } from '../../src/sim/co.js';
import { EventStream } from '../../src/sim/events.js';
import { Faults } from '../../src/sim/faults.js';
import { DOMID, FRAME_TYPE, Frames, Heap } from '../../src/sim/frames.js';
import { LazySet } from '../../src/sim/lazy_map.js';
import { ListLinks } from '../../src/sim/list_links.js';
import { RANK } from '../../src/sim/lock_ranks.js';
import { Cpus, SpinLock } from '../../src/sim/locks.js';
import { MmioMap } from '../../src/sim/mmio.js';
import { Ram } from '../../src/sim/ram.js';

/** One call of the driver. */
export interface Call {
  readonly op: string;
  readonly devfn: number;
  readonly from: number | undefined;
  readonly to: number | undefined;
  readonly locked: boolean;
  readonly flag?: number;
}
/** One mapping call. */
export interface PageCall {
  readonly op: 'map' | 'unmap' | 'flush';
  readonly domid: number;
  readonly dfn: number;
  readonly mfn: number;
  readonly order: number;
  readonly flags: number;
}

type DeviceOp = 'quarantine' | 'add' | 'enable' | 'remove' | 'assign' | 'reassign';
type OtherOp = 'map' | 'unmap' | 'flush' | 'init';

/** Moves ownership as both vendors do: with the primary function only. */
function* moveDevice(pdev: Pdev, target: IommuDomain): Co<void> {
  const source = pdev.domain!;
  if (source.pciLock === undefined) source.pdevList.remove(pdev);
  else {
    using _from = yield* holdWrite(source.pciLock);
    source.pdevList.remove(pdev);
  }
  pdev.domain = target;
  if (target.pciLock === undefined) target.pdevList.add(pdev);
  else {
    using _to = yield* holdWrite(target.pciLock);
    target.pdevList.add(pdev);
  }
}

export class RecordingOps implements IommuOps {
  readonly vendor = 'vtd';
  pageSizes = 4096 + 2 ** 21 + 2 ** 30;
  readonly calls: Call[] = [];
  readonly pages: PageCall[] = [];
  readonly enableDevice: IommuOps['enableDevice'];
  readonly lookupPage: IommuOps['lookupPage'];
  xen!: Xen;
  /** Group of a device, by bdf; the default is its own. */
  readonly groups = new Map<number, number>();
  private readonly failures: { op: string; at: number; rc: number; times: number }[] = [];

  constructor(withHooks: boolean) {
    this.enableDevice = withHooks ? this.enable : undefined;
    this.lookupPage = withHooks ? this.lookup : undefined;
  }

  /** The next `times` calls of `op` for this devfn (map, unmap: this dfn) give `rc`. */
  fail(op: DeviceOp | OtherOp, at: number, rc: number, times = Number.POSITIVE_INFINITY): void {
    this.failures.push({ op, at, rc, times });
  }

  private outcome(op: string, at: number): number {
    const f = this.failures.find((x) => x.op === op && (x.at === at || x.at < 0) && x.times > 0);
    if (f === undefined) return 0;
    f.times -= 1;
    return f.rc;
  }

  private note(op: DeviceOp, devfn: number, from?: number, to?: number, flag?: number): number {
    const locked = this.xen.pcidevsLock.heldByCurrent();
    this.calls.push({ op, devfn, from, to, locked, ...(flag === undefined ? {} : { flag }) });
    return this.outcome(op, devfn);
  }

  *init(_d: IommuDomain): Co<number> {
    return this.outcome('init', 0);
  }
  *hwdomInit(d: IommuDomain): Co<void> {
    yield* setupHwdomPciDevices(this.xen, d, this.setup);
  }
  private readonly setup = this.addDevice.bind(this);
  *quarantineInit(pdev: Pdev, scratchPage: boolean): Co<number> {
    return this.note('quarantine', pdev.devfn, pdev.domain?.domid, undefined, scratchPage ? 1 : 0);
  }
  *addDevice(devfn: number, pdev: Pdev): Co<number> {
    return this.note('add', devfn, undefined, pdev.domain?.domid);
  }
  private *enable(pdev: Pdev): Co<number> {
    return this.note('enable', pdev.devfn, pdev.domain?.domid, pdev.domain?.domid);
  }
  *removeDevice(devfn: number, pdev: Pdev): Co<number> {
    return this.note('remove', devfn, pdev.domain?.domid);
  }
  *assignDevice(d: IommuDomain, devfn: number, pdev: Pdev, flag: number): Co<number> {
    const rc = this.note('assign', devfn, pdev.domain?.domid, d.domid, flag);
    if (rc === 0 && devfn === pdev.devfn) yield* moveDevice(pdev, d);
    return rc;
  }
  *reassignDevice(source: IommuDomain, target: IommuDomain, devfn: number, pdev: Pdev): Co<number> {
    const rc = this.note('reassign', devfn, source.domid, target.domid);
    if (rc === 0 && devfn === pdev.devfn) yield* moveDevice(pdev, target);
    return rc;
  }
  getDeviceGroupId(_seg: number, bus: number, devfn: number): number {
    return this.groups.get((bus << 8) | devfn) ?? (bus << 8) | devfn;
  }
  *teardown(_d: IommuDomain): Co<void> {}
  *clearRootPgtable(_d: IommuDomain): Co<void> {}
  *mapPage(d: IommuDomain, dfn: number, mfn: number, flags: number, acc: FlushAcc): Co<number> {
    const order = flags & 0x3f;
    this.pages.push({ op: 'map', domid: d.domid, dfn, mfn, order, flags: flags - order });
    const rc = this.outcome('map', dfn);
    if (rc === 0) acc.flags |= FLUSHF.added;
    return rc;
  }
  *unmapPage(d: IommuDomain, dfn: number, order: number, acc: FlushAcc): Co<number> {
    this.pages.push({ op: 'unmap', domid: d.domid, dfn, mfn: -1, order, flags: 0 });
    const rc = this.outcome('unmap', dfn);
    if (rc === 0) acc.flags |= FLUSHF.modified;
    return rc;
  }
  private *lookup(_d: IommuDomain, dfn: number, out: LookupResult): Co<number> {
    out.mfn = dfn + 0x1000;
    return 0;
  }
  *iotlbFlush(d: IommuDomain, dfn: number, pageCount: number, flags: number): Co<number> {
    this.pages.push({ op: 'flush', domid: d.domid, dfn, mfn: -1, order: pageCount, flags });
    return this.outcome('flush', dfn);
  }
  getReservedDeviceMemory(_fn: GrdmFn): number {
    return 0;
  }
  *dumpPageTables(d: IommuDomain): Co<void> {
    this.xen.console.printAlways(`tables of d${d.domid}`);
  }
  *dumpInfo(): Co<void> {
    this.xen.console.printAlways('iommu info');
  }
  *pollFaults(): Co<void> {}
}

/** A function, and bytes of its config space that the builder has no name for. */
export interface DeviceSpec extends FunctionSpec {
  readonly edit?: (config: DataView) => void;
}

export interface TestXenOptions {
  /** `4.18` is the default. */
  readonly release?: string;
  readonly fixed?: boolean;
  readonly seams?: Partial<Seams>;
  readonly devices?: readonly DeviceSpec[];
  readonly opts?: Partial<IommuOptions>;
  readonly phantoms?: readonly PhantomOption[];
  readonly e820?: readonly E820Entry[];
  /** False: no IOMMU driver at all. */
  readonly driver?: boolean;
  /** True: as AMD, without the optional operations. */
  readonly bare?: boolean;
  /** How far the boot got: IOMMU on but no device known; devices listed; all with dom0 (the default). */
  readonly boot?: 'none' | 'scanned' | 'dom0';
}

export interface TestXen extends Xen {
  readonly vendor: RecordingOps;
  /** The console, without what came before the last call of this. */
  news(): string[];
  /** A guest with an IOMMU. */
  guest(domid: number, o?: { hvm?: boolean; iommu?: boolean; hap?: boolean }): Domain;
  dev(bus: number, dev: number, fn?: number): Pdev;
}

/** An endpoint with `stride` phantom spacing announced by itself. */
export const endpoint = (bus: number, dev: number, fn = 0, stride = 0): DeviceSpec => ({
  sbdf: sbdf(0, bus, dev, fn),
  kind: 'pcie-endpoint',
  phantomBits: ({ 0: 0, 4: 1, 2: 2, 1: 3 } as const)[stride as 0 | 1 | 2 | 4],
});

export function makeXen(o: TestXenOptions = {}): TestXen {
  const events = new EventStream();
  const clock = new Clock();
  const cpus = new Cpus(2, events);
  const faults = new Faults();
  const e820 = o.e820 ?? defaultE820(2 ** 29);
  const ram = new Ram(0x10_0000);
  const frames = new Frames(ram.frames);
  const heap = new Heap(frames, faults, events);
  heap.addRange({ start: 0x1000, count: 0x1_0000 });
  const functions = buildFunctions(o.devices ?? []);
  functions.forEach((f, i) => {
    o.devices![i]!.edit?.(new DataView(f.config.buffer));
  });
  const release = findRelease(o.release ?? '4.18')!;
  const seams: Seams = { ...seamsOf(release, o.fixed ?? false), ...o.seams };
  const vendor = new RecordingOps(o.bare !== true);
  const console = new Console(events, clock);
  console.setLevels('host', 'all');
  console.setLevels('guest', 'all');
  const domain = (domid: number, more: { system?: boolean; hvm?: boolean; hap?: boolean; iommu?: boolean }) =>
    new Domain(domid, cpus, {
      hvm: more.hvm ?? false,
      hap: more.hap ?? more.hvm ?? false,
      iommu: more.iommu ?? false,
      system: more.system ?? false,
      pciLock: seams.hasPciLock(),
      capsLock: seams.hasCapsLock(),
    });
  const domIo = domain(DOMID.IO, { system: true });
  const xen: { -readonly [K in keyof TestXen]: TestXen[K] } = {
    ram,
    frames,
    heap,
    mmio: new MmioMap(),
    clock,
    cpus,
    events,
    faults,
    pci: new PciHost(functions, events, new RootComplex(ram, events)),
    cpu: { vendor: 'intel', count: 2, cx16: true, hap2m: true, hap1g: true, hap: true },
    e820,
    console,
    seams,
    cmdline: '',
    version: undefined as never,
    cpuKhz: 1,
    hwCaps: [],
    opts: { ...defaultIommuOptions(), ...o.opts },
    pciOpts: { maskSerr: false, maskPerr: false, quirks: true },
    pciPhantoms: o.phantoms ?? [],
    extraRanges: [],
    domctlLock: new SpinLock(cpus, 'domctl_lock', RANK.domctl),
    pcidevsLock: new SpinLock(cpus, 'pcidevs_lock', RANK.pcidevs, true),
    bus2bridgeLock: new SpinLock(cpus, 'bus2bridge_lock', RANK.bus2bridge),
    domains: new Map(),
    hwdom: domIo,
    domIo,
    domXen: domain(DOMID.XEN, { system: true }),
    domidRover: 0,
    segs: new Map(),
    pdevs: new Map(),
    pdevLinks: new ListLinks<Pdev>(),
    xenRanges: new RangeSet(),
    dontFlushIotlb: new LazySet<number>(),
    mmioRo: new RangeSet(),
    nrIrqsGsi: 24,
    irqs: new Irqs(1, FIRST_DYNAMIC_VECTOR),
    iommuEnabled: false,
    driver:
      o.driver === false
        ? undefined
        : {
            ops: vendor,
            *setup(): Co<number> {
              return 0;
            },
          },
    ops: undefined,
    services: undefined as never,
    booted: false,
    vendor,
    news: () => {
      const lines = console.lines().map((l) => l.replace('(XEN) ', ''));
      console.clear();
      return lines;
    },
    guest: (domid, g = {}) => {
      const d = domain(domid, { iommu: true, ...g });
      if (d.isHvm) {
        const table = (): number => {
          const mfn = heap.alloc(0, DOMID.XEN, FRAME_TYPE.p2mTable);
          ram.clearFrame(mfn);
          return mfn;
        };
        d.p2m = new P2m(ram, table(), table);
        d.iommu.needSync = true;
      }
      xen.domains.set(domid, d);
      return d;
    },
    dev: (bus, dev, fn = 0) => xen.pdevs.get(sbdf(0, bus, dev, fn))!,
  };
  vendor.xen = xen;
  xen.services = new Services(xen);
  xen.hwdom = domain(0, { iommu: o.driver !== false });
  xen.domains.set(0, xen.hwdom);
  boot(xen, o.boot ?? 'dom0');
  return xen;
}

function boot(xen: { -readonly [K in keyof TestXen]: TestXen[K] }, until: 'none' | 'scanned' | 'dom0'): void {
  if (until === 'none') {
    xen.ops = xen.driver?.ops;
    xen.iommuEnabled = xen.ops !== undefined;
    xen.domIo.iommuEnabled = xen.iommuEnabled;
    return;
  }
  runAlone(iommuSetup(xen));
  if (!xen.iommuEnabled) runAlone(scanPciDevices(xen));
  else if (until === 'dom0') runAlone(xen.vendor.hwdomInit(xen.hwdom));
  xen.vendor.calls.length = 0;
  xen.news();
}

/** `body` with the lock that its callers hold. */
export function* withPcidevs(xen: Xen, body: () => Co<number>): Co<number> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return yield* body();
}

/** The same for a plain function. */
export function underLock<T>(xen: Xen, body: () => T): T {
  xen.pcidevsLock.acquire();
  try {
    return body();
  } finally {
    xen.pcidevsLock.release();
  }
}

/** `assign 00 d0>d1 locked`: a call as one line. */
export const told = (calls: readonly Call[]): string[] =>
  calls.map((c) => `${c.op} ${c.devfn.toString(16).padStart(2, '0')} ${name(c.from)}>${name(c.to)}`);

const name = (domid: number | undefined): string =>
  domid === undefined ? '-' : domid === DOMID.IO ? 'IO' : domid === DOMID.XEN ? 'XEN' : String(domid);

export { sbdf };
