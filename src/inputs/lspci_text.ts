/** The words of an lspci listing: header lines, and the indented lines that say more of a function. */
import { type Sbdf, sbdf } from '../base/sbdf.js';

export interface HeaderLine {
  /** Undefined when the domain does not fit the 16 bits that PCI and Xen have (Linux numbers VMD domains from 10000). */
  readonly sbdf: Sbdf | undefined;
  readonly address: string;
  readonly name: string | undefined;
}

const HEADER = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]) (.*)$/i;

/** `0000:01:00.0 VGA compatible controller [0300]: …`; undefined for any other line. */
export function parseHeader(line: string): HeaderLine | undefined {
  const m = HEADER.exec(line);
  if (m === null) return undefined;
  const parts = m[1]!.split(':');
  const seg = parts.length === 3 ? Number.parseInt(parts[0]!, 16) : 0;
  const bus = Number.parseInt(parts[parts.length - 2]!, 16);
  const [dev, fn] = parts[parts.length - 1]!.split('.');
  const at = seg > 0xffff ? undefined : sbdf(seg, bus, Number.parseInt(dev!, 16), Number(fn));
  return { sbdf: at, address: m[1]!, name: deviceText(m[2]!) };
}

/** Vendor and device of `CLASS: VENDOR DEVICE [ids] (rev x) (prog-if x)`; undefined where lspci knew no name. */
export function deviceText(text: string): string | undefined {
  const colon = text.indexOf(': ');
  if (colon < 0) return undefined;
  let name = text.slice(colon + 2, colon + 2 + 512);
  for (const tail of [' (prog-if ', ' (rev ']) {
    const at = name.lastIndexOf(tail);
    if (at >= 0) name = name.slice(0, at);
  }
  name = name.replace(/ ?\[[0-9a-f]{4}:[0-9a-f]{4}\]$/i, '').trim();
  if (name === '' || /^[0-9a-f]{4}:[0-9a-f]{4}$/i.test(name)) return undefined;
  return /(^|[^A-Za-z])Device( [0-9a-f]{4}(:[0-9a-f]{4})?)?$/i.test(name) ? undefined : name;
}

/** What an indented line adds. `index` is undefined where lspci gives no region number (plain `-v`). */
export type Detail =
  | { readonly kind: 'driver'; readonly driver: string }
  | { readonly kind: 'irq'; readonly irq: number }
  | { readonly kind: 'slot'; readonly name: string }
  | {
      readonly kind: 'region';
      readonly index: number | undefined;
      readonly address: number;
      readonly bytes: number;
    };

/** Names of directories in sysfs: neither `.` nor `..`. */
const DRIVER = /^Kernel driver in use: (?!\.{1,2}$)([\w.:+-]{1,64})$/;
const SLOT = /^Physical Slot: (?!\.{1,2}$)([\w.+-]{1,64})$/;
const PIN_IRQ = /^Interrupt: pin [A-D?] (?:disabled|routed to IRQ (\d{1,9}))/;
const FLAGS_IRQ = /^Flags: .*\bIRQ (\d{1,9})/;
const REGION =
  /^(?:Region ([0-5]): )?(?:\[virtual\] )?(?:Memory|I\/O ports) at ([0-9a-f]{1,16}) .*\[size=(\d{1,6})([KMGT]?)\]/;
const ROM = /^(?:\[virtual\] )?Expansion ROM at ([0-9a-f]{1,16}) .*\[size=(\d{1,6})([KMGT]?)\]/;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A line with exactly one level of indentation; undefined when it says nothing we use. */
export function parseDetail(line: string): Detail | undefined {
  const indented = /^(?:\t| {8})(\S.*)$/.exec(line);
  if (indented === null) return undefined;
  const text = indented[1]!;
  const driver = DRIVER.exec(text);
  if (driver !== null) return { kind: 'driver', driver: driver[1]! };
  const slot = SLOT.exec(text);
  if (slot !== null) return { kind: 'slot', name: slot[1]! };
  const irq = PIN_IRQ.exec(text) ?? FLAGS_IRQ.exec(text);
  if (irq !== null) return irq[1] === undefined ? undefined : { kind: 'irq', irq: Number(irq[1]) };
  const region = REGION.exec(text);
  if (region !== null) {
    const index = region[1] === undefined ? undefined : Number(region[1]);
    return {
      kind: 'region',
      index,
      address: Number.parseInt(region[2]!, 16),
      bytes: Number(region[3]) * UNITS[region[4]!]!,
    };
  }
  const rom = ROM.exec(text);
  if (rom === null) return undefined;
  return {
    kind: 'region',
    index: 6,
    address: Number.parseInt(rom[1]!, 16),
    bytes: Number(rom[2]) * UNITS[rom[3]!]!,
  };
}
