/** A device as lspci sees it, and the name of its subsystem. */
import { hex } from '../../base/sbdf.js';
import { deviceName, type LspciSubject } from '../../pci/names.js';

/** A device as lspci is told of it. */
export interface LspciDevice extends LspciSubject {
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly headerType: number;
  readonly irq: number;
  /** Name of its physical slot. */
  readonly slot?: string;
  readonly driver: string | undefined;
  readonly modules: readonly string[];
  /** Base address registers 0..5 and the ROM, flags as in sysfs; 0 for none. */
  readonly resources: readonly { readonly start: number; readonly end: number; readonly flags: number }[];
  /** As lspci was asked with -n; names where it was not. */
  readonly ids?: 'names' | 'numbers' | 'both';
  /** Bytes that can be read. */
  readonly configBytes: number;
  read(reg: number, bytes: number): number;
}

/** Name and numbers of a subsystem as they are asked for; what has no name is a `Device`. @pciutils names.c format_name_pair */
export function idName(d: LspciDevice, vendor: number, device: number): string {
  const numbers = `${hex(vendor, 4)}:${hex(device, 4)}`;
  if (d.ids === 'numbers') return numbers;
  const name = nameOf(d, vendor, device);
  if (d.ids !== 'both') return name;
  return `${name.replace(/(^| )Device (?:[0-9a-f]{4}:)?[0-9a-f]{4}$/, '$1Device')} [${numbers}]`;
}

/** The names of pci.ids for subsystems of emulated boards; everything else has only numbers. */
function nameOf(d: LspciDevice, vendor: number, device: number): string {
  const own = deviceName(d);
  const known = !/(^| )Device [0-9a-f]{4}(:|$)/.test(own);
  const qemu = vendor === 0x1af4 && device === 0x1100;
  if (known && (d.vendor === 0x1af4 || d.vendor === 0x1b36 || (d.vendor === 0x8086 && vendor === 0x8086)))
    return own;
  if (qemu && known) return 'Red Hat, Inc. QEMU Virtual Machine';
  return deviceName({ sbdf: d.sbdf, vendor, device, classCode: 0, revision: 0 });
}

export const subsystemLine = (d: LspciDevice): string =>
  d.subsystemVendor === 0 || d.subsystemVendor === 0xffff
    ? ''
    : `\tSubsystem: ${idName(d, d.subsystemVendor, d.subsystemDevice)}\n`;
