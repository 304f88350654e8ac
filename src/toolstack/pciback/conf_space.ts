/**
 * Configuration space as a PV guest gets it: reads go to the device, writes only where a field allows them.
 * @linux drivers/xen/xen-pciback/conf_space.c, conf_space_header.c, conf_space_capability.c
 */
import { COMMAND, PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import type { Pciback } from './stub.js';
import type { VirtualBus } from './vpci.js';

/** Bits of the command register that a guest may really set: MASTER, SPECIAL, INVALIDATE, VGA_PALETTE, WAIT, FAST_BACK. */
const COMMAND_GUEST = 0x4 | 0x8 | 0x10 | 0x20 | 0x80 | 0x200;
const ENABLES = COMMAND.IO | COMMAND.MEMORY;
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

  configRead(devfn: number, reg: number, bytes: number): number {
    const dev = this.bus.at(devfn >>> 3, devfn & 7);
    if (dev === undefined || reg + bytes > 4096) return allOnes(bytes);
    let word = this.kernel.config.read(dev.sbdf, reg & ~3, 4);
    const at = reg & ~3;
    if (at === PCI.COMMAND) {
      const guests = this.stub.find(dev)?.guestCommand ?? 0;
      const command = (word & COMMAND_GUEST) | (guests & ~COMMAND_GUEST & 0xffff);
      word = (Math.floor(word / 0x1_0000) * 0x1_0000 + command) >>> 0;
    } else if (this.sizing.get(dev)?.has(at) === true) word = sizeMask(dev, at);
    else if (at === PCI.INTERRUPT_LINE) word = ((word & ~0xff) | (dev.irq & 0xff)) >>> 0;
    return Math.floor(word / 2 ** ((reg & 3) * 8)) % 2 ** (8 * bytes);
  }

  *configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void> {
    const dev = this.bus.at(devfn >>> 3, devfn & 7);
    if (dev === undefined || reg + bytes > 4096) return;
    const at = reg & ~3;
    if (at === PCI.COMMAND) {
      if (reg === PCI.COMMAND) yield* this.writeCommand(dev, value & 0xffff);
    } else if (isBase(dev, at)) {
      // The addresses stay what dom0's firmware made them; only the size can be asked.
      const sizing = this.sizing.get(dev) ?? new Set();
      this.sizing.set(dev, sizing);
      if ((value | 1) >>> 0 === 0xffff_ffff) sizing.add(at);
      else sizing.delete(at);
    } else if (this.isWritable(dev, reg)) yield* this.kernel.config.write(dev.sbdf, reg, bytes, value);
    else if (at > PCI.INTERRUPT_LINE) yield* this.writeOther(dev, reg, bytes, value);
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
    if (psdev !== undefined) psdev.guestCommand = value;
    if (psdev?.permissive !== true) return;
    const now = config.read(dev.sbdf, PCI.COMMAND, 2);
    if (now !== value)
      yield* config.write(dev.sbdf, PCI.COMMAND, 2, (value & COMMAND_GUEST) | (now & ~COMMAND_GUEST));
  }

  /** Cache line size, latency, BIST, and the control words of power management, MSI and MSI-X. */
  private isWritable(dev: KernelPci, reg: number): boolean {
    if (reg >= 0x0c && reg <= 0x0f) return reg !== PCI.HEADER_TYPE;
    const { msi, msix, pm } = dev.cap;
    const inside = (cap: number, from: number, to: number): boolean =>
      cap !== 0 && reg >= cap + from && reg < cap + to;
    return inside(pm, 4, 6) || inside(msi, 2, 24) || inside(msix, 2, 4) || this.isQuirk(dev, reg);
  }

  private isQuirk(dev: KernelPci, reg: number): boolean {
    const quirks = this.stub.find(dev)?.quirks ?? [];
    return quirks.some((q) => reg >= q.reg && reg < q.reg + q.size);
  }

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

const isBase = (dev: KernelPci, at: number): boolean =>
  dev.headerType === 0 ? (at >= 0x10 && at <= 0x24) || at === PCI.ROM_ADDRESS : at === 0x10 || at === 0x14;

/** What a base address register reads after all ones were written to it. */
function sizeMask(dev: KernelPci, at: number): number {
  const index = at === PCI.ROM_ADDRESS ? 6 : (at - 0x10) >>> 2;
  const low = dev.resources[index];
  const below = index > 0 && index < 6 ? dev.resources[index - 1] : undefined;
  if (low !== undefined && low.flags !== 0) {
    const bytes = low.end - low.start + 1;
    const type = (low.flags & 0x100) !== 0 ? 1 : low.flags & 0xf;
    return bytes >= 2 ** 32 ? type : ((2 ** 32 - bytes) | type) >>> 0;
  }
  // The upper half of a 64-bit register.
  if (below !== undefined && (below.flags & 0x10_0000) !== 0) return 0xffff_ffff;
  return 0;
}
