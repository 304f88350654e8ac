/**
 * Finding the devices: slot by slot, a bus before what lies behind its bridges. Each device found is reported to Xen at
 * once. @linux drivers/pci/probe.c pci_scan_child_bus, drivers/xen/pci.c xen_add_device
 */
import { type Sbdf, sbdfOf } from '../../base/sbdf.js';
import type { Hypercalls } from '../../hypervisor/public/hypercalls.js';
import { PCI_DEV_FLAG } from '../../hypervisor/public/physdev.js';
import { EXP_TYPE, HEADER_MULTIFUNCTION, PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import type { KernelLog } from './log.js';
import { devicesBelow, KernelBus, KernelPci } from './pci_dev.js';
import type { DeviceReset } from './reset.js';
import { fixupVideo, setupDevice } from './setup.js';

const DEPTH_MAX = 256;
const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

export class Enumerator {
  readonly roots: KernelBus[] = [];
  /** Every device, in the order in which it was added. */
  readonly devices = new Map<Sbdf, KernelPci>();
  private readonly buses = new Map<number, KernelBus>();

  constructor(
    private readonly config: ConfigPort,
    private readonly hv: Hypercalls,
    private readonly log: KernelLog,
    private readonly reset: DeviceReset,
  ) {}

  *scanRoot(seg: number, number: number): Co<void> {
    if (this.buses.has(seg * 256 + number)) return;
    const bus = this.addBus(seg, number, undefined, 0xff);
    this.roots.push(bus);
    yield* this.scanBus(bus, 0);
  }

  /** `rescan`: what is new, on every bus. The result is what was found. */
  *rescan(from: readonly KernelBus[] = this.roots): Co<KernelPci[]> {
    const before = new Set(this.devices.keys());
    for (const bus of from) yield* this.scanBus(bus, 0);
    return [...this.devices.values()].filter((d) => !before.has(d.sbdf));
  }

  private addBus(seg: number, number: number, self: KernelPci | undefined, last: number): KernelBus {
    const bus = new KernelBus(seg, number, self, last);
    this.buses.set(seg * 256 + number, bus);
    return bus;
  }

  /** The bus `number` for virtual functions of a device on `bus`. @linux drivers/pci/iov.c virtfn_add_bus */
  virtualBus(bus: KernelBus, number: number): KernelBus {
    if (number === bus.number) return bus;
    return this.buses.get(bus.seg * 256 + number) ?? this.addBus(bus.seg, number, bus.self, bus.last);
  }

  private *scanBus(bus: KernelBus, depth: number): Co<void> {
    const slots = onlyOneChild(bus) ? 1 : 32;
    for (let slot = 0; slot < slots; slot++) yield* this.scanSlot(bus, slot);
    for (const dev of bus.devices) {
      if (dev.headerType === 1 && depth < DEPTH_MAX) yield* this.scanBehind(dev, depth);
    }
  }

  private *scanSlot(bus: KernelBus, slot: number): Co<void> {
    const first = yield* this.scanFunction(bus, slot * 8);
    if (first === undefined || !first.multifunction) return;
    for (let fn = 1; fn < 8; fn++) yield* this.scanFunction(bus, slot * 8 + fn);
  }

  private *scanFunction(bus: KernelBus, devfn: number): Co<KernelPci | undefined> {
    const sbdf = sbdfOf(bus.seg, bus.number * 256 + devfn);
    const known = this.devices.get(sbdf);
    if (known !== undefined) return known;
    const vendor = this.config.read(sbdf, PCI.VENDOR_ID, 4);
    if (vendor === 0xffff_ffff || vendor === 0 || vendor % 0x1_0000 === 0xffff) return undefined;
    const dev = new KernelPci(sbdf, bus);
    dev.multifunction = (this.config.read(sbdf, PCI.HEADER_TYPE, 1) & HEADER_MULTIFUNCTION) !== 0;
    yield* setupDevice(this.config, dev);
    fixupVideo(this.config, dev);
    yield* this.add(dev);
    return dev;
  }

  /** Announces a device that is set up: to the kernel's lists, then to Xen. */
  *add(dev: KernelPci): Co<void> {
    const type = hex(dev.headerType, 2);
    const ids = `${hex(dev.vendor, 4)}:${hex(dev.device, 4)}`;
    this.log.info(`pci ${dev.name}: [${ids}] type ${type} class 0x${hex(dev.classCode, 6)}`);
    dev.bus.devices.push(dev);
    dev.resetMethods = this.reset.methodsOf(dev);
    this.devices.set(dev.sbdf, dev);
    const rc = yield* this.hv.physdevOp({
      cmd: 'pci_device_add',
      seg: dev.seg,
      bus: dev.bus.number,
      devfn: dev.devfn,
      flags: this.flagsOf(dev),
      ...(dev.physfn === undefined
        ? {}
        : { physfn: { bus: dev.physfn.bus.number, devfn: dev.physfn.devfn } }),
    });
    if (rc !== 0) this.log.error(`pci ${dev.name}: Failed to add - passthrough or MSI/MSI-X might fail!`);
  }

  /** Takes a device and all below it out of the kernel, children first, and tells Xen. */
  *remove(dev: KernelPci): Co<void> {
    if (dev.subordinate !== undefined) {
      for (const child of [...devicesBelow(dev.subordinate)].reverse()) yield* this.remove(child);
      this.buses.delete(dev.seg * 256 + dev.subordinate.number);
    }
    dev.removed = true;
    this.devices.delete(dev.sbdf);
    dev.bus.devices.splice(dev.bus.devices.indexOf(dev), 1);
    if (dev.physfn !== undefined) {
      dev.physfn.virtfns.splice(dev.physfn.virtfns.indexOf(dev), 1);
      // A bus that is there for virtual functions alone goes with the last of them. @linux virtfn_remove_bus
      const alone = dev.bus !== dev.physfn.bus && dev.bus.devices.length === 0;
      if (alone && dev.bus.self?.subordinate !== dev.bus) this.buses.delete(dev.seg * 256 + dev.bus.number);
    }
    const rc = yield* this.hv.physdevOp({
      cmd: 'pci_device_remove',
      seg: dev.seg,
      bus: dev.bus.number,
      devfn: dev.devfn,
    });
    if (rc !== 0) this.log.error(`pci ${dev.name}: Failed to delete - passthrough or MSI/MSI-X might fail!`);
  }

  private flagsOf(dev: KernelPci): number {
    if (dev.isVirtfn) return PCI_DEV_FLAG.VIRTFN;
    const port = dev.bus.self;
    const ari = port !== undefined && port.cap.express !== 0 && dev.cap.ari !== 0 && dev.devfn >= 8;
    return ari ? PCI_DEV_FLAG.EXTFN : 0;
  }

  private *scanBehind(bridge: KernelPci, depth: number): Co<void> {
    if (bridge.subordinate === undefined) {
      const numbers = this.config.read(bridge.sbdf, PCI.PRIMARY_BUS, 4);
      const secondary = (numbers >>> 8) & 0xff;
      const last = (numbers >>> 16) & 0xff;
      // Firmware left the bridge unconfigured, or two bridges lead to one bus: nothing is behind it.
      if (secondary === 0 || secondary <= bridge.bus.number || secondary > last) return;
      if (this.buses.has(bridge.seg * 256 + secondary)) return;
      bridge.subordinate = this.addBus(bridge.seg, secondary, bridge, last);
      bridge.bus.children.push(bridge.subordinate);
    }
    yield* this.scanBus(bridge.subordinate, depth + 1);
  }
}

/** Below a port that has one link there is one device. @linux only_one_child */
function onlyOneChild(bus: KernelBus): boolean {
  const type = bus.self?.expressType;
  return type === EXP_TYPE.ROOT_PORT || type === EXP_TYPE.DOWNSTREAM || type === EXP_TYPE.PCI_TO_PCIE;
}

/**
 * The root buses of a machine, as its firmware would list them: bus 0 of each segment, and each bus that no bridge
 * leads to. `config` is the dump of a function.
 */
export function rootBusesOf(
  functions: readonly { readonly sbdf: Sbdf; readonly config: Uint8Array }[],
): { seg: number; bus: number }[] {
  const present = new Set<number>();
  const behind = new Set<number>();
  for (const f of functions) {
    const at = Math.floor(f.sbdf / 256);
    present.add(at);
    if (((f.config[0x0e] ?? 0) & 0x7f) !== 1) continue;
    const [secondary, last] = [f.config[0x19] ?? 0, f.config[0x1a] ?? 0];
    if (secondary === 0) continue;
    for (let bus = secondary; bus <= last; bus++) behind.add(Math.floor(at / 256) * 256 + bus);
  }
  const roots = [...present].filter((b) => !behind.has(b)).sort((a, b) => a - b);
  return roots.map((b) => ({ seg: Math.floor(b / 256), bus: b % 256 }));
}
