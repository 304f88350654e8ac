/** The driver that keeps devices for guests. @linux drivers/xen/xen-pciback/pci_stub.c */
import { E, isErr, type Rc } from '../../base/errno.js';
import { PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import { KernelDriver } from '../kernel/driver.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci, SavedState } from '../kernel/pci_dev.js';
import { expand, parseQuirk, parseSlot, type QuirkField, type Slot } from './slots.js';

/** Whoever exports a seized device to a guest: a back end. */
export interface StubOwner {
  readonly domid: number;
  releaseDevice(dev: KernelPci): Co<void>;
}

/** A seized device. @linux struct pcistub_device with struct xen_pcibk_dev_data */
export class SeizedDevice {
  owner: StubOwner | undefined = undefined;
  permissive = false;
  isrOn = false;
  ackIntr = false;
  handled = 0;
  readonly quirks: QuirkField[] = [];
  saved: SavedState | undefined = undefined;
  /** Its own handler is on the line of the device. */
  handler = false;
  /** The command register as guests see it, but for the bits that are theirs. @linux struct pci_cmd_info */
  guestCommand = 0;
  /** One complaint about a guest's writes is enough. */
  warnedOnWrite = false;
  constructor(readonly dev: KernelPci) {}
}

interface DeviceId {
  readonly domain: number;
  readonly bus: number;
  readonly devfn: number;
}

const PAGE = 4096;
const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

export class Pciback extends KernelDriver {
  override readonly name = 'pciback';
  override readonly module: string | undefined;
  /** What `slots` lists, oldest first; the same slot may stand there twice. */
  readonly ids: DeviceId[] = [];
  /** Newest first, but for those seized at boot. @linux pcistub_devices */
  readonly seized: SeizedDevice[] = [];
  /** Devices that matched before the driver was ready; newest first. */
  private early: SeizedDevice[] | undefined = [];

  constructor(
    private readonly kernel: Dom0Kernel,
    module: string | undefined,
    /** `hide=` as given, undefined when it was not. */
    readonly hide: string | undefined,
  ) {
    super();
    this.module = module;
  }

  /** All ids match: the probe decides. */
  protected override matchesTable(): boolean {
    return true;
  }

  private log(dev: KernelPci): string {
    return `pciback ${dev.name}: xen_pciback`;
  }

  private listed(dev: KernelPci): boolean {
    for (let at: KernelPci | undefined = dev; at !== undefined; at = at.bus.self) {
      const { bus, devfn, seg } = { bus: at.bus.number, devfn: at.devfn, seg: at.seg };
      if (this.ids.some((id) => id.domain === seg && id.bus === bus && id.devfn === devfn)) return true;
    }
    return false;
  }

  override *probe(dev: KernelPci): Co<Rc> {
    const listed = this.listed(dev);
    if (!listed && dev.driverOverride !== 'pciback') return E.NODEV;
    if (dev.headerType > 1) {
      this.kernel.log.error(
        `${this.log(dev)}: can't export pci devices that don't have a normal (0) or bridge (1) header type!`,
      );
      return E.NODEV;
    }
    this.kernel.log.info(`${this.log(dev)}: seizing device`);
    const psdev = new SeizedDevice(dev);
    if (this.early !== undefined) this.early.unshift(psdev);
    else {
      yield* this.initDevice(psdev);
      this.seized.unshift(psdev);
    }
    if (!listed) this.ids.push({ domain: dev.seg, bus: dev.bus.number, devfn: dev.devfn });
    return 0;
  }

  /** What was seized at boot is set up once the drivers are in. @linux pcistub_init_devices_late */
  *initLate(): Co<void> {
    for (const psdev of this.early ?? []) {
      yield* this.initDevice(psdev);
      this.seized.push(psdev);
    }
    this.early = undefined;
  }

  private *initDevice(psdev: SeizedDevice): Co<void> {
    const { kernel } = this;
    const { dev } = psdev;
    psdev.guestCommand = kernel.config.read(dev.sbdf, PCI.COMMAND, 2);
    yield* kernel.power.enable(dev);
    yield* this.msix(dev, 'prepare_msix', 'preparation');
    psdev.saved = kernel.power.save(dev);
    yield* kernel.reset.functionLocked(dev);
    yield* kernel.power.restore(dev, psdev.saved);
    yield* this.disableDevice(dev);
  }

  private *msix(dev: KernelPci, cmd: 'prepare_msix' | 'release_msix', what: string): Co<void> {
    if (dev.cap.msix === 0) return;
    const rc = yield* this.kernel.hv.physdevOp({ cmd, seg: dev.seg, bus: dev.bus.number, devfn: dev.devfn });
    if (rc !== 0 && rc !== E.NOSYS) this.kernel.log.error(`${this.log(dev)}: MSI-X ${what} failed (${rc})`);
  }

  /**
   * A handler on the device's line while its guest has it decode. `reset`: who acknowledges is forgotten, even while the
   * handler is off. @linux pciback_ops.c xen_pcibk_control_isr
   */
  *controlIsr(dev: KernelPci, on: boolean, reset = false): Co<void> {
    const psdev = this.find(dev);
    if (psdev === undefined || dev.headerType !== 0) return;
    if (reset) psdev.ackIntr = false;
    if (dev.irq === 0) return;
    // Who switched it off by hand keeps the handler.
    if (!on && !psdev.isrOn) return;
    psdev.isrOn = on;
    psdev.ackIntr = on;
    if (psdev.handler === on) return;
    psdev.handler = on;
    if (on) yield* this.kernel.interrupts.request(dev.irq);
    else yield* this.kernel.interrupts.free(dev.irq);
  }

  /** @linux pciback_ops.c xen_pcibk_reset_device */
  *disableDevice(dev: KernelPci): Co<void> {
    yield* this.controlIsr(dev, false, true);
    const MWI = 0x10;
    if (dev.headerType === 0) {
      if (dev.enableCount > 0) yield* this.kernel.power.disable(dev);
      dev.isBusmaster = false;
      return;
    }
    const command = this.kernel.config.read(dev.sbdf, PCI.COMMAND, 2);
    if ((command & MWI) === 0) return;
    yield* this.kernel.config.write(dev.sbdf, PCI.COMMAND, 2, command & ~MWI);
    dev.isBusmaster = false;
  }

  override *remove(dev: KernelPci): Co<void> {
    const psdev = this.find(dev);
    if (psdev === undefined) return;
    if (psdev.owner !== undefined) {
      const { log } = this.kernel;
      const stars = 'xen_pciback: ******';
      log.warn(
        `${stars} removing device ${dev.name} while still in-use by domain ${psdev.owner.domid}! ******`,
      );
      log.warn(`${stars} driver domain may still access this device's i/o resources!`);
      log.warn(`${stars} shutdown driver domain before binding device`);
      log.warn(`${stars} to other drivers or domains`);
      yield* psdev.owner.releaseDevice(dev);
    }
    this.seized.splice(this.seized.indexOf(psdev), 1);
    yield* this.kernel.reset.functionLocked(dev);
    yield* this.kernel.power.restore(dev, psdev.saved);
    yield* this.msix(dev, 'release_msix', 'release');
    yield* this.disableDevice(dev);
  }

  find(dev: KernelPci): SeizedDevice | undefined {
    return this.seized.find((p) => p.dev === dev);
  }

  private findSlot(s: Slot): SeizedDevice | undefined {
    return this.seized.find(
      ({ dev }) => dev.seg === s.domain && dev.bus.number === s.bus && dev.devfn === s.slot * 8 + s.func,
    );
  }

  /** Hands a seized device to a back end; undefined when there is none or another has it. */
  take(s: Slot, owner: StubOwner): KernelPci | undefined {
    const psdev = this.findSlot(s);
    if (psdev === undefined || psdev.owner !== undefined) return undefined;
    psdev.owner = owner;
    return psdev.dev;
  }

  /** Takes it back, reset and with the state it had when it was seized. @linux pcistub_put_pci_dev */
  *put(dev: KernelPci): Co<void> {
    const psdev = this.find(dev);
    if (psdev === undefined) return;
    yield* this.kernel.reset.functionLocked(dev);
    yield* this.kernel.power.restore(dev, psdev.saved);
    yield* this.disableDevice(dev);
    psdev.owner = undefined;
  }

  addSlot(text: string): Rc {
    const s = parseSlot(text);
    const all = s === undefined ? undefined : expand(s);
    if (all === undefined) return E.INVAL;
    this.ids.push(...all);
    return 0;
  }

  removeSlot(text: string): Rc {
    const s = parseSlot(text);
    if (s === undefined) return E.INVAL;
    const keep = this.ids.filter(
      (id) =>
        id.domain !== s.domain ||
        id.bus !== s.bus ||
        (s.slot >= 0 && id.devfn >>> 3 !== s.slot) ||
        (s.func >= 0 && (id.devfn & 7) !== s.func),
    );
    if (keep.length === this.ids.length) return E.NOENT;
    this.ids.splice(0, this.ids.length, ...keep);
    return 0;
  }

  setPermissive(text: string): Rc {
    const psdev = this.named(text, E.NODEV);
    if (isErr(psdev)) return psdev;
    if (psdev.permissive) return 0;
    psdev.permissive = true;
    const log = this.log(psdev.dev);
    this.kernel.log.warn(`${log}: enabling permissive mode configuration space accesses!`);
    this.kernel.log.warn(`${log}: permissive mode is potentially unsafe!`);
    return 0;
  }

  switchIrqHandler(text: string): Rc {
    const psdev = this.named(text, E.NOENT);
    if (isErr(psdev)) return psdev;
    psdev.isrOn = !psdev.isrOn;
    if (psdev.isrOn) psdev.ackIntr = true;
    return 0;
  }

  addQuirk(text: string): Rc {
    const q = parseQuirk(text);
    if (q === undefined || q.reg > 0xfff || (q.size < 4 && q.mask >= 2 ** (q.size * 8))) return E.INVAL;
    const psdev = this.findSlot(q.at);
    if (psdev === undefined) return E.NODEV;
    if (q.size !== 1 && q.size !== 2 && q.size !== 4) return E.INVAL;
    psdev.quirks.push(q);
    return 0;
  }

  private named(
    text: string,
    missing: typeof E.NODEV | typeof E.NOENT,
  ): SeizedDevice | typeof E.INVAL | typeof missing {
    const s = parseSlot(text);
    if (s === undefined) return E.INVAL;
    return this.findSlot(s) ?? missing;
  }

  showSlots(): string {
    return page(
      this.ids.map(
        (id) => `${hex(id.domain, 4)}:${hex(id.bus, 2)}:${hex(id.devfn >>> 3, 2)}.${id.devfn & 7}\n`,
      ),
    );
  }
  showPermissive(): string {
    return page(this.seized.filter((p) => p.permissive).map((p) => `${p.dev.name}\n`));
  }
  showIrqHandlers(): string {
    return page(
      this.seized.map(
        (p) => `${p.dev.name}:${p.isrOn ? 'on' : 'off'}:${p.ackIntr ? 'ack' : 'not ack'}ing:${p.handled}\n`,
      ),
    );
  }
  /** Devices with the fields that an administrator added for them. */
  showQuirks(): string {
    return page(
      this.seized.flatMap(({ dev, quirks }) => [
        `${dev.name.slice(5)}\n\t${[dev.vendor, dev.device, dev.subsystemVendor, dev.subsystemDevice]
          .map((n) => hex(n, 4))
          .join(':')}\n`,
        ...quirks.map((q) => `\t\t${hex(q.reg, 8)}:${q.size.toString(16)}:${hex(q.mask, 8)}\n`),
      ]),
    );
  }
}

/** A sysfs file holds one page; what does not fit is cut. */
const page = (lines: readonly string[]): string => lines.join('').slice(0, PAGE - 1);
