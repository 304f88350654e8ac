/** Devices and buses as Linux keeps them. @linux include/linux/pci.h */

import { bdfOf, devfnOf, formatSbdf, type Sbdf, segOf } from '../../base/sbdf.js';
import type { Clock } from '../../sim/clock.js';

/** Flags of a resource as /sys/…/resource shows them. @linux include/linux/ioport.h */
export const IORESOURCE = {
  IO: 0x100,
  MEM: 0x200,
  PREFETCH: 0x2000,
  READONLY: 0x4000,
  MEM_64: 0x10_0000,
} as const;

export interface Resource {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
}
export const NO_RESOURCE: Resource = { start: 0, end: 0, flags: 0 };
export const ROM_RESOURCE = 6;
/** First of the six resources of the virtual functions, and of the four windows of a bridge. */
export const IOV_RESOURCE = 7;
export const BRIDGE_RESOURCE = 13;

export class KernelBus {
  /** In the order in which they were found. */
  readonly devices: KernelPci[] = [];
  readonly children: KernelBus[] = [];
  constructor(
    readonly seg: number,
    readonly number: number,
    /**
     * The bridge that leads here; undefined for a root bus. Several buses have the same one where virtual functions
     * go on behind its secondary bus.
     */
    readonly self: KernelPci | undefined,
    /** Last bus number below. */
    public last: number,
  ) {}
}

/** Where a card can be plugged in. @linux struct pci_slot */
export interface KernelSlot {
  readonly name: string;
  readonly seg: number;
  readonly bus: number;
  readonly device: number;
}

export interface SavedState {
  readonly words: readonly number[];
  readonly express: readonly (readonly [reg: number, value: number])[];
}

export type ResetMethod = 'flr' | 'af_flr' | 'pm' | 'bus';

/** What a device knows of its driver. */
export interface BoundDriver {
  readonly name: string;
  /** It can turn virtual functions on. */
  readonly supportsSriov: boolean;
}

export class KernelPci {
  readonly name: string;
  vendor = 0;
  device = 0;
  subsystemVendor = 0;
  subsystemDevice = 0;
  /** Base class, sub-class, programming interface. */
  classCode = 0;
  revision = 0;
  headerType = 0;
  multifunction = false;
  /** 1..4 for INTA..INTD, 0 for none. */
  pin = 0;
  irq = 0;
  irqManaged = false;
  /** Offsets of capabilities, 0 when missing. */
  readonly cap = { pm: 0, vpd: 0, express: 0, msi: 0, msix: 0, af: 0, sriov: 0, ari: 0, serial: 0 };
  /** Port type of the PCI Express capability, -1 without. */
  expressType = -1;
  resources: Resource[] = [];
  subordinate: KernelBus | undefined = undefined;
  driver: BoundDriver | undefined = undefined;
  driverOverride: string | undefined = undefined;
  resetMethods: ResetMethod[] = [];
  enableCount = 0;
  isBusmaster = false;
  isVirtfn = false;
  /** Of a virtual function. */
  physfn: KernelPci | undefined = undefined;
  readonly virtfns: KernelPci[] = [];
  saved: SavedState | undefined = undefined;
  /** Gone from the bus: whoever still holds it must not use it. */
  removed = false;
  /** A reset holds the device's lock as long. */
  lockedUntilNs = 0;

  constructor(
    readonly sbdf: Sbdf,
    readonly bus: KernelBus,
  ) {
    this.name = formatSbdf(sbdf);
  }
  /** What somebody does in the background may lie in the future. @linux device_lock */
  waitForLock(clock: Clock): void {
    clock.advance(Math.max(0, this.lockedUntilNs - clock.nowNs));
  }
  get seg(): number {
    return segOf(this.sbdf);
  }
  get devfn(): number {
    return devfnOf(this.sbdf);
  }
  get bdf(): number {
    return bdfOf(this.sbdf);
  }
  /** How the kernel begins a line about this device: driver (or bus) and name. @linux dev_printk */
  get logName(): string {
    return `${this.driver?.name ?? 'pci'} ${this.name}`;
  }
}

/** What a bus leads to: its devices, and those of their virtual functions that are on a bus behind it. */
export const devicesBelow = (bus: KernelBus | undefined): readonly KernelPci[] =>
  (bus?.devices ?? []).flatMap((d) => [d, ...d.virtfns.filter((vf) => vf.bus !== bus)]);
