/** Files of drivers and of the bus. @linux drivers/base/bus.c, drivers/pci/pci-driver.c, xen-pciback/pci_stub.c */
import { E, type Errno, type Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { KernelDriver, PciId } from '../kernel/driver.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import { Pciback } from '../pciback/stub.js';
import { unsigned } from './attributes.js';
import type { VFile } from './node.js';

const PAGE = 4096;

export const DRIVER_FILES = ['bind', 'new_id', 'remove_id', 'uevent', 'unbind'] as const;
/** What pciback adds, with permission bits. */
export const PCIBACK_FILES: ReadonlyMap<string, number> = new Map([
  ['allow_interrupt_control', 0o644],
  ['irq_handler_state', 0o200],
  ['irq_handlers', 0o444],
  ['new_slot', 0o200],
  ['permissive', 0o644],
  ['quirks', 0o644],
  ['remove_slot', 0o200],
  ['slots', 0o444],
]);

export class DriverFile implements VFile {
  readonly kind = 'file';
  readonly mode: number;
  constructor(
    private readonly kernel: Dom0Kernel,
    private readonly driver: KernelDriver,
    private readonly name: string,
  ) {
    this.mode = PCIBACK_FILES.get(name) ?? 0o200;
  }
  size(): number {
    return PAGE;
  }

  read(): string | Errno {
    if (!(this.driver instanceof Pciback)) return E.IO;
    switch (this.name) {
      case 'slots':
        return this.driver.showSlots();
      case 'permissive':
        return this.driver.showPermissive();
      case 'irq_handlers':
        return this.driver.showIrqHandlers();
      case 'quirks':
        return this.driver.showQuirks();
      default:
        return '';
    }
  }

  *write(text: string): Co<Rc> {
    const rc = yield* this.store(text);
    return rc < 0 ? rc : text.length;
  }

  private *store(text: string): Co<Rc> {
    const { driver, kernel } = this;
    switch (this.name) {
      case 'bind':
        return yield* kernel.core.bind(driver, kernel.deviceNamed(text.replace(/\n$/, '')));
      case 'unbind':
        return yield* kernel.core.unbind(driver, kernel.deviceNamed(text.replace(/\n$/, '')));
      case 'new_id':
        return yield* this.newId(text);
      case 'remove_id':
        return this.removeId(text);
      default:
        return driver instanceof Pciback ? this.storePciback(driver, text) : 0;
    }
  }

  private storePciback(pciback: Pciback, text: string): Rc {
    switch (this.name) {
      case 'new_slot':
        return pciback.addSlot(text);
      case 'remove_slot':
        return pciback.removeSlot(text);
      case 'permissive':
        return pciback.setPermissive(text);
      case 'irq_handler_state':
        return pciback.switchIrqHandler(text);
      case 'quirks':
        return pciback.addQuirk(text);
      default:
        return 0;
    }
  }

  private *newId(text: string): Co<Rc> {
    const id = parseId(text);
    if (id === undefined) return E.INVAL;
    if (this.driver.dynamicIds.some((d) => d.vendor === id.vendor && d.device === id.device)) return E.EXIST;
    return yield* this.kernel.addDynamicId(this.driver.name, id);
  }
  private removeId(text: string): Rc {
    const id = parseId(text);
    if (id === undefined) return E.INVAL;
    const at = this.driver.dynamicIds.findIndex((d) => d.vendor === id.vendor && d.device === id.device);
    if (at < 0) return E.NODEV;
    this.driver.dynamicIds.splice(at, 1);
    return 0;
  }
}

/** `vendor device [subvendor [subdevice [class [mask]]]]`, in hex. */
function parseId(text: string): PciId | undefined {
  const fields = text.trim().split(/\s+/, 7).slice(0, 6);
  const numbers = fields.map((f) => (/^(0x)?[0-9a-f]{1,8}$/i.test(f) ? Number.parseInt(f, 16) : Number.NaN));
  if (numbers.length < 2 || numbers.some(Number.isNaN)) return undefined;
  const [vendor, device, subsystemVendor, subsystemDevice, classCode, classMask] = numbers;
  return {
    vendor: vendor!,
    device: device!,
    ...(subsystemVendor === undefined ? {} : { subsystemVendor }),
    ...(subsystemDevice === undefined ? {} : { subsystemDevice }),
    ...(classCode === undefined || classMask === 0 ? {} : { classCode, classMask: classMask ?? 0xff_ffff }),
  };
}

/** /sys/bus/pci/{rescan,drivers_probe,drivers_autoprobe}. */
export class BusFile implements VFile {
  readonly kind = 'file';
  readonly mode: number;
  constructor(
    private readonly kernel: Dom0Kernel,
    private readonly name: string,
  ) {
    this.mode = name === 'drivers_autoprobe' ? 0o644 : 0o200;
  }
  size(): number {
    return PAGE;
  }
  read(): string | Errno {
    return this.kernel.autoprobe ? '1\n' : '0\n';
  }
  *write(text: string): Co<Rc> {
    const { kernel } = this;
    if (this.name === 'drivers_probe') {
      const dev = kernel.deviceNamed(text.replace(/\n$/, ''));
      if (dev === undefined) return E.NODEV;
      if (dev.driver === undefined) yield* kernel.core.attachDevice(dev);
      yield* kernel.core.finish();
      return text.length;
    }
    const value = unsigned(text);
    if (this.name === 'drivers_autoprobe') kernel.autoprobe = !text.startsWith('0');
    else if (value === undefined) return E.INVAL;
    else if (value !== 0) yield* kernel.rescan();
    return text.length;
  }
}

/** A file whose text is fixed while somebody looks at it. */
export class TextFile implements VFile {
  readonly kind = 'file';
  constructor(
    private readonly text: string,
    readonly mode = 0o444,
    private readonly shownSize = PAGE,
  ) {}
  size(): number {
    return this.shownSize;
  }
  read(): string {
    return this.text;
  }
  *write(): Co<Rc> {
    return E.ACCES;
  }
}
