/** Which devices lspci and setpci are asked for. @pciutils 3.9.0 lib/filter.c */
import { busOf, segOf } from '../../base/sbdf.js';
import type { LspciDevice } from './lspci_device.js';

/** What a field must be; undefined matches everything. */
interface Filter {
  seg?: number;
  bus?: number;
  slot?: number;
  func?: number;
  vendor?: number;
  device?: number;
  classCode?: number;
  classMask: number;
  progIf?: number;
}

/** Characters of an expression, its end included. @pciutils BUF_SIZE */
const EXPRESSION_MAX = 64;
const NO_MASK = 0xffff_ffff;

/** All of `-s` and `-d`: what a later one says of a field wins. A message for one that is none. */
export function parseFilter(slots: readonly string[], ids: readonly string[]): Filter | string {
  const filter: Filter = { classMask: NO_MASK };
  for (const text of slots) {
    const why = parseSlot(filter, text);
    if (why !== undefined) return `-s: ${why}`;
  }
  for (const text of ids) {
    const why = parseIds(filter, text);
    if (why !== undefined) return `-d: ${why}`;
  }
  return filter;
}

/** `[[[domain]:][bus]:][slot][.[func]]` @pciutils pci_filter_parse_slot */
function parseSlot(filter: Filter, text: string): string | undefined {
  if (text.length >= EXPRESSION_MAX) return 'Expression too long';
  const fields = text.split(':');
  if (fields.length > 3) return 'Too many fields';
  const device = fields.pop()!;
  const [bus, seg] = [fields.pop(), fields.pop()];
  if (!setField(filter, 'seg', seg, 0x7fff_ffff)) return 'Invalid domain number';
  if (!setField(filter, 'bus', bus, 0xff)) return 'Invalid bus number';
  if (device === '*') return undefined;
  const parts = device.split('.');
  if (parts.length > 2) return 'Invalid slot/function number';
  if (!setField(filter, 'slot', parts[0], 0x1f)) return 'Invalid slot number';
  if (!setField(filter, 'func', parts[1], 7)) return 'Invalid function number';
  return undefined;
}

/** `[vendor]:[device][:class[:progif]]` @pciutils pci_filter_parse_id */
function parseIds(filter: Filter, text: string): string | undefined {
  if (text.length >= EXPRESSION_MAX) return 'Expression too long';
  const fields = text.split(':');
  if (fields.length > 4) return 'Too many fields';
  if (fields.length < 2) return 'At least two fields must be given';
  if (!setField(filter, 'vendor', fields[0], 0xffff)) return 'Invalid vendor ID';
  if (!setField(filter, 'device', fields[1], 0xffff)) return 'Invalid device ID';
  if (!setField(filter, 'classCode', fields[2], 0xffff)) return 'Invalid class code';
  if (!setField(filter, 'progIf', fields[3], 0xff)) return 'Invalid programming interface code';
  return undefined;
}

/** An `x` in a class stands for any digit, and counts as 1 for the limit. @pciutils parse_hex_field */
function setField(
  filter: Filter,
  name: Exclude<keyof Filter, 'classMask'>,
  text: string | undefined,
  max: number,
): boolean {
  if (text === undefined || text === '' || text === '*') return true;
  const masked = name === 'classCode';
  if (!(masked ? /^[0-9a-fx]+$/i : /^[0-9a-f]+$/i).test(text)) return false;
  const digits = (x: string, other: string): number =>
    Number.parseInt(text.replace(/[^x]/gi, other === '' ? '$&' : other).replace(/x/gi, x), 16);
  if (digits('1', '') > max) return false;
  filter[name] = digits('0', '');
  if (masked) filter.classMask = digits('0', 'f');
  return true;
}

/** What a filter looks at. */
type Subject = Pick<LspciDevice, 'sbdf' | 'vendor' | 'device' | 'classCode'>;

/** @pciutils pci_filter_match */
export const matches = (d: Subject, f: Filter): boolean =>
  is(f.seg, segOf(d.sbdf)) &&
  is(f.bus, busOf(d.sbdf)) &&
  is(f.slot, (d.sbdf >>> 3) & 0x1f) &&
  is(f.func, d.sbdf & 7) &&
  is(f.vendor, d.vendor) &&
  is(f.device, d.device) &&
  (f.classCode === undefined || ((f.classCode ^ (d.classCode >>> 8)) & f.classMask) === 0) &&
  is(f.progIf, d.classCode & 0xff);

const is = (wanted: number | undefined, value: number): boolean => wanted === undefined || wanted === value;
