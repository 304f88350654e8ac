/** Devices, and what domains have for them and their IOMMU. @xen include/xen/pci.h, include/xen/sched.h, include/xen/iommu.h */
import type { Sbdf } from '../../base/sbdf.js';
import { type ListLinks, NOBODY } from '../../sim/list_links.js';
import { RANK } from '../../sim/lock_ranks.js';
import { type Cpus, RwLock, SpinLock } from '../../sim/locks.js';

/** @xen enum pdev_type */
export const PDEV_TYPE = {
  UNKNOWN: 0,
  PCIE_ENDPOINT: 1,
  PCIE_BRIDGE: 2,
  PCIE2PCI_BRIDGE: 3,
  PCI2PCIE_BRIDGE: 4,
  LEGACY_PCI_BRIDGE: 5,
  PCI_HOST_BRIDGE: 6,
  PCI: 7,
} as const;
export type PdevType = (typeof PDEV_TYPE)[keyof typeof PDEV_TYPE];

/** What may be known of a device's unit beside its index. */
export const VTD_UNIT = { none: -1, unknown: -2 } as const;

/** What IOMMU drivers keep of a device. @xen struct arch_pci_dev */
export interface PdevArch {
  /** Quarantine table: root frame, 0 for none. @xen arch.vtd.pgd_maddr, arch.amd.root_table */
  rootMfn: number;
  /** The scratch page of the quarantine table, 0 for none. */
  leafMfn: number;
  /** Frames of the quarantine table. */
  pgtables: number[];
  /** 0x8000..0xFFFF once dealt, else DOMID_INVALID. */
  pseudoDomid: number;
  /** VT-d: index of the matched unit in the list of units, or VTD_UNIT. */
  vtdUnit: number;
  /** VT-d: a chipset quirk may apply to this function. */
  vtdMayQuirk: boolean;
}

/** What most functions have, which are no VFs and have none. */
const NO_PHYSFN = Object.freeze({ bus: 0, devfn: 0 });
const NO_VF_BARS: readonly number[] = Object.freeze([0, 0, 0, 0, 0, 0]);
const NONE: readonly never[] = Object.freeze([]);

/** Flags that each change of hands reads: one number, as fields of their own they are half a cache line. */
const FLAG = { quarantine: 1, broken: 2, atsEnabled: 4, vtdMayQuirk: 8 } as const;

/** A PCI function as Xen knows it. @xen struct pci_dev */
export class Pdev {
  // What each change of hands reads stands first, so that it lies together in memory.
  domain: IommuDomain | undefined = undefined;
  /** Its number in `links`, where its neighbours in `domain.pdevList` are. */
  readonly nr: number = this.links.enter(this);
  /** See PdevArch. */
  rootMfn = 0;
  pseudoDomid = 0x7ff4;
  vtdUnit: number = VTD_UNIT.unknown;
  /** Bits as FLAG. */
  private flags: number = FLAG.vtdMayQuirk;
  /** Faults counted lately, and when the last one was. @xen pdev->fault */
  faultCount = 0;
  type: PdevType = PDEV_TYPE.UNKNOWN;
  /** 0, 1, 2 or 4. */
  phantomStride = 0;
  msix:
    | { pos: number; nrEntries: number; hostMaskall: boolean; guestMaskall: boolean; usedEntries: number }
    | undefined = undefined;
  isExtfn = false;
  isVirtfn = false;
  faultTime = 0;
  leafMfn = 0;
  pgtables: number[] = [];
  ignoreBars = false;
  extCfg = false;
  /** PF of a VF. */
  physfn: { readonly bus: number; readonly devfn: number } = NO_PHYSFN;
  /** The PF whose list it is in: the first that was ever named. @xen pdev->pf_pdev */
  pfPdev: Pdev | undefined = undefined;
  /** NUMA node, -1 for NUMA_NO_NODE. */
  node = -1;
  msiMaxvec = 0;
  /** IRQs shown by the Q key. */
  msiIrqs: readonly number[] = NONE;
  atsCapPos = 0;
  atsQueueDepth = 0;
  /** Bytes of one VF's base address registers, of a PF. */
  vfRlen: readonly number[] = NO_VF_BARS;
  constructor(
    readonly sbdf: Sbdf,
    readonly links: ListLinks<Pdev>,
  ) {}
  private has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }
  private mark(flag: number, on: boolean): void {
    this.flags = on ? this.flags | flag : this.flags & ~flag;
  }
  get vtdMayQuirk(): boolean {
    return this.has(FLAG.vtdMayQuirk);
  }
  set vtdMayQuirk(may: boolean) {
    this.mark(FLAG.vtdMayQuirk, may);
  }
  get quarantine(): boolean {
    return this.has(FLAG.quarantine);
  }
  set quarantine(on: boolean) {
    this.mark(FLAG.quarantine, on);
  }
  get broken(): boolean {
    return this.has(FLAG.broken);
  }
  set broken(on: boolean) {
    this.mark(FLAG.broken, on);
  }
  get atsEnabled(): boolean {
    return this.has(FLAG.atsEnabled);
  }
  set atsEnabled(on: boolean) {
    this.mark(FLAG.atsEnabled, on);
  }
  /** The one behind it in `domain.pdevList`. */
  get listNext(): Pdev | undefined {
    return this.links.members[this.links.near[this.nr << 1]!];
  }
  /** Lies within the device, as in Xen. */
  get arch(): PdevArch {
    return this;
  }
  /** What kind of function it is, which says who is its unit. */
  become(
    isExtfn: boolean,
    isVirtfn: boolean,
    physfn: { readonly bus: number; readonly devfn: number },
  ): void {
    this.isExtfn = isExtfn;
    this.isVirtfn = isVirtfn;
    this.physfn = { bus: physfn.bus, devfn: physfn.devfn };
    this.vtdUnit = VTD_UNIT.unknown;
  }
  get seg(): number {
    return this.sbdf >>> 16;
  }
  get bus(): number {
    return (this.sbdf >>> 8) & 0xff;
  }
  get devfn(): number {
    return this.sbdf & 0xff;
  }
}

/** The devices of a domain, newest first, as list_add() leaves them. @xen d->pdev_list */
export interface PdevList {
  readonly first: Pdev | undefined;
  readonly size: number;
  add(pdev: Pdev): void;
  remove(pdev: Pdev): void;
  toArray(): Pdev[];
}

/** One RMRR or unity range mapped into a domain. Frames, `end` inclusive. @xen struct identity_map */
export interface IdentityMap {
  readonly base: number;
  readonly end: number;
  readonly access: P2mAccess;
  count: number;
}
/** Access of an identity map; `n` none, `x` asks for its removal. @xen p2m_access_t */
export type P2mAccess = 'rw' | 'r' | 'w' | 'n' | 'x';

/** Bits of a number that V8 keeps in the object itself. */
const BITS = 31;

/**
 * What each change of hands reads of a domain: fields of base classes lie together in memory. The mapping lock and the
 * list of devices lie within it, as in Xen.
 */
class DeviceOwner extends SpinLock implements PdevList {
  first: Pdev | undefined = undefined;
  size = 0;
  /** How far it is on its way out. @xen enum domain_dying */
  dying = 0;
  /** VT-d: root of the I/O page table, 0 while there is none. @xen arch.vtd.pgd_maddr */
  pgdMfn = 0;
  /** VT-d: units that hold an entry of this domain, a bit each for the first ones. @xen arch.vtd.iommu_bitmap */
  protected unitBits = 0;
  /** Releases from 4.19; undefined before. */
  readonly pciLock: RwLock | undefined;
  /** What makes IOMMU use impossible. @xen arch_iommu_use_permitted */
  memSharing = false;
  pagingRing = false;
  podEntries = 0;
  logDirty = false;
  constructor(
    domid: number,
    cpus: Cpus,
    /** D[IO] gets it once the IOMMU is on. @xen is_iommu_enabled */
    public iommuEnabled: boolean,
    pciLock: boolean,
  ) {
    super(cpus, 'mapping_lock', RANK.mapping, false, domid);
    this.pciLock = pciLock ? new RwLock(cpus, `d${domid}.pci_lock`, RANK.pciLock) : undefined;
  }
  get mappingLock(): SpinLock {
    return this;
  }
  add(pdev: Pdev): void {
    const { nr } = pdev;
    if (this.first !== undefined) {
      const { near } = pdev.links;
      near[nr << 1] = this.first.nr;
      near[(this.first.nr << 1) + 1] = nr;
    }
    this.first = pdev;
    this.size += 1;
  }
  remove(pdev: Pdev): void {
    this.size -= 1;
    if (this.size === 0) this.first = undefined;
    else this.unlink(pdev);
  }
  /** Takes one of several out. */
  private unlink(pdev: Pdev): void {
    const { nr } = pdev;
    const { near, members } = pdev.links;
    const after = near[nr << 1]!;
    const before = near[(nr << 1) + 1]!;
    if (before === NOBODY) this.first = members[after];
    else near[before << 1] = after;
    if (after !== NOBODY) near[(after << 1) + 1] = before;
    near[nr << 1] = NOBODY;
    near[(nr << 1) + 1] = NOBODY;
  }
  toArray(): Pdev[] {
    const all: Pdev[] = [];
    for (let p = this.first; p !== undefined; p = p.listNext) all.push(p);
    return all;
  }
}

/** Lies within the domain. @xen struct domain_iommu, struct arch_iommu */
export class DomainIommu extends DeviceOwner {
  hapPtShare = false;
  private otherUnits: Set<number> | undefined = undefined;
  /** Frames of the I/O page table pool. @xen arch.pgtables.list */
  pgtables: number[] = [];
  readonly identityMaps: IdentityMap[] = [];
  needSync = false;
  node = -1;
  /** VT-d: levels - 2. */
  agaw = 0;
  /** AMD: levels of the table, 0 while undecided. */
  pagingMode = 0;
  /** AMD: root frame, 0 while there is none. */
  rootMfn = 0;
  readonly pgtablesLock: SpinLock;
  constructor(domid: number, cpus: Cpus, iommuEnabled: boolean, pciLock: boolean) {
    super(domid, cpus, iommuEnabled, pciLock);
    this.pgtablesLock = new SpinLock(cpus, 'pgtables.lock', RANK.pgtables, false, domid);
  }
  /** Does unit number `index` hold an entry of this domain? */
  uses(index: number): boolean {
    return index < BITS ? ((this.unitBits >> index) & 1) === 1 : (this.otherUnits?.has(index) ?? false);
  }
  setUses(index: number, used: boolean): void {
    if (index >= BITS) {
      this.otherUnits ??= new Set();
      if (used) this.otherUnits.add(index);
      else this.otherUnits.delete(index);
    } else if (used) this.unitBits |= 1 << index;
    else this.unitBits &= ~(1 << index);
  }
  usesAny(): boolean {
    return this.unitBits !== 0 || (this.otherUnits?.size ?? 0) !== 0;
  }
  usesNone(): void {
    this.unitBits = 0;
    this.otherUnits = undefined;
  }
}

/** The part of struct domain that drivers see. */
export interface IommuDomain {
  readonly domid: number;
  readonly iommu: DomainIommu;
  readonly pdevList: PdevList;
  /** Releases from 4.19; undefined before. */
  readonly pciLock: RwLock | undefined;
  /** @xen is_iommu_enabled */
  readonly iommuEnabled: boolean;
  isDying: boolean;
  isShuttingDown: boolean;
  /** @xen is_hvm_domain */
  readonly isHvm: boolean;
  /** @xen hap_enabled */
  readonly hap: boolean;
  /** Highest frame number the guest may use, for AMD's paging mode. @xen domain_get_maximum_gpfn */
  maxGfn(): number;
  /** Root frame of the p2m, for shared EPT. @xen pagetable_get_pfn(p2m_get_pagetable()) */
  p2mRootMfn(): number;
}
