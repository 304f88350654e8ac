/** How much of the machine dom0 gets: `dom0_mem=` and `dom0_max_vcpus=`. @xen arch/x86/dom0_build.c, lib/parse-size.c */
import { E, type Rc } from '../base/errno.js';

/** An amount of memory: frames plus a part of what there is, or that much less than what there is. */
export interface MemSize {
  readonly pages: number;
  readonly percent: number;
  readonly minus: boolean;
}

export interface Range {
  readonly min: number;
  readonly max: number;
}

const UNITS = 'BKMGT';
const PAGE = 4096;
/** No machine is larger, and larger numbers are no longer exact. */
const BYTES_MAX = 2 ** 52;

/** A number, hexadecimal after 0x and octal after 0, and what follows it. @xen simple_strtoull */
function parseNumber(text: string): { value: number; rest: string } {
  const m = /^(?:0x([0-9a-f]+)|(0[0-7]*)|([0-9]+))/i.exec(text);
  if (m === null) return { value: 0, rest: text };
  const value =
    m[1] !== undefined
      ? Number.parseInt(m[1], 16)
      : m[2] !== undefined
        ? Number.parseInt(m[2], 8)
        : Number(m[3]);
  return { value: Math.min(value, BYTES_MAX), rest: text.slice(m[0].length) };
}

/** `512M`, `1G`: bytes, KiB without a unit; before `%` the bare number. @xen parse_size_and_unit */
export function parseSize(text: string): { bytes: number; rest: string } {
  const { value, rest } = parseNumber(text);
  const unit = rest === '' ? -1 : UNITS.indexOf(rest[0]!.toUpperCase());
  if (unit >= 0) return { bytes: Math.min(value * 1024 ** unit, BYTES_MAX), rest: rest.slice(1) };
  return { bytes: rest[0] === '%' ? value : Math.min(value * 1024, BYTES_MAX), rest };
}

/** `<size>`, `<n>%`, `<size>+<n>%`, all that with a minus before. @xen parse_amt */
function parseAmount(text: string): MemSize | undefined {
  const minus = text.startsWith('-');
  const items = (minus ? text.slice(1) : text).split('+');
  if (items.length > 2) return undefined;
  let pages = 0;
  let percent = 0;
  for (const [i, item] of items.entries()) {
    if (!/^[0-9]/.test(item)) return undefined;
    const { bytes, rest } = parseSize(item);
    if (rest === '%') {
      if (bytes >= 100 || i < items.length - 1) return undefined;
      percent = bytes;
    } else if (rest !== '' || i > 0) return undefined;
    else pages = Math.floor(bytes / PAGE);
  }
  return { pages, percent, minus };
}

/** `[min:<amount>,][max:<amount>,][<amount>]`; amounts before a mistake count. @xen parse_dom0_mem */
export function parseDom0Mem(into: { size?: MemSize; min?: MemSize; max?: MemSize }, value: string): Rc {
  for (const part of value.split(',')) {
    const bound = part.startsWith('min:') ? 'min' : part.startsWith('max:') ? 'max' : undefined;
    const amount = parseAmount(bound === undefined ? part : part.slice(4));
    if (amount === undefined) return E.INVAL;
    into[bound ?? 'size'] = amount;
  }
  return 0;
}

const amountOf = (a: MemSize, avail: number): number => {
  const pages = a.pages + Math.floor((a.percent * avail) / 100);
  return a.minus ? avail - pages : pages;
};

/** Frames for dom0 out of `avail`: as asked, `otherwise` when nothing was; within the bounds. @xen dom0_compute_nr_pages */
export function dom0Pages(
  mem: { readonly size?: MemSize; readonly min?: MemSize; readonly max?: MemSize },
  avail: number,
  otherwise: number,
): number {
  const asked = mem.size === undefined ? 0 : amountOf(mem.size, avail);
  let pages = asked === 0 ? otherwise : asked;
  if (mem.min !== undefined) pages = Math.max(pages, amountOf(mem.min, avail));
  if (mem.max !== undefined) pages = Math.min(pages, amountOf(mem.max, avail));
  return Math.max(0, Math.min(pages, avail));
}

/** `N`, `N-`, `N-M`, `-M`. @xen parse_dom0_max_vcpus */
export function parseDom0MaxVcpus(value: string): Range & { rc: Rc } {
  const NONE = 0xffff_ffff;
  if (value.startsWith('-')) {
    const { value: max, rest } = parseNumber(value.slice(1));
    return { min: 1, max, rc: rest === '' ? 0 : E.INVAL };
  }
  const { value: n, rest } = parseNumber(value);
  const min = Math.max(1, n);
  if (rest === '') return { min, max: min, rc: 0 };
  if (rest === '-') return { min, max: NONE, rc: 0 };
  // One character of anything else passes, as in Xen.
  if (!rest.startsWith('-')) return { min, max: NONE, rc: rest.length === 1 ? 0 : E.INVAL };
  const last = parseNumber(rest.slice(1));
  return { min, max: last.value, rc: last.rest === '' ? 0 : E.INVAL };
}

/** vCPUs of dom0: one for each CPU, within the bounds. @xen dom0_max_vcpus */
export function dom0Vcpus(range: Range | undefined, cpus: number): number {
  if (range === undefined) return cpus;
  return Math.max(1, Math.min(Math.max(cpus, Math.min(range.min, range.max)), range.max));
}
