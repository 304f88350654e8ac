/** What the IOMMU drivers ask of Xen. */
import { assert } from '../../base/assert.js';
import type { Rc } from '../../base/errno.js';
import { busOf, devfnOf, type Sbdf, segOf } from '../../base/sbdf.js';
import type {
  CpuFacts,
  CrashSite,
  DriverSeams,
  E820Entry,
  ExtraRange,
  IommuDomain,
  IommuOptions,
  LogLevel,
  P2mAccess,
  Pdev,
  PdevType,
  XenServices,
} from '../../iommu/driver/types.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { Faults } from '../../sim/faults.js';
import { DOMID, FRAME_TYPE } from '../../sim/frames.js';
import type { Cpus, SpinLock } from '../../sim/locks.js';
import type { MmioMap } from '../../sim/mmio.js';
import type { Ram } from '../../sim/ram.js';
import type { Domain } from '../domain.js';
import { domainCrash } from '../domain_ops.js';
import type { Xen } from '../xen.js';
import { pciFindCapOffset, pciFindExtCapability } from './config.js';
import { pciRoDevice } from './device_add.js';
import { pciCheckDisableDevice } from './fault.js';
import { archIommuHwdomInit } from './hwdom_map.js';
import { iommuIdentityMapping, iommuIdentityMapTeardown } from './identity.js';
import { iommuFreePgtables } from './iommu.js';
import { pciDeviceDetect, pdevType } from './pdev.js';
import { iommuUnityRegionOk } from './ram_type.js';
import { setupHwdomPciDevices } from './scan.js';
import { alldevsNewestFirst, allocPseg, findUpstreamBridge, segmentsAscending } from './segment.js';

export class Services implements XenServices {
  readonly ram: Ram;
  readonly mmio: MmioMap;
  readonly clock: Clock;
  readonly cpus: Cpus;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly pcidevsLock: SpinLock;
  readonly opts: IommuOptions;
  readonly cpu: CpuFacts;
  /** Firmware's map, and what Xen itself has reserved in it. */
  readonly e820: E820Entry[];
  readonly extraRanges: readonly ExtraRange[];
  readonly ioapicIds: readonly number[] | undefined;
  readonly seams: DriverSeams;
  readonly domIo: IommuDomain;
  readonly domXen: IommuDomain;
  /** I/O page tables taken out of use, by CPU: a cache may still know them. @xen free_pgt_list */
  private readonly freePgtLists: number[][];
  /** How many of them there are. */
  private queuedPgts = 0;

  constructor(private readonly xen: Xen) {
    this.ram = xen.ram;
    this.mmio = xen.mmio;
    this.clock = xen.clock;
    this.cpus = xen.cpus;
    this.events = xen.events;
    this.faults = xen.faults;
    this.pcidevsLock = xen.pcidevsLock;
    this.opts = xen.opts;
    this.cpu = xen.cpu;
    this.e820 = [...xen.e820];
    this.extraRanges = xen.extraRanges.map((r) => ({ ...r, frames: xen.seams.extraRangeFrames(r.frames) }));
    this.ioapicIds = xen.irqs.ioApic === undefined ? undefined : [xen.irqs.ioApic.id];
    this.seams = xen.seams;
    this.domIo = xen.domIo;
    this.domXen = xen.domXen;
    this.freePgtLists = xen.cpus.list.map(() => []);
    allocPseg(xen, 0);
    for (const seg of xen.pci.segments()) allocPseg(xen, seg);
  }

  get hwdom(): IommuDomain {
    return this.xen.hwdom;
  }
  get booted(): boolean {
    return this.xen.booted;
  }

  printk(level: LogLevel, text: string): void {
    this.xen.console.printk(level, text);
  }

  pd(d: IommuDomain | undefined): string {
    if (d === undefined) return 'NULL';
    if (d === this.xen.domIo) return 'd[IO]';
    if (d === this.xen.domXen) return 'd[XEN]';
    return `d${d.domid}`;
  }

  domainCrash(d: IommuDomain, at?: CrashSite): void {
    domainCrash(this.xen, d, at === undefined ? undefined : crashPlace(at, this.xen.seams.crashLines[at]));
  }

  processPendingSoftirqs(): void {
    if (this.queuedPgts > 0) this.freeQueuedPgtables();
  }

  /** @xen free_queued_pgtables */
  private freeQueuedPgtables(): void {
    const list = this.freePgtLists[this.cpus.current.id]!;
    for (let mfn = list.pop(); mfn !== undefined; mfn = list.pop()) {
      this.queuedPgts -= 1;
      this.xen.heap.release(mfn, 0);
    }
  }

  domainById(domid: number): IommuDomain | undefined {
    const { hwdom } = this.xen;
    return domid === hwdom.domid ? hwdom : this.xen.domains.get(domid);
  }

  allocPgtable(d: IommuDomain | undefined): number {
    const mfn = this.allocXenPages(0);
    if (mfn !== 0 && d !== undefined) d.iommu.pgtables.push(mfn);
    return mfn;
  }

  queueFreePgtable(d: IommuDomain, mfn: number): void {
    const pool = d.iommu.pgtables;
    const at = pool.lastIndexOf(mfn);
    assert(at >= 0, 'the table is in the pool of its domain');
    pool[at] = pool[pool.length - 1]!;
    pool.pop();
    this.freePgtLists[this.cpus.current.id]!.push(mfn);
    this.queuedPgts += 1;
  }

  *freePgtables(d: IommuDomain): Co<Rc> {
    return yield* iommuFreePgtables(this.xen, d as Domain);
  }

  allocXenPages(order: number): number {
    const mfn = this.xen.heap.alloc(order, DOMID.XEN, FRAME_TYPE.iommuTable);
    if (mfn < 0) return 0;
    this.ram.clearFrames(mfn, order);
    return mfn;
  }

  freeXenPages(mfn: number, order: number): void {
    this.xen.heap.release(mfn, order);
  }

  /** Matters to units that do not snoop alone; the simulated CPU's writes are there for everybody else. */
  syncCache(mfn: number, firstWord: number, words: number): void {
    this.ram.writeBack(mfn, firstWord, words);
  }

  *identityMapping(d: IommuDomain, access: P2mAccess, base: number, end: number, flag: number): Co<Rc> {
    return yield* iommuIdentityMapping(this.xen, d as Domain, access, base, end, flag);
  }

  identityMapTeardown(d: IommuDomain): void {
    iommuIdentityMapTeardown(d as Domain);
  }

  pciGetPdev(sbdf: Sbdf): Pdev | undefined {
    return this.xen.pdevs.get(sbdf);
  }

  pdevsOf(seg: number): readonly Pdev[] {
    const pseg = this.xen.segs.get(seg);
    return pseg === undefined ? [] : alldevsNewestFirst(pseg);
  }

  segments(): readonly number[] {
    return segmentsAscending(this.xen).map((pseg) => pseg.nr);
  }

  findUpstreamBridge(seg: number, out: { bus: number; devfn: number; secbus: number }): number {
    return findUpstreamBridge(this.xen, seg, out);
  }

  pdevType(sbdf: Sbdf): PdevType {
    return pdevType(this.xen, sbdf);
  }

  pciDeviceDetect(sbdf: Sbdf): boolean {
    return pciDeviceDetect(this.xen, sbdf);
  }

  busesInUse(seg: number): readonly number[] {
    return this.xen.pci.busesInUse(seg);
  }

  confRead(sbdf: Sbdf, offset: number, size: 1 | 2 | 4): number {
    return this.xen.pci.configRead(sbdf, offset, size);
  }

  confWrite(sbdf: Sbdf, offset: number, size: 1 | 2 | 4, value: number): void {
    this.xen.pci.configWrite(sbdf, offset, size, value);
  }

  pciFindCap(sbdf: Sbdf, cap: number): number {
    return pciFindCapOffset(this.xen, sbdf, cap);
  }

  pciFindExtCap(sbdf: Sbdf, cap: number): number {
    return pciFindExtCapability(this.xen, sbdf, cap);
  }

  *pciCheckDisableDevice(seg: number, bus: number, devfn: number): Co<void> {
    yield* pciCheckDisableDevice(this.xen, seg, bus, devfn);
  }

  *pciRoDevice(sbdf: Sbdf): Co<Rc> {
    return yield* pciRoDevice(this.xen, segOf(sbdf), busOf(sbdf), devfnOf(sbdf));
  }

  *setupHwdomPciDevices(d: IommuDomain, handler: (devfn: number, pdev: Pdev) => Co<Rc>): Co<void> {
    yield* setupHwdomPciDevices(this.xen, d, handler);
  }

  iomemDenyAccess(d: IommuDomain, startFrame: number, endFrame: number): void {
    (d as Domain).iomemCaps.remove(startFrame, endFrame);
  }

  *archIommuHwdomInit(d: IommuDomain): Co<void> {
    yield* archIommuHwdomInit(this.xen, d as Domain);
  }

  unityRegionOk(prefix: string, startFrame: number, endFrame: number): boolean {
    return iommuUnityRegionOk(this, prefix, startFrame, endFrame);
  }
}

/** `drivers/passthrough/pci.c:1472` */
const crashPlace = (at: CrashSite, line: number): string =>
  `${at.startsWith('arch/') ? '' : 'drivers/passthrough/'}${at.split(' ')[0]}:${line}`;
