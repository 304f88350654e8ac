/**
 * IVMD: memory that devices must reach. It becomes the unit's exclusion range where that is asked for and possible,
 * else ranges mapped at their own address. @xen drivers/passthrough/amd/iommu_acpi.c
 */
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { IVMD_FLAG, IVMD_TYPE } from '../../format/ivrs.js';
import type { E820Entry } from '../types.js';
import { findIommuFromBdfCap } from './ivhd.js';
import type { UnityMap } from './ivrs_mappings.js';
import { amdIommuGetPagingMode, findIommuForDevice } from './requestor.js';
import { type AmdUnit, type AmdVi, amdDebug, amdError, amdWarn, getIvrsMappings, hash } from './state.js';
import { BLOCK, u8, u16, u64 } from './table_bytes.js';

const PAGE = 4096;
const pageOf = (addr: number): number => addr - (addr % PAGE);
const lx = (n: number): string => n.toString(16);

/** An IVMD as read from the table, or made up from an extra range. */
export interface IvmdBlock {
  readonly type: number;
  readonly flags: number;
  readonly deviceId: number;
  readonly auxData: number;
  /** Bytes. */
  readonly start: number;
  readonly length: number;
}

/** Bytes, page aligned; `limit` is the last page's address. */
interface Range {
  readonly base: number;
  readonly limit: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly exclusion: boolean;
}
const lengthOf = (r: Range): number => r.limit + PAGE - r.base;

/** The IVMD at `block`; undefined when it is too short. */
export function readIvmd(amd: AmdVi, block: number): IvmdBlock | undefined {
  const t = amd.table;
  if (u16(t, block + BLOCK.LENGTH) < 32) return undefined;
  return {
    type: u8(t, block),
    flags: u8(t, block + BLOCK.FLAGS),
    deviceId: u16(t, block + BLOCK.DEVICE_ID),
    auxData: u16(t, block + 6),
    start: u64(t, block + 16),
    length: u64(t, block + 24),
  };
}

/** @xen reserve_iommu_exclusion_range */
function reserveIommuExclusionRange(unit: AmdUnit, r: Range, all: boolean): Rc {
  const x = unit.exclusion;
  let { base, limit } = r;
  if (x.enable) {
    if (x.limit + PAGE < base || limit + PAGE < x.base || x.allowAll !== all) return E.BUSY;
    base = Math.min(base, x.base);
    limit = Math.max(limit, x.limit);
  }
  x.enable = true;
  x.allowAll = all;
  x.base = base;
  x.limit = limit;
  return 0;
}

/** @xen reserve_unity_map_for_device */
function reserveUnityMapForDevice(amd: AmdVi, seg: number, bdf: number, r: Range, global: boolean): Rc {
  const ivrs = getIvrsMappings(amd, seg)!;
  const length = lengthOf(r);
  const mode = amdIommuGetPagingMode(amd, Math.ceil((r.base + length) / PAGE));
  if (mode < 0) return mode;
  for (const map of ivrs.unityMaps(bdf)) {
    if (map.addr === r.base && map.length === length && map.read === r.read && map.write === r.write) {
      if (global) map.global = true;
      return 0;
    }
    if (!amd.seams.amdKeepsRangesApart()) {
      widen(map, r);
      return 0;
    }
    if (map.addr + map.length > r.base && r.base + length > map.addr) {
      const ours = `[${lx(r.base)},${lx(r.base + length)})`;
      amdError(amd, `IVMD: overlap ${ours} vs [${lx(map.addr)},${lx(map.addr + map.length)})`);
      return E.PERM;
    }
  }
  ivrs.addUnityMap(bdf, { addr: r.base, length, read: r.read, write: r.write, global });
  amd.minPagingMode = Math.max(amd.minPagingMode, mode);
  return 0;
}

/** One range with the rights of both, and with what lies between. */
function widen(map: UnityMap, r: Range): void {
  const end = Math.max(map.addr + map.length, r.limit + PAGE);
  map.addr = Math.min(map.addr, r.base);
  map.length = end - map.addr;
  map.read ||= r.read;
  map.write ||= r.write;
}

/** For the device and for the id its entry has. */
function reserveForBoth(amd: AmdVi, seg: number, bdf: number, r: Range): Rc {
  const rc = reserveUnityMapForDevice(amd, seg, bdf, r, false);
  if (rc !== 0) return rc;
  return reserveUnityMapForDevice(amd, seg, getIvrsMappings(amd, seg)!.requestor[bdf]!, r, false);
}

/** @xen register_range_for_all_devices */
function registerRangeForAllDevices(amd: AmdVi, r: Range): Rc {
  let rc = 0;
  if (r.exclusion) {
    for (const unit of amd.units) {
      const ret = reserveIommuExclusionRange(unit, r, true);
      if (rc === 0) rc = ret;
    }
    if (rc === 0) return 0;
  }
  rc = 0;
  for (let bdf = 0; rc === 0 && bdf < amd.ivrsBdfEntries; bdf++)
    rc = reserveUnityMapForDevice(amd, 0, bdf, r, true);
  return rc;
}

/** @xen register_range_for_device */
function registerRangeForDevice(amd: AmdVi, bdf: number, r: Range): Rc {
  const unit = findIommuForDevice(amd, 0, bdf);
  if (unit === undefined) {
    if (!amd.seams.amdIgnoresIvmdWithoutIommu()) {
      amdError(amd, `IVMD: no IOMMU for Dev_Id ${hash(bdf)}`);
      return E.NODEV;
    }
    amdWarn(amd, `IVMD: no IOMMU for device ${formatSbdf(sbdfOf(0, bdf))} - ignoring constrain`);
    return 0;
  }
  if (!r.exclusion || reserveIommuExclusionRange(unit, r, false) !== 0) return reserveForBoth(amd, 0, bdf, r);
  const ivrs = getIvrsMappings(amd, 0)!;
  ivrs.setAllowExclusion(bdf);
  ivrs.setAllowExclusion(ivrs.requestor[bdf]!);
  return 0;
}

/** @xen register_range_for_iommu_devices */
function registerRangeForIommuDevices(amd: AmdVi, unit: AmdUnit, r: Range): Rc {
  if (r.exclusion && reserveIommuExclusionRange(unit, r, true) === 0) return 0;
  let rc = 0;
  for (let bdf = 0; rc === 0 && bdf < amd.ivrsBdfEntries; bdf++)
    if (findIommuForDevice(amd, unit.seg, bdf) === unit) rc = reserveForBoth(amd, unit.seg, bdf, r);
  return rc;
}

/** @xen parse_ivmd_block */
export function parseIvmdBlock(amd: AmdVi, b: IvmdBlock | undefined): Rc {
  if (b === undefined) {
    amdError(amd, 'IVMD: invalid block length');
    return E.NODEV;
  }
  const base = pageOf(b.start);
  const limit = pageOf(b.start + b.length - 1);
  amdDebug(amd, `IVMD Block: type ${hash(b.type)} phys ${hash(b.start)} len ${hash(b.length)}`);
  if (!addressable(amd, b)) {
    amdWarn(amd, `IVMD: [${lx(b.start)},${lx(b.start + b.length)}) is not IOMMU addressable`);
    return 0;
  }
  if (!memoryOk(amd, base, limit)) return E.IO;
  let read = true;
  let write = true;
  const exclusion = (b.flags & IVMD_FLAG.EXCLUSION) !== 0;
  if (!exclusion) {
    if ((b.flags & IVMD_FLAG.UNITY) === 0) {
      amdError(amd, 'IVMD: invalid flag field');
      return E.NODEV;
    }
    const readFlag = amd.seams.amdIvmdReadFlag();
    const writeFlag = (IVMD_FLAG.READ | IVMD_FLAG.WRITE) & ~readFlag;
    read = (b.flags & readFlag) !== 0;
    write = (b.flags & writeFlag) !== 0;
  }
  return registerRange(amd, b, { base, limit, read, write, exclusion });
}

function registerRange(amd: AmdVi, b: IvmdBlock, r: Range): Rc {
  switch (b.type) {
    case IVMD_TYPE.ALL:
      return registerRangeForAllDevices(amd, r);
    case IVMD_TYPE.ONE:
      if (b.deviceId < amd.ivrsBdfEntries) return registerRangeForDevice(amd, b.deviceId, r);
      amdError(amd, `IVMD: invalid Dev_Id ${hash(b.deviceId)}`);
      return E.NODEV;
    case IVMD_TYPE.RANGE:
      return parseIvmdDeviceRange(amd, b, r);
    default: {
      const unit = findIommuFromBdfCap(amd, 0, b.deviceId, b.auxData);
      if (unit !== undefined) return registerRangeForIommuDevices(amd, unit, r);
      amdError(amd, `IVMD: no IOMMU for Dev_Id ${hash(b.deviceId)} Cap ${hash(b.auxData)}`);
      return E.NODEV;
    }
  }
}

/** @xen parse_ivmd_device_range */
function parseIvmdDeviceRange(amd: AmdVi, b: IvmdBlock, r: Range): Rc {
  if (b.deviceId >= amd.ivrsBdfEntries) {
    amdError(amd, `IVMD: invalid Range_First Dev_Id ${hash(b.deviceId)}`);
    return E.NODEV;
  }
  if (b.auxData >= amd.ivrsBdfEntries || b.auxData <= b.deviceId) {
    amdError(amd, `IVMD: invalid Range_Last Dev_Id ${hash(b.auxData)}`);
    return E.NODEV;
  }
  let rc = 0;
  for (let bdf = b.deviceId; bdf <= b.auxData && rc === 0; bdf++) rc = registerRangeForDevice(amd, bdf, r);
  return rc;
}

/** Within the widths that the table states, and the levels that the units have. */
function addressable(amd: AmdVi, b: IvmdBlock): boolean {
  const physical = (amd.acpiInfo >>> 8) & 0x7f;
  const virtual = (amd.acpiInfo >>> 15) & 0x7f;
  const bits = Math.min(physical, virtual);
  if (amdIommuGetPagingMode(amd, Math.ceil((b.start + b.length) / PAGE)) < 0) return false;
  return bits >= 64 || b.start + b.length - 1 < 2 ** bits;
}

function memoryOk(amd: AmdVi, base: number, limit: number): boolean {
  if (amd.seams.amdUsesUnityRegionOk()) return amd.s.unityRegionOk('IVMD', base / PAGE, limit / PAGE);
  if (e820AllReserved(amd.s.e820, base, limit + PAGE)) return true;
  amdWarn(amd, `IVMD: [${lx(base)},${lx(limit + PAGE)}) is not (entirely) in reserved memory`);
  for (let addr = base; addr <= limit; addr += PAGE) {
    const next = endOfSameKind(amd.s.e820, addr, limit + PAGE);
    if (ramAt(amd.s.e820, addr)) {
      amdError(amd, `IVMD: page at ${lx(addr)} can't be converted`);
      return false;
    }
    addr = Math.max(addr, next - PAGE);
  }
  return true;
}

/** @xen e820_all_mapped(E820_RESERVED) */
function e820AllReserved(e820: readonly E820Entry[], start: number, end: number): boolean {
  let at = start;
  for (const e of e820) {
    if (e.type !== 'reserved' || e.start >= end || e.end <= at) continue;
    if (e.start <= at) at = e.end;
    if (at >= end) return true;
  }
  return false;
}

/** The page is memory and nothing else: a page that is partly something else counts as that. @xen page_get_ram_type */
function ramAt(e820: readonly E820Entry[], addr: number): boolean {
  let ram = false;
  for (const e of e820) {
    if (addr + PAGE <= e.start || addr >= e.end) continue;
    if (e.type !== 'usable') return false;
    ram = true;
  }
  return ram;
}

/** First address at or after the page's end where the memory map changes, at most `end`: what lies between is alike. */
function endOfSameKind(e820: readonly E820Entry[], addr: number, end: number): number {
  let next = end;
  for (const e of e820) {
    for (const edge of [pageOf(e.start), pageOf(e.end)]) if (edge > addr && edge < next) next = edge;
  }
  return next;
}
