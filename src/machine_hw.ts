/** The hardware of a host: memory, PCI, and one remapping unit for each that the firmware tables describe. */
import { InputError } from './base/assert.js';
import { type Sbdf, sbdf, sbdfOf } from './base/sbdf.js';
import { ramRanges } from './inputs/e820.js';
import type { HostDescription } from './inputs/host_description.js';
import { allPoweredOn } from './inputs/power_on.js';
import type { CpuFacts, E820Entry } from './iommu/driver/types.js';
import {
  type DeviceScope,
  DRHD_INCLUDE_PCI_ALL,
  type Drhd,
  firmwareDmar,
  SCOPE_TYPE,
} from './iommu/format/dmar.js';
import { IVHD_DEV, type Ivhd, isIvhdType, parseIvrs } from './iommu/format/ivrs.js';
import { AmdIommuUnit, ZEN_FEATURES } from './iommu/hw/amd/unit.js';
import { DEFAULT_CAP, DEFAULT_ECAP, DEFAULT_VERSION } from './iommu/hw/vtd/caps.js';
import { VTD_QUIRKS, type VtdQuirk } from './iommu/hw/vtd/quirks.js';
import { VtdUnit } from './iommu/hw/vtd/unit.js';
import { PciHost } from './pci/bus.js';
import { type DmaRemapper, RootComplex } from './pci/dma.js';
import { Clock } from './sim/clock.js';
import { EventStream } from './sim/events.js';
import { Faults } from './sim/faults.js';
import { Frames, Heap } from './sim/frames.js';
import { LazyMap } from './sim/lazy_map.js';
import { Cpus } from './sim/locks.js';
import { MmioMap } from './sim/mmio.js';
import { Ram } from './sim/ram.js';

export type IommuUnit = VtdUnit | AmdIommuUnit;

export interface MachineHardware {
  readonly ram: Ram;
  readonly frames: Frames;
  readonly heap: Heap;
  readonly mmio: MmioMap;
  readonly clock: Clock;
  readonly cpus: Cpus;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly pci: PciHost;
  readonly root: RootComplex;
  readonly cpu: CpuFacts;
  readonly e820: readonly E820Entry[];
  readonly units: readonly IommuUnit[];
  unitFor(seg: number, rid: number): IommuUnit | undefined;
  /** A requester id of unit number `unit`, with its segment. */
  idOn(unit: number, rid: number): Sbdf;
}

/** Several units share a segment: which one serves a requester id. -1 in the table: none, addresses pass. */
class RidRouter implements DmaRemapper {
  private readonly byRid = new Int8Array(0x1_0000).fill(-1);
  constructor(private readonly units: readonly IommuUnit[]) {}
  give(unit: number, from: number, to: number): void {
    for (let rid = from; rid <= to; rid++) if (this.byRid[rid] === -1) this.byRid[rid] = unit;
  }
  unitFor(rid: number): IommuUnit | undefined {
    return this.units[this.byRid[rid]!];
  }
  translate(rid: number, dfn: number, write: boolean): number {
    const unit = this.units[this.byRid[rid]!];
    return unit === undefined ? dfn : unit.translate(rid, dfn, write);
  }
  translated(rid: number, mfn: number, write: boolean): number {
    const unit: DmaRemapper | undefined = this.unitFor(rid);
    return unit === undefined ? mfn : (unit.translated?.(rid, mfn, write) ?? -1);
  }
  translationRequest(rid: number, dfn: number, write: boolean): number {
    const unit: DmaRemapper | undefined = this.unitFor(rid);
    return unit?.translationRequest?.(rid, dfn, write) ?? -1;
  }
}

/** Frames of RAM and firmware memory; what lies above holds only devices. */
function ramFrames(host: HostDescription): number {
  let end = 0;
  for (const e of host.e820) if (e.type !== 'reserved' || e.end <= 2 ** 32) end = Math.max(end, e.end);
  if (end === 0)
    throw new InputError(host.name, '', 'the memory map has no usable memory', 'give an e820 file');
  return Math.ceil(end / 4096);
}

class Board implements MachineHardware {
  readonly clock = new Clock();
  readonly events = new EventStream();
  readonly mmio = new MmioMap();
  readonly faults = new Faults();
  readonly cpus: Cpus;
  readonly ram: Ram;
  readonly frames: Frames;
  readonly root: RootComplex;
  readonly pci: PciHost;
  readonly heap: Heap;
  readonly cpu: CpuFacts;
  readonly e820: readonly E820Entry[];
  readonly units: readonly IommuUnit[];
  private readonly routers = new LazyMap<number, RidRouter>();

  constructor(host: HostDescription) {
    this.cpus = new Cpus(host.cpu.count, this.events);
    const { clock, cpus } = this;
    this.events.stamp = () => ({ t: clock.nowNs, cpu: cpus.current.id, dom: cpus.current.domid });
    const frames = ramFrames(host);
    this.ram = new Ram(frames);
    this.frames = new Frames(frames);
    this.root = new RootComplex(this.ram, this.events, ramRanges(host.e820));
    this.pci = new PciHost(allPoweredOn(host.functions), this.events, this.root);
    this.heap = new Heap(this.frames, this.faults, this.events);
    this.cpu = host.cpu;
    this.e820 = host.e820;
    this.units =
      host.dmar === undefined ? amdUnits(host, this, this.routers) : vtdUnits(host, this, this.routers);
  }

  unitFor(seg: number, rid: number): IommuUnit | undefined {
    return this.routers.get(seg)?.unitFor(rid) ?? this.units.find((u) => segmentOf(u) === seg);
  }

  idOn(unit: number, rid: number): Sbdf {
    const on = this.units[unit];
    return sbdfOf(on === undefined ? 0 : segmentOf(on), rid);
  }
}

export const createHardware = (host: HostDescription): MachineHardware => new Board(host);

const segmentOf = (unit: IommuUnit): number => (unit instanceof VtdUnit ? unit.segment : unit.seg);

interface Base {
  readonly ram: Ram;
  readonly clock: Clock;
  readonly events: EventStream;
  readonly mmio: MmioMap;
  readonly pci: PciHost;
  readonly root: RootComplex;
}

function vtdUnits(host: HostDescription, hw: Base, routers: LazyMap<number, RidRouter>): VtdUnit[] {
  const dmar = firmwareDmar(host.dmar!);
  const drhds = dmar.structures.filter((s): s is Drhd => s.kind === 'drhd');
  const units = drhds.map((drhd, index) => {
    const own = host.vtdUnits?.find((u) => u.base === drhd.base);
    const unit = new VtdUnit(hw.ram, hw.events, hw.clock, {
      index,
      segment: drhd.segment,
      cap: own?.cap ?? DEFAULT_CAP,
      ecap: own?.ecap ?? DEFAULT_ECAP,
      version: own?.version ?? DEFAULT_VERSION,
      haw: dmar.hostAddressWidth + 1,
      unsnooped: own?.unsnooped === true,
      buffered: own?.buffered === true,
      quirks: own?.asQemu === true ? AS_QEMU : undefined,
    });
    // The size field is four bits of newer tables and reserved in older ones.
    hw.mmio.add(drhd.base, 4096 * 2 ** (drhd.size & 15), unit);
    return unit;
  });
  for (const { segment: seg } of drhds) {
    if (hw.root.hasSegment(seg)) continue;
    const here = drhds.filter((d) => d.segment === seg);
    const only = here.length === 1 ? here[0]! : undefined;
    if (only !== undefined && coversSegment(only)) hw.root.install(units[drhds.indexOf(only)]!, seg);
    else {
      const router = new RidRouter(units);
      route(hw.pci, drhds, seg, router);
      routers.set(seg, router);
      hw.root.install(router, seg);
    }
  }
  return units;
}

/** A flush that no software asked for would look like one that it did: QEMU's record does not show them either. */
const AS_QEMU: ReadonlySet<VtdQuirk> = new Set(VTD_QUIRKS.filter((q) => q !== 'flush-on-enable'));

/** A single unit without PCI scopes to tell devices apart serves them all. */
const coversSegment = (drhd: Drhd): boolean => (drhd.flags & DRHD_INCLUDE_PCI_ALL) !== 0;

/** Named devices first, then what lies behind named bridges, then the unit for the rest (VT-d 8.3). */
function route(pci: PciHost, drhds: readonly Drhd[], seg: number, router: RidRouter): void {
  const scopes: { unit: number; scope: DeviceScope }[] = [];
  drhds.forEach((drhd, unit) => {
    if (drhd.segment === seg) for (const scope of drhd.scopes) scopes.push({ unit, scope });
  });
  for (const { unit, scope } of scopes) {
    const at = follow(pci, seg, scope);
    router.give(unit, at, at);
  }
  for (const { unit, scope } of scopes) {
    if (scope.type !== SCOPE_TYPE.BRIDGE) continue;
    const at = sbdf(seg, 0, 0, 0) + follow(pci, seg, scope);
    router.give(unit, pci.configRead(at, 0x19, 1) * 256, pci.configRead(at, 0x1a, 1) * 256 + 255);
  }
  drhds.forEach((drhd, unit) => {
    if (drhd.segment === seg && coversSegment(drhd)) router.give(unit, 0, 0xffff);
  });
}

/** The bdf that a scope's path leads to, through the bus numbers that bridges hold now. */
function follow(pci: PciHost, seg: number, scope: DeviceScope): number {
  let bus = scope.startBus;
  for (const hop of scope.path.slice(0, -1)) bus = pci.configRead(sbdf(seg, bus, hop.dev, hop.fn), 0x19, 1);
  const last = scope.path.at(-1);
  return last === undefined ? bus * 256 : (bus << 8) | (last.dev << 3) | last.fn;
}

/** IVHD blocks of several types describe one IOMMU; its register base tells which. */
function amdUnits(host: HostDescription, hw: Base, routers: LazyMap<number, RidRouter>): AmdIommuUnit[] {
  if (host.ivrs === undefined) return [];
  const blocks = parseIvrs(host.ivrs).blocks.filter((b): b is Ivhd => isIvhdType(b.type));
  const units: AmdIommuUnit[] = [];
  const described = [...new Map(blocks.map((b) => [b.base, b])).values()];
  for (const ivhd of described) {
    const unit = new AmdIommuUnit({
      unit: units.length,
      seg: ivhd.segment,
      features: host.amdFeatures ?? ZEN_FEATURES,
      events: hw.events,
      ram: hw.ram,
    });
    hw.mmio.add(ivhd.base, 0x4000, unit);
    units.push(unit);
  }
  for (const seg of new Set(described.map((b) => b.segment))) {
    const here = described.flatMap((b, i) => (b.segment === seg ? [i] : []));
    if (here.length === 1) {
      hw.root.install(units[here[0]!]!, seg);
      continue;
    }
    const router = new RidRouter(units);
    for (const i of here) routeNamed(described[i]!, i, router);
    // Who is not named is behind some unit all the same.
    router.give(here[0]!, 0, 0xffff);
    routers.set(seg, router);
    hw.root.install(router, seg);
  }
  return units;
}

/** The ids that an IVHD names, and the aliases they have. */
function routeNamed(ivhd: Ivhd, unit: number, router: RidRouter): void {
  let from = 0;
  for (const e of ivhd.entries) {
    if (e.usedId !== undefined && e.type !== IVHD_DEV.SPECIAL) router.give(unit, e.usedId, e.usedId);
    if (e.type === IVHD_DEV.START || e.type === IVHD_DEV.ALIAS_START || e.type === IVHD_DEV.EXT_START)
      from = e.id;
    else if (e.type === IVHD_DEV.END) router.give(unit, from, e.id);
    else if (NAMES_ONE.has(e.type)) router.give(unit, e.id, e.id);
  }
}
const NAMES_ONE: ReadonlySet<number> = new Set([
  IVHD_DEV.SELECT,
  IVHD_DEV.ALIAS_SELECT,
  IVHD_DEV.EXT_SELECT,
  IVHD_DEV.ACPI_HID,
]);
