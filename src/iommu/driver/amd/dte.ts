/** Writers of device table entries. The unit may read one at any moment, so the order of stores matters. @xen drivers/passthrough/amd/iommu_map.c */
import { E, type Rc } from '../../../base/errno.js';
import { type Field, get, getFrame, set, setFrame } from '../../../base/layout.js';
import { DTE, DTE_WORDS, INT_CTL } from '../../format/amd.js';
import { XENLOG } from '../types.js';
import type { IntremapTable, IvrsMappings } from './ivrs_mappings.js';
import { type AmdUnit, type AmdVi, dteAt } from './state.js';

/** @xen SET_ROOT_VALID, SET_ROOT_WITH_UNITY_MAP */
export const SET_ROOT_VALID = 1;
export const SET_ROOT_WITH_UNITY_MAP = 2;
/** Returned after an update that was not atomic. */
export const NON_ATOMIC = 1;

/** Data setting of a device entry, as in the IVRS (48882, table 98). */
const IVHD_INIT_PASS = 1;
const IVHD_EINT_PASS = 2;
const IVHD_NMI_PASS = 4;
const IVHD_LINT0_PASS = 0x40;
const IVHD_LINT1_PASS = 0x80;
/** @xen MASK_EXTR(device_flags, ACPI_IVHD_SYSTEM_MGMT) */
export const sysMgtOf = (deviceFlags: number): number => (deviceFlags >>> 4) & 3;

/** The entry's words as they are, for the event stream; undefined while nobody listens. */
export function dteBefore(amd: AmdVi, unit: AmdUnit, rid: number): number[] | undefined {
  return amd.s.events.on ? dteWords(amd, unit, rid) : undefined;
}

function dteWords(amd: AmdVi, unit: AmdUnit, rid: number): number[] {
  const at = dteAt(amd, unit, rid);
  return Array.from(amd.s.ram.words.subarray(at, at + DTE_WORDS), (w) => w >>> 0);
}

export function dteWritten(amd: AmdVi, unit: AmdUnit, rid: number, before: number[] | undefined): void {
  if (before === undefined) return;
  const after = dteWords(amd, unit, rid);
  amd.s.events.emit({ kind: 'entry', unit: unit.index, table: 'dte', id: rid, before, after });
}

/**
 * Points an entry at a page table. An entry that translates is replaced by one 16-byte compare-and-exchange where
 * the CPU has it, so that no request sees half of it.
 * @returns 0, NON_ATOMIC, or -EILSEQ when the entry was not what it should have been. @xen amd_iommu_set_root_page_table
 */
export function amdIommuSetRootPageTable(
  amd: AmdVi,
  at: number,
  rootMfn: number,
  domid: number,
  pagingMode: number,
  flags: number,
): Rc {
  const t = amd.s.ram.words;
  const valid = flags & SET_ROOT_VALID;
  const translates = get(t, at, DTE.V) === 1 && get(t, at, DTE.TV) === 1;
  if (translates && (amd.s.cpu.cx16 || (flags & SET_ROOT_WITH_UNITY_MAP) !== 0)) {
    const { faults } = amd.s;
    if (amd.s.cpu.cx16 && faults.on && faults.take('cmpxchg')) return unexpected(amd, at, domid);
    putRoot(t, at, rootMfn, domid, pagingMode);
    set(t, at, DTE.V, valid);
    return amd.s.cpu.cx16 ? 0 : NON_ATOMIC;
  }
  if (valid === 1 || get(t, at, DTE.V) === 1) {
    set(t, at, DTE.TV, 0);
    set(t, at, DTE.V, 1);
  }
  putRoot(t, at, rootMfn, domid, pagingMode);
  set(t, at, DTE.TV, 1);
  set(t, at, DTE.V, valid);
  return 0;
}

function putRoot(t: Int32Array, at: number, rootMfn: number, domid: number, pagingMode: number): void {
  setFrame(t, at, rootMfn);
  set(t, at, DTE.MODE, pagingMode);
  set(t, at, DTE.IR, 1);
  set(t, at, DTE.IW, 1);
  set(t, at, DTE.DOMAIN_ID, domid);
}

function unexpected(amd: AmdVi, at: number, domid: number): Rc {
  const t = amd.s.ram.words;
  const hex = (w: number): string => (t[at + w]! >>> 0).toString(16).padStart(8, '0');
  const text = `${hex(3)}${hex(2)}_${hex(1)}${hex(0)}`;
  amd.s.printk(XENLOG.ERR, `Dom${domid}: unexpected DTE ${text} (expected ${text})`);
  return E.ILSEQ;
}

/** Frame of the table an entry points to. */
export const dteRoot = (t: Int32Array, at: number): number => getFrame(t, at);

/** The bits of fields that share a word. */
const bitsOf = (...fields: readonly Field[]): number => fields.reduce((m, f) => m | (f.mask << f.lo), 0);
/** Everything of word 4 and 5 that describes an interrupt table; unmapped interrupts become I/O page faults. */
const INT_FIELDS = {
  word4: bitsOf(DTE.INT_ROOT_LO, DTE.INT_TAB_LEN, DTE.IG, DTE.IV),
  word5: bitsOf(DTE.INT_ROOT_HI, DTE.INT_CTL),
} as const;

/** IV is written last. @xen amd_iommu_set_intremap_table */
export function amdIommuSetIntremapTable(
  t: Int32Array,
  at: number,
  table: IntremapTable | undefined,
  gaEn: boolean,
  valid: boolean,
): void {
  t[at + 4] = t[at + 4]! & ~INT_FIELDS.word4;
  t[at + 5] = t[at + 5]! & ~INT_FIELDS.word5;
  if (table !== undefined) {
    set(t, at, DTE.INT_ROOT_LO, (table.mfn % 0x10_0000) << 6);
    set(t, at, DTE.INT_ROOT_HI, Math.floor(table.mfn / 0x10_0000));
    set(t, at, DTE.INT_TAB_LEN, table.order + 12 - (gaEn ? 4 : 2));
    set(t, at, DTE.INT_CTL, INT_CTL.TRANSLATED);
  }
  if (valid) t[at + 4] = t[at + 4]! | 1;
}

/** Undoes what amd_iommu_disable_domain_device() did to interrupts, and sets what is the device's own. */
export function setDeviceSettings(amd: AmdVi, at: number, ivrs: IvrsMappings, reqId: number): void {
  const t = amd.s.ram.words;
  if (get(t, at, DTE.INT_ROOT_LO) !== 0 || get(t, at, DTE.INT_ROOT_HI) !== 0)
    set(t, at, DTE.INT_CTL, INT_CTL.TRANSLATED);
  set(t, at, DTE.IV, amd.opts.intremap === 'off' ? 0 : 1);
  set(t, at, DTE.EX, ivrs.allowExclusion(reqId) ? 1 : 0);
  set(t, at, DTE.SYS_MGT, sysMgtOf(ivrs.deviceFlags(reqId)));
}

/** Fields that an aborting entry has at zero, by word. */
const ABORT_CLEARS = {
  word0: bitsOf(DTE.TV),
  word1: bitsOf(DTE.GV),
  word3: bitsOf(DTE.I, DTE.EX, DTE.SA, DTE.SE, DTE.SD, DTE.SYS_MGT, DTE.IOCTL),
  word5: bitsOf(DTE.INT_CTL),
} as const;

/** Nothing passes any more: valid, but not translating. Root and domain id stay as they were. V is written last. */
export function setDteAborting(t: Int32Array, at: number): void {
  t[at + 5] = t[at + 5]! & ~ABORT_CLEARS.word5;
  t[at + 4] = t[at + 4]! | 1; // IV
  t[at] = t[at]! & ~ABORT_CLEARS.word0;
  t[at + 1] = t[at + 1]! & ~ABORT_CLEARS.word1;
  t[at + 3] = t[at + 3]! & ~ABORT_CLEARS.word3;
  t[at] = t[at]! | 1; // V
}

/** The entry of a device that the IVRS names: not valid yet, which lets its requests pass. @xen iommu_dte_add_device_entry */
export function iommuDteAddDeviceEntry(t: Int32Array, at: number, ivrs: IvrsMappings, bdf: number): void {
  const flags = ivrs.deviceFlags(bdf);
  for (let w = 0; w < DTE_WORDS; w++) t[at + w] = 0;
  if (flags !== 0) {
    set(t, at, DTE.INIT_PASS, (flags & IVHD_INIT_PASS) === 0 ? 0 : 1);
    set(t, at, DTE.EXT_INT_PASS, (flags & IVHD_EINT_PASS) === 0 ? 0 : 1);
    set(t, at, DTE.NMI_PASS, (flags & IVHD_NMI_PASS) === 0 ? 0 : 1);
    set(t, at, DTE.LINT0_PASS, (flags & IVHD_LINT0_PASS) === 0 ? 0 : 1);
    set(t, at, DTE.LINT1_PASS, (flags & IVHD_LINT1_PASS) === 0 ? 0 : 1);
    set(t, at, DTE.SYS_MGT, sysMgtOf(flags));
  }
  if (ivrs.allowExclusion(bdf)) set(t, at, DTE.EX, 1);
}
