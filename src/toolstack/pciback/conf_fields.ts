/**
 * The parts of a device's configuration space in whose place a PV guest meets something else.
 * @linux drivers/xen/xen-pciback/conf_space_header.c, conf_space_capability.c, conf_space_quirks.c
 */
import { PCI } from '../../pci/registers.js';
import { IORESOURCE, type KernelPci, NO_RESOURCE, ROM_RESOURCE } from '../kernel/pci_dev.js';
import type { QuirkField } from './slots.js';

/** What a guest meets in the place of a part of the device's configuration space. */
export interface Field {
  readonly at: number;
  readonly size: number;
  /** `shown`: as the device has it, and read-only. `writable`: as the device has it. */
  readonly kind:
    | 'id'
    | 'command'
    | 'line'
    | 'base'
    | 'bist'
    | 'vpdAddress'
    | 'pmCaps'
    | 'pmControl'
    | 'interrupts'
    | 'shown'
    | 'writable';
}

export const CACHE_LINE_SIZE = 0x0c;
const HEADER: readonly Field[] = [
  { at: PCI.VENDOR_ID, size: 2, kind: 'id' },
  { at: PCI.DEVICE_ID, size: 2, kind: 'id' },
  { at: PCI.COMMAND, size: 2, kind: 'command' },
  { at: PCI.INTERRUPT_LINE, size: 1, kind: 'line' },
  { at: PCI.INTERRUPT_PIN, size: 1, kind: 'shown' },
  { at: CACHE_LINE_SIZE, size: 1, kind: 'writable' },
  { at: 0x0d, size: 1, kind: 'shown' },
  { at: 0x0f, size: 1, kind: 'bist' },
];
const bases = (...all: readonly number[]): readonly Field[] =>
  all.map((at) => ({ at, size: 4, kind: 'base' }) as const);
const BASES = bases(0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, PCI.ROM_ADDRESS);
const BRIDGE_BASES = bases(0x10, 0x14, PCI.ROM_ADDRESS1);

/** In Linux's order; a field that begins where another one does is none. */
export function fieldsOf(dev: KernelPci, quirks: readonly QuirkField[]): readonly Field[] {
  const all = [...HEADER, ...(dev.headerType === 0 ? BASES : BRIDGE_BASES)];
  const inside = (cap: number, ...fields: readonly Field[]): void => {
    if (cap !== 0) for (const f of fields) all.push({ ...f, at: cap + f.at });
  };
  const { vpd, pm, msi, msix } = dev.cap;
  const top: Field = { at: 0, size: 2, kind: 'shown' };
  inside(vpd, top, { at: 2, size: 2, kind: 'vpdAddress' }, { at: 4, size: 4, kind: 'shown' });
  inside(pm, top, { at: 2, size: 2, kind: 'pmCaps' }, { at: 4, size: 2, kind: 'pmControl' });
  inside(pm, { at: 6, size: 1, kind: 'shown' }, { at: 7, size: 1, kind: 'shown' });
  for (const cap of [msi, msix]) inside(cap, top, { at: 2, size: 2, kind: 'interrupts' });
  for (const { reg, size } of quirks)
    if (!all.some((f) => f.at === reg)) all.push({ at: reg, size, kind: 'writable' });
  return all;
}

/** What a base address register holds, what it reads while its size is asked, and bits that need not be set to ask. */
export function baseOf(dev: KernelPci, at: number): { value: number; mask: number; ignored: number } {
  const rom = at === PCI.ROM_ADDRESS || at === PCI.ROM_ADDRESS1;
  const index = rom ? ROM_RESOURCE : (at - PCI.BASE_ADDRESS_0) >>> 2;
  const { start, end, flags } = dev.resources[index] ?? NO_RESOURCE;
  const below = rom ? undefined : dev.resources[index - 1];
  if (below !== undefined && (below.flags & IORESOURCE.MEM_64) !== 0) {
    const size = below.end - below.start + 1;
    return {
      value: Math.floor(below.start / 2 ** 32),
      mask: 2 ** 32 - Math.ceil(size / 2 ** 32),
      ignored: 0,
    };
  }
  const ignored = rom ? 0x7ff : (flags & IORESOURCE.IO) !== 0 ? 3 : 0xf;
  if (flags === 0) return { value: 0, mask: 0, ignored };
  const type = flags & 0xf;
  // Of both numbers the low half: minus the size is all ones less what is below it.
  return { value: (start | type) >>> 0, mask: (~(end - start) | type) >>> 0, ignored };
}
