/** Drivers of dom0's kernel as data: what they match and what they say. Message texts are those of Linux 6.1. */
import type { Rc } from '../../base/errno.js';
import type { Sbdf } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import { type DriverCore, KernelDriver, matchesId, type PciId } from './driver.js';
import type { Interrupts } from './interrupts.js';
import type { KernelLog } from './log.js';
import type { KernelPci } from './pci_dev.js';
import type { DevicePower } from './power.js';

export interface DriverSpec {
  readonly name: string;
  /** Missing when built in. */
  readonly module?: string;
  /** Size that lsmod shows. */
  readonly bytes?: number;
  readonly ids: readonly PciId[];
  /** Port types of the PCI Express capability it wants, when it cares. */
  readonly expressTypes?: readonly number[];
  /** Lines when the module is loaded, when it takes a device and when it lets go of it. */
  readonly banner?: readonly string[];
  readonly onProbe?: readonly string[];
  readonly onRemove?: readonly string[];
  /** Names what it makes of a device: `eth`, `nvme`. `{unit}` in its lines. */
  readonly unit?: string;
  readonly sriov?: boolean;
  /** Its virtual functions answer only once somebody has given them resources: until then it says this and gives up. */
  readonly onIdleVirtual?: readonly string[];
  /** It uses an MSI, whose number shows in `irq` and in `{irq}` of its lines. */
  readonly msi?: boolean;
  /** Messages it asks for, one set-up after the other: each gives back what the former had. */
  readonly vectors?: readonly { readonly count: number; readonly requested: boolean }[];
  /** It tells its controller to stop when it lets go of it, and waits for the answer. */
  readonly quiesces?: boolean;
  /** What it says of a root port besides. */
  readonly onRootPort?: readonly string[];
}

const NETWORK = 0x020000;
const DISPLAY: PciId = { classCode: 0x030000, classMask: 0xff0000 };

export const DRIVER_SPECS: readonly DriverSpec[] = [
  {
    name: 'pcieport',
    ids: [{ classCode: 0x060400, classMask: 0xffff00 }],
    expressTypes: [4, 5, 6],
    msi: true,
    onRootPort: [
      'pcieport {dev}: PME: Signaling with IRQ {irq}',
      'pcieport {dev}: AER: enabled with IRQ {irq}',
    ],
  },
  { name: 'ahci', module: 'ahci', bytes: 49152, ids: [{ classCode: 0x010601 }], msi: true },
  {
    name: 'nvme',
    module: 'nvme',
    bytes: 57344,
    ids: [{ classCode: 0x010802 }],
    unit: 'nvme',
    quiesces: true,
    sriov: true,
    vectors: [
      { count: 1, requested: true },
      { count: 2, requested: true },
    ],
    onProbe: ['nvme {unit}: pci function {dev}', '{enable}', 'nvme {unit}: 1/0/0 default/read/poll queues'],
    onIdleVirtual: [
      'nvme {unit}: Device not ready; aborting initialisation, CSTS=0x2',
      'nvme {unit}: Removing after probe failure status: -19',
    ],
  },
  {
    name: 'e1000e',
    module: 'e1000e',
    bytes: 331776,
    ids: [0x10d3, 0x10f6, 0x1502, 0x1503, 0x153a, 0x153b, 0x155a, 0x15a0, 0x15a1, 0x15b7, 0x15b8, 0x15bb].map(
      (device) => ({ vendor: 0x8086, device }),
    ),
    unit: 'eth',
    vectors: [{ count: 3, requested: false }],
    banner: [
      'e1000e: Intel(R) PRO/1000 Network Driver',
      'e1000e: Copyright(c) 1999 - 2015 Intel Corporation.',
    ],
    onProbe: [
      '{enable}',
      'e1000e {dev}: Interrupt Throttling Rate (ints/sec) set to dynamic conservative mode',
      'e1000e {dev} {dev} (uninitialized): registered PHC clock',
      'e1000e {dev} {unit}: (PCI Express:2.5GT/s:Width x1) {mac}',
      'e1000e {dev} {unit}: Intel(R) PRO/1000 Network Connection',
      'e1000e {dev} {unit}: MAC: 3, PHY: 8, PBA No: 000000-000',
    ],
    onRemove: ['e1000e {dev} {unit}: removed PHC'],
  },
  {
    name: 'e1000',
    module: 'e1000',
    bytes: 155648,
    ids: [0x100e, 0x100f, 0x1004, 0x1008, 0x1010].map((device) => ({ vendor: 0x8086, device })),
    unit: 'eth',
  },
  {
    name: 'igb',
    module: 'igb',
    bytes: 303104,
    ids: [0x10c9, 0x10e6, 0x10e7, 0x150e, 0x1521, 0x1522, 0x1533, 0x1539].map((device) => ({
      vendor: 0x8086,
      device,
    })),
    unit: 'eth',
    sriov: true,
  },
  {
    name: 'igc',
    module: 'igc',
    bytes: 163840,
    ids: [0x15f2, 0x15f3, 0x125b, 0x125c].map((device) => ({ vendor: 0x8086, device })),
    unit: 'eth',
  },
  {
    name: 'ixgbe',
    module: 'ixgbe',
    bytes: 438272,
    ids: [0x10fb, 0x1528, 0x1563, 0x15ad].map((device) => ({ vendor: 0x8086, device })),
    unit: 'eth',
    sriov: true,
  },
  {
    name: 'r8169',
    module: 'r8169',
    bytes: 118784,
    ids: [0x8168, 0x8169, 0x8125].map((device) => ({ vendor: 0x10ec, device, classCode: NETWORK })),
    unit: 'eth',
  },
  { name: 'nouveau', module: 'nouveau', bytes: 2433024, ids: [{ vendor: 0x10de, ...DISPLAY }] },
  { name: 'nvidia', module: 'nvidia', bytes: 56717312, ids: [{ vendor: 0x10de, ...DISPLAY }] },
  { name: 'amdgpu', module: 'amdgpu', bytes: 9789440, ids: [{ vendor: 0x1002, ...DISPLAY }] },
  { name: 'radeon', module: 'radeon', bytes: 1695744, ids: [{ vendor: 0x1002, ...DISPLAY }] },
  { name: 'i915', module: 'i915', bytes: 3051520, ids: [{ vendor: 0x8086, ...DISPLAY }] },
  {
    name: 'snd_hda_intel',
    module: 'snd_hda_intel',
    bytes: 57344,
    ids: [{ classCode: 0x040300, classMask: 0xffff00 }],
  },
  { name: 'xhci_hcd', module: 'xhci_pci', bytes: 24576, ids: [{ classCode: 0x0c0330 }] },
  { name: 'ehci-pci', module: 'ehci_pci', bytes: 20480, ids: [{ classCode: 0x0c0320 }] },
  { name: 'virtio-pci', module: 'virtio_pci', bytes: 24576, ids: [{ vendor: 0x1af4 }] },
  {
    name: 'bochs-drm',
    module: 'bochs',
    bytes: 16384,
    ids: [0x1234, 0x4321].map((vendor) => ({ vendor, device: 0x1111 })),
  },
  { name: 'i801_smbus', module: 'i2c_i801', bytes: 36864, ids: [{ vendor: 0x8086, classCode: 0x0c0500 }] },
  { name: 'lpc_ich', module: 'lpc_ich', bytes: 28672, ids: [{ vendor: 0x8086, classCode: 0x060100 }] },
];

/** The modules that could drive a device, in the order of the module alias table. */
export const modulesFor = (dev: KernelPci): string[] => {
  const found: string[] = [];
  for (const spec of DRIVER_SPECS) {
    if (spec.module !== undefined && spec.ids.some((id) => matchesId(id, dev))) found.push(spec.module);
  }
  return found;
};

/** Names in use: `eth0` goes to whoever comes first, and is free again when he leaves. */
export class UnitNames {
  private readonly taken = new Map<string, number>();
  take(prefix: string, sbdf: number): string {
    let n = 0;
    while (this.taken.has(`${prefix}${n}`)) n++;
    this.taken.set(`${prefix}${n}`, sbdf);
    return `${prefix}${n}`;
  }
  of(prefix: string, sbdf: number): string {
    for (const [name, owner] of this.taken) if (owner === sbdf && name.startsWith(prefix)) return name;
    return '';
  }
  release(name: string): void {
    this.taken.delete(name);
  }
}

/**
 * Numbers of interrupts that are no GSI: event channels of the kernel's own and messages of devices share them, the
 * lowest free one first. @linux drivers/xen/events/events_base.c xen_allocate_irq_dynamic
 */
export class IrqNumbers {
  private readonly taken = new Map<number, Sbdf>();
  /** Event channels are kept. */
  takeChannels(count: number): void {
    for (let i = 0; i < count; i++) this.take(NO_DEVICE);
  }
  take(sbdf: Sbdf): number {
    let n = NR_GSIS;
    while (this.taken.has(n)) n++;
    this.taken.set(n, sbdf);
    return n;
  }
  /** The number that a device has, 0 for none. */
  of(sbdf: Sbdf): number {
    for (const [n, owner] of this.taken) if (owner === sbdf) return n;
    return 0;
  }
  release(sbdf: Sbdf): void {
    this.taken.delete(this.of(sbdf));
  }
}
/** Pins of one I/O APIC. */
const NR_GSIS = 24;
const NO_DEVICE = -1;
const ROOT_PORT = 4;

/** Any driver but pciback: enables the device, becomes bus master, and says so. */
export class NativeDriver extends KernelDriver {
  override readonly name: string;
  override readonly module: string | undefined;
  override readonly supportsSriov: boolean;
  /** Devices that do not get ready. */
  private readonly idle: KernelPci[] = [];
  constructor(
    readonly spec: DriverSpec,
    private readonly power: DevicePower,
    private readonly config: ConfigPort,
    private readonly log: KernelLog,
    private readonly units: UnitNames,
    private readonly irqs: IrqNumbers,
    private readonly interrupts: Interrupts,
  ) {
    super();
    this.name = spec.name;
    this.module = spec.module;
    this.supportsSriov = spec.sriov === true;
  }

  protected override matchesTable(dev: KernelPci): boolean {
    const { expressTypes, ids } = this.spec;
    if (expressTypes !== undefined && !expressTypes.includes(dev.expressType)) return false;
    return ids.some((id) => matchesId(id, dev));
  }

  override *probe(dev: KernelPci): Co<Rc> {
    const unit = this.spec.unit === undefined ? '' : this.units.take(this.spec.unit, dev.sbdf);
    for (const line of this.spec.onProbe ?? ['{enable}']) {
      if (line !== '{enable}') this.log.info(this.fill(line, dev, unit));
      else {
        yield* this.power.enable(dev);
        yield* this.power.setMaster(dev);
        if (dev.isVirtfn && this.spec.onIdleVirtual !== undefined) {
          yield* this.interrupts.allocVectors(dev, 1);
          this.idle.push(dev);
          return 0;
        }
        if (this.spec.msi === true) this.takeMsi(dev);
        yield* this.takeVectors(dev);
      }
    }
    if (dev.expressType === ROOT_PORT) {
      for (const line of this.spec.onRootPort ?? []) this.log.info(this.fill(line, dev, unit));
    }
    return 0;
  }

  /**
   * A secondary controller that is offline is waited for in the background, and given up.
   * @linux drivers/nvme/host/pci.c nvme_reset_work, nvme_remove_dead_ctrl_work
   */
  override *finish(core: DriverCore): Co<void> {
    for (const dev of this.idle.splice(0)) {
      const unit = this.units.of(this.spec.unit ?? '', dev.sbdf);
      for (const line of this.spec.onIdleVirtual ?? []) this.log.info(this.fill(line, dev, unit));
      yield* core.detach(dev);
    }
  }

  override *remove(dev: KernelPci): Co<void> {
    const unit = this.spec.unit === undefined ? '' : this.units.of(this.spec.unit, dev.sbdf);
    for (const line of this.spec.onRemove ?? []) this.log.info(this.fill(line, dev, unit));
    this.units.release(unit);
    this.irqs.release(dev.sbdf);
    if (this.spec.quiesces === true && this.config.message !== undefined)
      yield* this.config.message(dev.sbdf);
    yield* this.interrupts.freeVectors(dev);
    if (this.spec.sriov === true && dev.virtfns.length > 0)
      this.log.warn(`${dev.logName}: driver left SR-IOV enabled after remove`);
    yield* this.power.disable(dev);
  }

  /** A port's interrupt is asked for by what a root port reports with it: power events and errors. */
  private *takeVectors(dev: KernelPci): Co<void> {
    const one = {
      count: 1,
      requested: this.spec.expressTypes === undefined || dev.expressType === ROOT_PORT,
    };
    for (const { count, requested } of this.spec.vectors ?? (this.spec.msi === true ? [one] : [])) {
      yield* this.interrupts.freeVectors(dev);
      if ((yield* this.interrupts.allocVectors(dev, count)) === 0 && requested)
        yield* this.interrupts.requestVectors(dev);
    }
  }

  /** MSI takes the place of the interrupt line in sysfs; MSI-X vectors have files of their own. */
  private takeMsi(dev: KernelPci): void {
    const irq = this.irqs.take(dev.sbdf);
    if (dev.cap.msix === 0) dev.irq = irq;
  }

  private fill(line: string, dev: KernelPci, unit: string): string {
    return line
      .replaceAll('{dev}', dev.name)
      .replaceAll('{unit}', unit)
      .replaceAll('{mac}', this.mac(dev))
      .replaceAll('{irq}', String(this.irqs.of(dev.sbdf)));
  }

  /** Network cards keep their address in the serial number, with ff:ff in its middle (EUI-64). */
  private mac(dev: KernelPci): string {
    const at = dev.cap.serial;
    if (at === 0) return '00:00:00:00:00:00';
    const bytes = [11, 10, 9, 6, 5, 4].map((i) => this.config.read(dev.sbdf, at + i, 1));
    return bytes.map((b) => b.toString(16).padStart(2, '0')).join(':');
  }
}
