/** The virtual bus on which a guest sees its devices. @linux drivers/xen/xen-pciback/vpci.c */
import type { KernelPci } from '../kernel/pci_dev.js';

const SLOTS = 32;

export class VirtualBus {
  /** Devices by virtual slot: functions of one device share a slot, virtual functions never do. */
  readonly slots: KernelPci[][] = Array.from({ length: SLOTS }, () => []);

  /** Where the device appears; `joined` when it shares the slot with another function. Undefined: no room. */
  add(dev: KernelPci): { slot: number; func: number; joined: boolean } | undefined {
    const func = dev.devfn & 7;
    if (!dev.isVirtfn) {
      const slot = this.slots.findIndex(([first]) => first !== undefined && sameSlot(first, dev));
      if (slot >= 0) {
        this.slots[slot]!.push(dev);
        return { slot, func, joined: true };
      }
    }
    const slot = this.slots.findIndex((s) => s.length === 0);
    if (slot < 0) return undefined;
    this.slots[slot]!.push(dev);
    return { slot, func: dev.isVirtfn ? 0 : func, joined: false };
  }

  at(slot: number, func: number): KernelPci | undefined {
    return this.slots[slot]?.find((d) => (d.isVirtfn ? 0 : d.devfn & 7) === func);
  }
  remove(dev: KernelPci): boolean {
    for (const slot of this.slots) {
      const at = slot.indexOf(dev);
      if (at >= 0) {
        slot.splice(at, 1);
        return true;
      }
    }
    return false;
  }
  all(): KernelPci[] {
    return this.slots.flat();
  }
}

const sameSlot = (a: KernelPci, b: KernelPci): boolean => a.bus === b.bus && a.devfn >>> 3 === b.devfn >>> 3;
