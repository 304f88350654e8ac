/** Enabling, disabling, saving and restoring a device. @linux drivers/pci/pci.c */
import { COMMAND, PCI, PM_NO_SOFT_RESET } from '../../pci/registers.js';
import type { Clock } from '../../sim/clock.js';
import { type Co, pause } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import type { Interrupts } from './interrupts.js';
import type { KernelLog } from './log.js';
import { IORESOURCE, type KernelPci, NO_RESOURCE, ROM_RESOURCE, type SavedState } from './pci_dev.js';

const hex4 = (n: number): string => n.toString(16).padStart(4, '0');

export class DevicePower {
  constructor(
    private readonly config: ConfigPort,
    private readonly clock: Clock,
    private readonly log: KernelLog,
    private readonly interrupts: Interrupts,
  ) {}

  /** @linux pci_enable_device */
  *enable(dev: KernelPci): Co<void> {
    dev.enableCount += 1;
    if (dev.enableCount > 1) return;
    const bridge = dev.bus.self;
    if (bridge !== undefined) yield* this.enableBridge(bridge);
    yield* this.toD0(dev);
    yield* this.enableResources(dev);
    yield* this.enableIrq(dev);
    if (dev.pin === 0) return;
    const command = this.config.read(dev.sbdf, PCI.COMMAND, 2);
    if ((command & COMMAND.INTX_DISABLE) !== 0)
      yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, command & ~COMMAND.INTX_DISABLE);
  }

  /** @linux pci_disable_device */
  *disable(dev: KernelPci): Co<void> {
    if (dev.enableCount === 0) return;
    dev.enableCount -= 1;
    if (dev.enableCount > 0) return;
    const command = this.config.read(dev.sbdf, PCI.COMMAND, 2);
    if ((command & COMMAND.MASTER) !== 0)
      yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, command & ~COMMAND.MASTER);
    dev.irqManaged = false;
    dev.isBusmaster = false;
  }

  *setMaster(dev: KernelPci, on = true): Co<void> {
    const command = this.config.read(dev.sbdf, PCI.COMMAND, 2);
    const wanted = on ? command | COMMAND.MASTER : command & ~COMMAND.MASTER;
    if (wanted !== command) yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, wanted);
    dev.isBusmaster = on;
  }

  private *enableBridge(bridge: KernelPci): Co<void> {
    const above = bridge.bus.self;
    if (above !== undefined) yield* this.enableBridge(above);
    if (bridge.enableCount === 0) yield* this.enable(bridge);
    if (!bridge.isBusmaster) yield* this.setMaster(bridge);
  }

  /** @linux pci_enable_resources: decoding on for what the device has, with the line that says so. */
  private *enableResources(dev: KernelPci): Co<void> {
    const before = this.config.read(dev.sbdf, PCI.COMMAND, 2);
    let command = before;
    for (let i = 0; i < dev.resources.length; i++) {
      const r = dev.resources[i]!;
      if (r.flags === 0 || (i >= ROM_RESOURCE && dev.headerType === 0)) continue;
      if ((r.flags & IORESOURCE.IO) !== 0) command |= COMMAND.IO;
      if ((r.flags & IORESOURCE.MEM) !== 0) command |= COMMAND.MEMORY;
    }
    if (command === before) return;
    this.log.info(`${dev.logName}: enabling device (${hex4(before)} -> ${hex4(command)})`);
    yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, command);
  }

  /** @linux drivers/acpi/pci_irq.c acpi_pci_irq_enable, arch/x86/pci/xen.c xen_register_gsi */
  private *enableIrq(dev: KernelPci): Co<void> {
    if (dev.pin === 0 || dev.irqManaged) return;
    const gsi = gsiOf(dev);
    dev.irqManaged = true;
    dev.irq = gsi;
    yield* this.interrupts.setupGsi(gsi, true);
  }

  /** @linux pci_set_full_power_state, pci_power_up */
  *toD0(dev: KernelPci): Co<void> {
    if (dev.cap.pm === 0) return;
    const csr = this.config.read(dev.sbdf, dev.cap.pm + 4, 2);
    if (csr === 0xffff) {
      this.log.error(`${dev.logName}: Unable to change power state from D3cold to D0, device inaccessible`);
      return;
    }
    if ((csr & 3) === 0) return;
    yield* this.config.write(dev.sbdf, dev.cap.pm + 4, 2, 0);
    yield* pause(this.clock, 10_000_000);
    if ((csr & 3) === 3 && (csr & PM_NO_SOFT_RESET) === 0) yield* this.restoreBases(dev);
  }

  /** Waking up may have reset the device. ROMs are left alone, as they are off. @linux pci_restore_bars, pci_std_update_resource */
  private *restoreBases(dev: KernelPci): Co<void> {
    if (dev.isVirtfn) return;
    for (let i = 0; i < ROM_RESOURCE; i++) {
      const { start, flags } = dev.resources[i] ?? NO_RESOURCE;
      if (start === 0) continue;
      const reg = PCI.BASE_ADDRESS_0 + 4 * i;
      const wide = (flags & IORESOURCE.MEM_64) !== 0;
      const command = this.config.read(dev.sbdf, PCI.COMMAND, 2);
      // Nobody is to see one half of an address.
      if (wide) yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, command & ~COMMAND.MEMORY);
      yield* this.config.write(dev.sbdf, reg, 4, (start | (flags & 0xf)) >>> 0);
      if (!wide) continue;
      yield* this.config.write(dev.sbdf, reg + 4, 4, Math.floor(start / 2 ** 32));
      yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, command);
    }
  }

  /** @linux pci_save_state: the header and the control registers of PCI Express. */
  save(dev: KernelPci): SavedState {
    const words = Array.from({ length: 16 }, (_, i) => this.config.read(dev.sbdf, i * 4, 4));
    const express = expressRegisters(this.config, dev).map((reg): readonly [number, number] => [
      reg,
      this.config.read(dev.sbdf, reg, 2),
    ]);
    dev.saved = { words, express };
    return dev.saved;
  }

  /** @linux pci_restore_state: the header from its end, command last, each word only if it differs. */
  *restore(dev: KernelPci, state: SavedState | undefined): Co<void> {
    if (state === undefined) return;
    for (const [reg, value] of state.express) yield* this.config.write(dev.sbdf, reg, 2, value);
    for (let i = 15; i >= 0; i--) {
      if (this.config.read(dev.sbdf, i * 4, 4) !== state.words[i]!)
        yield* this.config.write(dev.sbdf, i * 4, 4, state.words[i]!);
    }
    yield* this.interrupts.restoreVectors(dev);
    dev.saved = undefined;
  }
}

/** Control registers that pci_save_pcie_state keeps, as far as this device has them. */
function expressRegisters(config: ConfigPort, dev: KernelPci): number[] {
  const at = dev.cap.express;
  if (at === 0) return [];
  const version = config.read(dev.sbdf, at + 2, 2) & 15;
  return version >= 2 ? [at + 8, at + 0x10, at + 0x28, at + 0x30] : [at + 8, at + 0x10];
}

/**
 * Global system interrupt of a device. The routing is that of QEMU's q35 firmware tables: a slot of the root bus takes
 * its pin from GSI 20..23, function 1f from 16..19, and pins rotate by slot on their way up through bridges (P2P 9.1).
 */
export function gsiOf(dev: KernelPci): number {
  let pin = dev.pin - 1;
  let at = dev;
  for (let bridge = at.bus.self; bridge !== undefined; bridge = at.bus.self) {
    pin = (pin + (at.devfn >>> 3)) % 4;
    at = bridge;
  }
  const slot = at.devfn >>> 3;
  return slot === 0x1f ? 16 + pin : 20 + ((slot + pin) % 4);
}
