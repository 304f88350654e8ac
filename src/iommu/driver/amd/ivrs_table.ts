/** The IVRS as a whole: which blocks to believe, and in which order. @xen drivers/passthrough/amd/iommu_acpi.c */
import { panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import type { Co } from '../../../sim/co.js';
import { IVHD_TYPE, IVMD_FLAG, IVMD_TYPE, IVRS_INFO, isIvmdType } from '../../format/ivrs.js';
import { XENLOG } from '../types.js';
import { amdIommuDetectOneAcpi } from './iommu_detect.js';
import { getLastBdfIvhd, parseIvhdBlock } from './ivhd.js';
import { parseIvmdBlock, readIvmd } from './ivmd.js';
import { type AmdVi, amdDebug, amdError, hash } from './state.js';
import { BLOCK, BLOCK_HEADER_BYTES, IVRS, text, u8, u16, u32 } from './table_bytes.js';

/** Where the south bridge's I/O APIC is in AMD systems. */
const SB_IOAPIC_BDF = 0x14 << 3;

const tableLength = (amd: AmdVi): number => Math.min(u32(amd.table, IVRS.LENGTH), amd.table.length);

/** Start of the block after `at`, -1 when that one does not fit the table. A block without length never ends. */
function nextBlock(amd: AmdVi, at: number): number {
  const length = u16(amd.table, at + BLOCK.LENGTH);
  if (length === 0) panic(`IVRS block of length 0 at offset ${hash(at)}: Xen does not get past it`);
  return at + length > tableLength(amd) ? -1 : at + length;
}
const hasBlock = (amd: AmdVi, at: number): boolean => tableLength(amd) > at + BLOCK_HEADER_BYTES;

function tooLong(amd: AmdVi, at: number): Rc {
  const end = at + u16(amd.table, at + BLOCK.LENGTH);
  amdError(amd, `IVRS: table length exceeded: ${hash(tableLength(amd))} -> ${hash(end)}`);
  return E.NODEV;
}

const blockText = (t: Uint8Array, at: number): string =>
  `type ${hash(u8(t, at))} flags ${hash(u8(t, at + BLOCK.FLAGS))} ` +
  `len ${hash(u16(t, at + BLOCK.LENGTH))} id ${hash(u16(t, at + BLOCK.DEVICE_ID))}`;

/** @xen is_ivhd_block: type 40h is not among them */
const isIvhdBlock = (amd: AmdVi, type: number): boolean =>
  type === IVHD_TYPE.BASIC || ((amd.acpiInfo & IVRS_INFO.EFR_SUP) !== 0 && type === IVHD_TYPE.EFR);

/** The highest IVHD type that Xen understands, or a negative errno. @xen get_supported_ivhd_type */
export function getSupportedIvhdType(amd: AmdVi): number {
  const t = amd.table;
  let sum = 0;
  for (let i = 0; i < tableLength(amd); i++) sum = (sum + t[i]!) & 0xff;
  if (sum !== 0) {
    amdError(amd, `IVRS: invalid checksum ${hash(sum)}`);
    return E.NODEV;
  }
  amd.acpiInfo = u32(t, IVRS.INFO);
  let best = -1;
  for (let at: number = IVRS.BLOCKS; hasBlock(amd, at); ) {
    const next = nextBlock(amd, at);
    if (next < 0) return tooLong(amd, at);
    const type = u8(t, at);
    if (isIvhdBlock(amd, type) && best < type) {
      amdDebug(amd, `IVRS Block: Found ${blockText(t, at)}`);
      best = type;
    }
    at = next;
  }
  if (best < 0) {
    amd.s.printk(XENLOG.ERR, 'Cannot find supported IVHD type.');
    return E.NODEV;
  }
  amdDebug(amd, `Using IVHD type ${hash(best)}`);
  return best;
}

/** A unit for each IVHD of the type chosen. @xen detect_iommu_acpi */
export function* detectIommuAcpi(amd: AmdVi): Co<Rc> {
  for (let at: number = IVRS.BLOCKS; hasBlock(amd, at); ) {
    const next = nextBlock(amd, at);
    if (next < 0) return E.NODEV;
    if (u8(amd.table, at) === amd.ivhdType && (yield* amdIommuDetectOneAcpi(amd, at)) !== 0) return E.NODEV;
    at = next;
  }
  return 0;
}

/** Requester ids to provide for, or a negative errno. @xen amd_iommu_get_ivrs_dev_entries */
export function amdIommuGetIvrsDevEntries(amd: AmdVi): number {
  let last = 0;
  for (let at: number = IVRS.BLOCKS; hasBlock(amd, at); ) {
    const next = nextBlock(amd, at);
    if (next < 0) return E.NODEV;
    if (u8(amd.table, at) === amd.ivhdType) {
      const ret = getLastBdfIvhd(amd, at);
      if (ret < 0) return ret;
      last = Math.max(last, ret);
    }
    at = next;
  }
  return (last | 7) + 1;
}

/** @xen dump_acpi_table_header */
function dumpAcpiTableHeader(amd: AmdVi): void {
  const t = amd.table;
  amdDebug(amd, 'ACPI Table:');
  amdDebug(amd, ` Signature ${text(t, 0, 4)}`);
  amdDebug(amd, ` Length ${hash(u32(t, 4))}`);
  amdDebug(amd, ` Revision ${hash(u8(t, 8))}`);
  amdDebug(amd, ` CheckSum ${hash(u8(t, 9))}`);
  amdDebug(amd, ` OEM_Id ${text(t, 10, 6)}`);
  amdDebug(amd, ` OEM_Table_Id ${text(t, 16, 8)}`);
  amdDebug(amd, ` OEM_Revision ${hash(u32(t, 24))}`);
  amdDebug(amd, ` Creator_Id ${text(t, 28, 4)}`);
  amdDebug(amd, ` Creator_Revision ${hash(u32(t, 32))}`);
}

/** Fills in the mappings. @xen parse_ivrs_table */
export function parseIvrsTable(amd: AmdVi): Rc {
  if (amd.opts.debug) dumpAcpiTableHeader(amd);
  let rc: Rc = 0;
  for (let at: number = IVRS.BLOCKS; rc === 0 && hasBlock(amd, at); ) {
    amdDebug(amd, `IVRS Block: ${blockText(amd.table, at)}`);
    const next = nextBlock(amd, at);
    if (next < 0) return tooLong(amd, at);
    const type = u8(amd.table, at);
    if (type === amd.ivhdType) rc = parseIvhdBlock(amd, at);
    else if (isIvmdType(type)) rc = parseIvmdBlock(amd, readIvmd(amd, at));
    at = next;
  }
  if (rc === 0) rc = addExtraRanges(amd);
  return rc === 0 ? checkIoapics(amd) : rc;
}

/** Ranges that the command line adds. @xen add_one_extra_ivmd */
function addExtraRanges(amd: AmdVi): Rc {
  for (const range of amd.s.extraRanges) {
    for (const sbdf of range.sbdfs) {
      const rc = parseIvmdBlock(amd, {
        type: IVMD_TYPE.ONE,
        flags: IVMD_FLAG.UNITY | IVMD_FLAG.READ | IVMD_FLAG.WRITE,
        deviceId: sbdf & 0xffff,
        auxData: 0,
        start: range.start * 4096,
        length: range.frames * 4096,
      });
      if (rc !== 0) return rc;
    }
  }
  return 0;
}

/** Interrupt remapping needs every I/O APIC, and the south bridge's where it belongs. */
function checkIoapics(amd: AmdVi): Rc {
  if (amd.opts.intremap === 'off') return 0;
  for (const id of amd.s.ioapicIds ?? []) {
    if (amd.ioapics.some((io) => io.id === id)) continue;
    amd.s.printk(XENLOG.ERR, `IVHD Error: no information for IO-APIC ${hash(id)}`);
    if (amd.opts.amdPerdevIntremap) return E.NXIO;
  }
  if (amd.ioapics.some((io) => io.seg === 0 && io.bdf === SB_IOAPIC_BDF)) return 0;
  const fatal = amd.opts.amdPerdevIntremap;
  amd.s.printk(fatal ? XENLOG.ERR : XENLOG.WARNING, 'No southbridge IO-APIC found in IVRS table');
  return fatal ? E.NXIO : 0;
}
