/**
 * Events as the lines that QEMU's IOMMU models trace, which is the form of the recordings. Left out, as there: doorbell
 * writes and wait descriptors; runs of equal lines are counted, runs of page-selective flushes collapsed.
 */
import { hex } from '../base/sbdf.js';
import type { SimEvent } from '../sim/events.js';

const x = (n: number): string => `0x${n.toString(16)}`;
/** A 64-bit value: a number holds no more than 53 bits of it. */
const both = (lo: number, hi: number): string =>
  hi === 0 ? x(lo >>> 0) : `${x(hi >>> 0)}${hex(lo >>> 0, 8)}`;
/** Registers of which nobody wants to hear: the invalidation queue's doorbell. */
const IQT = 0x88;
const FECTL = 0x38;
const GCMD = 0x18;
const AMD_CONTROL = 0x18;
const bdf = (rid: number, digits: number): string =>
  `${hex(rid >>> 8, 2)}:${hex((rid >>> 3) & 31, 2)}.${hex(rid & 7, digits)}`;

/** The line of one event, undefined for those that are not traced. */
export function traceLine(e: SimEvent, vendor: 'intel' | 'amd'): string | string[] | undefined {
  if (vendor === 'amd') return amdLine(e);
  switch (e.kind) {
    case 'reg':
      return e.write && e.offset !== IQT ? registerLines(e.offset, e.size, e.lo, e.hi) : undefined;
    case 'descriptor':
      return descriptorLine(e.words);
    case 'hw':
      return hardwareLine(e.what, e.args);
    case 'fault':
      return `vtd_dmar_fault sid ${x(e.rid)} fault ${e.reason} addr ${both(e.addrLo, e.addrHi)} write ${e.write ? 1 : 0}`;
    default:
      return undefined;
  }
}

function registerLines(offset: number, size: number, lo: number, hi: number): string[] {
  const lines = [`vtd_reg_write addr ${x(offset)} size ${x(size)} value ${both(lo, hi)}`];
  if (offset === FECTL) lines.push(`vtd_reg_write_fectl value ${x(lo)}`);
  if (offset === GCMD) lines.push(`vtd_reg_write_gcmd value ${x(lo)}`);
  return lines;
}

const QI_NAMES: Readonly<Record<number, string>> = { 1: 'context-cache', 2: 'iotlb', 3: 'dev-iotlb' };

function descriptorLine(words: readonly number[]): string | undefined {
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
  const name = QI_NAMES[w0 & 15];
  if (name === undefined) return undefined;
  return `vtd_inv_desc invalidate desc type ${name} high ${both(w2, w3)} low ${both(w0, w1)}`;
}

function hardwareLine(what: string, args: readonly number[]): string | string[] | undefined {
  const [a = 0, b = 0, c = 0] = args;
  switch (what) {
    case 'contextGlobal':
      return 'vtd_inv_desc_cc_global context invalidate globally';
    case 'contextDomain':
      return `vtd_inv_desc_cc_domain context invalidate domain ${x(a)}`;
    case 'contextDevice':
      return [
        `vtd_inv_desc_cc_devices context invalidate devices sid ${x(b)} fmask ${x(c)}`,
        `vtd_inv_desc_cc_device context invalidate device ${bdf(b, 2)}`,
      ];
    case 'iotlbGlobal':
      return 'vtd_inv_desc_iotlb_global iotlb invalidate global';
    case 'iotlbDomain':
      return `vtd_inv_desc_iotlb_domain iotlb invalidate whole domain ${x(a)}`;
    case 'iotlbPages':
      return `vtd_inv_desc_iotlb_pages iotlb invalidate domain ${x(a)} addr ${x(b * 4096)} mask ${x(c)}`;
    case 'iecGlobal':
      return 'vtd_inv_desc_iec granularity 0x0 index 0x0 mask 0x0';
    case 'iecIndex':
      return `vtd_inv_desc_iec granularity 0x1 index ${x(a)} mask ${x(b)}`;
    default:
      return undefined;
  }
}

function amdLine(e: SimEvent): string | undefined {
  if (e.kind === 'reg' && e.write && Math.floor(e.offset / 8) * 8 === AMD_CONTROL)
    return `amdvi_control_status MMIO_STATUS state ${both(e.lo, e.hi)}`;
  if (e.kind !== 'hw') return undefined;
  const [a = 0] = e.args;
  switch (e.what) {
    case 'devtab_inval':
      return `amdvi_devtab_inval device table entry for devid: ${bdf(a, 1)} invalidated`;
    case 'pages_inval':
      return `amdvi_pages_inval AMD-Vi pages for domain ${x(a)} invalidated`;
    case 'intr_inval':
      return 'amdvi_intr_inval Interrupt table invalidated';
    case 'all_inval':
      return 'amdvi_all_inval Invalidation of all AMD-Vi cache requested';
    default:
      return undefined;
  }
}

const PAGES =
  /^vtd_inv_desc_iotlb_pages iotlb invalidate domain (0x[0-9a-f]+) addr (0x[0-9a-f]+) mask (0x[0-9a-f]+)$/;

/** Counts runs of equal lines, and makes one line of a run of page-selective flushes and their descriptors. */
export function collapse(lines: readonly string[]): string[] {
  const out: string[] = [];
  let pages: { domain: string; first: string; mask: string; n: number } | undefined;
  let last = '';
  let run = 0;
  const flushRun = (): void => {
    if (run > 0) out.push(run > 1 ? `${last}   x${run}` : last);
    run = 0;
  };
  const flushPages = (): void => {
    if (pages === undefined) return;
    const { domain, first, mask, n } = pages;
    out.push(
      `vtd_inv_desc_iotlb_pages iotlb invalidate domain ${domain} page-selective x${n} (collapsed; first addr ${first} mask ${mask})`,
    );
    pages = undefined;
  };
  for (const line of lines) {
    const m = PAGES.exec(line);
    if (m !== null) {
      // The descriptor that asked for it is part of it.
      if (run > 0 && last.startsWith('vtd_inv_desc invalidate desc type iotlb')) run -= 1;
      flushRun();
      last = '';
      if (pages !== undefined && pages.domain === m[1]) pages.n += 1;
      else {
        flushPages();
        pages = { domain: m[1]!, first: m[2]!, mask: m[3]!, n: 1 };
      }
      continue;
    }
    if (pages !== undefined && !line.startsWith('vtd_inv_desc invalidate desc type iotlb')) flushPages();
    if (line === last && run > 0) run += 1;
    else {
      flushRun();
      last = line;
      run = 1;
    }
  }
  flushPages();
  flushRun();
  return out;
}
