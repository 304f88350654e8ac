/** Dumps: registers, the entries of one address, keys 'V' and 'o'. @xen drivers/passthrough/vtd/utils.c, iommu.c */
import { get, getFrame } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { CONTEXT, GCMD, IRTE, IRTE_WORDS, VTD_REG } from '../../format/vtd.js';
import { type IommuDomain, XENLOG } from '../types.js';
import { FRAMES_AT, indexAt } from './contig.js';
import { ioapicToIommu } from './drhd.js';
import { PTE_NUM, PTE_READ, PTE_WRITE, ptePresent, pteSuperpage, tablePeek } from './pte.js';
import { dmarReadl, dmarWritel, hexq, hexReg, VTDPREFIX, type Vtd, type VtdIommu } from './state.js';
import { iommuWaitOp } from './wait.js';

const print = (vtd: Vtd, text: string): void => vtd.s.printk(XENLOG.WARNING, text);
const quad = (t: Int32Array, at: number): string => hexq(t[at]!, t[at + 1]!);
const rw = (lo: number): string =>
  `${(lo & PTE_READ) !== 0 ? 'r' : '-'}${(lo & PTE_WRITE) !== 0 ? 'w' : '-'}`;

const PMEN_EPM = 0x8000_0000 | 0;
const PMEN_PRS = 1;

/** Protected memory ends when translation begins. @xen disable_pmr */
export function* disablePmr(iommu: VtdIommu): Co<void> {
  const val = dmarReadl(iommu, VTD_REG.PMEN);
  if ((val & PMEN_PRS) === 0) return;
  using _register = yield* hold(iommu.registerLock);
  dmarWritel(iommu, VTD_REG.PMEN, (val & ~PMEN_EPM) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.PMEN, PMEN_PRS, false);
}

/** @xen print_iommu_regs */
export function printIommuRegs(iommu: VtdIommu): void {
  const { vtd } = iommu;
  const reg32 = (name: string, offset: number): void =>
    print(vtd, ` ${name} = ${dmarReadl(iommu, offset).toString(16)}`);
  const reg64 = (name: string, offset: number): void => print(vtd, ` ${name} = ${hexReg(iommu, offset)}`);
  print(vtd, '---- print_iommu_regs ----');
  print(vtd, ` drhd->address = ${iommu.drhd.address.toString(16)}`);
  reg32('VER', VTD_REG.VER);
  reg64('CAP', VTD_REG.CAP);
  print(vtd, ` n_fault_reg = ${iommu.faultRegs.toString(16)}`);
  print(vtd, ` fault_recording_offset = ${iommu.faultRegOffset.toString(16)}`);
  if (iommu.faultRegOffset < 4096) {
    reg64('fault_recording_reg_l', iommu.faultRegOffset);
    reg64('fault_recording_reg_h', iommu.faultRegOffset + 8);
  }
  reg64('ECAP', VTD_REG.ECAP);
  reg32('GCMD', VTD_REG.GCMD);
  reg32('GSTS', VTD_REG.GSTS);
  reg64('RTADDR', VTD_REG.RTADDR);
  reg64('CCMD', VTD_REG.CCMD);
  reg32('FSTS', VTD_REG.FSTS);
  reg32('FECTL', VTD_REG.FECTL);
  reg32('FEDATA', VTD_REG.FEDATA);
  reg32('FEADDR', VTD_REG.FEADDR);
  reg32('FEUADDR', VTD_REG.FEUADDR);
}

/** What the tables say about one request: follows a fault line when verbose. @xen print_vtd_entries */
export function printVtdEntries(iommu: VtdIommu, bus: number, devfn: number, gmfn: number): void {
  const { vtd } = iommu;
  const dev = formatSbdf(sbdfOf(iommu.drhd.segment, (bus << 8) | devfn));
  print(vtd, `print_vtd_entries: iommu #${iommu.index} dev ${dev} gmfn ${hex(gmfn, 5)}`);
  for (const line of entryLines(vtd, iommu, bus, devfn, gmfn)) print(vtd, line);
}

function entryLines(vtd: Vtd, iommu: VtdIommu, bus: number, devfn: number, gmfn: number): string[] {
  const { words } = vtd.s.ram;
  if (iommu.rootMfn === 0) return ['    iommu->root_maddr = 0'];
  const root = tablePeek(vtd, iommu.rootMfn) + bus * 4;
  const lines = [`    root_entry[${hex(bus, 2)}] = ${quad(words, root)}`];
  if ((words[root]! & 1) === 0) return [...lines, `    root_entry[${hex(bus, 2)}] not present`];
  const ctxt = tablePeek(vtd, getFrame(words, root)) + devfn * 4;
  lines.push(`    context[${hex(devfn, 2)}] = ${quad(words, ctxt + 2)}_${quad(words, ctxt)}`);
  if ((words[ctxt]! & 1) === 0) return [...lines, `    ctxt_entry[${hex(devfn, 2)}] not present`];
  const levels = get(words, ctxt, CONTEXT.AW) + 2;
  if (levels !== 3 && levels !== 4) return [...lines, `Unsupported VTD page table level (${levels})!`];

  let table = getFrame(words, ctxt);
  for (let level = levels; level > 0; level--) {
    const idx = indexAt(gmfn, level);
    const at = tablePeek(vtd, table) + idx * 2;
    lines.push(`    l${level}[${hex(idx, 3)}] = ${quad(words, at)} ${rw(words[at]!)}`);
    if (!ptePresent(words[at]!) || pteSuperpage(words[at]!)) break;
    table = getFrame(words, at);
  }
  return lines;
}

/** @xen vtd_dump_page_table_level */
function dumpLevel(vtd: Vtd, table: number, level: number, dfn: number, indent: number): void {
  const { words } = vtd.s.ram;
  for (let i = 0; i < PTE_NUM; i++) {
    const at = tablePeek(vtd, table) + i * 2;
    const lo = words[at]!;
    if (!ptePresent(lo)) continue;
    const first = dfn + i * FRAMES_AT[level]!;
    const mfn = getFrame(words, at);
    if (level > 1 && !pteSuperpage(lo)) dumpLevel(vtd, mfn, level - 1, first, indent + 1);
    else print(vtd, `${' '.repeat(indent)}dfn: ${hex(first, 8)} mfn: ${hex(mfn, 8)} ${rw(lo)}`);
  }
}

/** Key 'o', one domain. @xen vtd_dump_page_tables */
export function vtdDumpPageTables(vtd: Vtd, d: IommuDomain): void {
  const levels = d.iommu.agaw + 2;
  print(vtd, `${VTDPREFIX} ${vtd.s.pd(d)} table has ${levels} levels`);
  if (d.iommu.pgdMfn !== 0) dumpLevel(vtd, d.iommu.pgdMfn, levels, 0, 0);
}

/** Key 'V'. @xen vtd_dump_iommu_info */
export function vtdDumpIommuInfo(vtd: Vtd): void {
  for (const { iommu } of vtd.drhds) dumpUnit(vtd, iommu!);
  for (const [apic, id] of (vtd.s.ioapicIds ?? []).entries()) {
    const iommu = ioapicToIommu(vtd, id);
    if (iommu !== undefined && iommu.intremap.mfn !== 0 && iommu.intremap.num !== 0) dumpIoapic(vtd, apic);
  }
}

function dumpUnit(vtd: Vtd, iommu: VtdIommu): void {
  const not = (has: boolean): string => (has ? '' : 'not ');
  print(vtd, '');
  print(vtd, `iommu ${iommu.index.toString(16)}: nr_pt_levels = ${iommu.nrPtLevels.toString(16)}.`);
  const status = iommu.queuedInval || iommu.intrRemap ? dmarReadl(iommu, VTD_REG.GSTS) : 0;
  const on = (bit: number): string => ((status & bit) !== 0 ? ' and enabled' : '');
  print(vtd, `  Queued Invalidation: ${not(iommu.queuedInval)}supported${on(GCMD.QIE)}.`);
  print(vtd, `  Interrupt Remapping: ${not(iommu.intrRemap)}supported${on(GCMD.IRE)}.`);
  print(vtd, `  Interrupt Posting: ${not(iommu.intrPost)}supported.`);
  if ((status & GCMD.IRE) !== 0) dumpIrtes(vtd, iommu);
}

function dumpIrtes(vtd: Vtd, iommu: VtdIommu): void {
  const lo = dmarReadl(iommu, VTD_REG.IRTA);
  const table = dmarReadl(iommu, VTD_REG.IRTA + 4) * 0x10_0000 + (lo >>> 12);
  const entries = 2 ** ((lo & 0xf) + 1);
  const size = `nr_entry=0x${entries.toString(16)}`;
  print(vtd, `  Interrupt remapping table (${size}. Only dump P=1 entries here):`);
  print(vtd, 'R means remapped format, P means posted format.');
  print(vtd, 'R:       SVT  SQ   SID  V  AVL FPD      DST DLM TM RH DM P');
  print(vtd, 'P:       SVT  SQ   SID  V  AVL FPD              PDA  URG P');
  const { ram } = vtd.s;
  let shown = 0;
  for (let i = 0; i < entries; i++) {
    const slot = ram.peek(table + (i >>> 8));
    // Untouched pages hold no entry.
    if (slot === 0) {
      i |= 0xff;
      continue;
    }
    const at = slot * FRAME_WORDS + (i & 0xff) * IRTE_WORDS;
    if (get(ram.words, at, IRTE.P) === 0) continue;
    print(vtd, irteText(ram.words, at, i));
    shown++;
  }
  if (iommu.intremap.num !== shown) {
    print(vtd, `Warning: Print ${shown} IRTE (actually have ${iommu.intremap.num})!`);
  }
}

function irteText(t: Int32Array, at: number, index: number): string {
  const f = (field: (typeof IRTE)[keyof typeof IRTE]): string => get(t, at, field).toString(16);
  const source = `${hex(index, 4)}:  ${f(IRTE.SVT)}   ${f(IRTE.SQ)}  ${hex(get(t, at, IRTE.SID), 4)}`;
  const head = `${source} ${hex(get(t, at, IRTE.V), 2)}    ${f(IRTE.AVAIL)}   ${f(IRTE.FPD)}`;
  if (get(t, at, IRTE.IM) === 0) {
    const dst = hex(get(t, at, IRTE.DST), 8);
    const modes = `${f(IRTE.DLM)}  ${f(IRTE.TM)}  ${f(IRTE.RH)}  ${f(IRTE.DM)} ${f(IRTE.P)}`;
    return `R:  ${head} ${dst}   ${modes}`;
  }
  // In C the low part of the address is a signed int by then: its top bit fills the high part.
  const low = t[at + 1]! & ~0x3f;
  const pda = hexq(low, t[at + 3]! | (low >> 31)).padStart(16, ' ');
  return `P:  ${head} ${pda}    ${(t[at]! >>> 14) & 1} ${f(IRTE.P)}`;
}

/** Redirection entries as they were written, remapped ones only. */
function dumpIoapic(vtd: Vtd, apic: number): void {
  print(vtd, '');
  print(vtd, `Redirection table of IOAPIC ${apic.toString(16)}:`);
  print(vtd, '  #entry IDX FMT MASK TRIG IRR POL STAT DELI  VECTOR');
  for (let pin = 0; pin < 240; pin++) {
    const rte = vtd.ioapicRtes.get(apic * 256 + pin);
    if (rte === undefined) continue;
    const bit = (n: number): number => (rte.lo >>> n) & 1;
    const index = (rte.hi >>> 17) | (bit(11) << 15);
    const flags = `${bit(16)}   ${bit(15)}   ${bit(14)}   ${bit(13)}    ${bit(12)}    ${(rte.lo >>> 8) & 7}`;
    const format = (rte.hi >>> 16) & 1;
    print(vtd, `   ${hex(pin, 2)}:  ${hex(index, 4)}   ${format}    ${flags}     ${hex(rte.lo & 0xff, 2)}`);
  }
}
