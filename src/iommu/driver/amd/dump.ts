/** Page tables as text: after a fault, and for key 'o'. @xen drivers/passthrough/amd/iommu_map.c, pci_amd_iommu.c */
import { get, getFrame } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, preemptPoint } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { DTE, PTE } from '../../format/amd.js';
import type { IommuDomain } from '../types.js';
import { type AmdUnit, type AmdVi, dteAt, say } from './state.js';

const mfnText = (mfn: number): string => hex(mfn, 5);
/** What %lx prints for an entry. */
const rawText = (lo: number, hi: number): string =>
  hi === 0 ? (lo >>> 0).toString(16) : (hi >>> 0).toString(16) + hex(lo >>> 0, 8);

/** The way of a request through the tables, as they are now. @xen amd_iommu_print_entries */
export function amdIommuPrintEntries(amd: AmdVi, unit: AmdUnit, devId: number, dfn: number): void {
  const { ram } = amd.s;
  const name = formatSbdf(sbdfOf(unit.seg, devId));
  const dte = dteAt(amd, unit, devId);
  if (get(ram.words, dte, DTE.TV) === 0) {
    say(amd, `${name}: no root`);
    return;
  }
  let table = getFrame(ram.words, dte);
  let level = get(ram.words, dte, DTE.MODE);
  say(amd, `${name} root @ ${mfnText(table)} (${level} levels) dfn=${dfn.toString(16)}`);
  while (level > 0) {
    const idx = Math.floor(dfn / 512 ** (level - 1)) % 512;
    const at = ram.peek(table) * FRAME_WORDS + idx * 2;
    const t = ram.words;
    const present = get(t, at, PTE.PR) === 1;
    const r = present ? (get(t, at, PTE.IR) === 1 ? 'r' : '-') : 'n';
    const w = present ? (get(t, at, PTE.IW) === 1 ? 'w' : '-') : 'p';
    say(amd, `  L${level}[${hex(idx, 3)}] = ${rawText(t[at]!, t[at + 1]!)} ${r}${w}`);
    if (!present) return;
    const next = get(t, at, PTE.NEXT_LEVEL);
    if (next >= level) {
      say(amd, `  L${level}[${hex(idx, 3)}]: next: ${next}`);
      return;
    }
    table = getFrame(t, at);
    level = next;
  }
}

/** Key 'o' for one domain. @xen amd_dump_page_tables */
export function* amdDumpPageTables(amd: AmdVi, d: IommuDomain): Co<void> {
  if (d.iommu.rootMfn === 0) return;
  say(amd, `AMD IOMMU ${amd.s.pd(d)} table has ${d.iommu.pagingMode} levels`);
  yield* dumpLevel(amd, d.iommu.rootMfn, d.iommu.pagingMode, 0, 0);
}

/** @xen amd_dump_page_table_level */
function* dumpLevel(amd: AmdVi, table: number, level: number, dfn: number, indent: number): Co<void> {
  const { ram } = amd.s;
  for (let i = 0; i < 512; i++) {
    const at = ram.peek(table) * FRAME_WORDS + i * 2;
    const t = ram.words;
    if (get(t, at, PTE.PR) === 0) continue;
    const next = get(t, at, PTE.NEXT_LEVEL);
    if (next !== 0 && next !== level - 1) {
      say(amd, `AMD IOMMU table error. next_level = ${next}, expected ${level - 1}`);
      continue;
    }
    const here = dfn + i * 512 ** (level - 1);
    const mfn = getFrame(t, at);
    if (next >= 1) {
      yield* preemptPoint(amd.s.cpus);
      yield* dumpLevel(amd, mfn, next, here, indent + 1);
      continue;
    }
    const r = get(t, at, PTE.IR) === 1 ? 'r' : '-';
    const w = get(t, at, PTE.IW) === 1 ? 'w' : '-';
    say(amd, `${' '.repeat(indent)}dfn: ${hex(here, 8)}  mfn: ${hex(mfn, 8)}  ${r}${w}`);
  }
}
