/**
 * dom0's interrupts as it asks Xen for them: lines that devices share, and messages.
 * @linux arch/x86/pci/xen.c, drivers/xen/events/events_base.c
 */
import { E, type Rc } from '../../base/errno.js';
import type { Hypercalls } from '../../hypervisor/public/hypercalls.js';
import { PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import type { KernelLog } from './log.js';
import type { KernelPci } from './pci_dev.js';

const DOM0 = 0;
const WILL_SHARE = 1;
const INTX_DISABLE = 0x400;
const MSI_ENABLE = 0x0001;
const MSIX_ENABLE = 0x8000;
/** The ACPI event interrupt, and what the firmware's legacy devices have: keyboard, mouse, COM2, COM1, clock. */
const SCI = 9;
const LEGACY = [1, 12, 3, 4, 8];

/** A line in use: how many handlers it has, and the event channel that stands for it. */
interface Line {
  handlers: number;
  port: number;
}

/** One message of a device. */
interface Vector {
  readonly pirq: number;
  port: number | undefined;
}

export class Interrupts {
  private readonly known = new Set<number>();
  private readonly lines = new Map<number, Line>();
  private readonly vectors = new Map<KernelPci, Vector[]>();

  constructor(
    private readonly hv: Hypercalls,
    private readonly config: ConfigPort,
    private readonly log: KernelLog,
  ) {}

  /** What ACPI and the legacy devices of the board take before any PCI driver does. */
  *bootLegacy(): Co<void> {
    yield* this.setupGsi(SCI, true);
    yield* this.request(SCI);
    for (const irq of LEGACY) yield* this.setupGsi(irq, false);
  }

  /** Drivers of keyboard, mouse and clock; the one of the mouse tries its interrupt first. */
  *startLegacy(): Co<void> {
    yield* this.request(12);
    yield* this.free(12);
    for (const irq of [12, 1, 8]) yield* this.request(irq);
  }

  /** @linux xen_register_gsi */
  *setupGsi(gsi: number, level: boolean): Co<void> {
    const rc = yield* this.hv.physdevOp({
      cmd: 'setup_gsi',
      gsi,
      triggering: level ? 1 : 0,
      polarity: level ? 1 : 0,
    });
    if (rc === E.EXIST || this.known.has(gsi)) this.log.info(`Already setup the GSI :${gsi}`);
    this.known.add(gsi);
  }

  /** One handler more on a line; the first one binds it. */
  *request(gsi: number): Co<void> {
    const line = this.lines.get(gsi);
    if (line !== undefined) {
      line.handlers += 1;
      return;
    }
    yield* this.hv.physdevOp({ cmd: 'map_pirq', domid: DOM0, type: 'gsi', index: gsi, pirq: gsi });
    const port = yield* this.bind(gsi);
    if (port !== undefined) this.lines.set(gsi, { handlers: 1, port });
  }

  /** One handler less; the last one closes it. */
  *free(gsi: number): Co<void> {
    const line = this.lines.get(gsi);
    if (line === undefined) return;
    line.handlers -= 1;
    if (line.handlers > 0) return;
    this.lines.delete(gsi);
    yield* this.hv.eventChannelOp({ cmd: 'close', port: line.port });
  }

  private *bind(pirq: number): Co<number | undefined> {
    const op = { cmd: 'bind_pirq' as const, pirq, flags: WILL_SHARE, port: 0 };
    const rc = yield* this.hv.eventChannelOp(op);
    return rc === 0 ? op.port : undefined;
  }

  /** `count` messages, MSI-X where the device has it. @returns 0, or what Xen says. @linux xen_initdom_setup_msi_irqs */
  *allocVectors(dev: KernelPci, count: number): Co<Rc> {
    const msix = dev.cap.msix !== 0;
    if (!msix && dev.cap.msi === 0) return E.NODEV;
    const vectors: Vector[] = [];
    this.vectors.set(dev, vectors);
    for (let i = 0; i < (msix ? count : 1); i++) {
      const op = {
        cmd: 'map_pirq' as const,
        domid: DOM0,
        type: 'msi_seg' as const,
        index: -1,
        pirq: -1,
        bus: dev.seg * 0x1_0000 + dev.bus.number,
        devfn: dev.devfn,
        ...(msix ? { entryNr: i } : {}),
      };
      const rc = yield* this.hv.physdevOp(op);
      if (rc !== 0) {
        yield* this.freeVectors(dev);
        return rc;
      }
      vectors.push({ pirq: op.pirq, port: undefined });
    }
    yield* this.setEnable(dev, true);
    return 0;
  }

  /** Handlers for all messages of a device. */
  *requestVectors(dev: KernelPci): Co<void> {
    for (const v of this.vectors.get(dev) ?? []) v.port = yield* this.bind(v.pirq);
  }

  /** After a reset. @linux xen_initdom_restore_msi */
  *restoreVectors(dev: KernelPci): Co<void> {
    if ((this.vectors.get(dev)?.length ?? 0) === 0) return;
    const { bus, devfn, seg } = dev;
    const rc = yield* this.hv.physdevOp({ cmd: 'restore_msi_ext', seg, bus: bus.number, devfn });
    if (rc !== 0) this.log.warn(`restore_msi -> ${rc}`);
  }

  *freeVectors(dev: KernelPci): Co<void> {
    const vectors = this.vectors.get(dev);
    if (vectors === undefined) return;
    this.vectors.delete(dev);
    for (const v of vectors) {
      if (v.port !== undefined) yield* this.hv.eventChannelOp({ cmd: 'close', port: v.port });
    }
    for (const v of vectors) yield* this.hv.physdevOp({ cmd: 'unmap_pirq', domid: DOM0, pirq: v.pirq });
    yield* this.setEnable(dev, false);
  }

  /** MSI or MSI-X on, the line of the device off, or the other way round. */
  private *setEnable(dev: KernelPci, on: boolean): Co<void> {
    const cap = dev.cap.msix !== 0 ? dev.cap.msix : dev.cap.msi;
    const bit = dev.cap.msix !== 0 ? MSIX_ENABLE : MSI_ENABLE;
    yield* this.change(dev, PCI.COMMAND, INTX_DISABLE, on);
    yield* this.change(dev, cap + 2, bit, on);
  }

  private *change(dev: KernelPci, reg: number, bits: number, on: boolean): Co<void> {
    const before = this.config.read(dev.sbdf, reg, 2);
    const after = on ? before | bits : before & ~bits;
    if (after !== before) yield* this.config.write(dev.sbdf, reg, 2, after);
  }
}
