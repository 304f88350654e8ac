/**
 * Configuration space as a PV guest gets it: reads go to the device, writes only where a field allows them.
 * @linux drivers/xen/xen-pciback/conf_space.c
 */
import { E } from '../../base/errno.js';
import { COMMAND, PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import { baseOf, CACHE_LINE_SIZE, type Field, fieldsOf } from './conf_fields.js';
import type { Pciback } from './stub.js';
import type { VirtualBus } from './vpci.js';

/** Bits of the command register that a guest may really set: MASTER, SPECIAL, INVALIDATE, VGA_PALETTE, WAIT, FAST_BACK. */
const COMMAND_GUEST = 0x4 | 0x8 | 0x10 | 0x20 | 0x80 | 0x200;
const INVALIDATE = 0x10;
const ENABLES = COMMAND.IO | COMMAND.MEMORY;
const BIST_START = 0x40;
/** Bits of power management that a guest may change: PME status and data select. Those that wake are for dom0 alone. */
const PM_GUEST = 0x8000 | 0x1e00;
const PM_CAN_WAKE = 0xf800;
const VPD_WRITE = 0x8000;
/** The cache line that Linux wants before it lets a device write and invalidate: 64 bytes, in words. */
const CACHE_LINE = 16;
const allOnes = (bytes: number): number => (bytes === 4 ? 0xffff_ffff : bytes === 2 ? 0xffff : 0xff);

export class VirtualConfig {
  /** Base address registers whose size a guest is asking, by device. */
  private readonly sizing = new Map<KernelPci, Set<number>>();
  constructor(
    private readonly kernel: Dom0Kernel,
    private readonly stub: Pciback,
    private readonly bus: VirtualBus,
  ) {}

  /** devfns on the guest's bus, rising. */
  functions(): number[] {
    const all: number[] = [];
    this.bus.slots.forEach((slot, i) => {
      for (const dev of slot) all.push(i * 8 + (dev.isVirtfn ? 0 : dev.devfn & 7));
    });
    return all.sort((a, b) => a - b);
  }

  forget(dev: KernelPci): void {
    this.sizing.delete(dev);
  }

  /** @linux xen_pcibk_config_read */
  configRead(devfn: number, reg: number, bytes: number): number {
    const dev = this.bus.at(devfn >>> 3, devfn & 7);
    return dev === undefined || !isValid(reg, bytes) ? allOnes(bytes) : this.read(dev, reg, bytes);
  }

  /** What the device says, and in the place of fields what they say. */
  private read(dev: KernelPci, reg: number, bytes: number): number {
    let value = this.kernel.config.read(dev.sbdf, reg, bytes);
    for (const f of this.fieldsAt(dev, reg, bytes))
      value = merged(value, reg, bytes, this.readField(dev, f), f.at, f.size);
    return value;
  }

  /** @linux xen_pcibk_config_write */
  *configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void> {
    const dev = this.bus.at(devfn >>> 3, devfn & 7);
    if (dev === undefined || !isValid(reg, bytes)) return;
    const fields = this.fieldsAt(dev, reg, bytes);
    for (const f of fields) {
      const now = this.read(dev, f.at, f.size);
      yield* this.writeField(dev, f, merged(now, f.at, f.size, value, reg, bytes));
    }
    if (fields.length === 0) yield* this.writeOther(dev, reg, bytes, value);
  }

  /** As Linux finds them: those that hold one end of the request. One that lies in its middle is passed over. */
  private fieldsAt(dev: KernelPci, reg: number, bytes: number): Field[] {
    const end = reg + bytes;
    const quirks = this.stub.find(dev)?.quirks ?? [];
    return fieldsOf(dev, quirks).filter(
      ({ at, size }) => (reg >= at && reg < at + size) || (end > at && end <= at + size),
    );
  }

  private readField(dev: KernelPci, f: Field): number {
    const device = this.kernel.config.read(dev.sbdf, f.at, f.size);
    switch (f.kind) {
      case 'id':
        return f.at === PCI.VENDOR_ID ? dev.vendor : dev.device;
      case 'command': {
        const guests = this.stub.find(dev)?.guestCommand ?? 0;
        return (device & COMMAND_GUEST) | (guests & ~COMMAND_GUEST);
      }
      case 'line':
        return dev.irq & 0xff;
      case 'base': {
        const base = baseOf(dev, f.at);
        return this.sizing.get(dev)?.has(f.at) === true ? base.mask : base.value;
      }
      case 'pmCaps':
        return device & ~PM_CAN_WAKE;
      default:
        return device;
    }
  }

  private *writeField(dev: KernelPci, f: Field, value: number): Co<void> {
    const { config } = this.kernel;
    const now = config.read(dev.sbdf, f.at, f.size);
    switch (f.kind) {
      case 'command':
        yield* this.writeCommand(dev, value);
        return;
      case 'base':
        yield* this.writeBase(dev, f.at, now, value);
        return;
      case 'pmControl':
        yield* this.writePmControl(dev, f.at, now, value);
        return;
      case 'bist':
        if (((now ^ value) & ~BIST_START) !== 0 && value !== BIST_START) return;
        break;
      case 'vpdAddress':
        if ((value & VPD_WRITE) !== 0) return;
        break;
      case 'interrupts':
        if (this.stub.find(dev)?.permissive !== true) return;
        break;
      case 'writable':
        break;
      default:
        return;
    }
    yield* config.write(dev.sbdf, f.at, f.size, value);
  }

  /** The addresses stay what dom0's firmware made them: their size can be asked, and a lost one restored. */
  private *writeBase(dev: KernelPci, at: number, now: number, value: number): Co<void> {
    const base = baseOf(dev, at);
    const sizing = this.sizing.get(dev) ?? new Set();
    this.sizing.set(dev, sizing);
    if ((value | base.ignored) >>> 0 === 0xffff_ffff) {
      sizing.add(at);
      return;
    }
    sizing.delete(at);
    if (now !== base.value && value === base.value) yield* this.kernel.config.write(dev.sbdf, at, 4, value);
  }

  private *writePmControl(dev: KernelPci, at: number, now: number, value: number): Co<void> {
    const { config } = this.kernel;
    if (((now ^ value) & PM_GUEST) !== 0)
      yield* config.write(dev.sbdf, at, 2, (now & ~PM_GUEST) | (value & PM_GUEST));
    const state = value & 3;
    if (state === 0) yield* this.kernel.power.toD0(dev);
    else if (state !== (now & 3))
      yield* config.write(dev.sbdf, at, 2, (config.read(dev.sbdf, at, 2) & ~3) | state);
  }

  /** @linux command_write */
  private *writeCommand(dev: KernelPci, value: number): Co<void> {
    const { config, power } = this.kernel;
    const enables = (value & ENABLES) !== 0;
    const changes = enables === (dev.enableCount === 0);
    if (changes && enables) yield* power.enable(dev);
    else if (changes) yield* power.disable(dev);
    if (changes) yield* this.stub.controlIsr(dev, enables);
    const master = (value & COMMAND.MASTER) !== 0;
    if (dev.isBusmaster !== master) yield* power.setMaster(dev, master);
    const psdev = this.stub.find(dev);
    if (psdev === undefined) return;
    if (((psdev.guestCommand ^ value) & INVALIDATE) !== 0) value = yield* this.setInvalidate(dev, value);
    psdev.guestCommand = value;
    if (!psdev.permissive) return;
    const now = config.read(dev.sbdf, PCI.COMMAND, 2);
    if (now !== value)
      yield* config.write(dev.sbdf, PCI.COMMAND, 2, (value & COMMAND_GUEST) | (now & ~COMMAND_GUEST));
  }

  /** Memory write and invalidate as `value` asks; what the guest gets of it. @linux pci_set_mwi, pci_clear_mwi */
  private *setInvalidate(dev: KernelPci, value: number): Co<number> {
    const { config } = this.kernel;
    const on = (value & INVALIDATE) !== 0;
    if (on) {
      const line = config.read(dev.sbdf, CACHE_LINE_SIZE, 1);
      if (line === 0 || line % CACHE_LINE !== 0)
        yield* config.write(dev.sbdf, CACHE_LINE_SIZE, 1, CACHE_LINE);
      const taken = config.read(dev.sbdf, CACHE_LINE_SIZE, 1);
      if (taken === 0 || taken % CACHE_LINE !== 0) {
        const text = `xen-pciback: cannot enable memory-write-invalidate (${E.INVAL})`;
        this.kernel.log.warn(`pciback ${dev.name}: ${text}`);
        return value & ~INVALIDATE;
      }
    }
    const now = config.read(dev.sbdf, PCI.COMMAND, 2);
    if (((now & INVALIDATE) !== 0) !== on) yield* config.write(dev.sbdf, PCI.COMMAND, 2, now ^ INVALIDATE);
    return value;
  }

  /** What no field holds is for dom0 alone, unless it says otherwise. */
  private *writeOther(dev: KernelPci, reg: number, bytes: number, value: number): Co<void> {
    const psdev = this.stub.find(dev);
    if (psdev?.permissive === true) {
      yield* this.kernel.config.write(dev.sbdf, reg, bytes, value);
      return;
    }
    if (psdev === undefined || psdev.warnedOnWrite) return;
    psdev.warnedOnWrite = true;
    this.kernel.log.warn(
      `pciback ${dev.name}: xen-pciback: Driver tried to write to a read-only configuration space field at offset ` +
        `0x${reg.toString(16)}, size ${bytes}. This may be harmless, but if you have problems with your device:\n` +
        '1) see permissive attribute in sysfs\n' +
        '2) report problems to the xen-devel mailing list along with details of your device obtained from lspci.',
    );
  }
}

/** Requests are for one, two or four bytes in their place. */
const isValid = (reg: number, bytes: number): boolean => reg % bytes === 0 && reg + bytes <= 4096;

/** `value` of `bytes` bytes at `at`, with those of `other` that lie in there. */
function merged(
  value: number,
  at: number,
  bytes: number,
  other: number,
  otherAt: number,
  otherBytes: number,
): number {
  let out = 0;
  for (let i = bytes - 1; i >= 0; i--) {
    const there = at + i - otherAt;
    const byte =
      there >= 0 && there < otherBytes ? (other >>> (there * 8)) & 0xff : (value >>> (i * 8)) & 0xff;
    out = out * 256 + byte;
  }
  return out;
}
