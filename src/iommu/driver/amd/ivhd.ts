/** Device entries of an IVHD: who uses which unit under which id. @xen drivers/passthrough/amd/iommu_acpi.c */
import { panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { IVHD_DEV, IVHD_TYPE, SPECIAL } from '../../format/ivrs.js';
import { XENLOG } from '../types.js';
import { amdIommuAllocIntremapTable } from './intremap_table.js';
import { type AmdUnit, type AmdVi, amdDebug, amdError, amdWarn, getIvrsMappings, hash } from './state.js';
import { BLOCK, u8, u16, u32 } from './table_bytes.js';

/** @xen ACPI_IVHD_ATS_DISABLED */
const ATS_DISABLED = 2 ** 31;
/** Most I/O APICs there can be. @xen MAX_IO_APICS */
const MAX_IO_APICS = 128;

/** @xen get_ivhd_header_size */
const headerBytes = (type: number): number =>
  type === IVHD_TYPE.BASIC ? 24 : type === IVHD_TYPE.EFR ? 40 : 0;

/** @xen find_iommu_from_bdf_cap */
export const findIommuFromBdfCap = (amd: AmdVi, seg: number, bdf: number, cap: number): AmdUnit | undefined =>
  amd.units.find((u) => u.seg === seg && u.bdf === bdf && u.capOffset === cap);

/** @xen add_ivrs_mapping_entry */
function addIvrsMappingEntry(
  amd: AmdVi,
  bdf: number,
  alias: number,
  flags: number,
  blockAts: boolean,
  allocIrt: boolean,
  unit: AmdUnit,
): void {
  const ivrs = getIvrsMappings(amd, unit.seg)!;
  ivrs.requestor[bdf] = alias;
  ivrs.setBlockAts(bdf, blockAts);
  ivrs.setDeviceFlags(bdf, flags);
  if (unit.bdf === bdf) return; // a unit does not translate for itself
  const perdev = amd.opts.amdPerdevIntremap;
  if ((allocIrt || !perdev) && amd.opts.intremap !== 'off' && !ivrs.intremap.has(alias)) {
    if (!perdev) {
      amd.sharedIntremap ??= amdIommuAllocIntremapTable(amd, unit, 0);
      if (amd.sharedIntremap === undefined) panic('No memory for shared IRT');
      ivrs.intremap.set(alias, amd.sharedIntremap);
    } else {
      const table = amdIommuAllocIntremapTable(amd, unit, 0);
      if (table === undefined) panic(`No memory for ${formatSbdf(sbdfOf(unit.seg, alias))}'s IRT`);
      ivrs.intremap.set(alias, table);
    }
  }
  ivrs.setValid(alias);
  ivrs.setUnit(bdf, unit.index);
}

/** The device entries of the IVHD at `block`. @xen parse_ivhd_block */
export function parseIvhdBlock(amd: AmdVi, block: number): Rc {
  const t = amd.table;
  const length = u16(t, block + BLOCK.LENGTH);
  const header = headerBytes(u8(t, block));
  if (length < header) {
    amdError(amd, 'IVHD: invalid block length');
    return E.NODEV;
  }
  const seg = u16(t, block + 16);
  const bdf = u16(t, block + BLOCK.DEVICE_ID);
  const cap = u16(t, block + 6);
  const unit = findIommuFromBdfCap(amd, seg, bdf, cap);
  if (unit === undefined) {
    amdError(amd, `IVHD: no IOMMU for Dev_Id ${hash(bdf)} Cap ${hash(cap)}`);
    return E.NODEV;
  }
  for (let at = header; length >= at + 4; ) {
    const done = parseEntry(amd, unit, block + at, length - at);
    if (done === 0) return E.NODEV;
    at += done;
  }
  return 0;
}

/** One entry; the bytes it takes, 0 when it is unusable. `left` is what remains of the block. */
function parseEntry(amd: AmdVi, unit: AmdUnit, at: number, left: number): number {
  const t = amd.table;
  const type = u8(t, at);
  amdDebug(
    amd,
    `IVHD Device Entry: type ${hash(type)} id ${hash(u16(t, at + 1))} flags ${hash(u8(t, at + 3))}`,
  );
  switch (type) {
    case IVHD_DEV.PAD4:
      return fits(amd, left, 4) ? 4 : 0;
    case IVHD_DEV.PAD8:
      return fits(amd, left, 8) ? 8 : 0;
    case IVHD_DEV.SELECT:
      return parseSelect(amd, unit, at);
    case IVHD_DEV.START:
      return parseRange(amd, unit, at, left, 4);
    case IVHD_DEV.ALIAS_SELECT:
      return parseAlias(amd, unit, at, left);
    case IVHD_DEV.ALIAS_START:
    case IVHD_DEV.EXT_START:
      return parseRange(amd, unit, at, left, 8);
    case IVHD_DEV.EXT_SELECT:
      return parseExtended(amd, unit, at, left);
    case IVHD_DEV.SPECIAL:
      return parseSpecial(amd, unit, at, left);
    default:
      amdWarn(amd, `IVHD: unknown device type ${hash(type)}`);
      return 0;
  }
}

function fits(amd: AmdVi, left: number, bytes: number): boolean {
  if (left < bytes) amdError(amd, 'IVHD: invalid Device_Entry length');
  return left >= bytes;
}

function knownId(amd: AmdVi, id: number, what: string): boolean {
  if (id >= amd.ivrsBdfEntries) amdError(amd, `IVHD: invalid ${what} Dev_Id ${hash(id)}`);
  return id < amd.ivrsBdfEntries;
}

/** @xen parse_ivhd_device_select */
function parseSelect(amd: AmdVi, unit: AmdUnit, at: number): number {
  const bdf = u16(amd.table, at + 1);
  if (!knownId(amd, bdf, 'Device_Entry')) return 0;
  addIvrsMappingEntry(amd, bdf, bdf, u8(amd.table, at + 3), false, false, unit);
  return 4;
}

/** @xen parse_ivhd_device_alias */
function parseAlias(amd: AmdVi, unit: AmdUnit, at: number, left: number): number {
  const t = amd.table;
  if (!fits(amd, left, 8)) return 0;
  const bdf = u16(t, at + 1);
  const alias = u16(t, at + 5);
  if (!knownId(amd, bdf, 'Device_Entry') || !knownId(amd, alias, 'Alias')) return 0;
  amdDebug(amd, ` Dev_Id Alias: ${hash(alias)}`);
  addIvrsMappingEntry(amd, bdf, alias, u8(t, at + 3), false, true, unit);
  return 8;
}

/** @xen parse_ivhd_device_extended */
function parseExtended(amd: AmdVi, unit: AmdUnit, at: number, left: number): number {
  const t = amd.table;
  if (!fits(amd, left, 8)) return 0;
  const bdf = u16(t, at + 1);
  if (!knownId(amd, bdf, 'Device_Entry')) return 0;
  addIvrsMappingEntry(amd, bdf, bdf, u8(t, at + 3), u32(t, at + 4) >= ATS_DISABLED, false, unit);
  return 8;
}

/**
 * A start entry of `startBytes` and an end entry of four: plain, with alias, or extended.
 * @xen parse_ivhd_device_range, parse_ivhd_device_alias_range, parse_ivhd_device_extended_range
 */
function parseRange(amd: AmdVi, unit: AmdUnit, at: number, left: number, startBytes: number): number {
  const t = amd.table;
  if (!fits(amd, left, startBytes + 4)) return 0;
  const endType = u8(t, at + startBytes);
  if (endType !== IVHD_DEV.END) {
    amdError(amd, `IVHD: invalid range: End_Type ${hash(endType)}`);
    return 0;
  }
  const first = u16(t, at + 1);
  if (!knownId(amd, first, 'range: First')) return 0;
  const last = u16(t, at + startBytes + 1);
  if (last >= amd.ivrsBdfEntries || last <= first) {
    amdError(amd, `IVHD: invalid range: Last Dev_Id ${hash(last)}`);
    return 0;
  }
  const aliased = u8(t, at) === IVHD_DEV.ALIAS_START;
  const alias = aliased ? u16(t, at + 5) : -1;
  if (alias >= amd.ivrsBdfEntries) {
    amdDebug(amd, `IVHD Error: Invalid Alias Dev_Id ${hash(alias)}`);
    return 0;
  }
  amdDebug(amd, ` Dev_Id Range: ${hash(first)} -> ${hash(last)}${aliased ? ` alias ${hash(alias)}` : ''}`);
  const flags = u8(t, at + 3);
  const blockAts = u8(t, at) === IVHD_DEV.EXT_START && u32(t, at + 4) >= ATS_DISABLED;
  for (let bdf = first; bdf <= last; bdf++)
    addIvrsMappingEntry(amd, bdf, aliased ? alias : bdf, flags, blockAts, aliased, unit);
  return startBytes + 4;
}

/** An I/O APIC or HPET. @xen parse_ivhd_device_special */
function parseSpecial(amd: AmdVi, unit: AmdUnit, at: number, left: number): number {
  const t = amd.table;
  if (!fits(amd, left, 8)) return 0;
  const bdf = u16(t, at + 5);
  if (!knownId(amd, bdf, 'Device_Entry')) return 0;
  const handle = u8(t, at + 4);
  const variety = u8(t, at + 7);
  const name = formatSbdf(sbdfOf(unit.seg, bdf));
  amdDebug(amd, `IVHD Special: ${name} variety ${hash(variety)} handle ${hash(handle)}`);
  addIvrsMappingEntry(amd, bdf, bdf, u8(t, at + 3), false, true, unit);
  if (variety === SPECIAL.IOAPIC) return addIoapic(amd, unit.seg, bdf, handle) ? 8 : 0;
  if (variety === SPECIAL.HPET) {
    if (amd.hpet === undefined) amd.hpet = { id: handle, seg: unit.seg, bdf };
    else amd.s.printk(XENLOG.WARNING, 'Only one IVHD HPET entry is supported.');
    return 8;
  }
  amd.s.printk(XENLOG.ERR, `Unrecognized IVHD special variety ${hash(variety)}`);
  return 0;
}

function addIoapic(amd: AmdVi, seg: number, bdf: number, handle: number): boolean {
  if (amd.opts.intremap === 'off') return true;
  const known = amd.s.ioapicIds;
  if (known !== undefined && !known.includes(handle)) {
    amd.s.printk(XENLOG.ERR, `IVHD Error: Invalid IO-APIC ${hash(handle)}`);
    return false;
  }
  const same = amd.ioapics.find((io) => io.id === handle);
  if (same !== undefined) {
    if (same.bdf === bdf && same.seg === seg) {
      amdWarn(amd, `IVHD: duplicate IO-APIC ${hash(handle)} entries`);
      return true;
    }
    amdError(amd, `IVHD: conflicting IO-APIC ${hash(handle)} entries`);
    return !amd.opts.amdPerdevIntremap;
  }
  if (amd.ioapics.length >= MAX_IO_APICS) {
    amd.s.printk(XENLOG.ERR, 'IVHD Error: Too many IO APICs.');
    return false;
  }
  amd.ioapics.push({ id: handle, seg, bdf, pinToIndex: new Map(), rtes: new Map() });
  return true;
}

/** Highest id in the device entries of the IVHD at `block`, or a negative errno. @xen get_last_bdf_ivhd */
export function getLastBdfIvhd(amd: AmdVi, block: number): number {
  const t = amd.table;
  const length = u16(t, block + BLOCK.LENGTH);
  const header = headerBytes(u8(t, block));
  if (length < header) {
    amdError(amd, 'IVHD: invalid block length');
    return E.NODEV;
  }
  let last = 0;
  for (let at = header; length >= at + 4; ) {
    const entry = block + at;
    const type = u8(t, entry);
    const size = ENTRY_BYTES.get(type);
    if (size === undefined) {
      amdWarn(amd, `IVHD: unknown device type ${hash(type)}`);
      return E.NODEV;
    }
    last = Math.max(last, highestId(t, entry, type, size));
    at += size;
  }
  return last;
}

/** Bytes of the entries that count for the highest id, end entries of ranges included. */
const ENTRY_BYTES: ReadonlyMap<number, number> = new Map([
  [IVHD_DEV.PAD4, 4],
  [IVHD_DEV.PAD8, 8],
  [IVHD_DEV.SELECT, 4],
  [IVHD_DEV.ALIAS_SELECT, 8],
  [IVHD_DEV.EXT_SELECT, 8],
  [IVHD_DEV.START, 8],
  [IVHD_DEV.ALIAS_START, 12],
  [IVHD_DEV.EXT_START, 12],
  [IVHD_DEV.SPECIAL, 8],
]);

function highestId(t: Uint8Array, entry: number, type: number, size: number): number {
  switch (type) {
    case IVHD_DEV.PAD4:
    case IVHD_DEV.PAD8:
      return 0;
    case IVHD_DEV.START:
    case IVHD_DEV.ALIAS_START:
    case IVHD_DEV.EXT_START:
      return u16(t, entry + size - 3);
    case IVHD_DEV.SPECIAL:
      return u16(t, entry + 5);
    default:
      return u16(t, entry + 1);
  }
}
