/**
 * The least of a Xen that an IOMMU driver can run on: memory, clock, CPUs, plain domains and a table of devices with
 * their config space. Nothing here but the defaults of options comes from src/hypervisor, so that a driver's tests do
 * not stand or fall with it.
 */
import { assert } from '../../src/base/assert.js';
import { E, type Rc } from '../../src/base/errno.js';
import { formatSbdf, type Sbdf } from '../../src/base/sbdf.js';
import { defaultIommuOptions } from '../../src/hypervisor/cmdline.js';
import {
  type CpuFacts,
  type CrashSite,
  DomainIommu,
  type DriverSeams,
  type E820Entry,
  type ExtraRange,
  type FlushAcc,
  IOMMUF,
  type IommuDomain,
  type IommuOps,
  type IommuOptions,
  type LogLevel,
  type P2mAccess,
  PDEV_TYPE,
  Pdev,
  type PdevList,
  type PdevType,
  type XenServices,
} from '../../src/iommu/driver/types.js';
import { Clock } from '../../src/sim/clock.js';
import { type Co, hold } from '../../src/sim/co.js';
import { EventStream, type StampedEvent } from '../../src/sim/events.js';
import { Faults } from '../../src/sim/faults.js';
import { DOMID, FRAME_TYPE, Frames, Heap } from '../../src/sim/frames.js';
import { ListLinks } from '../../src/sim/list_links.js';
import { RANK } from '../../src/sim/lock_ranks.js';
import { Cpus, RwLock, SpinLock } from '../../src/sim/locks.js';
import { MmioMap } from '../../src/sim/mmio.js';
import { Ram } from '../../src/sim/ram.js';

export class TestDomain implements IommuDomain {
  readonly iommu: DomainIommu;
  readonly pdevList: PdevList;
  readonly pciLock: RwLock | undefined;
  readonly iommuEnabled = true;
  isDying = false;
  isShuttingDown = false;
  isHvm = false;
  hap = false;
  crashed: CrashSite | true | undefined = undefined;
  p2mRoot = 0;
  constructor(
    readonly domid: number,
    cpus: Cpus,
    pciLock = false,
  ) {
    this.iommu = new DomainIommu(domid, cpus, true, false);
    this.pdevList = this.iommu;
    this.pciLock = pciLock ? new RwLock(cpus, `d${domid}.pci_lock`, RANK.pciLock) : undefined;
  }
  maxGfn(): number {
    return 0xfffff;
  }
  p2mRootMfn(): number {
    return this.p2mRoot;
  }
}

export const testCpu: CpuFacts = {
  vendor: 'intel',
  count: 2,
  cx16: true,
  hap: true,
  hap2m: true,
  hap1g: true,
};

/** 3 GiB of RAM with a hole, as on the recorded boards. */
export const testE820: readonly E820Entry[] = [
  { start: 0, end: 0x9_f000, type: 'usable' },
  { start: 0xf_0000, end: 0x10_0000, type: 'reserved' },
  { start: 0x10_0000, end: 0x7ffd_8000, type: 'usable' },
  { start: 0x7ffd_8000, end: 0x8000_0000, type: 'reserved' },
  { start: 0x1_0000_0000, end: 0x1_4000_0000, type: 'usable' },
];

export interface TestXen {
  readonly opts?: Partial<IommuOptions>;
  readonly cpu?: Partial<CpuFacts>;
  readonly e820?: readonly E820Entry[];
  readonly extraRanges?: readonly ExtraRange[];
  readonly seams?: Partial<DriverSeams>;
  readonly ioapicIds?: readonly number[];
  readonly pciLock?: boolean;
}

export class TestServices implements XenServices {
  readonly events = new EventStream();
  readonly faults = new Faults();
  readonly clock = new Clock();
  readonly cpus: Cpus;
  readonly ram = new Ram(0x80_0000);
  readonly frames = new Frames(0x80_0000);
  readonly heap: Heap;
  readonly mmio = new MmioMap();
  readonly pcidevsLock: SpinLock;
  readonly opts: IommuOptions;
  readonly cpu: CpuFacts;
  readonly e820: readonly E820Entry[];
  readonly extraRanges: readonly ExtraRange[];
  readonly ioapicIds?: readonly number[];
  readonly seams: DriverSeams;
  readonly hwdom: TestDomain;
  readonly domIo: TestDomain;
  readonly domXen: TestDomain;
  booted = true;

  readonly domains = new Map<number, TestDomain>();
  readonly pdevs = new Map<Sbdf, Pdev>();
  readonly pdevLinks = new ListLinks<Pdev>();
  readonly config = new Map<Sbdf, Uint8Array>();
  /** By bus: the bridge above it. */
  readonly bus2bridge = new Map<number, { bus: number; devfn: number }>();
  readonly console: string[] = [];
  readonly log: StampedEvent[] = [];
  readonly synced: { mfn: number; first: number; words: number }[] = [];
  readonly charged: string[] = [];
  readonly denied: number[] = [];
  readonly queued: number[] = [];
  ops: IommuOps | undefined = undefined;

  constructor(o: TestXen = {}) {
    this.cpu = { ...testCpu, ...o.cpu };
    this.cpus = new Cpus(this.cpu.count, this.events);
    this.heap = new Heap(this.frames, this.faults, this.events);
    this.heap.addRange({ start: 0x50_0000, count: 0x4_0000 });
    this.pcidevsLock = new SpinLock(this.cpus, 'pcidevs_lock', RANK.pcidevs, true);
    this.opts = { ...defaultIommuOptions(), ...o.opts };
    this.e820 = o.e820 ?? testE820;
    this.extraRanges = o.extraRanges ?? [];
    if (o.ioapicIds !== undefined) this.ioapicIds = o.ioapicIds;
    this.seams = {
      vtdFaultSuffix: () => '',
      vtdMoveFlushesDevice: () => false,
      amdDisableSkipsQuarantinedSource: () => false,
      ...o.seams,
    };
    this.hwdom = new TestDomain(0, this.cpus, o.pciLock);
    this.domIo = new TestDomain(DOMID.IO, this.cpus, o.pciLock);
    this.domXen = new TestDomain(DOMID.XEN, this.cpus, o.pciLock);
    this.domains.set(0, this.hwdom);
  }

  /** Keeps every event from now on in `log`. */
  record(): void {
    this.events.attach((e) => this.log.push(e));
  }
  addDomain(domid: number): TestDomain {
    const d = new TestDomain(domid, this.cpus, this.hwdom.pciLock !== undefined);
    this.domains.set(domid, d);
    return d;
  }
  /** Config space of a function that answers; ids in the first word. */
  addFunction(sbdf: Sbdf, id = 0x1234_8086, set: Readonly<Record<number, number>> = {}): Uint8Array {
    const bytes = new Uint8Array(4096);
    new DataView(bytes.buffer).setUint32(0, id, true);
    for (const [at, value] of Object.entries(set)) bytes[Number(at)] = value;
    this.config.set(sbdf, bytes);
    return bytes;
  }
  addPdev(sbdf: Sbdf, type: PdevType, d: TestDomain | undefined = this.hwdom): Pdev {
    if (!this.config.has(sbdf)) this.addFunction(sbdf);
    const pdev = new Pdev(sbdf, this.pdevLinks);
    pdev.type = type;
    if (d !== undefined) {
      pdev.domain = d;
      d.pdevList.add(pdev);
    }
    this.pdevs.set(sbdf, pdev);
    return pdev;
  }

  printk(_level: LogLevel, text: string): void {
    this.console.push(text);
  }
  pd(d: IommuDomain | undefined): string {
    if (d === undefined) return 'NULL';
    return d === this.domIo ? 'd[IO]' : d === this.domXen ? 'd[XEN]' : `d${d.domid}`;
  }
  domainCrash(d: IommuDomain, at?: CrashSite): void {
    (d as TestDomain).crashed = at ?? true;
    d.isShuttingDown = true;
  }
  processPendingSoftirqs(): void {
    for (const mfn of this.queued.splice(0)) this.heap.release(mfn, 0);
  }
  domainById(domid: number): TestDomain | undefined {
    return this.domains.get(domid);
  }

  allocPgtable(d: IommuDomain | undefined): number {
    const mfn = this.allocXenPages(0);
    if (mfn !== 0) d?.iommu.pgtables.push(mfn);
    return mfn;
  }
  queueFreePgtable(d: IommuDomain, mfn: number): void {
    const at = d.iommu.pgtables.indexOf(mfn);
    assert(at >= 0, 'the table is in its pool');
    d.iommu.pgtables.splice(at, 1);
    this.queued.push(mfn);
  }
  *freePgtables(d: IommuDomain): Co<Rc> {
    yield* this.ops!.clearRootPgtable(d);
    for (const mfn of d.iommu.pgtables.splice(0)) this.heap.release(mfn, 0);
    return 0;
  }
  allocXenPages(order: number): number {
    const mfn = this.heap.alloc(order, DOMID.XEN, FRAME_TYPE.iommuTable);
    if (mfn < 0) return 0;
    for (let i = 0; i < 2 ** order; i++) this.ram.clearFrame(mfn + i);
    return mfn;
  }
  freeXenPages(mfn: number, order: number): void {
    this.heap.release(mfn, order);
  }
  syncCache(mfn: number, first: number, words: number): void {
    this.synced.push({ mfn, first, words });
  }

  /** @xen drivers/passthrough/x86/iommu.c iommu_identity_mapping, for domains without p2m */
  *identityMapping(d: IommuDomain, access: P2mAccess, base: number, end: number, flag: number): Co<Rc> {
    assert(this.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
    const maps = d.iommu.identityMaps;
    const known = maps.find((m) => m.base === base && m.end === end);
    if (known !== undefined) return yield* this.countIdentity(d, known, access);
    if (maps.some((m) => base <= m.end && m.base <= end)) return E.ADDRINUSE;
    if (access === 'x') return E.NOENT;
    const map = { base, end, access, count: 1 };
    maps.push(map);
    void flag;
    for (let dfn = base; dfn <= end; dfn++) {
      const rc = yield* this.identityPage(d, dfn, true);
      if (rc === 0) continue;
      if (dfn === base) maps.splice(maps.indexOf(map), 1);
      return rc;
    }
    return 0;
  }
  private *countIdentity(
    d: IommuDomain,
    map: { count: number; readonly base: number; readonly end: number; readonly access: P2mAccess },
    access: P2mAccess,
  ): Co<Rc> {
    if (access !== 'x') {
      if (map.access !== access) return E.ADDRINUSE;
      map.count += 1;
      return 0;
    }
    map.count -= 1;
    if (map.count > 0) return 0;
    for (let dfn = map.base; dfn <= map.end; dfn++) yield* this.identityPage(d, dfn, false);
    const at = d.iommu.identityMaps.findIndex((m) => m.base === map.base);
    d.iommu.identityMaps.splice(at, 1);
    return 0;
  }
  private *identityPage(d: IommuDomain, dfn: number, map: boolean): Co<Rc> {
    const acc: FlushAcc = { flags: 0 };
    const rc = map
      ? yield* this.ops!.mapPage(d, dfn, dfn, IOMMUF.readable | IOMMUF.writable, acc)
      : yield* this.ops!.unmapPage(d, dfn, 0, acc);
    if (rc !== 0) return rc;
    return acc.flags === 0 ? 0 : yield* this.ops!.iotlbFlush(d, dfn, 1, acc.flags);
  }
  identityMapTeardown(d: IommuDomain): void {
    d.iommu.identityMaps.length = 0;
  }

  pciGetPdev(sbdf: Sbdf): Pdev | undefined {
    return this.pdevs.get(sbdf);
  }
  pdevsOf(seg: number): readonly Pdev[] {
    return [...this.pdevs.values()].filter((p) => p.seg === seg).reverse();
  }
  segments(): readonly number[] {
    return [...new Set([0, ...[...this.pdevs.keys()].map((s) => s >>> 16)])];
  }
  findUpstreamBridge(_seg: number, out: { bus: number; devfn: number; secbus: number }): number {
    let up = out.bus === 0 ? undefined : this.bus2bridge.get(out.bus);
    if (up === undefined) return 0;
    for (let hops = 0; up !== undefined; hops++) {
      out.secbus = out.bus;
      out.bus = up.bus;
      out.devfn = up.devfn;
      if (hops >= 256) return -1;
      up = this.bus2bridge.get(out.bus);
    }
    return 1;
  }
  pdevType(sbdf: Sbdf): PdevType {
    return this.pdevs.get(sbdf)?.type ?? PDEV_TYPE.UNKNOWN;
  }
  pciDeviceDetect(sbdf: Sbdf): boolean {
    return this.config.has(sbdf);
  }
  busesInUse(): readonly number[] {
    return Array.from({ length: 256 }, (_, bus) => bus);
  }
  confRead(sbdf: Sbdf, offset: number, size: 1 | 2 | 4): number {
    const bytes = this.config.get(sbdf);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (bytes?.[offset + i] ?? 0xff);
    return value;
  }
  confWrite(sbdf: Sbdf, offset: number, size: 1 | 2 | 4, value: number): void {
    const bytes = this.config.get(sbdf);
    for (let i = 0; i < size && bytes !== undefined; i++) bytes[offset + i] = (value >>> (i * 8)) & 0xff;
  }
  pciFindCap(sbdf: Sbdf, cap: number): number {
    let pos = this.confRead(sbdf, 0x34, 1);
    for (let hops = 0; pos >= 0x40 && hops < 48; hops++) {
      if (this.confRead(sbdf, pos, 1) === cap) return pos;
      pos = this.confRead(sbdf, pos + 1, 1);
    }
    return 0;
  }
  pciFindExtCap(sbdf: Sbdf, cap: number): number {
    let pos = 0x100;
    for (let hops = 0; pos >= 0x100 && hops < 480; hops++) {
      const header = this.confRead(sbdf, pos, 4);
      if ((header & 0xffff) === cap) return pos;
      pos = header >>> 20;
    }
    return 0;
  }
  *pciCheckDisableDevice(seg: number, bus: number, devfn: number): Co<void> {
    this.charged.push(formatSbdf(((seg << 16) | (bus << 8) | devfn) >>> 0));
  }
  *pciRoDevice(_sbdf: Sbdf): Co<Rc> {
    return 0;
  }
  /** @xen setup_hwdom_pci_devices: primary and phantoms of everything dom0 has */
  *setupHwdomPciDevices(_d: IommuDomain, handler: (devfn: number, pdev: Pdev) => Co<Rc>): Co<void> {
    using _pcidevs = yield* hold(this.pcidevsLock);
    for (const pdev of this.pdevs.values()) {
      for (let devfn = pdev.devfn; ; devfn += pdev.phantomStride) {
        if (devfn >> 3 !== pdev.devfn >> 3) break;
        yield* handler(devfn, pdev);
        if (pdev.phantomStride === 0) break;
      }
    }
  }
  iomemDenyAccess(_d: IommuDomain, first: number, last: number): void {
    for (let f = first; f <= last; f++) this.denied.push(f);
  }
  *archIommuHwdomInit(_d: IommuDomain): Co<void> {}
  unityRegionOk(prefix: string, first: number, last: number): boolean {
    const ok = this.e820.some(
      (e) => e.type === 'reserved' && e.start <= first * 4096 && e.end >= (last + 1) * 4096,
    );
    if (!ok) this.console.push(`${prefix}: [${first.toString(16)}, ${last.toString(16)}] is not reserved`);
    return ok;
  }
}
