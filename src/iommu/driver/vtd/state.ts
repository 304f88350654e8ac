/**
 * What the VT-d driver knows: the units and ranges that firmware described, and one `VtdIommu` per unit.
 * State and one-line accessors only; the other files of this folder are functions over it, named as in Xen.
 * Locks: pcidevs_lock guards entries, ids and the ATS lists; `lock` the context tables; `registerLock` registers and
 * the queue's tail. @xen drivers/passthrough/vtd/iommu.h, dmar.h
 */
import { LazyMap } from '../../../sim/lazy_map.js';
import { RANK } from '../../../sim/lock_ranks.js';
import { SpinLock } from '../../../sim/locks.js';
import type { MmioDevice } from '../../../sim/mmio.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { DomidCursor, type DomidMap } from '../domid.js';
import type { IommuDomain, IommuOptions, Pdev, VtdSeams, XenServices } from '../types.js';
import { ContextEntry } from './context_entry.js';
import { vtdSeams } from './seams.js';

export const VTDPREFIX = '[VT-D]';

/** Buses and functions that a structure of the DMAR covers. @xen struct dmar_scope */
export class DmarScope {
  /** Filled when the DMAR is read, before anybody can take a snapshot. */
  static readonly unchanging = true;
  /** Bit per bus. */
  readonly buses = new Int32Array(8);
  /** Bus, device and function of each entry, in table order. */
  readonly devices: number[] = [];
  hasBus(bus: number): boolean {
    return ((this.buses[bus >>> 5]! >>> (bus & 31)) & 1) === 1;
  }
  addBuses(first: number, last: number): void {
    for (let bus = first; bus <= last; bus++) this.buses[bus >>> 5]! |= 1 << (bus & 31);
  }
}

/** An I/O APIC or HPET in a unit's scope: id and requester id of its interrupts. */
export interface ScopedId {
  readonly id: number;
  readonly bdf: number;
}

/** @xen struct acpi_drhd_unit */
export class DrhdUnit {
  readonly scope = new DmarScope();
  gfxOnly = false;
  iommu: VtdIommu | undefined = undefined;
  /** Newest first. */
  readonly ioapics: ScopedId[] = [];
  readonly hpets: ScopedId[] = [];
  constructor(
    readonly address: number,
    readonly segment: number,
    readonly includeAll: boolean,
  ) {}
}

/** Bytes, `end` inclusive. @xen struct acpi_rmrr_unit */
export interface RmrrUnit {
  readonly scope: DmarScope;
  readonly base: number;
  readonly end: number;
  readonly segment: number;
}

/** @xen struct acpi_atsr_unit */
export interface AtsrUnit {
  readonly scope: DmarScope;
  readonly segment: number;
  readonly allPorts: boolean;
}

/** No root entry's lower word: bits 11:1 are reserved. */
export const NO_TABLE = -1;

/** How invalidations reach a unit. @xen struct vtd_iommu flush */
export const FLUSH = { noop: 0, register: 1, queued: 2 } as const;

/** One unit, with its capabilities decoded once. @xen struct vtd_iommu */
export class VtdIommu {
  // What a move of a device reads comes first: V8 keeps what it has read of the first thirty fields of an object only.
  readonly ram = this.vtd.s.ram;
  readonly faults = this.vtd.s.faults;
  readonly lock = new SpinLock(this.vtd.s.cpus, `iommu${this.index}.lock`, RANK.iommu);
  readonly registerLock = new SpinLock(
    this.vtd.s.cpus,
    `iommu${this.index}.register_lock`,
    RANK.iommuRegister,
  );
  /** Byte of RAM's words at which the queue's first page lies. */
  queueAt = 0;
  /** Entries of the queue, less one. */
  queueMask = 0;
  flush: number = FLUSH.noop;
  cachingMode = false;
  /** A device with an enabled translation cache may sit behind this unit. @xen find_ats_dev_drhd */
  flushDevIotlb = false;
  /** readDrain and writeDrain as an IOTLB descriptor asks for them. */
  drain = 0;
  rwbf = false;
  devIotlb = false;
  nrPtLevels = 0;
  ndoms = 0;
  /** Byte of RAM's words at which the root table lies, 0 until that was written to. */
  rootAt = 0;
  /** Root entry of the context table that was used last, and the byte of RAM's words at which that lies. */
  tableLo = NO_TABLE;
  tableHi = 0;
  tableAt = 0;
  /** Entry under construction, and the one it replaces; valid while `lock` is held. */
  readonly lctxt = new ContextEntry();
  readonly old = new ContextEntry();
  /** What the last replaced entry said; valid until pcidevs_lock is dropped or another entry is replaced. */
  prevDid = 0;
  prevDom: IommuDomain | undefined = undefined;
  /** Units with fewer hardware ids than domains can have: id in use, and by which domain. @xen domid_bitmap, domid_map */
  domidMap: Int32Array | undefined = undefined;
  pageSelective = false;
  maxAmask = 0;

  readonly intremapLock = new SpinLock(this.vtd.s.cpus, `iommu${this.index}.intremap.lock`, RANK.iommu);
  version = 0;
  /** CAP and ECAP, low and high words. */
  capLo = 0;
  capHi = 0;
  ecapLo = 0;
  ecapHi = 0;
  readDrain = false;
  writeDrain = false;
  sagaw = 0;
  queuedInval = false;
  intrRemap = false;
  intrPost = false;
  eim = false;
  passThrough = false;
  snoopControl = false;
  coherent = false;
  sps2m = false;
  sps1g = false;
  faultRegs = 0;
  faultRegOffset = 0;
  iotlbOffset = 0;

  /** Frames; 0 while there is none. */
  rootMfn = 0;
  qinvalMfn = 0;
  /** Newest first. @xen ats_devices */
  readonly atsDevices: Pdev[] = [];
  readonly intremap = { mfn: 0, num: 0 };
  /** Fault interrupt: message as written to FEDATA and FEADDR. */
  readonly msi = { data: 0, addressLo: 0 };

  /** Dealt to quarantined devices. */
  pseudoDomids: DomidMap | undefined = undefined;
  readonly didOfDomid = new LazyMap<number, number>();
  /** No free id below this one. */
  lowestFreeDid = 0;

  constructor(
    readonly vtd: Vtd,
    readonly drhd: DrhdUnit,
    /** Sequence number, in table order. */
    readonly index: number,
    readonly reg: MmioDevice,
  ) {}
}

export class Vtd {
  readonly opts: IommuOptions;
  readonly seams: VtdSeams;
  /** The CPU lacks CMPXCHG16B: context entries are written in several steps. */
  readonly writesInSteps: boolean;
  /** @xen acpi_drhd_units: newest first, units that cover the rest last */
  drhds: DrhdUnit[] = [];
  /** Newest first. @xen acpi_rmrr_units */
  rmrrs: RmrrUnit[] = [];
  atsrs: AtsrUnit[] = [];
  dmarFlags = 0;
  igdDrhdAddress = 0;
  includeAllSeen = false;
  allPortsSeen = false;

  nrIommus = 0;
  /** Fewest levels of any unit. @xen min_pt_levels */
  minPtLevels = 0xffff;
  /** @xen iommu_ops.page_sizes */
  pageSizes = 1 << 12;
  readonly pseudoCursor = new DomidCursor();
  sagawWarned = false;
  untrustedMsi = false;

  /** Entries of each invalidation queue, and its order in pages. @xen qi_entry_nr, qi_pg_order */
  qiEntries = 0;
  qiOrder = 0;
  /** Where hardware writes the status of waits, a word per CPU: byte of RAM's words, and its address. @xen poll_slot */
  pollAt = 0;
  pollLo = 0;
  pollHi = 0;
  qiFullWarned = false;
  /** Patience of each kind of wait, doubled each time it ran out. @xen IOMMU_FLUSH_WAIT threshold */
  readonly threshold = { writeBuffer: 1, context: 1, iotlb: 1, qi: 1 };

  /** Configuration words of the host bridge and the IGD. @xen ioh_id */
  iohId = -1;
  rwbfQuirk = false;
  /** Device number of a management engine with a phantom function, 0 for chipsets without. */
  meSlot = 0;
  /** Reused by find_upstream_bridge(); nothing yields while it is in use. */
  readonly bridge = { bus: 0, devfn: 0, secbus: 0 };
  /** IRTE index of each I/O APIC pin, by `apic * 256 + pin`. @xen apic_pin_2_ir_idx */
  readonly apicPinToIrte = new LazyMap<number, number>();
  /** Redirection entries in remappable format, as they were written, by the same key. */
  readonly ioapicRtes = new LazyMap<number, { readonly lo: number; readonly hi: number }>();

  constructor(readonly s: XenServices) {
    this.opts = s.opts;
    this.seams = vtdSeams.of(s.seams);
    this.writesInSteps = !s.cpu.cx16;
  }
}

/** Registers belong to whoever holds `registerLock`; reads of capabilities and status need no lock. */
export const dmarReadl = (iommu: VtdIommu, offset: number): number => iommu.reg.read32(offset);
export const dmarWritel = (iommu: VtdIommu, offset: number, value: number): void =>
  iommu.reg.write32(offset, value);
/** Writes a frame address with low bits. */
export const dmarWriteMaddr = (iommu: VtdIommu, offset: number, mfn: number, low: number): void =>
  iommu.reg.write64(offset, ((mfn & 0xf_ffff) << 12) | low, Math.floor(mfn / 0x10_0000));

/** What %lx prints for a 64-bit value. */
export const hexq = (lo: number, hi: number): string =>
  hi === 0 ? (lo >>> 0).toString(16) : (hi >>> 0).toString(16) + (lo >>> 0).toString(16).padStart(8, '0');
/** What %lx prints for a 64-bit register. */
export const hexReg = (iommu: VtdIommu, offset: number): string =>
  hexq(iommu.reg.read32(offset), iommu.reg.read32(offset + 4));
/** Where Xen would have mapped a unit's page: its vmap area hands out every other page. */
export const regVirtual = (iommu: VtdIommu): string =>
  (0x82c0_0020_5000 + 0x2000 * iommu.index).toString(16).padStart(16, 'f');

/** Zeroed frames of Xen's own, seen as zero by units that do not snoop; 0 when memory is short. @xen alloc_pgtable_maddr */
export function allocPgtableMaddr(vtd: Vtd, order: number): number {
  const mfn = vtd.s.allocXenPages(order);
  if (mfn !== 0 && vtd.opts.nonCoherent) {
    for (let i = 0; i < 2 ** order; i++) vtd.s.syncCache(mfn + i, 0, FRAME_WORDS);
  }
  return mfn;
}
