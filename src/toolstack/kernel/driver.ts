/** The driver core: who may have which device. @linux drivers/base/{bus,dd}.c, drivers/pci/pci-driver.c */
import { E, type Rc } from '../../base/errno.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { BoundDriver, KernelPci } from './pci_dev.js';

/** One row of an id table; what is missing matches everything. */
export interface PciId {
  readonly vendor?: number;
  readonly device?: number;
  readonly subsystemVendor?: number;
  readonly subsystemDevice?: number;
  /** Three bytes of class code, compared under the mask (all bits by default). */
  readonly classCode?: number;
  readonly classMask?: number;
}

export const matchesId = (id: PciId, dev: KernelPci): boolean =>
  (id.vendor === undefined || id.vendor === dev.vendor) &&
  (id.device === undefined || id.device === dev.device) &&
  (id.subsystemVendor === undefined || id.subsystemVendor === dev.subsystemVendor) &&
  (id.subsystemDevice === undefined || id.subsystemDevice === dev.subsystemDevice) &&
  (id.classCode === undefined || ((id.classCode ^ dev.classCode) & (id.classMask ?? 0xff_ffff)) === 0);

export abstract class KernelDriver implements BoundDriver {
  /** Ids added through `new_id`. */
  readonly dynamicIds: PciId[] = [];
  /** Bound devices, in the order in which they were bound. */
  readonly devices: KernelPci[] = [];
  abstract readonly name: string;
  /** Module that holds it; undefined when it is built in. */
  abstract readonly module: string | undefined;
  protected abstract matchesTable(dev: KernelPci): boolean;
  abstract probe(dev: KernelPci): Co<Rc>;
  abstract remove(dev: KernelPci): Co<void>;
  /** What a probe has left to do in the background. */
  *finish(_core: DriverCore): Co<void> {}
  readonly supportsSriov: boolean = false;

  /** @linux pci_bus_match: an override names the only driver that may have the device. */
  matches(dev: KernelPci): boolean {
    if (dev.driverOverride !== undefined) return dev.driverOverride === this.name;
    return this.dynamicIds.some((id) => matchesId(id, dev)) || this.matchesTable(dev);
  }
}

export class DriverCore {
  readonly drivers = new Map<string, KernelDriver>();
  constructor(
    private readonly events: EventStream,
    /** All devices in the order in which they were added. */
    private readonly devices: ReadonlyMap<number, KernelPci>,
    private readonly clock: Clock,
  ) {}

  /** Registers a driver and lets it take what is free. */
  *register(driver: KernelDriver): Co<void> {
    this.drivers.set(driver.name, driver);
    yield* this.attachAll(driver);
  }

  *attachAll(driver: KernelDriver): Co<void> {
    for (const dev of [...this.devices.values()]) {
      if (dev.driver === undefined && driver.matches(dev)) yield* this.attach(driver, dev);
    }
    yield* driver.finish(this);
  }

  /** A new device looks for its driver. @linux device_attach */
  *attachDevice(dev: KernelPci): Co<void> {
    for (const driver of this.drivers.values()) {
      if (driver.matches(dev) && (yield* this.attach(driver, dev)) === 0) return;
    }
  }

  /** @linux device_driver_attach */
  *attach(driver: KernelDriver, dev: KernelPci): Co<Rc> {
    dev.waitForLock(this.clock);
    if (dev.removed) return E.NODEV;
    if (dev.driver !== undefined) return E.BUSY;
    dev.driver = driver;
    const rc = yield* driver.probe(dev);
    if (rc !== 0) {
      dev.driver = undefined;
      return rc;
    }
    driver.devices.push(dev);
    if (this.events.on) this.events.emit({ kind: 'driver', sbdf: dev.sbdf, driver: driver.name });
    return 0;
  }

  /** @linux device_release_driver */
  *detach(dev: KernelPci): Co<void> {
    const driver = this.drivers.get(dev.driver?.name ?? '');
    if (driver === undefined) return;
    dev.waitForLock(this.clock);
    yield* driver.remove(dev);
    dev.driver = undefined;
    driver.devices.splice(driver.devices.indexOf(dev), 1);
    if (this.events.on) this.events.emit({ kind: 'driver', sbdf: dev.sbdf, driver: null });
  }

  /** `bind`: -ENODEV when the driver does not match, -EBUSY when the device has one. @linux bind_store */
  *bind(driver: KernelDriver, dev: KernelPci | undefined): Co<Rc> {
    if (dev === undefined || !driver.matches(dev)) return E.NODEV;
    const rc = yield* this.attach(driver, dev);
    yield* driver.finish(this);
    return rc;
  }

  /** What drivers do in the background comes to its end. */
  *finish(): Co<void> {
    for (const driver of this.drivers.values()) yield* driver.finish(this);
  }

  /** `unbind`: -ENODEV unless this very driver has the device. @linux unbind_store */
  *unbind(driver: KernelDriver, dev: KernelPci | undefined): Co<Rc> {
    if (dev === undefined || dev.driver !== driver) return E.NODEV;
    yield* this.detach(dev);
    return 0;
  }
}
