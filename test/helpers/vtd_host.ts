/** A VT-d host in a test: the driver on `TestServices`, real silicon behind its registers, DMA that really walks. */
import { isErr } from '../../src/base/errno.js';
import { type Sbdf, sbdf } from '../../src/base/sbdf.js';
import { IOMMUF, PDEV_TYPE, type Pdev } from '../../src/iommu/driver/types.js';
import { acpiDmarInit } from '../../src/iommu/driver/vtd/dmar.js';
import type { VtdDriver } from '../../src/iommu/driver/vtd/iommu.js';
import {
  type DeviceScope,
  type Dmar,
  type DmarStructure,
  encodeDmar,
  fixChecksum,
} from '../../src/iommu/format/dmar.js';
import { QEMU_CAP, QEMU_ECAP, type VtdOptions, type Word64 } from '../../src/iommu/hw/vtd/caps.js';
import { VtdUnit } from '../../src/iommu/hw/vtd/unit.js';
import { runAlone } from '../../src/sim/co.js';
import type { SimEvent } from '../../src/sim/events.js';
import { type TestDomain, TestServices, type TestXen } from './services.js';

export const UNIT_BASE = 0xfed9_0000;
const OTHER_UNIT_BASE = UNIT_BASE + 0x1000;

export const scope = (type: number, startBus: number, ...path: [number, number][]): DeviceScope => ({
  type,
  flags: 0,
  reserved: 0,
  enumerationId: 0,
  startBus,
  path: path.map(([dev, fn]) => ({ dev, fn })),
});
export const drhd = (
  scopes: readonly DeviceScope[],
  o: { base?: number; all?: boolean; seg?: number } = {},
) =>
  ({
    kind: 'drhd',
    flags: (o.all ?? scopes.length === 0) ? 1 : 0,
    size: 0,
    segment: o.seg ?? 0,
    base: o.base ?? UNIT_BASE,
    scopes,
  }) as const;
export const rmrr = (base: number, limit: number, scopes: readonly DeviceScope[]) =>
  ({ kind: 'rmrr', reserved: 0, segment: 0, base, limit, scopes }) as const;

export function dmarTable(structures: readonly DmarStructure[], over: Partial<Dmar> = {}): Uint8Array {
  return fixChecksum(
    encodeDmar({
      signature: 'DMAR',
      revision: 1,
      checksum: 0,
      oemId: 'BOCHS ',
      oemTableId: 'BXPC    ',
      oemRevision: 1,
      creatorId: 'BXPC',
      creatorRevision: 1,
      hostAddressWidth: 47,
      flags: 1,
      reserved: new Uint8Array(10),
      structures,
      ...over,
    }),
  );
}

export interface VtdHostOptions extends TestXen {
  readonly cap?: Word64;
  readonly ecap?: Word64;
  readonly version?: number;
  readonly latencyNs?: number;
  /** Base addresses of the units; one by default. */
  readonly units?: readonly (Partial<VtdOptions> & { readonly base: number })[];
  readonly structures?: readonly DmarStructure[];
  readonly dmar?: Partial<Dmar>;
  /** Adds functions before the table is read. */
  readonly prepare?: (s: TestServices) => void;
}

export class VtdHost {
  readonly s: TestServices;
  readonly units: VtdUnit[] = [];
  readonly driver: VtdDriver;

  constructor(o: VtdHostOptions = {}) {
    this.s = new TestServices(o);
    for (const [index, unit] of (o.units ?? [{ base: UNIT_BASE }]).entries()) {
      const hw = new VtdUnit(this.s.ram, this.s.events, this.s.clock, {
        index,
        segment: 0,
        cap: o.cap ?? QEMU_CAP,
        ecap: o.ecap ?? QEMU_ECAP,
        version: o.version ?? 0x10,
        haw: 48,
        latencyNs: o.latencyNs ?? 0,
        ...unit,
      });
      this.units.push(hw);
      this.s.mmio.add(unit.base, 4096, hw);
    }
    o.prepare?.(this.s);
    const found = acpiDmarInit(this.s, dmarTable(o.structures ?? [drhd([])], o.dmar));
    if (isErr(found)) throw new Error(`acpi_dmar_init: ${found}`);
    this.driver = found;
    this.s.ops = found;
  }

  /** Set-up, then dom0 with everything there is. */
  boot(): this {
    const rc = runAlone(this.driver.setup());
    if (rc !== 0) throw new Error(`vtd_setup: ${rc}`);
    for (const d of [this.s.domIo, this.s.hwdom]) runAlone(this.driver.init(d));
    runAlone(this.driver.hwdomInit(this.s.hwdom));
    return this;
  }
  domain(domid: number): TestDomain {
    const d = this.s.addDomain(domid);
    runAlone(this.driver.init(d));
    return d;
  }
  /** A PCIe endpoint of dom0's. */
  endpoint(at: Sbdf): Pdev {
    return this.s.addPdev(at, PDEV_TYPE.PCIE_ENDPOINT);
  }

  map(
    d: TestDomain,
    dfn: number,
    mfn: number,
    order = 0,
    flags: number = IOMMUF.readable | IOMMUF.writable,
  ): number {
    const acc = { flags: 0 };
    const rc = runAlone(this.driver.mapPage(d, dfn, mfn, flags | order, acc));
    if (rc === 0 && acc.flags !== 0) runAlone(this.driver.iotlbFlush(d, dfn, 2 ** order, acc.flags));
    return rc;
  }
  unmap(d: TestDomain, dfn: number, order = 0): number {
    const acc = { flags: 0 };
    const rc = runAlone(this.driver.unmapPage(d, dfn, order, acc));
    if (rc === 0 && acc.flags !== 0) runAlone(this.driver.iotlbFlush(d, dfn, 2 ** order, acc.flags));
    return rc;
  }

  /** Takes pcidevs_lock around a call, as Xen's common code does. */
  locked<T>(f: () => T): T {
    this.s.pcidevsLock.acquire();
    try {
      return f();
    } finally {
      this.s.pcidevsLock.release();
    }
  }
  assign(d: TestDomain, pdev: Pdev, devfn = pdev.devfn, flag = 0): number {
    return this.locked(() => runAlone(this.driver.assignDevice(d, devfn, pdev, flag)));
  }
  reassign(from: TestDomain, to: TestDomain, pdev: Pdev, devfn = pdev.devfn): number {
    return this.locked(() => runAlone(this.driver.reassignDevice(from, to, devfn, pdev)));
  }
  quarantine(pdev: Pdev, scratch = false): number {
    return this.locked(() => runAlone(this.driver.quarantineInit(pdev, scratch)));
  }

  /** Machine frame that a DMA of requester `bus:dev.fn` reaches, or the negative fault reason. */
  dma(bus: number, dev: number, fn: number, dfn: number, write = true, unit = 0): number {
    return this.units[unit]!.translate((bus << 8) | (dev << 3) | fn, dfn, write);
  }
  /** Frame of a bus's context table, 0 for none. */
  contextTable(bus: number, unit = 0): number {
    const { ram } = this.s;
    const entry = this.driver.vtd.drhds[unit]!.iommu!.rootMfn * 4096 + bus * 16;
    const lo = ram.read32(entry);
    return (lo & 1) === 0 ? 0 : ram.read32(entry + 4) * 2 ** 20 + (lo >>> 12);
  }
  /** Present, table frame, width, type and id of a context entry, as hardware reads it. */
  entry(
    bus: number,
    devfn: number,
    unit = 0,
  ): { p: number; root: number; aw: number; tt: number; did: number } {
    const table = this.contextTable(bus, unit);
    if (table === 0) return { p: 0, root: 0, aw: 0, tt: 0, did: 0 };
    const w = [0, 4, 8, 12].map((i) => this.s.ram.read32(table * 4096 + devfn * 16 + i));
    return {
      p: w[0]! & 1,
      root: (w[1]! & 0xf_ffff) * 2 ** 20 + (w[0]! >>> 12),
      aw: w[2]! & 7,
      tt: (w[0]! >>> 2) & 3,
      did: (w[2]! >>> 8) & 0xffff,
    };
  }

  /** Descriptors fetched since `record()`, waits left out, as `low high` in hex. */
  descriptors(): string[] {
    return this.s.log
      .filter((e): e is Extract<typeof e, { kind: 'descriptor' }> => e.kind === 'descriptor')
      .filter((e) => (e.words[0]! & 0xf) !== 5)
      .map((e) => `${hexPair(e.words, 0)} ${hexPair(e.words, 2)}`);
  }
  /** Register writes since `record()` without queue doorbells, as `offset=value` in hex. */
  registerWrites(): string[] {
    return this.s.log
      .filter((e): e is Extract<SimEvent, { kind: 'reg' }> & typeof e => e.kind === 'reg')
      .filter((e) => e.write && e.offset !== 0x88)
      .map((e) => `${e.offset.toString(16)}=${hexPair([e.lo, e.hi], 0)}`);
  }
}

function hexPair(w: readonly number[], at: number): string {
  const lo = (w[at]! >>> 0).toString(16);
  const hi = w[at + 1]! >>> 0;
  return hi === 0 ? lo : hi.toString(16) + lo.padStart(8, '0');
}

export const at = (bus: number, dev: number, fn = 0): Sbdf => sbdf(0, bus, dev, fn);

/**
 * A booted host with a PCIe endpoint at 02:00.0, which is dom0's, and guest d1, whose frame 0x100 is machine frame
 * 0x40000. Nothing is on the console.
 */
export function hostWithGuest(o: VtdHostOptions = {}) {
  const h = new VtdHost(o);
  const pdev = h.endpoint(at(2, 0));
  h.boot();
  const d1 = h.domain(1);
  h.map(d1, 0x100, 0x4_0000);
  h.s.console.length = 0;
  return { h, pdev, d1 };
}

/** A host that is not booted yet, with a unit for everything and another one for 06:00.0. */
export const twoUnits = (): VtdHost =>
  new VtdHost({
    units: [{ base: UNIT_BASE }, { base: OTHER_UNIT_BASE }],
    structures: [drhd([scope(1, 6, [0, 0])], { base: OTHER_UNIT_BASE, all: false }), drhd([])],
    prepare: (s) => s.addFunction(at(6, 0)),
  });
