/**
 * `pci-phantom=`, `pci=`, `rmrr=` and `ivmd=`.
 * @xen drivers/passthrough/pci.c, vtd/dmar.c parse_rmrr_param, amd/iommu_acpi.c parse_ivmd_param
 */
import { E, type Rc } from '../../base/errno.js';
import { type Sbdf, sbdf } from '../../base/sbdf.js';
import type { ExtraRange } from '../../iommu/driver/types.js';
import type { PciOptions, PhantomOption } from '../xen.js';
import { parseBoolean } from './bool_param.js';

/** Reads an option from left to right, as simple_strtoul() does: digits while there are any. */
class Cursor {
  at = 0;
  constructor(private readonly s: string) {}
  atEnd(): boolean {
    return this.at >= this.s.length;
  }
  next(ch: string): boolean {
    return this.s[this.at] === ch;
  }
  /** Steps over `ch` if it is next. */
  take(ch: string): boolean {
    if (!this.next(ch)) return false;
    this.at += 1;
    return true;
  }
  /** The number here, 0 without moving when there is none; base 0 knows 0x and a leading 0. */
  number(base: 0 | 16): number {
    const rest = this.s.slice(this.at);
    const m = /^0x[0-9a-f]+/i.exec(rest);
    if (m !== null) return this.digits(m[0].slice(2), 16, m[0].length);
    const radix = base === 16 ? 16 : rest.startsWith('0') ? 8 : 10;
    const run = (radix === 16 ? /^[0-9a-f]+/i : radix === 8 ? /^[0-7]+/ : /^[0-9]+/).exec(rest);
    return run === null ? 0 : this.digits(run[0], radix, run[0].length);
  }
  private digits(text: string, radix: number, length: number): number {
    this.at += length;
    return Number.parseInt(text, radix);
  }
}

interface PciAddress {
  seg: number;
  bus: number;
  dev: number;
  func: number;
  /** No segment was given. */
  defSeg: boolean;
}

/** `[seg:]bus:dev[.func]`, undefined when malformed. @xen parse_pci_seg */
function parsePciSeg(c: Cursor, withFunc: boolean): PciAddress | undefined {
  let seg = c.number(16);
  if (!c.take(':')) return undefined;
  let bus = c.number(16);
  let dev = bus;
  let defSeg = false;
  if (c.take(':')) dev = c.number(16);
  else {
    bus = seg;
    seg = 0;
    defSeg = true;
  }
  let func = 0;
  if (withFunc) {
    if (!c.take('.')) return undefined;
    func = c.number(0);
  }
  if (seg > 0xffff || bus > 0xff || dev > 0x1f || func > 7) return undefined;
  return { seg, bus, dev, func, defSeg };
}

/** @xen phantom_devs[8] */
const PHANTOMS_MAX = 8;

/** `[seg:]bus:slot,stride`. @returns 0, -E2BIG for a ninth one, -EINVAL. @xen parse_phantom_dev */
export function parsePciPhantom(list: PhantomOption[], value: string): Rc {
  if (value === '') return E.INVAL;
  if (list.length >= PHANTOMS_MAX) return E.TOOBIG;
  const c = new Cursor(value);
  const at = parsePciSeg(c, false);
  if (at === undefined || !c.take(',')) return E.INVAL;
  const stride = c.number(0);
  if ((stride !== 1 && stride !== 2 && stride !== 4) || !c.atEnd()) return E.INVAL;
  list.push({ seg: at.seg, bus: at.bus, slot: at.dev, stride });
  return 0;
}

/** @xen parse_pci_param */
export function parsePciParam(o: PciOptions, value: string): Rc {
  let rc: Rc = 0;
  for (const word of value.split(',')) {
    const serr = parseBoolean('serr', word);
    const perr = parseBoolean('perr', word);
    const quirks = parseBoolean('quirks', word);
    if (serr >= 0) o.maskSerr = serr === 0;
    else if (perr >= 0) o.maskPerr = perr === 0;
    else if (quirks >= 0) o.quirks = quirks === 1;
    else rc = E.INVAL;
  }
  return rc;
}

const RMRR_MAX = 10;
const RMRR_PAGES_MAX = 16;
const RMRR_DEVICES_MAX = 20;

/** How many ranges of a kind were given. */
const countOf = (ranges: readonly ExtraRange[], option: 'rmrr' | 'ivmd'): number =>
  ranges.reduce((n, r) => n + (r.option === option ? 1 : 0), 0);

/**
 * `start[-end]=[seg:]bdf[,[seg:]bdf...];...`: frames in hex. A device without segment takes that of the first one.
 * `complain` gets the line Xen prints. @returns 0, -EINVAL or -E2BIG; what came before counts. @xen parse_rmrr_param
 */
export function parseRmrrParam(
  ranges: ExtraRange[],
  value: string,
  complain: (text: string) => void = () => {},
): Rc {
  const c = new Cursor(value);
  do {
    if (countOf(ranges, 'rmrr') >= RMRR_MAX) return E.TOOBIG;
    const before = c.at;
    const start = c.number(16);
    if (c.at === before) return E.INVAL;
    let end = start;
    if (c.take('-')) {
      const at = c.at;
      end = c.number(16);
      if (c.at === at) return E.INVAL;
    }
    if (end < start || end - start >= RMRR_PAGES_MAX) {
      const range = `[${start.toString(16)}-${end.toString(16)}]`;
      complain(`[VT-D]RMRR range ${range} exceeds ${RMRR_PAGES_MAX} pages`);
      return E.TOOBIG;
    }
    if (!c.next('=')) continue;
    const sbdfs: Sbdf[] = [];
    do {
      c.at += 1;
      const at = parsePciSeg(c, true);
      if (at === undefined) return E.INVAL;
      const seg = sbdfs.length > 0 && at.defSeg ? sbdfs[0]! >>> 16 : at.seg;
      sbdfs.push(sbdf(seg, at.bus, at.dev, at.func));
    } while (c.next(',') && sbdfs.length < RMRR_DEVICES_MAX);
    ranges.push({ start, frames: end - start + 1, sbdfs, option: 'rmrr' });
  } while (c.take(';'));
  return c.atEnd() ? 0 : E.INVAL;
}

/** @xen user_ivmds[8] */
const IVMD_MAX = 8;

/**
 * `start[-end][=bdf[-bdf'][,bdf[-bdf']...]][;...]`: frames in hex, segment 0 only. An empty list of devices means all.
 * @returns 0, -EINVAL or -E2BIG; what came before counts. @xen parse_ivmd_param
 */
export function parseIvmdParam(ranges: ExtraRange[], value: string): Rc {
  const c = new Cursor(value);
  do {
    if (countOf(ranges, 'ivmd') >= IVMD_MAX) return E.TOOBIG;
    const before = c.at;
    const start = c.number(16);
    if (c.at === before) return E.INVAL;
    let end = start;
    if (c.take('-')) {
      const at = c.at;
      end = c.number(16);
      if (c.at === at || end < start) return E.INVAL;
    }
    const frames = end - start + 1;
    if (!c.next('=')) {
      ranges.push({ start, frames, sbdfs: [], option: 'ivmd' });
      continue;
    }
    do {
      if (countOf(ranges, 'ivmd') >= IVMD_MAX) return E.TOOBIG;
      c.at += 1;
      const sbdfs = parseIvmdDevices(c);
      if (sbdfs === undefined) return E.INVAL;
      ranges.push({ start, frames, sbdfs, option: 'ivmd' });
    } while (c.next(','));
  } while (c.take(';'));
  return c.atEnd() ? 0 : E.INVAL;
}

/** One device, or all from the first to the last. */
function parseIvmdDevices(c: Cursor): Sbdf[] | undefined {
  const first = parsePciSeg(c, true);
  if (first === undefined || first.seg !== 0) return undefined;
  const from = sbdf(0, first.bus, first.dev, first.func);
  if (!c.take('-')) return [from];
  const last = parsePciSeg(c, true);
  if (last === undefined || last.seg !== 0) return undefined;
  const to = sbdf(0, last.bus, last.dev, last.func);
  if (to < from) return undefined;
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
