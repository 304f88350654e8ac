/**
 * Reading the DMAR: units, reserved ranges, root ports with ATS, in Xen's order and with its refusals. dprintk()
 * lines are absent here and in the whole driver, as they are from release builds.
 * @xen drivers/passthrough/vtd/dmar.c
 */
import { E, type Errno, type Rc } from '../../../base/errno.js';
import { formatSbdf } from '../../../base/sbdf.js';
import {
  ATSR_ALL_PORTS,
  type Atsr,
  type DeviceScope,
  DMAR_TYPE,
  type DmarBroken,
  type DmarStructure,
  DRHD_INCLUDE_PCI_ALL,
  type Drhd,
  firmwareDmar,
  type Rhsa,
  type Rmrr,
} from '../../format/dmar.js';
import { XENLOG, type XenServices } from '../types.js';
import { iommuAlloc } from './alloc.js';
import { acpiParseDevScope, brokenScopes, missingDevices } from './dmar_scope.js';
import { VtdDriver } from './iommu.js';
import { rangeText } from './rmrr.js';
import { allocPgtableMaddr, DmarScope, DrhdUnit, type RmrrUnit, VTDPREFIX, Vtd } from './state.js';

/** A structure whose scopes may be beyond repair: undefined. */
type Lenient<T extends { readonly scopes: readonly DeviceScope[] }> = Omit<T, 'scopes'> & {
  readonly scopes: readonly DeviceScope[] | undefined;
};
type Parsed = Lenient<Drhd> | Lenient<Rmrr> | Lenient<Atsr> | Exclude<DmarStructure, Drhd | Rmrr | Atsr>;

const verbose = (vtd: Vtd, text: string): void => {
  if (vtd.opts.verbose) vtd.s.printk(XENLOG.WARNING, VTDPREFIX + text);
};

/** @xen acpi_parse_one_drhd */
function acpiParseOneDrhd(vtd: Vtd, t: Lenient<Drhd>): Rc {
  if (t.base === 0) return E.NODEV;
  const drhd = new DrhdUnit(t.base, t.segment, (t.flags & DRHD_INCLUDE_PCI_ALL) !== 0);
  if (vtd.opts.verbose) verbose(vtd, `  dmaru->address = ${t.base.toString(16)}`);
  let rc = iommuAlloc(vtd, drhd);
  if (rc !== 0) return rc;
  rc = acpiParseDevScope(vtd, t.scopes, drhd.scope, drhd, t.segment);
  if (drhd.includeAll) {
    verbose(vtd, '  flags: INCLUDE_ALL');
    if (t.segment === 0 && vtd.includeAllSeen) {
      vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}Only one INCLUDE_ALL device scope is allowed`);
      return E.INVAL;
    }
    if (t.segment === 0) vtd.includeAllSeen = true;
  }
  if (rc !== 0) return rc;
  if (drhd.includeAll) {
    vtd.drhds.push(drhd);
    return 0;
  }
  if (!vtd.opts.force) warnMissing(vtd, drhd);
  vtd.drhds.unshift(drhd);
  return 0;
}

/** Entries of I/O APICs and HPETs are no devices to look for. */
function warnMissing(vtd: Vtd, drhd: DrhdUnit): void {
  for (const dev of missingDevices(vtd, drhd.segment, drhd.scope)) {
    const bdf = dev & 0xffff;
    if (drhd.ioapics.some((a) => a.bdf === bdf) || drhd.hpets.some((h) => h.bdf === bdf)) continue;
    vtd.s.printk(
      XENLOG.WARNING,
      `${VTDPREFIX} Non-existent device (${formatSbdf(dev)}) in this DRHD's scope!`,
    );
  }
}

/** @returns 1 when no device of the range is there, which makes it void. @xen register_one_rmrr */
function registerOneRmrr(vtd: Vtd, rmrr: RmrrUnit): number {
  const missing = missingDevices(vtd, rmrr.segment, rmrr.scope);
  if (missing.length > 0 && missing.length === rmrr.scope.devices.length) return 1;
  if (rmrr.base > rmrr.end) return E.FAULT;
  vtd.rmrrs.unshift(rmrr);
  return 0;
}

/** Is every byte of [start, end) of one of E820's types? @xen e820_all_mapped */
function e820AllMapped(s: XenServices, start: number, end: number, type: string): boolean {
  let at = start;
  for (const e of s.e820) {
    if (e.type !== type || e.start >= end || e.end <= at) continue;
    if (e.start <= at) at = e.end;
    if (at >= end) return true;
  }
  return false;
}

/** Firmware must have reserved the range; how strictly, depends on the release. */
function checkReserved(vtd: Vtd, base: number, end: number): Rc {
  const { s } = vtd;
  if (vtd.seams.vtdRmrrMustBeReserved()) {
    return s.unityRegionOk('RMRR', Math.floor(base / 4096), Math.floor(end / 4096)) ? 0 : E.IO;
  }
  const types = ['reserved', 'ACPI NVS', 'ACPI data'];
  if (!types.some((type) => e820AllMapped(s, base, end + 1, type))) {
    const range = `[${base.toString(16)},${end.toString(16)}]`;
    s.printk(
      XENLOG.WARNING,
      `${VTDPREFIX} RMRR ${range} not in reserved memory; need "iommu_inclusive_mapping=1"?`,
    );
  }
  return 0;
}

/** @xen acpi_parse_one_rmrr */
function acpiParseOneRmrr(vtd: Vtd, t: Lenient<Rmrr>): Rc {
  for (const other of vtd.rmrrs) {
    if (t.base > other.end || other.base > t.limit) continue;
    const mine = `[${t.base.toString(16)},${t.limit.toString(16)}]`;
    vtd.s.printk(XENLOG.ERR, `${VTDPREFIX}Overlapping RMRRs ${rangeText(other)} and ${mine}`);
    return E.EXIST;
  }
  let rc = checkReserved(vtd, t.base, t.limit);
  if (rc !== 0) return rc;
  const scope = new DmarScope();
  rc = acpiParseDevScope(vtd, t.scopes, scope, undefined, t.segment);
  if (rc !== 0 || scope.devices.length === 0) return rc;
  return Math.min(registerOneRmrr(vtd, { scope, base: t.base, end: t.limit, segment: t.segment }), 0);
}

/** @xen acpi_parse_one_atsr */
function acpiParseOneAtsr(vtd: Vtd, t: Lenient<Atsr>): Rc {
  const allPorts = (t.flags & ATSR_ALL_PORTS) !== 0;
  const scope = new DmarScope();
  verbose(vtd, `  atsru->all_ports: ${allPorts ? 1 : 0}`);
  if (!allPorts) {
    const rc = acpiParseDevScope(vtd, t.scopes, scope, undefined, t.segment);
    if (rc === 0) vtd.atsrs.unshift({ scope, segment: t.segment, allPorts });
    return rc;
  }
  verbose(vtd, '  flags: ALL_PORTS');
  if (t.segment === 0 && vtd.allPortsSeen) {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}Only one ALL_PORTS device scope is allowed`);
    return E.INVAL;
  }
  if (t.segment === 0) vtd.allPortsSeen = true;
  vtd.atsrs.push({ scope, segment: t.segment, allPorts });
  return 0;
}

/** Which memory is near a unit: only printed, as no machine here has more than one node. @xen acpi_parse_one_rhsa */
function acpiParseOneRhsa(vtd: Vtd, t: Rhsa): Rc {
  const address = `rhsau->address: ${t.base.toString(16)}`;
  verbose(vtd, `  ${address} rhsau->proximity_domain: ${t.proximityDomain.toString(16)}`);
  return 0;
}

/** Devices with a trusted translation cache: only printed. @xen acpi_parse_one_satc, register_one_satc */
function acpiParseOneSatc(vtd: Vtd, t: Lenient<Atsr>): Rc {
  const scope = new DmarScope();
  const rc = acpiParseDevScope(vtd, t.scopes, scope, undefined, t.segment);
  if (rc !== 0 || scope.devices.length === 0) return rc;
  const missing = missingDevices(vtd, t.segment, scope);
  if (missing.length < scope.devices.length) verbose(vtd, ` ATC required: ${t.flags & 1}`);
  return 0;
}

/** `found ACPI_DMAR_DRHD:` */
const NAMES: Readonly<Record<number, string>> = {
  [DMAR_TYPE.DRHD]: 'DRHD',
  [DMAR_TYPE.RMRR]: 'RMRR',
  [DMAR_TYPE.ATSR]: 'ATSR',
  [DMAR_TYPE.RHSA]: 'RHSA',
  [DMAR_TYPE.SATC]: 'SATC',
};
/** Size of each structure without scopes. */
const FIXED_BYTES: Readonly<Record<number, number>> = { 0: 16, 1: 24, 2: 8, 3: 20, 5: 8 };
const TYPE_OF = { drhd: 0, rmrr: 1, atsr: 2, rhsa: 3, andd: 4, satc: 5, sidp: 6 } as const;

function parseStructure(vtd: Vtd, t: DmarStructure): Rc {
  const type = 'type' in t ? t.type : TYPE_OF[t.kind];
  if (t.kind === 'broken' && t.length < 4) return badLength(vtd, t);
  if (type === DMAR_TYPE.SATC && !vtd.seams.vtdReadsSatc()) return 0;
  const name = NAMES[type];
  if (name === undefined) return 0;
  if (vtd.opts.verbose) verbose(vtd, `found ACPI_DMAR_${name}:`);
  const whole = t.kind === 'broken' ? mend(vtd, t) : t;
  if (typeof whole === 'number') return whole;
  switch (whole.kind) {
    case 'drhd':
      return acpiParseOneDrhd(vtd, whole);
    case 'rmrr':
      return acpiParseOneRmrr(vtd, whole);
    case 'atsr':
      return acpiParseOneAtsr(vtd, whole);
    case 'rhsa':
      return acpiParseOneRhsa(vtd, whole);
    case 'satc':
      return acpiParseOneSatc(vtd, whole);
    default:
      return 0;
  }
}

/** @xen acpi_dmar_check_length */
function badLength(vtd: Vtd, t: DmarBroken): Rc {
  const length = t.length === 0 ? '0' : `0x${t.length.toString(16)}`;
  vtd.s.printk(XENLOG.ERR, `${VTDPREFIX}Invalid ACPI DMAR entry length: ${length}`);
  return E.INVAL;
}

/** A structure that breaks the rules, as Xen reads it nevertheless; -EINVAL where Xen refuses it. */
function mend(vtd: Vtd, t: DmarBroken): Parsed | Rc {
  const fixed = FIXED_BYTES[t.type] ?? 4;
  if (t.length < fixed || t.bytes.length < fixed) return badLength(vtd, t);
  const v = new DataView(t.bytes.buffer, t.bytes.byteOffset, t.bytes.length);
  const address = (at: number): number => v.getUint32(at + 4, true) * 2 ** 32 + v.getUint32(at, true);
  if (t.type === DMAR_TYPE.RHSA) {
    return { kind: 'rhsa', reserved: 0, base: address(8), proximityDomain: v.getUint32(16, true) };
  }
  // No unit answers where no address can be.
  if (t.type === DMAR_TYPE.DRHD && address(8) >= 2 ** 53) return E.NODEV;
  const scopes = brokenScopes(t, fixed);
  const segment = v.getUint16(6, true);
  const flags = v.getUint8(4);
  switch (t.type) {
    case DMAR_TYPE.DRHD:
      return { kind: 'drhd', flags, size: 0, segment, base: address(8), scopes };
    case DMAR_TYPE.RMRR:
      return { kind: 'rmrr', reserved: 0, segment, base: address(8), limit: address(16), scopes };
    default:
      return { kind: t.type === DMAR_TYPE.ATSR ? 'atsr' : 'satc', flags, reserved: 0, segment, scopes };
  }
}

/** @xen acpi_parse_dmar */
function acpiParseDmar(vtd: Vtd, table: Uint8Array): Rc {
  const dmar = firmwareDmar(table);
  vtd.dmarFlags = dmar.flags;
  if (dmar.hostAddressWidth === 0) {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}Zero: Invalid DMAR width`);
    return E.INVAL;
  }
  if (vtd.opts.verbose) verbose(vtd, `Host address width ${dmar.hostAddressWidth + 1}`);
  for (const t of dmar.structures) {
    const rc = parseStructure(vtd, t);
    if (rc === 0) continue;
    vtd.s.printk(XENLOG.WARNING, 'Failed to parse ACPI DMAR.  Disabling VT-d.');
    vtd.drhds = [];
    vtd.rmrrs = [];
    vtd.atsrs = [];
    return rc;
  }
  return 0;
}

/** Frames of RAM described by one group of the frame table. @xen PDX_GROUP_COUNT */
const PDX_GROUP = 0x1_0000;

/** Does the frame table cover `mfn`? @xen mfn_valid */
function mfnValid(s: XenServices, mfn: number): boolean {
  const group = Math.floor(mfn / PDX_GROUP) * PDX_GROUP;
  const ram = s.e820.filter((e) => e.type === 'usable');
  const max = Math.max(0, ...ram.map((e) => Math.floor(e.end / 4096)));
  const first = group * 4096;
  return mfn < max && ram.some((e) => e.start < first + PDX_GROUP * 4096 && e.end > first);
}

/** Why a range of `rmrr=` cannot be, or nothing. */
function userRmrrProblem(vtd: Vtd, base: number, end: number, sbdfs: readonly number[]): string {
  const range = `[${base.toString(16)}-${end.toString(16)}]`;
  if (base > end) return `Invalid RMRR Range ${range}`;
  for (const other of vtd.rmrrs) {
    if (base * 4096 > other.end || other.base > end * 4096) continue;
    const pfn = (addr: number): string => Math.floor(addr / 4096).toString(16);
    return `Overlapping RMRRs: ${range} and [${pfn(other.base)}-${pfn(other.end)}]`;
  }
  for (let mfn = base; mfn <= end; mfn++) {
    if (!mfnValid(vtd.s, mfn)) return `Invalid pfn in RMRR range ${range}`;
  }
  const segment = (sbdfs[0] ?? 0) >>> 16;
  if (sbdfs.some((x) => ((x >>> 16) | segment) !== segment)) {
    return `Segments are not equal for RMRR range ${range}`;
  }
  const scope = new DmarScope();
  scope.devices.push(...sbdfs.map((x) => x & 0xffff));
  const rmrr = { scope, base: base * 4096, end: end * 4096 + 0xfff, segment };
  return registerOneRmrr(vtd, rmrr) === 0 ? '' : `Could not register RMMR range ${range}`;
}

/** A range of `rmrr=`; one that cannot be is only complained about. @xen add_one_user_rmrr */
function addOneUserRmrr(vtd: Vtd, base: number, end: number, sbdfs: readonly number[]): void {
  if (vtd.opts.verbose) {
    const first = sbdfs[0] ?? 0;
    const range = `[${base.toString(16)}-${end.toString(16)}]`;
    const device = `device ([0]: ${first === 0 ? '0' : `0x${first.toString(16)}`})`;
    vtd.s.printk(XENLOG.DEBUG, `${VTDPREFIX}Adding RMRR for ${sbdfs.length} ${device} range ${range}`);
  }
  const problem = userRmrrProblem(vtd, base, end, sbdfs);
  if (problem !== '') vtd.s.printk(XENLOG.ERR, VTDPREFIX + problem);
}

/**
 * Reads the table and allocates each unit's root table. Units are not touched beyond their capability registers.
 * @returns the driver, or why VT-d is off: what the table's first bad structure returned, -ENOMEM.
 * @throws DmarError when the table has no usable header. @xen acpi_dmar_init
 */
export function acpiDmarInit(s: XenServices, table: Uint8Array): VtdDriver | Errno {
  const vtd = new Vtd(s);
  const rc = acpiParseDmar(vtd, table);
  if (rc !== 0) return rc as Errno;
  for (const drhd of vtd.drhds) {
    drhd.iommu!.rootMfn = allocPgtableMaddr(vtd, 0);
    if (drhd.iommu!.rootMfn === 0) return E.NOMEM;
  }
  for (const r of s.extraRanges) addOneUserRmrr(vtd, r.start, r.start + r.frames - 1, r.sbdfs);
  return new VtdDriver(vtd);
}
