/**
 * What the IOMMU drivers see of Xen, and what Xen sees of them: devices, the IOMMU part of a domain, the services
 * that the hypervisor implements, and `IommuOps`, the one door. @xen include/xen/iommu.h, include/xen/pci.h
 */
import type { Rc } from '../../base/errno.js';
import type { Sbdf } from '../../base/sbdf.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { Faults } from '../../sim/faults.js';
import type { Cpus, SpinLock } from '../../sim/locks.js';
import type { MmioMap } from '../../sim/mmio.js';
import type { Ram } from '../../sim/ram.js';
import type { IommuDomain, P2mAccess, Pdev, PdevType } from './device.js';
import type { CpuFacts, E820Entry, ExtraRange, IommuOptions } from './options.js';
import type { AmdSeams, VtdSeams } from './seams.js';

export {
  DomainIommu,
  type IdentityMap,
  type IommuDomain,
  type P2mAccess,
  PDEV_TYPE,
  Pdev,
  type PdevArch,
  type PdevList,
  type PdevType,
  VTD_UNIT,
} from './device.js';
export type { CpuFacts, E820Entry, ExtraRange, IommuOptions } from './options.js';
export type { AmdSeams, VtdSeams } from './seams.js';

/** @xen IOMMUF_*, IOMMU_FLUSHF_* */
export const IOMMUF = { readable: 1 << 6, writable: 1 << 7, preempt: 1 << 8, orderMask: 0x3f } as const;
export const FLUSHF = { added: 1, modified: 2, all: 4 } as const;
/** What a series of map and unmap calls left to be flushed; handed to iotlbFlush. */
export interface FlushAcc {
  flags: number;
}
/** @xen XEN_DOMCTL_DEV_RDM_RELAXED */
export const DEV_RDM_RELAXED = 1;
/** All frames of a domain. @xen INVALID_DFN */
export const INVALID_DFN = -1;

/** What lookupPage fills in. */
export interface LookupResult {
  mfn: number;
  flags: number;
}

/**
 * Called once per reserved range and device: frames and the device's sbdf. Negative ends the iteration, positive
 * skips the other devices of that range. @xen iommu_grdm_t
 */
export type GrdmFn = (startFrame: number, frames: number, sbdf: Sbdf) => number;

/** The one door between Xen's common code and VT-d or AMD-Vi. Order and names are Xen's. @xen struct iommu_ops */
/** A message of a device as far as remapping it goes, one per vector. @xen struct msi_desc */
export interface MsiDesc {
  readonly pdev: Pdev;
  /** Vectors of its group: on the first all, on the others none. One where nobody says. */
  readonly nvec?: number;
  /** -1 while it has none. */
  remapIndex: number;
  irteInitialized: boolean;
}
/** A message: turned into the remappable form in place. @xen struct msi_msg */
export interface MsiMsg {
  addressLo: number;
  addressHi: number;
  data: number;
}

export interface IommuOps {
  readonly vendor: 'vtd' | 'amd';
  /** Bit n: pages of 2^n bytes are supported. @xen ops->page_sizes */
  pageSizes: number;
  init(d: IommuDomain): Co<Rc>;
  hwdomInit(d: IommuDomain): Co<void>;
  quarantineInit(pdev: Pdev, scratchPage: boolean): Co<Rc>;
  addDevice(devfn: number, pdev: Pdev): Co<Rc>;
  /** Undefined where the vendor has no hook (AMD). */
  readonly enableDevice: ((pdev: Pdev) => Co<Rc>) | undefined;
  removeDevice(devfn: number, pdev: Pdev): Co<Rc>;
  assignDevice(d: IommuDomain, devfn: number, pdev: Pdev, flag: number): Co<Rc>;
  reassignDevice(source: IommuDomain, target: IommuDomain, devfn: number, pdev: Pdev): Co<Rc>;
  getDeviceGroupId(seg: number, bus: number, devfn: number): number;
  teardown(d: IommuDomain): Co<void>;
  clearRootPgtable(d: IommuDomain): Co<void>;
  /** `flags`: IOMMUF readable/writable and the order in the low six bits. */
  mapPage(d: IommuDomain, dfn: number, mfn: number, flags: number, acc: FlushAcc): Co<Rc>;
  /**
   * Maps up to `most` pages that lie side by side, as so many calls of mapPage would: for callers that nobody watches
   * in between. The result says how many; 0 where mapPage must do it. Undefined where the vendor has no short way.
   */
  mapRun?(d: IommuDomain, dfn: number, mfn: number, most: number, flags: number, acc: FlushAcc): number;
  unmapPage(d: IommuDomain, dfn: number, order: number, acc: FlushAcc): Co<Rc>;
  /** Undefined where the vendor has no hook (AMD). */
  readonly lookupPage: ((d: IommuDomain, dfn: number, out: LookupResult) => Co<Rc>) | undefined;
  iotlbFlush(d: IommuDomain, dfn: number, pageCount: number, flushFlags: number): Co<Rc>;
  getReservedDeviceMemory(fn: GrdmFn): Rc;
  /** Key 'o', for one domain. */
  dumpPageTables(d: IommuDomain): Co<void>;
  /** Key 'V'. @xen vtd_dump_iommu_info, amd_dump_intremap_tables */
  dumpInfo(): Co<void>;
  /** Reads the units' fault records or event logs and acts on them: the tasklet. @xen do_iommu_page_fault */
  pollFaults(): Co<void>;
  /**
   * Writes the remapping entry of an I/O APIC pin; `lo` and `hi` are the redirection entry as software means it.
   * @xen iommu_update_ire_from_apic
   */
  updateIreFromApic?(apic: number, apicId: number, pin: number, lo: number, hi: number): Co<Rc>;
  /**
   * Writes the remapping entry of vector `nr` of a request, and turns `msg` into the form that refers to it; without
   * `msg` the entries of `descs` are given back. @xen iommu_update_ire_from_msi
   */
  updateIreFromMsi?(descs: readonly MsiDesc[], nr: number, msg: MsiMsg | undefined): Co<Rc>;
  /** Units that are on. */
  units?(): number;
  /** Writes the message with which a unit calls Xen into its function; VT-d's has registers. @xen __setup_msi_irq */
  setFaultMessage?(unit: number, msg: MsiMsg): void;
  /** Points the units' own interrupts at the CPUs that are there now. @xen adjust_irq_affinities */
  adjustIrqAffinities?(): Co<void>;
}

export const XENLOG = {
  ERR: 0,
  WARNING: 1,
  INFO: 2,
  DEBUG: 3,
  G_ERR: 4,
  G_WARNING: 5,
  G_INFO: 6,
  G_DEBUG: 7,
} as const;
export type LogLevel = (typeof XENLOG)[keyof typeof XENLOG];

/** Small decisions that differ between releases or that a historical bug gets wrong. Called from one place each. */
export interface DriverSeams extends Partial<VtdSeams>, Partial<AmdSeams> {
  /** Text after the reason of a VT-d fault line: empty, or ` on iommu:N` in the newest. */
  vtdFaultSuffix(unit: number): string;
  /** R1: AMD leaves a device's entry alone when its *source* is a quarantine without a table. */
  amdDisableSkipsQuarantinedSource(): boolean;
}

/** Functions that call domain_crash(); the source line of each belongs to the release. Keys are file and function. */
export type CrashSite =
  | 'pci.c assign_device'
  | 'pci.c iommu_dev_iotlb_flush_timeout'
  | 'iommu.c iommu_map'
  | 'iommu.c iommu_unmap'
  | 'iommu.c iommu_iotlb_flush'
  | 'iommu.c iommu_iotlb_flush_all'
  | 'vtd/iommu.c domain_context_unmap_one'
  | 'vtd/iommu.c domain_context_unmap'
  | 'vtd/iommu.c intel_iommu_assign_device'
  | 'amd/iommu_map.c amd_iommu_map_page root'
  | 'amd/iommu_map.c amd_iommu_map_page'
  | 'amd/iommu_map.c amd_iommu_unmap_page'
  | 'amd/pci_amd_iommu.c amd_iommu_assign_device'
  | 'arch/x86/mm/p2m.c p2m_add_page'
  | 'arch/x86/mm/p2m.c set_typed_p2m_entry';

/** What drivers ask of Xen. The hypervisor implements it. */
export interface XenServices {
  readonly ram: Ram;
  readonly mmio: MmioMap;
  readonly clock: Clock;
  readonly cpus: Cpus;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly pcidevsLock: SpinLock;
  readonly opts: IommuOptions;
  readonly cpu: CpuFacts;
  readonly e820: readonly E820Entry[];
  readonly extraRanges: readonly ExtraRange[];
  /** APIC ids of the I/O APICs, as the MADT lists them; undefined where nobody models them. */
  readonly ioapicIds?: readonly number[] | undefined;
  readonly seams: DriverSeams;
  /** @xen hardware_domain, dom_io, dom_xen */
  readonly hwdom: IommuDomain;
  readonly domIo: IommuDomain;
  readonly domXen: IommuDomain;
  /** Set-up has finished. @xen system_state >= SYS_STATE_active */
  readonly booted: boolean;

  /** One console line, without the `(XEN) ` prefix and without newline. */
  printk(level: LogLevel, text: string): void;
  /** `d5`, `d[IO]`, `d[XEN]`, `NULL`. @xen %pd */
  pd(d: IommuDomain | undefined): string;
  /** @xen domain_crash: `at` names the caller, so that the console line can say file and line of the release */
  domainCrash(d: IommuDomain, at?: CrashSite): void;
  /** Runs what waits for a moment without locks: frees the page tables queued. @xen process_pending_softirqs */
  processPendingSoftirqs(): void;
  /** Live domains by id, dom_io and dom_xen excluded. @xen rcu_lock_domain_by_id */
  domainById(domid: number): IommuDomain | undefined;

  /** A zeroed frame of the I/O page-table pool of `d` (or of Xen when undefined); 0 when memory is short. @xen iommu_alloc_pgtable */
  allocPgtable(d: IommuDomain | undefined): number;
  /** Frees it after the flush that follows, not before. @xen iommu_queue_free_pgtable */
  queueFreePgtable(d: IommuDomain, mfn: number): void;
  /** Frees the frames of `d.iommu.pgtables`, after ops.clearRootPgtable; -ERESTART when preempted. @xen iommu_free_pgtables */
  freePgtables(d: IommuDomain): Co<Rc>;
  /** A zeroed frame that belongs to Xen itself (root tables, queues); 0 when memory is short. @xen alloc_domheap_page(NULL) */
  allocXenPages(order: number): number;
  freeXenPages(mfn: number, order: number): void;
  /** CPU cache write-back of table words before a non-coherent unit may read them. @xen iommu_sync_cache */
  syncCache(mfn: number, firstWord: number, words: number): void;

  /** @xen iommu_identity_mapping: frames, `end` inclusive */
  identityMapping(d: IommuDomain, access: P2mAccess, base: number, end: number, flag: number): Co<Rc>;
  identityMapTeardown(d: IommuDomain): void;

  /** @xen pci_get_pdev(NULL, sbdf): the device, whoever owns it */
  pciGetPdev(sbdf: Sbdf): Pdev | undefined;
  /** All devices of a segment, newest first. */
  pdevsOf(seg: number): readonly Pdev[];
  /** Segments known, ascending. */
  segments(): readonly number[];
  /** @xen find_upstream_bridge: 0 none, 1 found (result in `out`), -1 loop */
  findUpstreamBridge(seg: number, out: { bus: number; devfn: number; secbus: number }): number;
  pdevType(sbdf: Sbdf): PdevType;
  /** Does a function answer there? @xen pci_device_detect */
  pciDeviceDetect(sbdf: Sbdf): boolean;
  /** Buses of a segment on which some function answers, ascending: on all others reads return ones. */
  busesInUse(seg: number): readonly number[];
  /** Config space through the hardware, unsigned. Size 1, 2 or 4. */
  confRead(sbdf: Sbdf, offset: number, size: 1 | 2 | 4): number;
  confWrite(sbdf: Sbdf, offset: number, size: 1 | 2 | 4, value: number): void;
  pciFindCap(sbdf: Sbdf, cap: number): number;
  pciFindExtCap(sbdf: Sbdf, cap: number): number;
  /** @xen pci_check_disable_device: fault accounting */
  pciCheckDisableDevice(seg: number, bus: number, devfn: number): Co<void>;
  /** Hides a device that belongs to Xen (an AMD IOMMU). @xen pci_ro_device */
  pciRoDevice(sbdf: Sbdf): Co<Rc>;
  /** Calls `handler` for each device and phantom that dom0 gets. @xen setup_hwdom_pci_devices */
  setupHwdomPciDevices(d: IommuDomain, handler: (devfn: number, pdev: Pdev) => Co<Rc>): Co<void>;
  /** Takes the frames out of dom0's reach. @xen iomem_deny_access */
  iomemDenyAccess(d: IommuDomain, startFrame: number, endFrame: number): void;
  /** The arch part of the hardware domain's identity map. @xen arch_iommu_hwdom_init */
  archIommuHwdomInit(d: IommuDomain): Co<void>;
  /** RMRR and IVMD ranges must be reserved memory. True if the frames are (or could be made) reserved. @xen iommu_unity_region_ok */
  unityRegionOk(prefix: string, startFrame: number, endFrame: number): boolean;
}

/** A driver found in firmware tables, not yet started. @xen struct iommu_init_ops */
export interface IommuDriver {
  readonly ops: IommuOps;
  /** Finds out what the units can do and starts them. @xen vtd_setup, iov_detect */
  setup(): Co<Rc>;
}
