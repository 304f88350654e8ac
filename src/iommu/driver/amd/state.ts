/**
 * What the AMD-Vi driver knows: the units that the IVRS describes, and per requester id which unit serves it and
 * which id its device table entry has. State and short accessors only; the other files are functions over it, named
 * as in Xen. Locks: pcidevs_lock guards ownership; `lock` of a unit its registers, device table and command tail.
 * @xen drivers/passthrough/amd/iommu.h
 */
import { RANK } from '../../../sim/lock_ranks.js';
import { SpinLock } from '../../../sim/locks.js';
import type { MmioDevice } from '../../../sim/mmio.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { DomidCursor, type DomidMap } from '../domid.js';
import {
  type AmdSeams,
  type IommuDomain,
  type IommuOptions,
  type LogLevel,
  type Pdev,
  XENLOG,
  type XenServices,
} from '../types.js';
import type { IntremapTable, IvrsMappings } from './ivrs_mappings.js';
import { amdSeams } from './seams.js';

/** A ring in memory that a unit shares with Xen. Bytes. @xen struct ring_buffer */
export class RingBuffer {
  readonly lock: SpinLock;
  /** First frame, 0 while there is none. */
  mfn = 0;
  order = 0;
  size = 0;
  head = 0;
  tail = 0;
  constructor(services: XenServices, name: string) {
    this.lock = new SpinLock(services.cpus, name, RANK.iommuLog);
  }
}

/** One unit. @xen struct amd_iommu */
export class AmdUnit {
  readonly lock: SpinLock;
  /** Registers, once mapped. @xen mmio_base */
  regs: MmioDevice | undefined = undefined;
  /** First word of the capability block in config space. @xen cap.header */
  capHeader = 0;
  /** Position of the MSI capability. */
  msiPos = 0;
  /** The unit's interrupt has been set up. @xen msi.irq > 0 */
  hasIrq = false;
  /** Extended features, low and high word. */
  readonly features = new Int32Array(2);
  /** What CONTROL was last set to, low word. */
  ctrl = 0;
  enabled = false;
  readonly cmdBuffer: RingBuffer;
  readonly eventLog: RingBuffer;
  readonly pprLog: RingBuffer;
  /** First frame of the device table, which all units of a segment share. */
  devTableMfn = 0;
  devTablePages = 0;
  domidMap: DomidMap | undefined = undefined;
  /** Bytes, both inclusive and page aligned. */
  readonly exclusion = { enable: false, allowAll: false, base: 0, limit: 0 };
  /** Newest first. */
  readonly atsDevices: Pdev[] = [];

  constructor(
    services: XenServices,
    readonly index: number,
    readonly seg: number,
    readonly bdf: number,
    readonly capOffset: number,
    /** Address of the registers, bytes. */
    readonly mmioBase: number,
    /** Flags of the IVHD. */
    readonly htFlags: number,
  ) {
    this.lock = new SpinLock(services.cpus, `amd_iommu${index}.lock`, RANK.iommu);
    this.cmdBuffer = new RingBuffer(services, `amd_iommu${index}.cmd_buffer.lock`);
    this.eventLog = new RingBuffer(services, `amd_iommu${index}.event_log.lock`);
    this.pprLog = new RingBuffer(services, `amd_iommu${index}.ppr_log.lock`);
  }
  get mmio(): MmioDevice {
    return this.regs!;
  }
}

/** An I/O APIC and the id under which it sends. @xen struct ioapic_sbdf */
export interface IvrsIoapic {
  readonly id: number;
  readonly seg: number;
  readonly bdf: number;
  /** Entry of its table that each pin has. @xen pin_2_idx */
  readonly pinToIndex: Map<number, number>;
  /** Redirection entries as the hardware holds them, by pin. */
  readonly rtes: Map<number, { readonly lo: number; readonly hi: number }>;
}

/** The globals of the driver. */
export class AmdVi {
  readonly opts: IommuOptions;
  readonly seams: AmdSeams;
  /** @xen amd_iommu_head */
  readonly units: AmdUnit[] = [];
  /** By segment, ascending. @xen ivrs_maps */
  readonly mappings = new Map<number, IvrsMappings>();
  /** The one found first: most machines have no other. */
  firstMappings: IvrsMappings | undefined = undefined;
  /** Requester ids known to the IVRS, rounded up to a whole device. 0 before amd_iommu_prepare(). */
  ivrsBdfEntries = 0;
  ivhdType = 0;
  /** IVRSinfo. @xen amd_iommu_acpi_info */
  acpiInfo = 0;
  maxPagingMode = 6;
  minPagingMode = 1;
  initDone = false;
  /** Units enabled so far. @xen nr_amd_iommus */
  nrIommus = 0;
  readonly domidCursor = new DomidCursor();
  sharedIntremap: IntremapTable | undefined = undefined;
  readonly sharedIntremapLock: SpinLock;
  /** What the IVRS says of each I/O APIC. @xen ioapic_sbdf */
  readonly ioapics: IvrsIoapic[] = [];
  /** Requester id and segment of the HPET. @xen hpet_sbdf */
  hpet: { id: number; seg: number; bdf: number } | undefined = undefined;

  /** Frame in which each CPU has a quadword for completion waits. @xen poll_slot */
  pollMfn = 0;
  /** Patience of completion waits in units of their time-out. @xen flush_command_buffer threshold */
  waitThreshold = 1;
  noSlotWarned = false;
  /** Entries of each command ring. @xen allocate_cmd_buffer nr_ents */
  cmdEntries = 0;
  /** Reused by page-table walks; nothing yields while it is in use. */
  readonly old = new Int32Array(2);

  constructor(
    readonly s: XenServices,
    /** The IVRS, header included. */
    readonly table: Uint8Array,
  ) {
    this.opts = s.opts;
    this.sharedIntremapLock = new SpinLock(s.cpus, 'shared_intremap_lock', RANK.iommu);
    this.seams = amdSeams.of(s.seams);
  }
}

/** @xen get_ivrs_mappings */
export const getIvrsMappings = (amd: AmdVi, seg: number): IvrsMappings | undefined =>
  amd.firstMappings?.seg === seg ? amd.firstMappings : amd.mappings.get(seg);

/** A line at Xen's default level. */
export const say = (amd: AmdVi, text: string): void => amd.s.printk(XENLOG.WARNING, text);
const prefixed = (amd: AmdVi, level: LogLevel, text: string): void => amd.s.printk(level, `AMD-Vi: ${text}`);
/** @xen AMD_IOMMU_ERROR */
export const amdError = (amd: AmdVi, text: string): void => prefixed(amd, XENLOG.ERR, `Error: ${text}`);
/** @xen AMD_IOMMU_WARN */
export const amdWarn = (amd: AmdVi, text: string): void => prefixed(amd, XENLOG.WARNING, `Warning: ${text}`);
/** @xen AMD_IOMMU_DEBUG; callers on hot paths ask for `opts.debug` before they make the text. */
export const amdDebug = (amd: AmdVi, text: string): void => {
  if (amd.opts.debug) prefixed(amd, XENLOG.INFO, text);
};

/** What %#x prints. */
export const hash = (n: number): string => (n === 0 ? '0' : `0x${n.toString(16)}`);

/** Word index of the DTE of `rid`; for writing and reading. */
export const dteAt = (amd: AmdVi, unit: AmdUnit, rid: number): number =>
  amd.s.ram.slot(unit.devTableMfn + (rid >>> 7)) * FRAME_WORDS + (rid & 127) * 8;

/** dom_io without a quarantine table stands for "no translation". @xen QUARANTINE_SKIP */
export const quarantineSkip = (amd: AmdVi, d: IommuDomain, pdev: Pdev): boolean =>
  d === amd.s.domIo && pdev.arch.rootMfn === 0;
