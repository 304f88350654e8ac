/** Attributes of a PCI device under /sys. @linux drivers/pci/pci-sysfs.c */

import { E, type Errno, type Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import { isOne } from '../kernel/reset.js';
import { LINK_FILES, linkAttribute } from './link.js';
import type { VFile } from './node.js';

const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');
const HEX = (n: number, width: number): string => hex(n, width).toUpperCase();
const PAGE = 4096;

/** Which attributes a device has, with their permission bits. */
export function deviceAttributes(dev: KernelPci): Map<string, number> {
  const modes = new Map<string, number>([
    ['broken_parity_status', 0o644],
    ['class', 0o444],
    ['config', 0o644],
    ['consistent_dma_mask_bits', 0o444],
    ['d3cold_allowed', 0o644],
    ['device', 0o444],
    ['dma_mask_bits', 0o444],
    ['driver_override', 0o644],
    ['enable', 0o644],
    ['irq', 0o444],
    ['local_cpulist', 0o444],
    ['local_cpus', 0o444],
    ['modalias', 0o444],
    ['msi_bus', 0o644],
    ['numa_node', 0o644],
    ['power_state', 0o444],
    ['remove', 0o200],
    ['rescan', 0o200],
    ['resource', 0o444],
    ['revision', 0o444],
    ['subsystem_device', 0o444],
    ['subsystem_vendor', 0o444],
    ['uevent', 0o644],
    ['vendor', 0o444],
  ]);
  if (dev.resetMethods.length > 0) modes.set('reset', 0o200).set('reset_method', 0o644);
  if (dev.classCode >>> 8 === 0x0300) modes.set('boot_vga', 0o444);
  if (dev.headerType === 1) modes.set('secondary_bus_number', 0o444).set('subordinate_bus_number', 0o444);
  if (dev.cap.express !== 0) for (const name of LINK_FILES) modes.set(name, 0o444);
  if (dev.cap.sriov !== 0) {
    for (const name of ['offset', 'stride', 'totalvfs', 'vf_device', 'vf_total_msix'])
      modes.set(`sriov_${name}`, 0o444);
    modes.set('sriov_numvfs', 0o644).set('sriov_drivers_autoprobe', 0o644);
  }
  for (let i = 0; i < 6; i++) if ((dev.resources[i]?.flags ?? 0) !== 0) modes.set(`resource${i}`, 0o600);
  return modes;
}

/** One attribute of one device. */
export class DeviceAttribute implements VFile {
  readonly kind = 'file';
  constructor(
    private readonly kernel: Dom0Kernel,
    private readonly dev: KernelPci,
    private readonly name: string,
    readonly mode: number,
  ) {}

  size(): number {
    if (this.name === 'config') return this.configBytes();
    const bar = /^resource(\d)$/.exec(this.name);
    const r = bar === null ? undefined : this.dev.resources[Number(bar[1])];
    return r === undefined ? PAGE : r.end - r.start + 1;
  }

  read(): string | Errno {
    const { dev, name } = this;
    if (name === 'config') return latin1(this.pread(0, this.configBytes()));
    if (name.startsWith('sriov_')) return `${this.sriov(name)}\n`;
    if (/^resource\d$/.test(name)) return E.IO;
    const link = linkAttribute(this.kernel, dev, name);
    if (link !== undefined) return `${link}\n`;
    const text = simpleAttribute(dev, name);
    if (text !== undefined) return text;
    switch (name) {
      case 'reset_method':
        return `${dev.resetMethods.join(' ')}\n`;
      case 'boot_vga':
        return dev.resources[6]?.start === 0xc_0000 ? '1\n' : '0\n';
      case 'secondary_bus_number':
        return `${dev.subordinate?.number ?? 0}\n`;
      case 'subordinate_bus_number':
        return `${dev.subordinate?.last ?? 0}\n`;
      default:
        return '';
    }
  }

  private sriov(name: string): string {
    const at = this.dev.cap.sriov;
    const word = (reg: number): number => this.kernel.config.read(this.dev.sbdf, at + reg, 2);
    if (name === 'sriov_numvfs') return String(this.dev.virtfns.length);
    if (name === 'sriov_totalvfs') return String(word(0x0e));
    if (name === 'sriov_offset') return String(word(0x14));
    if (name === 'sriov_stride') return String(word(0x16));
    if (name === 'sriov_vf_device') return hex(word(0x1a), 4);
    return name === 'sriov_drivers_autoprobe' ? '1' : '0';
  }

  *write(text: string): Co<Rc> {
    const { dev, kernel } = this;
    const rc = yield* this.store(dev, kernel, text);
    return rc < 0 ? rc : text.length;
  }

  private *store(dev: KernelPci, kernel: Dom0Kernel, text: string): Co<Rc> {
    switch (this.name) {
      case 'driver_override': {
        const name = text.replace(/\n$/, '');
        dev.driverOverride = name === '' ? undefined : name;
        return 0;
      }
      case 'reset': {
        const bad = isOne(text);
        return bad !== 0 ? bad : yield* kernel.reset.function(dev);
      }
      case 'remove': {
        const value = unsigned(text);
        if (value === undefined) return E.INVAL;
        if (value !== 0) yield* kernel.removeDevice(dev);
        return 0;
      }
      case 'rescan': {
        const value = unsigned(text);
        if (value === undefined) return E.INVAL;
        if (value !== 0) yield* kernel.rescan(dev);
        return 0;
      }
      case 'enable': {
        const value = unsigned(text);
        return value === undefined ? E.INVAL : yield* kernel.setEnabled(dev, value !== 0);
      }
      case 'sriov_numvfs': {
        const value = unsigned(text);
        return value === undefined || value > 0xffff
          ? E.INVAL
          : yield* kernel.setVirtualFunctions(dev, value);
      }
      default:
        return unsigned(text) === undefined ? E.INVAL : 0;
    }
  }

  private configBytes(): number {
    if (this.dev.cap.express === 0) return 256;
    return this.kernel.config.read(this.dev.sbdf, 0x100, 4) === 0xffff_ffff ? 256 : 4096;
  }

  pread(offset: number, bytes: number): Uint8Array {
    const end = Math.min(offset + bytes, this.name === 'config' ? this.configBytes() : 0);
    const data = new Uint8Array(Math.max(0, end - offset));
    for (let i = 0; i < data.length; i++) data[i] = this.kernel.config.read(this.dev.sbdf, offset + i, 1);
    return data;
  }

  /** In the widest aligned pieces, as the kernel does. @linux pci_write_config */
  *pwrite(offset: number, data: Uint8Array): Co<Rc> {
    if (this.name !== 'config') return E.INVAL;
    const end = Math.min(offset + data.length, this.configBytes());
    let at = offset;
    while (at < end) {
      const width = at % 4 === 0 && end - at >= 4 ? 4 : at % 2 === 0 && end - at >= 2 ? 2 : 1;
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + data[at - offset + i]!;
      yield* this.kernel.config.write(this.dev.sbdf, at, width, value);
      at += width;
    }
    return at - offset;
  }
}

/** Attributes that only show what the kernel keeps of the device. */
function simpleAttribute(dev: KernelPci, name: string): string | undefined {
  switch (name) {
    case 'vendor':
      return `0x${hex(dev.vendor, 4)}\n`;
    case 'device':
      return `0x${hex(dev.device, 4)}\n`;
    case 'subsystem_vendor':
      return `0x${hex(dev.subsystemVendor, 4)}\n`;
    case 'subsystem_device':
      return `0x${hex(dev.subsystemDevice, 4)}\n`;
    case 'class':
      return `0x${hex(dev.classCode, 6)}\n`;
    case 'revision':
      return `0x${hex(dev.revision, 2)}\n`;
    case 'irq':
      return `${dev.irq}\n`;
    case 'enable':
      return `${dev.enableCount}\n`;
    case 'driver_override':
      return `${dev.driverOverride ?? '(null)'}\n`;
    case 'numa_node':
      return '-1\n';
    case 'msi_bus':
    case 'd3cold_allowed':
      return '1\n';
    case 'broken_parity_status':
      return '0\n';
    case 'dma_mask_bits':
    case 'consistent_dma_mask_bits':
      return '32\n';
    case 'local_cpulist':
      return '0\n';
    case 'local_cpus':
      return '1\n';
    case 'power_state':
      return dev.enableCount > 0 ? 'D0\n' : 'unknown\n';
    case 'modalias':
      return `${modalias(dev)}\n`;
    case 'uevent':
      return uevent(dev);
    case 'resource':
      return dev.resources
        .map((r) => `0x${hex(r.start, 16)} 0x${hex(r.end, 16)} 0x${hex(r.flags, 16)}\n`)
        .join('');
    default:
      return undefined;
  }
}

function modalias(dev: KernelPci): string {
  const ids = `v${HEX(dev.vendor, 8)}d${HEX(dev.device, 8)}sv${HEX(dev.subsystemVendor, 8)}sd${HEX(dev.subsystemDevice, 8)}`;
  const c = dev.classCode;
  return `pci:${ids}bc${HEX(c >>> 16, 2)}sc${HEX((c >>> 8) & 0xff, 2)}i${HEX(c & 0xff, 2)}`;
}

function uevent(dev: KernelPci): string {
  const driver = dev.driver === undefined ? '' : `DRIVER=${dev.driver.name}\n`;
  const ids = `${HEX(dev.vendor, 4)}:${HEX(dev.device, 4)}`;
  const sub = `${HEX(dev.subsystemVendor, 4)}:${HEX(dev.subsystemDevice, 4)}`;
  return `${driver}PCI_CLASS=${HEX(dev.classCode, 0)}\nPCI_ID=${ids}\nPCI_SUBSYS_ID=${sub}\nPCI_SLOT_NAME=${dev.name}\nMODALIAS=${modalias(dev)}\n`;
}

/** kstrtoul with base 0. */
export function unsigned(text: string): number | undefined {
  const m = /^\+?(0x[0-9a-f]{1,16}|0[0-7]{0,21}|[1-9]\d{0,18})\n?$/i.exec(text);
  if (m === null) return undefined;
  const t = m[1]!;
  return /^0[0-7]+$/.test(t) ? Number.parseInt(t, 8) : Number(t);
}

const latin1 = (bytes: Uint8Array): string => {
  let s = '';
  for (const b of bytes) s += String.fromCharCode(b);
  return s;
};
