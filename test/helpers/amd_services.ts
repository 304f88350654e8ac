/** A small Xen around the AMD-Vi driver: memory, one or more units, domains that own frames, a console to read. */
import { E, type Rc } from '../../src/base/errno.js';
import { defaultIommuOptions } from '../../src/hypervisor/cmdline.js';
import type { AmdIommu } from '../../src/iommu/driver/amd/driver.js';
import { acpiIvrsInit } from '../../src/iommu/driver/amd/iommu_acpi.js';
import { amdBehaviour4_18 } from '../../src/iommu/driver/amd/seams.js';
import {
  type DriverSeams,
  type E820Entry,
  FLUSHF,
  IOMMUF,
  type IommuDomain,
  type IommuOptions,
  type LogLevel,
  type P2mAccess,
  PDEV_TYPE,
  Pdev,
  type XenServices,
} from '../../src/iommu/driver/types.js';
import { type IvhdEntry, type IvrsBlock, makeIvrs } from '../../src/iommu/format/ivrs.js';
import { AmdIommuUnit, QEMU_FEATURES } from '../../src/iommu/hw/amd/unit.js';
import { Clock } from '../../src/sim/clock.js';
import { type Co, hold, runAlone } from '../../src/sim/co.js';
import { EventStream, type StampedEvent } from '../../src/sim/events.js';
import { Faults } from '../../src/sim/faults.js';
import { ListLinks } from '../../src/sim/list_links.js';
import { RANK } from '../../src/sim/lock_ranks.js';
import { Cpus, SpinLock } from '../../src/sim/locks.js';
import { MmioMap } from '../../src/sim/mmio.js';
import { Ram } from '../../src/sim/ram.js';
import { DEFAULT_ENTRIES, ivhd, UNIT_BDF, unitsOf } from './amd_table.js';
import { TestDomain } from './test_domain.js';

/** Above 16 GiB, so that no table is where 32 bits reach. */
const FIRST_HEAP_FRAME = 0x50_1000;

export interface AmdHostOptions {
  readonly blocks?: readonly IvrsBlock[];
  /** Device entries of the one unit, where `blocks` is not given. */
  readonly entries?: readonly IvhdEntry[];
  readonly table?: Uint8Array;
  readonly info?: number;
  readonly opts?: Partial<IommuOptions>;
  /** What replaces 4.18.3 without its flaws. */
  readonly seams?: Partial<DriverSeams>;
  readonly cx16?: boolean;
  readonly features?: readonly [number, number];
  readonly e820?: readonly E820Entry[];
  readonly ioapicIds?: readonly number[];
  /** The unit's capability says HtTunnel. */
  readonly htTunnel?: boolean;
  /** Position of its MSI capability. */
  readonly msiPos?: number;
}

/** 4 GiB of memory, with a reserved hole at 0x7000_0000. */
export const E820: readonly E820Entry[] = [
  { start: 0, end: 0x7000_0000, type: 'usable' },
  { start: 0x7000_0000, end: 0x7100_0000, type: 'reserved' },
  { start: 0x1_0000_0000, end: 0x1_4000_0000, type: 'usable' },
];

export class AmdHost {
  readonly ram = new Ram(2 ** 36);
  readonly clock = new Clock();
  readonly events = new EventStream();
  readonly faults = new Faults();
  readonly cpus = new Cpus(2, this.events);
  readonly mmio = new MmioMap();
  readonly units: AmdIommuUnit[] = [];
  /** The first one. */
  readonly unit: AmdIommuUnit;
  readonly log: string[] = [];
  readonly domIo = new TestDomain(0x7ff1, this.cpus);
  readonly domXen = new TestDomain(0x7ff2, this.cpus);
  readonly dom0 = new TestDomain(0, this.cpus);
  readonly domains = new Map<number, TestDomain>([[0, this.dom0]]);
  readonly pdevs = new Map<number, Pdev>();
  readonly pdevLinks = new ListLinks<Pdev>();
  readonly config = new Map<number, Uint8Array>();
  readonly opts: IommuOptions;
  readonly pcidevsLock = new SpinLock(this.cpus, 'pcidevs', RANK.pcidevs, true);
  /** What the driver asked Xen to do to devices after faults. */
  readonly punished: number[] = [];
  /** Frames handed out, and handed back. */
  readonly allocated = new Set<number>();
  readonly queued: number[] = [];
  readonly table: Uint8Array;
  readonly unitBdf: number;
  readonly msiPos: number;
  private next = FIRST_HEAP_FRAME;
  readonly services: XenServices;

  constructor(o: AmdHostOptions = {}) {
    this.opts = { ...defaultIommuOptions(), ...o.opts };
    this.table =
      o.table ??
      makeIvrs(o.blocks ?? [ivhd(o.entries ?? DEFAULT_ENTRIES)], o.info ?? 1 | (52 << 8) | (64 << 15));
    this.msiPos = o.msiPos ?? 0x64;
    const described = unitsOf(this.table);
    for (const b of described.length > 0 ? described : [ivhd([])]) {
      const features = o.features ?? QEMU_FEATURES;
      const unit = new AmdIommuUnit({
        unit: this.units.length,
        seg: 0,
        features,
        events: this.events,
        ram: this.ram,
      });
      this.units.push(unit);
      this.mmio.add(b.base, 0x4000, unit);
      const iommu = this.configOf(b.deviceId);
      iommu.set([0x0f, 0x64, 0x0b, 0x19 | (o.htTunnel === true ? 2 : 0)], 0x40); // type 3; IOTLB, EFR
      iommu.set([0x05, 0x00, 0x80, 0x00], this.msiPos);
    }
    this.unit = this.units[0]!;
    this.unitBdf = described[0]?.deviceId ?? UNIT_BDF;
    this.services = this.makeServices(o);
  }

  configOf(sbdf: number): Uint8Array {
    let bytes = this.config.get(sbdf);
    if (bytes === undefined) {
      bytes = new Uint8Array(4096);
      this.config.set(sbdf, bytes);
    }
    return bytes;
  }

  private take(order: number): number {
    if (this.faults.on && this.faults.take('alloc')) return 0;
    const size = 2 ** order;
    const mfn = Math.ceil(this.next / size) * size;
    this.next = mfn + size;
    for (let i = 0; i < size; i++) this.allocated.add(mfn + i);
    return mfn;
  }
  private give(mfn: number, order: number): void {
    for (let i = 0; i < 2 ** order; i++) {
      if (!this.allocated.delete(mfn + i)) throw new Error(`frame ${(mfn + i).toString(16)} freed twice`);
      this.ram.clearFrame(mfn + i);
    }
  }

  private makeServices(o: AmdHostOptions): XenServices {
    const host = this;
    const seams: DriverSeams = {
      vtdFaultSuffix: () => '',
      amdDisableSkipsQuarantinedSource: () => false,
      ...amdBehaviour4_18,
      ...o.seams,
    };
    return {
      ram: host.ram,
      mmio: host.mmio,
      clock: host.clock,
      cpus: host.cpus,
      events: host.events,
      faults: host.faults,
      pcidevsLock: host.pcidevsLock,
      opts: host.opts,
      cpu: { vendor: 'amd', count: 2, cx16: o.cx16 ?? true, hap: true, hap2m: true, hap1g: true },
      e820: o.e820 ?? E820,
      extraRanges: [],
      ...(o.ioapicIds === undefined ? {} : { ioapicIds: o.ioapicIds }),
      seams,
      hwdom: host.dom0,
      domIo: host.domIo,
      domXen: host.domXen,
      booted: false,
      printk: (_level: LogLevel, text: string) => void host.log.push(text),
      pd: (d) =>
        d === host.domIo ? 'd[IO]' : d === host.domXen ? 'd[XEN]' : d === undefined ? 'NULL' : `d${d.domid}`,
      domainCrash: (d) => {
        (d as TestDomain).crashed = true;
      },
      processPendingSoftirqs: () => host.drain(),
      domainById: (domid) => host.domains.get(domid),
      allocPgtable: (d) => {
        const mfn = host.take(0);
        if (mfn !== 0) d?.iommu.pgtables.push(mfn);
        return mfn;
      },
      queueFreePgtable: (d, mfn) => {
        d.iommu.pgtables.splice(d.iommu.pgtables.indexOf(mfn), 1);
        host.queued.push(mfn);
      },
      *freePgtables(d: IommuDomain): Co<Rc> {
        yield* host.driver.ops.clearRootPgtable(d);
        for (const mfn of d.iommu.pgtables.splice(0)) host.give(mfn, 0);
        return 0;
      },
      allocXenPages: (order) => host.take(order),
      freeXenPages: (mfn, order) => host.give(mfn, order),
      syncCache: () => {},
      *identityMapping(d: IommuDomain, a: P2mAccess, base: number, end: number): Co<Rc> {
        return yield* host.identityMapping(d, a, base, end);
      },
      identityMapTeardown: (d) => void d.iommu.identityMaps.splice(0),
      pciGetPdev: (sbdf) => host.pdevs.get(sbdf),
      pdevsOf: () => [...host.pdevs.values()].reverse(),
      segments: () => [0],
      findUpstreamBridge: () => 0,
      pdevType: () => PDEV_TYPE.PCIE_ENDPOINT,
      pciDeviceDetect: (sbdf) => host.pdevs.has(sbdf),
      busesInUse: () => [],
      confRead: (sbdf, offset, size) => {
        const bytes = host.config.get(sbdf);
        if (bytes === undefined) return 2 ** (8 * size) - 1;
        let v = 0;
        for (let i = size - 1; i >= 0; i--) v = v * 256 + bytes[offset + i]!;
        return v;
      },
      confWrite: (sbdf, offset, size, value) => {
        for (let i = 0; i < size; i++) host.configOf(sbdf)[offset + i] = Math.floor(value / 256 ** i) & 0xff;
      },
      pciFindCap: (sbdf, cap) => (cap === 5 && host.config.get(sbdf)?.[host.msiPos] === 5 ? host.msiPos : 0),
      pciFindExtCap: (sbdf, cap) => (host.config.get(sbdf)?.[0x100] === cap ? 0x100 : 0),
      *pciCheckDisableDevice(_seg: number, bus: number, devfn: number): Co<void> {
        using _lock = yield* hold(host.pcidevsLock);
        host.punished.push((bus << 8) | devfn);
      },
      *pciRoDevice(sbdf: number): Co<Rc> {
        const pdev = new Pdev(sbdf, host.pdevLinks);
        pdev.domain = host.domXen;
        host.pdevs.set(sbdf, pdev);
        return 0;
      },
      *setupHwdomPciDevices(d: IommuDomain, handler: (devfn: number, pdev: Pdev) => Co<Rc>): Co<void> {
        using _lock = yield* hold(host.pcidevsLock);
        for (const pdev of host.pdevs.values()) {
          if (pdev.domain !== undefined) continue;
          pdev.domain = d;
          d.pdevList.add(pdev);
          for (const devfn of functionsOf(pdev)) yield* handler(devfn, pdev);
        }
      },
      iomemDenyAccess: () => {},
      *archIommuHwdomInit(d: IommuDomain): Co<void> {
        yield* host.mapRange(d, 0, 0x7_0000);
      },
      unityRegionOk: () => true,
    };
  }

  /** As iommu_identity_mapping() does, for page tables without a p2m. */
  private *identityMapping(d: IommuDomain, access: P2mAccess, base: number, end: number): Co<Rc> {
    const maps = d.iommu.identityMaps;
    const at = maps.findIndex((m) => m.base === base && m.end === end);
    const acc = { flags: 0 };
    if (at >= 0) {
      const map = maps[at]!;
      if (access !== 'x') {
        map.count += 1;
        return 0;
      }
      map.count -= 1;
      if (map.count > 0) return 0;
      for (let f = base; f <= end; f++) yield* this.driver.ops.unmapPage(d, f, 0, acc);
      yield* this.driver.ops.iotlbFlush(d, base, end - base + 1, acc.flags | FLUSHF.modified);
      maps.splice(at, 1);
      return 0;
    }
    if (maps.some((m) => m.base <= end && m.end >= base)) return E.ADDRINUSE;
    if (access === 'x') return E.NOENT;
    maps.push({ base, end, access, count: 1 });
    const perm = (access.includes('r') ? IOMMUF.readable : 0) | (access.includes('w') ? IOMMUF.writable : 0);
    for (let f = base; f <= end; f++) {
      const rc = yield* this.driver.ops.mapPage(d, f, f, perm, acc);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /** Maps frames to themselves, readable and writable, in the largest pages that fit. */
  *mapRange(d: IommuDomain, first: number, count: number): Co<void> {
    const acc = { flags: 0 };
    for (let f = first; f < first + count; ) {
      const order = [18, 9, 0].find((o) => f % 2 ** o === 0 && f + 2 ** o <= first + count)!;
      yield* this.driver.ops.mapPage(d, f, f, IOMMUF.readable | IOMMUF.writable | order, acc);
      f += 2 ** order;
    }
  }

  /** What the free-page-table tasklet does. */
  drain(): void {
    for (const mfn of this.queued.splice(0)) this.give(mfn, 0);
  }

  private found: AmdIommu | undefined = undefined;
  get driver(): AmdIommu {
    return this.found!;
  }

  /** acpi_ivrs_init(): 0 or an errno. */
  probe(): number {
    const found = acpiIvrsInit(this.services, this.table);
    if (typeof found === 'number') return found;
    this.found = found;
    return 0;
  }

  /** From the table to a dom0 that owns `devices`. */
  boot(devices: readonly TestDevice[] = [{ bdf: 0x200 }]): this {
    const rc = this.probe();
    if (rc !== 0) throw new Error(`no driver: ${rc}\n${this.log.join('\n')}`);
    for (const d of devices) this.addPdev(d);
    const ret = runAlone(this.driver.setup());
    if (ret !== 0) throw new Error(`set-up failed: ${ret}\n${this.log.join('\n')}`);
    for (const d of [this.domIo, this.dom0]) runAlone(this.driver.ops.init(d));
    runAlone(this.driver.ops.hwdomInit(this.dom0));
    this.log.length = 0;
    return this;
  }

  addPdev(d: TestDevice): Pdev {
    const pdev = new Pdev(d.bdf, this.pdevLinks);
    pdev.type = PDEV_TYPE.PCIE_ENDPOINT;
    pdev.phantomStride = d.stride ?? 0;
    pdev.msiMaxvec = d.msi ?? 1;
    this.pdevs.set(d.bdf, pdev);
    this.configOf(d.bdf);
    return pdev;
  }
  pdev(bdf: number): Pdev {
    return this.pdevs.get(bdf)!;
  }

  newDomain(domid: number, isHvm = false): TestDomain {
    const d = new TestDomain(domid, this.cpus, isHvm);
    this.domains.set(domid, d);
    runAlone(this.driver.ops.init(d));
    return d;
  }

  /** The order of functions and of quarantine that Xen's assign_device() has, without its roll-back. */
  assign(d: TestDomain, pdev: Pdev): number {
    return runAlone(this.assignCo(d, pdev));
  }
  private *assignCo(d: TestDomain, pdev: Pdev): Co<Rc> {
    using _lock = yield* hold(this.pcidevsLock);
    const { ops } = this.driver;
    if (this.opts.quarantine !== 'none' && pdev.domain !== this.domIo) {
      const rc = yield* ops.quarantineInit(pdev, this.opts.quarantine === 'scratch-page');
      if (rc !== 0) return rc;
    }
    for (const devfn of functionsOf(pdev)) {
      const rc = yield* ops.assignDevice(d, devfn, pdev, 0);
      if (rc !== 0) return rc;
    }
    return 0;
  }
  /** Phantom functions first, as deassign_device() does. */
  deassign(source: TestDomain, target: TestDomain, pdev: Pdev): number {
    return runAlone(this.deassignCo(source, target, pdev));
  }
  private *deassignCo(source: TestDomain, target: TestDomain, pdev: Pdev): Co<Rc> {
    using _lock = yield* hold(this.pcidevsLock);
    const [own, ...phantoms] = functionsOf(pdev);
    for (const devfn of [...phantoms, own!]) {
      const rc = yield* this.driver.ops.reassignDevice(source, target, devfn, pdev);
      if (rc !== 0) return rc;
    }
    return 0;
  }
  /** iommu_add_device() of a device that has an owner. */
  add(pdev: Pdev): number {
    return runAlone(this.addCo(pdev));
  }
  private *addCo(pdev: Pdev): Co<Rc> {
    using _lock = yield* hold(this.pcidevsLock);
    for (const devfn of functionsOf(pdev)) {
      const rc = yield* this.driver.ops.addDevice(devfn, pdev);
      if (rc !== 0) return rc;
    }
    return 0;
  }
  remove(pdev: Pdev): number {
    return runAlone(this.removeCo(pdev));
  }
  private *removeCo(pdev: Pdev): Co<Rc> {
    using _lock = yield* hold(this.pcidevsLock);
    const [own, ...phantoms] = functionsOf(pdev);
    for (const devfn of [...phantoms, own!]) {
      const rc = yield* this.driver.ops.removeDevice(devfn, pdev);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  map(d: TestDomain, dfn: number, mfn: number, order = 0, perm = IOMMUF.readable | IOMMUF.writable): number {
    const acc = { flags: 0 };
    const rc = runAlone(this.driver.ops.mapPage(d, dfn, mfn, perm | order, acc));
    if (acc.flags !== 0) runAlone(this.driver.ops.iotlbFlush(d, dfn, 2 ** order, acc.flags));
    return rc;
  }
  unmap(d: TestDomain, dfn: number, order = 0): number {
    const acc = { flags: 0 };
    const rc = runAlone(this.driver.ops.unmapPage(d, dfn, order, acc));
    if (acc.flags !== 0) runAlone(this.driver.ops.iotlbFlush(d, dfn, 2 ** order, acc.flags));
    return rc;
  }
  /** A DMA: the machine frame reached, -1 when it was aborted. */
  dma(rid: number, dfn: number, write = true): number {
    return this.unit.translate(rid, dfn, write);
  }

  /** The four quadwords of a DTE, as the recordings print them. */
  dte(rid: number): string[] {
    const base = this.unit.frame(0);
    const at = this.ram.peek(base + (rid >>> 7)) * 1024 + (rid & 127) * 8;
    const w = (i: number): string => (this.ram.words[at + i]! >>> 0).toString(16).padStart(8, '0');
    return [0, 2, 4, 6].map((i) => `0x${w(i + 1)}${w(i)}`);
  }

  /** What the unit was told while `f` ran: `devtab_inval 200`, `pages_inval 0`. */
  commands(f: () => void): string[] {
    const seen: string[] = [];
    const off = this.events.attach((e: StampedEvent) => {
      if (e.kind === 'hw') seen.push(`${e.what} ${e.args[0]!.toString(16)}`);
    });
    f();
    off();
    return seen;
  }
  /** Console lines that `f` caused. */
  lines(f: () => void): string[] {
    this.log.length = 0;
    f();
    return [...this.log];
  }
}

export interface TestDevice {
  readonly bdf: number;
  readonly stride?: number;
  /** Messages it can send. */
  readonly msi?: number;
}

/** Its own devfn, then its phantom functions, ascending. */
export function functionsOf(pdev: Pdev): number[] {
  const all = [pdev.devfn];
  if (pdev.phantomStride === 0) return all;
  for (let f = pdev.devfn + pdev.phantomStride; f >>> 3 === pdev.devfn >>> 3; f += pdev.phantomStride)
    all.push(f);
  return all;
}
