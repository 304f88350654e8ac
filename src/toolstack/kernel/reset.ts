/** Resetting one function, by the first method that works. @linux drivers/pci/pci.c pci_reset_fn_methods */
import { E, type Rc } from '../../base/errno.js';
import { BRIDGE_CTL_BUS_RESET, COMMAND, PCI, PM_NO_SOFT_RESET } from '../../pci/registers.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import { ENOTTY } from './errno.js';
import type { KernelLog } from './log.js';
import { msleep } from './msleep.js';
import type { KernelPci, ResetMethod } from './pci_dev.js';
import type { DevicePower } from './power.js';

const METHODS: readonly ResetMethod[] = ['flr', 'af_flr', 'pm', 'bus'];
const DEVCTL_FLR = 0x8000;
const DEVCAP_FLR = 0x1000_0000;
const AF_TP_FLR = 3;
const DEVSTA_PENDING = 0x20;
/** As long as a device may take. @linux PCIE_RESET_READY_POLL_MS */
const READY_MS = 60_000;

export class DeviceReset {
  constructor(
    private readonly config: ConfigPort,
    private readonly clock: Clock,
    private readonly power: DevicePower,
    private readonly log: KernelLog,
  ) {}

  /**
   * What the device can be reset by, decided when it is added: a first function on a bus still looks alone then, which
   * is why it may have a `reset` file that fails later. @linux pci_init_reset_methods
   */
  methodsOf(dev: KernelPci): ResetMethod[] {
    return METHODS.filter((m) => this.supports(dev, m));
  }

  private supports(dev: KernelPci, method: ResetMethod): boolean {
    const { cap, sbdf } = dev;
    switch (method) {
      case 'flr':
        return cap.express !== 0 && (this.config.read(sbdf, cap.express + 4, 4) & DEVCAP_FLR) !== 0;
      case 'af_flr':
        return cap.af !== 0 && (this.config.read(sbdf, cap.af + 3, 1) & AF_TP_FLR) === AF_TP_FLR;
      case 'pm':
        return cap.pm !== 0 && (this.config.read(sbdf, cap.pm + 4, 2) & PM_NO_SOFT_RESET) === 0;
      case 'bus':
        return (
          // The bus of a virtual function may have no bridge of its own.
          dev.bus.self?.subordinate === dev.bus &&
          dev.subordinate === undefined &&
          dev.bus.devices.every((d) => d === dev)
        );
    }
  }

  /** The caller holds the device lock. 0, or -ENOTTY when nothing worked. @linux __pci_reset_function_locked */
  *functionLocked(dev: KernelPci): Co<Rc> {
    for (const method of dev.resetMethods) {
      if (!this.supports(dev, method)) continue;
      const rc = yield* this.by(dev, method);
      dev.lockedUntilNs = this.clock.nowNs;
      if (rc !== ENOTTY) return rc;
    }
    return ENOTTY;
  }

  /** What a write to `reset` does: state saved before, restored after. @linux pci_reset_function */
  *function(dev: KernelPci): Co<Rc> {
    if (dev.resetMethods.length === 0) return ENOTTY;
    dev.waitForLock(this.clock);
    yield* this.power.toD0(dev);
    const state = this.power.save(dev);
    yield* this.config.write(dev.sbdf, PCI.COMMAND, 2, COMMAND.INTX_DISABLE);
    const rc = yield* this.functionLocked(dev);
    yield* this.power.restore(dev, state);
    return rc;
  }

  private *by(dev: KernelPci, method: ResetMethod): Co<Rc> {
    const { cap, sbdf } = dev;
    if (method === 'flr') {
      if (!(yield* this.waitForPending(dev)))
        this.log.error(
          `${dev.logName}: timed out waiting for pending transaction; performing function level reset anyway`,
        );
      const ctl = this.config.read(sbdf, cap.express + 8, 2);
      yield* this.config.write(sbdf, cap.express + 8, 2, ctl | DEVCTL_FLR);
      yield* msleep(this.clock, 100);
      return yield* this.wait(dev, 'FLR');
    }
    if (method === 'af_flr') {
      yield* this.config.write(sbdf, cap.af + 4, 1, 1);
      yield* msleep(this.clock, 100);
      return yield* this.wait(dev, 'AF_FLR');
    }
    if (method === 'pm') {
      const csr = this.config.read(sbdf, cap.pm + 4, 2) & ~3;
      yield* this.config.write(sbdf, cap.pm + 4, 2, csr | 3);
      yield* msleep(this.clock, 10);
      yield* this.config.write(sbdf, cap.pm + 4, 2, csr);
      yield* msleep(this.clock, 10);
      return yield* this.wait(dev, 'PM D3hot->D0');
    }
    const bridge = dev.bus.self!.sbdf;
    const ctl = this.config.read(bridge, PCI.BRIDGE_CONTROL, 2);
    yield* this.config.write(bridge, PCI.BRIDGE_CONTROL, 2, ctl | BRIDGE_CTL_BUS_RESET);
    yield* msleep(this.clock, 2);
    yield* this.config.write(bridge, PCI.BRIDGE_CONTROL, 2, ctl);
    yield* msleep(this.clock, 1000);
    return yield* this.wait(dev, 'bus reset');
  }

  /** False when transactions are pending after 700 ms. @linux pci_wait_for_pending */
  private *waitForPending({ cap, sbdf }: KernelPci): Co<boolean> {
    for (let i = 0; i < 4; i++) {
      if (i > 0) yield* msleep(this.clock, 100 * 2 ** (i - 1));
      if ((this.config.read(sbdf, cap.express + 10, 2) & DEVSTA_PENDING) === 0) return true;
    }
    return false;
  }

  /** Until the device answers again, with doubling patience. @linux pci_dev_wait */
  private *wait(dev: KernelPci, what: string): Co<Rc> {
    for (let ms = 1; this.config.read(dev.sbdf, PCI.COMMAND, 4) === 0xffff_ffff; ms *= 2) {
      const late = `${dev.logName}: not ready ${ms - 1}ms after ${what}`;
      if (ms > READY_MS) {
        this.log.warn(`${late}; giving up`);
        return ENOTTY;
      }
      if (ms > 1000) this.log.info(`${late}; waiting`);
      yield* msleep(this.clock, ms);
    }
    return 0;
  }
}

/** What the sysfs file takes: a number; anything but 1 is refused. */
export const isOne = (text: string): Rc => (/^\s*(0x)?0*1\s*$/.test(text) ? 0 : E.INVAL);
