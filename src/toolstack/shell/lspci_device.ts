/** A device as lspci sees it, and the name of its subsystem. */
import { deviceName, type LspciSubject } from '../../pci/names.js';

/** A device as lspci is told of it. */
export interface LspciDevice extends LspciSubject {
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly headerType: number;
  readonly irq: number;
  readonly driver: string | undefined;
  readonly modules: readonly string[];
  /** Base address registers 0..5 and the ROM, flags as in sysfs; 0 for none. */
  readonly resources: readonly { readonly start: number; readonly end: number; readonly flags: number }[];
  /** Bytes that can be read. */
  readonly configBytes: number;
  read(reg: number, bytes: number): number;
}

/** The names of pci.ids for subsystems of emulated boards; everything else has only numbers. */
function subsystemName(d: LspciDevice): string | undefined {
  if (d.subsystemVendor === 0 || d.subsystemVendor === 0xffff) return undefined;
  const own = deviceName(d);
  const known = !own.startsWith('Device ');
  const qemu = d.subsystemVendor === 0x1af4 && d.subsystemDevice === 0x1100;
  if (
    known &&
    (d.vendor === 0x1af4 || d.vendor === 0x1b36 || (d.vendor === 0x8086 && d.subsystemVendor === 0x8086))
  )
    return own;
  if (qemu && known) return 'Red Hat, Inc. QEMU Virtual Machine';
  return deviceName({
    sbdf: d.sbdf,
    vendor: d.subsystemVendor,
    device: d.subsystemDevice,
    classCode: 0,
    revision: 0,
  });
}

export const subsystemLine = (d: LspciDevice): string => {
  const name = subsystemName(d);
  return name === undefined ? '' : `\tSubsystem: ${name}\n`;
};
