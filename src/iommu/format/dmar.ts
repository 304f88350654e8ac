/**
 * The DMAR table of ACPI: which VT-d units there are, which devices they serve, which memory they must reach
 * (VT-d chapter 8). `encodeDmar(parseDmar(x))` gives back x, byte for byte, for every table that parses; structures
 * of unknown type are kept verbatim. Broken lengths end in one DmarError that names the offset.
 */
import { InputError } from '../../base/assert.js';
import { sameBytes } from '../../base/same.js';
import { ByteReader, ByteWriter } from './bytes.js';

/** Remapping structure types (8.2, table 32). */
export const DMAR_TYPE = { DRHD: 0, RMRR: 1, ATSR: 2, RHSA: 3, ANDD: 4, SATC: 5, SIDP: 6 } as const;
/** Device scope types (8.3.1). */
export const SCOPE_TYPE = { ENDPOINT: 1, BRIDGE: 2, IOAPIC: 3, HPET: 4, ANDD: 5 } as const;
/** Bits of the table's flags byte (8.1). */
export const DMAR_FLAG = { INTR_REMAP: 1, X2APIC_OPT_OUT: 2, DMA_CTRL_OPT_IN: 4 } as const;
/** DRHD flags: the unit serves every device of the segment that no other unit names. */
export const DRHD_INCLUDE_PCI_ALL = 1;
/** ATSR flags: every root port of the segment supports ATS. */
export const ATSR_ALL_PORTS = 1;
export const DMAR_HEADER_BYTES = 48;
/** Xen turns the signature round once it has read the table, so a dump taken in its dom0 has the second one. */
export const DMAR_SIGNATURES = ['DMAR', 'RMAD'] as const;

export interface DeviceScope {
  readonly type: number;
  readonly flags: number;
  readonly reserved: number;
  /** I/O APIC id, HPET number or ACPI device number; reserved for PCI devices. */
  readonly enumerationId: number;
  readonly startBus: number;
  /** At least one hop; all but the last are bridges to go through. */
  readonly path: readonly { readonly dev: number; readonly fn: number }[];
}

export interface Drhd {
  readonly kind: 'drhd';
  readonly flags: number;
  /** Register pages as a power of two, in newer tables; 0 before. */
  readonly size: number;
  readonly segment: number;
  /** Address of the registers, bytes. */
  readonly base: number;
  readonly scopes: readonly DeviceScope[];
}
export interface Rmrr {
  readonly kind: 'rmrr';
  readonly reserved: number;
  readonly segment: number;
  /** Bytes; `limit` is the last one. Firmware is not obliged to order them. */
  readonly base: number;
  readonly limit: number;
  readonly scopes: readonly DeviceScope[];
}
/** Root ports with ATS; SATC: integrated devices with a trusted ATC; SIDP: devices with integrated properties. */
export interface Atsr {
  readonly kind: 'atsr' | 'satc' | 'sidp';
  readonly flags: number;
  readonly reserved: number;
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
}
export interface Rhsa {
  readonly kind: 'rhsa';
  readonly reserved: number;
  readonly base: number;
  readonly proximityDomain: number;
}
export interface Andd {
  readonly kind: 'andd';
  readonly reserved: Uint8Array;
  readonly deviceNumber: number;
  /** ACPI name, `\_SB.PCI0.I2C0`. */
  readonly name: string;
  /** What follows the name: its NUL and fill bytes. */
  readonly fill: Uint8Array;
}
/** A structure this codec does not know, its type and length included. */
export interface DmarUnknown {
  readonly kind: 'unknown';
  readonly type: number;
  readonly bytes: Uint8Array;
}
/** Only with `keepBroken`: a known structure that is too short or whose scopes do not fit. Verbatim. */
export interface DmarBroken {
  readonly kind: 'broken';
  readonly type: number;
  /** Length as the structure states it. */
  readonly length: number;
  readonly error: DmarError;
  readonly bytes: Uint8Array;
}
export type DmarStructure = Drhd | Rmrr | Atsr | Rhsa | Andd | DmarUnknown | DmarBroken;

export interface Dmar {
  readonly signature: (typeof DMAR_SIGNATURES)[number];
  readonly revision: number;
  readonly checksum: number;
  /** Texts of the header, one character a byte. */
  readonly oemId: string;
  readonly oemTableId: string;
  readonly oemRevision: number;
  readonly creatorId: string;
  readonly creatorRevision: number;
  /** Bits of a host address, minus one, as the table holds it. */
  readonly hostAddressWidth: number;
  readonly flags: number;
  readonly reserved: Uint8Array;
  readonly structures: readonly DmarStructure[];
}

export class DmarError extends InputError {
  constructor(
    source: string,
    /** Byte offset in the table. */
    readonly offset: number,
    problem: string,
  ) {
    super(source, `offset 0x${offset.toString(16)}`, problem, REMEDY);
  }
}
const REMEDY = 'dump the table again: /sys/firmware/acpi/tables/DMAR';

/** Bytes before the scopes, or of the whole structure. */
const MIN_BYTES: readonly number[] = [16, 24, 8, 20, 8, 8, 8];
/** Six bytes and one hop. */
const SCOPE_MIN_BYTES = 8;

/**
 * Reads a table. `keepBroken` turns a broken structure into an entry of its own instead of an error, as Xen meets it.
 * @throws DmarError
 */
export function parseDmar(bytes: Uint8Array, source = 'DMAR', keepBroken = false): Dmar {
  const fail = (offset: number, problem: string): DmarError => new DmarError(source, offset, problem);
  if (bytes.length < DMAR_HEADER_BYTES)
    throw fail(bytes.length, `${bytes.length} bytes are too short for a DMAR`);
  const r = new ByteReader(bytes, source, REMEDY);
  const text = r.text(4);
  const signature = DMAR_SIGNATURES.find((s) => s === text);
  if (signature === undefined) throw fail(0, 'no DMAR signature');
  const length = r.u32();
  if (length > bytes.length) throw fail(4, `the table says ${length} bytes, the file has ${bytes.length}`);
  if (length < DMAR_HEADER_BYTES) throw fail(4, `a length of ${length} bytes is too short for a DMAR`);
  if (length < bytes.length) throw fail(length, `${bytes.length - length} bytes follow the end of the table`);
  const header = {
    signature,
    revision: r.u8(),
    checksum: r.u8(),
    oemId: r.text(6),
    oemTableId: r.text(8),
    oemRevision: r.u32(),
    creatorId: r.text(4),
    creatorRevision: r.u32(),
    hostAddressWidth: r.u8(),
    flags: r.u8(),
    reserved: r.bytes(10),
  };
  const structures: DmarStructure[] = [];
  while (r.at < length) {
    const start = r.at;
    try {
      structures.push(parseStructure(r, length, fail));
    } catch (error) {
      if (!keepBroken || !(error instanceof DmarError)) throw error;
      const broken = brokenAt(bytes, start, length, error);
      structures.push(broken);
      r.at = start + broken.bytes.length;
    }
  }
  return { ...header, structures };
}

const viewOf = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** What a table said the last time: machines are made again and again from one description. */
const known = new WeakMap<
  Uint8Array,
  { readonly live: DataView; readonly copy: DataView; readonly dmar: Dmar }
>();

/** The table as the hardware is built from it and as Xen meets it: broken structures are entries. @throws DmarError */
export function firmwareDmar(bytes: Uint8Array): Dmar {
  const found = known.get(bytes);
  if (found !== undefined && sameBytes(found.live, found.copy)) return found.dmar;
  const dmar = parseDmar(bytes, 'DMAR', true);
  known.set(bytes, { live: viewOf(bytes), copy: viewOf(bytes.slice()), dmar });
  return dmar;
}

type Fail = (offset: number, problem: string) => DmarError;

/** What can be kept of a broken structure: its stated length, or all the rest where that leads nowhere. */
function brokenAt(bytes: Uint8Array, start: number, end: number, error: DmarError): DmarBroken {
  const word = (at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  const length = end - start >= 4 ? word(start + 2) : 0;
  const kept = length >= 4 && start + length <= end ? length : end - start;
  return { kind: 'broken', type: word(start), length, error, bytes: bytes.slice(start, start + kept) };
}

function parseStructure(r: ByteReader, tableEnd: number, fail: Fail): DmarStructure {
  const start = r.at;
  if (tableEnd - start < 4) throw fail(start, 'the table ends inside a structure header');
  const type = r.u16();
  const length = r.u16();
  const end = start + length;
  if (length < 4) throw fail(start + 2, `a structure of ${length} bytes cannot be`);
  if (end > tableEnd) throw fail(start + 2, `a structure of ${length} bytes reaches beyond the table`);
  const min = MIN_BYTES[type];
  if (min === undefined) {
    r.at = start;
    return { kind: 'unknown', type, bytes: r.bytes(length) };
  }
  if (length < min) throw fail(start + 2, `a structure of type ${type} needs ${min} bytes, it has ${length}`);
  switch (type) {
    case DMAR_TYPE.DRHD: {
      const fields = { flags: r.u8(), size: r.u8(), segment: r.u16(), base: address(r, fail) };
      return { kind: 'drhd', ...fields, scopes: parseScopes(r, end, fail) };
    }
    case DMAR_TYPE.RMRR: {
      const ids = { reserved: r.u16(), segment: r.u16() };
      const range = { base: address(r, fail), limit: address(r, fail) };
      return { kind: 'rmrr', ...ids, ...range, scopes: parseScopes(r, end, fail) };
    }
    case DMAR_TYPE.RHSA: {
      if (length !== min) throw fail(start + 2, `an RHSA has ${min} bytes, not ${length}`);
      return { kind: 'rhsa', reserved: r.u32(), base: address(r, fail), proximityDomain: r.u32() };
    }
    case DMAR_TYPE.ANDD: {
      const fields = { reserved: r.bytes(3), deviceNumber: r.u8() };
      const rest = r.bytes(end - r.at);
      const nul = rest.indexOf(0);
      const cut = nul < 0 ? rest.length : nul;
      const name = String.fromCharCode(...rest.subarray(0, cut));
      return { kind: 'andd', ...fields, name, fill: rest.slice(cut) };
    }
    default: {
      const kind = type === DMAR_TYPE.ATSR ? 'atsr' : type === DMAR_TYPE.SATC ? 'satc' : 'sidp';
      const fields = { flags: r.u8(), reserved: r.u8(), segment: r.u16() };
      return { kind, ...fields, scopes: parseScopes(r, end, fail) };
    }
  }
}

/** A 64-bit address. What lies beyond 2^53 exists in no machine, and would not be exact. */
function address(r: ByteReader, fail: Fail): number {
  const at = r.at;
  const [lo, hi] = r.u64();
  if (hi >= 0x20_0000) throw fail(at, 'an address does not fit 53 bits');
  return hi * 2 ** 32 + lo;
}

function parseScopes(r: ByteReader, end: number, fail: Fail): DeviceScope[] {
  const scopes: DeviceScope[] = [];
  while (r.at < end) {
    const start = r.at;
    if (end - start < SCOPE_MIN_BYTES) throw fail(start, 'a device scope is cut off');
    const type = r.u8();
    const length = r.u8();
    if (length < SCOPE_MIN_BYTES || length % 2 !== 0 || start + length > end)
      throw fail(start + 1, `a device scope of ${length} bytes does not fit`);
    const fields = { flags: r.u8(), reserved: r.u8(), enumerationId: r.u8(), startBus: r.u8() };
    const path: { dev: number; fn: number }[] = [];
    while (r.at < start + length) path.push({ dev: r.u8(), fn: r.u8() });
    scopes.push({ type, ...fields, path });
  }
  return scopes;
}

/** The table's bytes. Lengths are computed; the checksum is the one given (see `fixChecksum`). */
export function encodeDmar(d: Dmar): Uint8Array {
  const w = new ByteWriter();
  w.text(d.signature, 4);
  w.u32(0);
  w.u8(d.revision);
  w.u8(d.checksum);
  w.text(d.oemId, 6);
  w.text(d.oemTableId, 8);
  w.u32(d.oemRevision);
  w.text(d.creatorId, 4);
  w.u32(d.creatorRevision);
  w.u8(d.hostAddressWidth);
  w.u8(d.flags);
  w.bytes(d.reserved);
  for (const s of d.structures) encodeStructure(w, s);
  w.patch32(4, w.at);
  return w.take();
}

function encodeStructure(w: ByteWriter, s: DmarStructure): void {
  if (s.kind === 'unknown' || s.kind === 'broken') {
    w.bytes(s.bytes);
    return;
  }
  const start = w.at;
  w.u16(TYPE_OF[s.kind]);
  w.u16(0);
  switch (s.kind) {
    case 'drhd':
      w.u8(s.flags);
      w.u8(s.size);
      w.u16(s.segment);
      w.address(s.base);
      break;
    case 'rmrr':
      w.u16(s.reserved);
      w.u16(s.segment);
      w.address(s.base);
      w.address(s.limit);
      break;
    case 'rhsa':
      w.u32(s.reserved);
      w.address(s.base);
      w.u32(s.proximityDomain);
      break;
    case 'andd':
      w.bytes(s.reserved);
      w.u8(s.deviceNumber);
      w.text(s.name, s.name.length);
      w.bytes(s.fill);
      break;
    default:
      w.u8(s.flags);
      w.u8(s.reserved);
      w.u16(s.segment);
  }
  if ('scopes' in s) for (const scope of s.scopes) encodeScope(w, scope);
  w.patch16(start + 2, w.at - start);
}

const TYPE_OF = { drhd: 0, rmrr: 1, atsr: 2, rhsa: 3, andd: 4, satc: 5, sidp: 6 } as const;

function encodeScope(w: ByteWriter, scope: DeviceScope): void {
  w.u8(scope.type);
  w.u8(6 + scope.path.length * 2);
  w.u8(scope.flags);
  w.u8(scope.reserved);
  w.u8(scope.enumerationId);
  w.u8(scope.startBus);
  for (const hop of scope.path) {
    w.u8(hop.dev);
    w.u8(hop.fn);
  }
}

/** Makes the bytes of an ACPI table sum to zero, as firmware must; in place. */
export function fixChecksum(table: Uint8Array): Uint8Array {
  table[9] = 0;
  table[9] = -table.reduce((sum, b) => sum + b, 0) & 0xff;
  return table;
}
