/** /sys and /proc as directories that are made when somebody looks. */
import { hex } from '../../base/sbdf.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import { devicesBelow, type KernelBus, type KernelPci, type KernelSlot } from '../kernel/pci_dev.js';
import { Pciback } from '../pciback/stub.js';
import { DeviceAttribute, deviceAttributes } from './attributes.js';
import { BusFile, DRIVER_FILES, DriverFile, PCIBACK_FILES, TextFile } from './driver_files.js';
import { iomemText, type MemoryRange } from './iomem.js';
import { FixedDir, link, type VDir, type VNode } from './node.js';

/** `pci0000:00/0000:00:01.0/0000:01:00.0`: where a device lives below /sys/devices. */
export function devicePath(dev: KernelPci): string {
  const parts = [dev.name];
  // A virtual function stands beside its physical one, whatever bus it is on.
  let { bus } = dev.physfn ?? dev;
  while (bus.self !== undefined) {
    parts.unshift(bus.self.name);
    bus = bus.self.bus;
  }
  return `${rootName(bus)}/${parts.join('/')}`;
}

const rootName = (bus: KernelBus): string =>
  `pci${bus.seg.toString(16).padStart(4, '0')}:${bus.number.toString(16).padStart(2, '0')}`;

/** A directory of many entries, none of which exists before it is asked for. */
class LazyDir implements VDir {
  readonly kind = 'dir';
  constructor(
    private readonly listNames: () => string[],
    private readonly find: (name: string) => VNode | undefined,
  ) {}
  names(): string[] {
    return this.listNames();
  }
  child(name: string): VNode | undefined {
    return this.find(name);
  }
}

/** @linux drivers/pci/slot.c address_read_file */
function slotDir({ seg, bus, device }: KernelSlot): VDir {
  return new FixedDir([['address', new TextFile(`${hex(seg, 4)}:${hex(bus, 2)}:${hex(device, 2)}\n`)]]);
}

export class Sysfs {
  constructor(
    private readonly kernel: Dom0Kernel,
    /** Text of /proc files that the host knows: cmdline, version and the like. */
    private readonly proc: ReadonlyMap<string, string>,
    private readonly memory: readonly MemoryRange[] = [],
  ) {}

  sys(): VDir {
    return new FixedDir([
      ['bus', new FixedDir([['pci', this.bus()]])],
      ['devices', this.roots()],
      ['hypervisor', new FixedDir([['type', new TextFile('xen\n')]])],
      ['module', this.modules()],
    ]);
  }

  procDir(): VDir {
    const modules = this.kernel.modules.map((m) => `${m} 16384 0 - Live 0x0000000000000000\n`).reverse();
    return new FixedDir([
      ...[...this.proc].map(([name, text]): [string, VNode] => [name, new TextFile(text, 0o444, 0)]),
      ['iomem', new TextFile(iomemText(this.kernel, this.memory), 0o444, 0)],
      ['modules', new TextFile(modules.join(''), 0o444, 0)],
      ['xen', new FixedDir([['capabilities', new TextFile('control_d\n', 0o444, 0)]])],
    ]);
  }

  private bus(): VDir {
    const { kernel } = this;
    const devices = new LazyDir(
      () => new FixedDir([...kernel.pci.devices.values()].map((d) => [d.name, link('')])).names(),
      (name) => {
        const dev = kernel.deviceNamed(name);
        return dev === undefined ? undefined : link(`../../../devices/${devicePath(dev)}`);
      },
    );
    const drivers = new LazyDir(
      () => new FixedDir([...kernel.core.drivers.keys()].map((n) => [n, link('')])).names(),
      (name) => this.driver(name),
    );
    return new FixedDir([
      ['devices', devices],
      ['drivers', drivers],
      ['slots', new FixedDir(kernel.slots.map((s) => [s.name, slotDir(s)]))],
      ...['rescan', 'drivers_probe', 'drivers_autoprobe'].map((n): [string, VNode] => [
        n,
        new BusFile(kernel, n),
      ]),
    ]);
  }

  private driver(name: string): VDir | undefined {
    const driver = this.kernel.core.drivers.get(name);
    if (driver === undefined) return undefined;
    const files = [...DRIVER_FILES, ...(driver instanceof Pciback ? PCIBACK_FILES.keys() : [])];
    return new FixedDir([
      ...files.map((f): [string, VNode] => [f, new DriverFile(this.kernel, driver, f)]),
      ['module', driver.module === undefined ? undefined : link(`../../../../module/${driver.module}`)],
      ...driver.devices.map((d): [string, VNode] => [d.name, link(`../../../../devices/${devicePath(d)}`)]),
    ]);
  }

  private roots(): VDir {
    return new FixedDir(
      this.kernel.pci.roots.map((bus): [string, VNode] => [
        rootName(bus),
        new FixedDir(devicesBelow(bus).map((d) => [d.name, this.device(d)])),
      ]),
    );
  }

  private device(dev: KernelPci): VDir {
    const attributes = deviceAttributes(dev);
    const up = '../'.repeat(1 + devicePath(dev).split('/').length);
    const child = (name: string): VNode | undefined => {
      const mode = attributes.get(name);
      if (mode !== undefined) return new DeviceAttribute(this.kernel, dev, name, mode);
      if (name === 'driver' && dev.driver !== undefined)
        return link(`${up}bus/pci/drivers/${dev.driver.name}`);
      if (name === 'subsystem') return link(`${up}bus/pci`);
      if (name === 'physfn' && dev.physfn !== undefined) return link(`../${dev.physfn.name}`);
      const vf = /^virtfn(\d{1,5})$/.exec(name);
      if (vf !== null && dev.virtfns[Number(vf[1])] !== undefined)
        return link(`../${dev.virtfns[Number(vf[1])]!.name}`);
      const below = devicesBelow(dev.subordinate).find((d) => d.name === name);
      return below === undefined ? undefined : this.device(below);
    };
    const names = (): string[] => {
      const all = [...attributes.keys(), 'subsystem'];
      if (dev.driver !== undefined) all.push('driver');
      if (dev.physfn !== undefined) all.push('physfn');
      all.push(...dev.virtfns.map((_, i) => `virtfn${i}`));
      all.push(...devicesBelow(dev.subordinate).map((d) => d.name));
      return new FixedDir(all.map((n) => [n, link('')])).names();
    };
    return new LazyDir(names, child);
  }

  private modules(): VDir {
    const { kernel } = this;
    const pciback = kernel.core.drivers.get('pciback');
    const names = new Set(kernel.modules);
    // Built in, a module with parameters has its directory all the same.
    if (pciback !== undefined) names.add('xen_pciback');
    return new FixedDir(
      [...names].map((name): [string, VNode] => {
        const drivers = [...kernel.core.drivers.values()].filter((d) => d.module === name);
        const parameters =
          name === 'xen_pciback' && pciback instanceof Pciback
            ? new FixedDir([
                ['hide', new TextFile(`${pciback.hide ?? '(null)'}\n`)],
                ['passthrough', new TextFile('N\n')],
                ['verbose_request', new TextFile('N\n', 0o644)],
              ])
            : undefined;
        return [
          name,
          new FixedDir([
            [
              'drivers',
              new FixedDir(drivers.map((d) => [`pci:${d.name}`, link(`../../../bus/pci/drivers/${d.name}`)])),
            ],
            ['parameters', parameters],
          ]),
        ];
      }),
    );
  }
}
