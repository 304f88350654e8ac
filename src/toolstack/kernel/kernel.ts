/** dom0's Linux as far as passthrough goes: devices, drivers, resets, its log. */
import { E, type Rc } from '../../base/errno.js';
import { type Sbdf, sbdfOf, slotOf } from '../../base/sbdf.js';
import type { Hypercalls } from '../../hypervisor/public/hypercalls.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { ConfigPort } from './config.js';
import { DriverCore, type PciId } from './driver.js';
import { DRIVER_SPECS, type DriverSpec, IrqNumbers, NativeDriver, UnitNames } from './drivers.js';
import { Enumerator } from './enumerate.js';
import { Interrupts } from './interrupts.js';
import { KernelLog } from './log.js';
import { devicesBelow, IOV_RESOURCE, type KernelBus, KernelPci, type KernelSlot } from './pci_dev.js';
import { DevicePower } from './power.js';
import { DeviceReset } from './reset.js';
import { setupDevice } from './setup.js';

const MS = 1_000_000;

export class Dom0Kernel {
  readonly log: KernelLog;
  readonly interrupts: Interrupts;
  readonly power: DevicePower;
  readonly reset: DeviceReset;
  readonly pci: Enumerator;
  readonly core: DriverCore;
  /** Loaded modules, newest last. */
  readonly modules: string[] = [];
  /** `drivers_autoprobe` of the PCI bus. */
  autoprobe = true;
  /** Drivers that virtual functions had on the described host, by physical function: udev loads them. */
  readonly virtualDrivers = new Map<Sbdf, string>();
  readonly slots: KernelSlot[] = [];
  private readonly units = new UnitNames();
  readonly irqs = new IrqNumbers();

  constructor(
    readonly hv: Hypercalls,
    readonly config: ConfigPort,
    readonly clock: Clock,
    readonly events: EventStream,
  ) {
    this.log = new KernelLog(clock, events);
    this.interrupts = new Interrupts(hv, config, this.log);
    this.power = new DevicePower(config, clock, this.log, this.interrupts);
    this.reset = new DeviceReset(config, clock, this.power, this.log);
    this.pci = new Enumerator(config, hv, this.log, this.reset);
    this.core = new DriverCore(events, this.pci.devices, clock);
  }

  device(sbdf: Sbdf): KernelPci | undefined {
    return this.pci.devices.get(sbdf);
  }
  /** The slot that a device is plugged into. @linux pci_dev_assign_slot */
  slotOf(dev: KernelPci): KernelSlot | undefined {
    const at = slotOf(dev.devfn);
    return this.slots.find((s) => s.seg === dev.seg && s.bus === dev.bus.number && s.device === at);
  }
  /** By the name of its directory: `0000:01:00.0`. */
  deviceNamed(name: string): KernelPci | undefined {
    const m = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(name);
    if (m === null) return undefined;
    const bdf = Number.parseInt(m[2]!, 16) * 256 + Number.parseInt(m[3]!, 16) * 8 + Number(m[4]);
    return this.device(sbdfOf(Number.parseInt(m[1]!, 16), bdf));
  }

  /** Whether the driver of that name comes with the kernel image. */
  isBuiltin(name: string, dev: KernelPci): boolean {
    return specOf(name, dev).module === undefined;
  }

  private newDriver(spec: DriverSpec): NativeDriver {
    const driver = new NativeDriver(
      spec,
      this.power,
      this.config,
      this.log,
      this.units,
      this.irqs,
      this.interrupts,
    );
    this.core.drivers.set(spec.name, driver);
    if (spec.module !== undefined && !this.modules.includes(spec.module)) {
      this.modules.push(spec.module);
      for (const line of spec.banner ?? []) this.log.info(line);
    }
    return driver;
  }

  /** Gives a device the driver that it had on the described host. */
  *bindAtBoot(name: string, dev: KernelPci): Co<void> {
    const found = this.core.drivers.get(name);
    const driver = found instanceof NativeDriver ? found : this.newDriver(specOf(name, dev));
    if (!driver.matches(dev)) driver.dynamicIds.push({ vendor: dev.vendor, device: dev.device });
    yield* this.core.attach(driver, dev);
    yield* driver.finish(this.core);
  }

  /** modprobe: 0, also when it is there already; -ENOENT for a module that this kernel does not have. */
  *modprobe(module: string): Co<Rc> {
    const name = module.replaceAll('-', '_');
    if (this.modules.includes(name)) return 0;
    const specs = DRIVER_SPECS.filter((s) => s.module === name);
    if (specs.length === 0)
      return DRIVER_SPECS.some((s) => s.module === undefined && s.name === name) ? 0 : E.NOENT;
    for (const spec of specs) yield* this.core.attachAll(this.newDriver(spec));
    return 0;
  }

  /** rmmod: its devices are left without a driver. */
  *rmmod(module: string): Co<Rc> {
    const name = module.replaceAll('-', '_');
    const at = this.modules.indexOf(name);
    if (at < 0) return E.NOENT;
    for (const driver of [...this.core.drivers.values()]) {
      if (!(driver instanceof NativeDriver) || driver.module !== name) continue;
      for (const dev of [...driver.devices]) yield* this.core.detach(dev);
      this.core.drivers.delete(driver.name);
    }
    this.modules.splice(at, 1);
    return 0;
  }

  *rescan(from?: KernelPci): Co<void> {
    const bus = from?.subordinate ?? from?.bus;
    const found = yield* this.pci.rescan(bus === undefined ? undefined : [bus]);
    for (const dev of found) if (this.autoprobe) yield* this.core.attachDevice(dev);
    yield* this.core.finish();
  }

  /** `remove`: unbound, children first, then gone. @linux pci_stop_and_remove_bus_device */
  *removeDevice(dev: KernelPci): Co<void> {
    yield* this.stop(dev);
    yield* this.pci.remove(dev);
  }
  private *stop(dev: KernelPci): Co<void> {
    for (const child of [...devicesBelow(dev.subordinate)].reverse()) yield* this.stop(child);
    yield* this.core.detach(dev);
  }

  /** `enable`: refused while a driver has the device. @linux enable_store */
  *setEnabled(dev: KernelPci, on: boolean): Co<Rc> {
    if (dev.driver !== undefined) return E.BUSY;
    if (on) yield* this.power.enable(dev);
    else if (dev.enableCount === 0) return E.IO;
    else yield* this.power.disable(dev);
    return 0;
  }

  *addDynamicId(driverName: string, id: PciId): Co<Rc> {
    const driver = this.core.drivers.get(driverName);
    if (driver === undefined) return E.NODEV;
    driver.dynamicIds.push(id);
    yield* this.core.attachAll(driver);
    return 0;
  }

  /** `sriov_numvfs`. @linux drivers/pci/iov.c sriov_numvfs_store */
  *setVirtualFunctions(dev: KernelPci, count: number): Co<Rc> {
    if (count > this.totalVirtualFunctions(dev)) return E.RANGE;
    if (count === dev.virtfns.length) return 0;
    if (dev.driver === undefined) {
      this.log.info(`pci ${dev.name}: no driver bound to device; cannot configure SR-IOV`);
      return E.NOENT;
    }
    if (!dev.driver.supportsSriov) {
      this.log.info(`${dev.logName}: driver does not support SR-IOV configuration via sysfs`);
      return E.NOENT;
    }
    if (count > 0 && dev.virtfns.length > 0) {
      const had = dev.virtfns.length;
      this.log.warn(`${dev.logName}: ${had} VFs already enabled. Disable before enabling ${count} VFs`);
      return E.BUSY;
    }
    if (count > 0) return yield* this.enableVirtual(dev, count);
    yield* this.disableVirtual(dev);
    return 0;
  }

  totalVirtualFunctions(dev: KernelPci): number {
    return dev.cap.sriov === 0 ? 0 : this.config.read(dev.sbdf, dev.cap.sriov + 0x0e, 2);
  }

  /** -ENOMEM when the bridge above does not lead to the bus of the last one. @linux drivers/pci/iov.c sriov_enable */
  private *enableVirtual(pf: KernelPci, count: number): Co<Rc> {
    const at = pf.cap.sriov;
    const first = this.config.read(pf.sbdf, at + 0x14, 2);
    const stride = this.config.read(pf.sbdf, at + 0x16, 2);
    const lastBus = Math.floor((pf.bdf + first + (count - 1) * stride) / 256);
    if (lastBus > pf.bus.last) {
      const out = `bus ${hex(lastBus)} out of range of ${busRange(pf.bus)}`;
      this.log.error(`${pf.logName}: can't enable ${count} VFs (${out})`);
      return E.NOMEM;
    }
    yield* this.config.write(pf.sbdf, at + 0x10, 2, count);
    const ctl = this.config.read(pf.sbdf, at + 8, 2);
    yield* this.config.write(pf.sbdf, at + 8, 2, ctl | 9);
    this.clock.advance(100 * MS);
    const total = this.totalVirtualFunctions(pf);
    const described = this.virtualDrivers.get(pf.sbdf);
    for (let i = 0; i < count; i++) {
      const bdf = pf.bdf + first + i * stride;
      const vf = new KernelPci(sbdfOf(pf.seg, bdf), this.pci.virtualBus(pf.bus, Math.floor(bdf / 256)));
      yield* setupDevice(this.config, vf);
      vf.vendor = pf.vendor;
      vf.device = this.config.read(pf.sbdf, at + 0x1a, 2);
      vf.pin = 0;
      vf.isVirtfn = true;
      vf.physfn = pf;
      giveShare(pf, vf, i, total);
      pf.virtfns.push(vf);
      yield* this.pci.add(vf);
      if (!this.autoprobe) continue;
      yield* this.core.attachDevice(vf);
      if (described !== undefined && vf.driver === undefined) yield* this.bindAtBoot(described, vf);
    }
    yield* this.core.finish();
    return 0;
  }

  private *disableVirtual(pf: KernelPci): Co<void> {
    for (const vf of [...pf.virtfns]) yield* this.removeDevice(vf);
    const ctl = this.config.read(pf.sbdf, pf.cap.sriov + 8, 2);
    yield* this.config.write(pf.sbdf, pf.cap.sriov + 8, 2, ctl & ~9);
    yield* this.config.write(pf.sbdf, pf.cap.sriov + 0x10, 2, 0);
  }
}

const hex = (n: number): string => n.toString(16).padStart(2, '0');
/** As Linux prints a range of bus numbers (`%pR`). */
const busRange = ({ number, last }: KernelBus): string =>
  last === number ? `[bus ${hex(number)}]` : `[bus ${hex(number)}-${hex(last)}]`;

/** A virtual function decodes its part of the window of the physical one. @linux drivers/pci/iov.c pci_iov_add_virtfn */
function giveShare(pf: KernelPci, vf: KernelPci, index: number, total: number): void {
  for (let i = 0; i < 6; i++) {
    const all = pf.resources[IOV_RESOURCE + i]!;
    if (all.flags === 0) continue;
    const bytes = (all.end - all.start + 1) / total;
    const start = all.start + bytes * index;
    vf.resources[i] = { start, end: start + bytes - 1, flags: all.flags };
  }
}

/** A driver that the table does not know drives just what the description says, and says nothing. */
const specOf = (name: string, dev: KernelPci): DriverSpec =>
  DRIVER_SPECS.find((s) => s.name === name) ?? {
    name,
    module: name.replaceAll('-', '_'),
    ids: [{ vendor: dev.vendor, device: dev.device }],
    sriov: dev.cap.sriov !== 0,
  };
