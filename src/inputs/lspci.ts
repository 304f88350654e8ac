/**
 * Reads what `lspci -x`, `-xxx` or `-xxxx` printed, with or without `-v`, `-nn`, `-k` and `-D`.
 *
 * Tolerated, and noted: functions without hex bytes, functions that read all ones, domains above ffff, a function
 * listed several times, and messages of pcilib that landed inside a line. Refused: a dump that is cut off, hex lines
 * out of order, and one address with two different devices.
 */
import { InputError } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import { busOf, devfnOf, formatSbdf, type Sbdf, segOf, slotOf } from '../base/sbdf.js';
import { ConfigSpace } from '../pci/config_space.js';
import { boundSizes } from './bar_sizes.js';
import type { FunctionDescription, PhysicalSlot } from './host_description.js';
import { type Detail, parseDetail, parseHeader } from './lspci_text.js';
import { linesOf, textOf } from './text.js';
import { foldVirtual, isVirtual, type VirtualListing } from './virtual_functions.js';

export interface LspciDump {
  /** By address. */
  readonly functions: readonly FunctionDescription[];
  readonly slots: readonly PhysicalSlot[];
  /** What was passed over, one sentence each: `line 12: …`. */
  readonly notes: readonly string[];
}

export const TAKE_AGAIN = 'take the dump again with `sudo lspci -vvnnxxxx > FILE`';

/** One listing of a function while it is read. */
class Listing {
  readonly bytes: number[] = [];
  readonly regions: Extract<Detail, { kind: 'region' }>[] = [];
  driver: string | undefined = undefined;
  irq: number | undefined = undefined;
  slot: string | undefined = undefined;
  constructor(
    readonly sbdf: Sbdf | undefined,
    readonly address: string,
    readonly name: string | undefined,
    readonly line: number,
  ) {}
}

/** `source` is the file as the user named it. */
export function readLspci(source: string, data: Uint8Array): LspciDump {
  const notes: string[] = [];
  const listings = listingsOf(source, linesOf(textOf(source, data)), notes);
  const functions = new Map<Sbdf, FunctionDescription>();
  const virtual: VirtualListing[] = [];
  refuseCutOff(source, listings);
  for (const listing of listings) {
    const described = describe(source, listing, notes);
    if (described === undefined) continue;
    if (isVirtual(described.config)) {
      virtual.push({ described, regions: listing.regions, line: listing.line, address: listing.address });
      continue;
    }
    const other = functions.get(described.sbdf);
    functions.set(described.sbdf, other === undefined ? described : merge(source, other, described, listing));
    if (other !== undefined) notes.push(`line ${listing.line}: ${listing.address} is listed again`);
  }
  noteWithoutBytes(listings, functions, notes);
  foldVirtual(functions, virtual, notes);
  if (functions.size > LIMITS.devicesMax) {
    throw new InputError(
      source,
      '',
      `${functions.size} functions are more than ${LIMITS.devicesMax}`,
      'split it',
    );
  }
  if (functions.size === 0) throw new InputError(source, '', emptyProblem(listings), TAKE_AGAIN);
  const sorted = boundSizes([...functions.values()].sort((a, b) => a.sbdf - b.sbdf));
  return { functions: sorted, slots: slotsOf(listings), notes };
}

/** Those that functions are in; lspci does not tell of empty ones. */
function slotsOf(listings: readonly Listing[]): PhysicalSlot[] {
  const slots = new Map<string, PhysicalSlot>();
  for (const { sbdf, slot } of listings) {
    if (sbdf === undefined || slot === undefined || slots.has(slot)) continue;
    slots.set(slot, { name: slot, seg: segOf(sbdf), bus: busOf(sbdf), device: slotOf(devfnOf(sbdf)) });
  }
  return [...slots.values()];
}

/** Cut off between the line of the last function and its bytes. */
function refuseCutOff(source: string, listings: readonly Listing[]): void {
  const last = listings[listings.length - 1];
  if (last === undefined || last.bytes.length > 0 || listings.length === 1) return;
  if (listings.slice(0, -1).every((l) => l.bytes.length > 0)) {
    const problem = `${last.address} has no bytes: the dump is cut off`;
    throw new InputError(source, `line ${last.line}`, problem, TAKE_AGAIN);
  }
}

/** Says once of each function that no listing of it has bytes. */
function noteWithoutBytes(
  listings: readonly Listing[],
  functions: ReadonlyMap<Sbdf, FunctionDescription>,
  notes: string[],
): void {
  const noted = new Set<string>();
  for (const { address, bytes, line, sbdf } of listings) {
    if (bytes.length > 0 || noted.has(address) || (sbdf !== undefined && functions.has(sbdf))) continue;
    noted.add(address);
    notes.push(`line ${line}: ${address} has no bytes and is left out`);
  }
}

function emptyProblem(listings: readonly Listing[]): string {
  if (listings.length === 0) return 'no PCI function in it';
  return `${listings.length} PCI functions but no config space bytes`;
}

const HEX = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16}) *$/i;
const HEX_START = /^[0-9a-f]{1,3}:(?:$| [0-9a-f ]*$)/i;
/** A last line without newline that stops inside an address or an offset. */
const ADDRESS_START = /^[0-9a-f:.]{1,16}$/i;
const STDERR = /^([0-9a-f]{2,3}:[0-9a-f ]{0,48})(?:pcilib|lspci): /i;

function listingsOf(source: string, lines: string[], notes: string[]): Listing[] {
  const listings: Listing[] = [];
  let current: Listing | undefined;
  for (let i = 0; i < lines.length; i++) {
    const line = mend(lines, i, notes);
    const hex = HEX.exec(line);
    if (hex !== null) {
      addHexLine(source, current, hex, i + 1);
      continue;
    }
    const last = i === lines.length - 1;
    if (HEX_START.test(line) || (last && ADDRESS_START.test(line))) {
      const problem = 'the line ends in the middle: the dump is cut off';
      throw new InputError(source, `line ${i + 1}`, problem, TAKE_AGAIN);
    }
    const header = parseHeader(line);
    if (header !== undefined) {
      current = new Listing(header.sbdf, header.address, header.name, i + 1);
      listings.push(current);
    } else if (current !== undefined) addDetail(current, parseDetail(line));
  }
  return listings;
}

/** The line, with a message of pcilib cut out; what the message pushed to the next line is fetched back. */
function mend(lines: string[], i: number, notes: string[]): string {
  const hit = STDERR.exec(lines[i]!);
  if (hit === null) return lines[i]!;
  notes.push(`line ${i + 1}: a message of pcilib inside the bytes was removed`);
  const rest = lines[i + 1] ?? '';
  if (!/^[0-9a-f ]*$/i.test(rest)) return hit[1]!;
  lines[i + 1] = '';
  return hit[1]! + rest;
}

function addHexLine(
  source: string,
  current: Listing | undefined,
  hex: RegExpExecArray,
  lineNumber: number,
): void {
  const place = `line ${lineNumber}`;
  if (current === undefined) {
    const problem = 'config space bytes without a function above them';
    throw new InputError(source, place, problem, 'keep the lines that lspci prints for each function');
  }
  const offset = Number.parseInt(hex[1]!, 16);
  if (offset !== current.bytes.length || offset >= 4096) {
    const expected = current.bytes.length.toString(16).padStart(2, '0');
    const problem = `bytes at ${hex[1]} of ${current.address} where ${expected} was expected`;
    throw new InputError(source, place, problem, TAKE_AGAIN);
  }
  const bytes = hex[2]!.trim().split(' ');
  if (bytes.length !== 16) {
    const problem = `${bytes.length} bytes instead of 16: the dump is cut off in ${current.address}`;
    throw new InputError(source, place, problem, TAKE_AGAIN);
  }
  for (const b of bytes) current.bytes.push(Number.parseInt(b, 16));
}

function addDetail(current: Listing, detail: Detail | undefined): void {
  if (detail === undefined) return;
  if (detail.kind === 'driver') current.driver = detail.driver;
  else if (detail.kind === 'irq') current.irq = detail.irq;
  else if (detail.kind === 'slot') current.slot = detail.name;
  else if (current.regions.length < 16) current.regions.push(detail);
}

/** What `lspci` shows of a function: 64 bytes to users, 128 of a CardBus bridge, 256 or all 4096 to root. */
const SIZES: readonly number[] = [64, 128, 256, 4096];

function describe(source: string, listing: Listing, notes: string[]): FunctionDescription | undefined {
  const { address, bytes, line, sbdf } = listing;
  if (bytes.length === 0) return undefined;
  if (!SIZES.includes(bytes.length)) {
    const problem = `${address} ends after ${bytes.length} bytes: the dump is cut off`;
    throw new InputError(source, `line ${line}`, problem, TAKE_AGAIN);
  }
  if (sbdf === undefined) {
    notes.push(`line ${line}: ${address} is in a domain that Xen cannot name and is left out`);
    return undefined;
  }
  if (bytes.every((b) => b === 0xff) || (bytes[0] === 0xff && bytes[1] === 0xff && !isVirtual(bytes))) {
    notes.push(`line ${line}: ${address} answers all ones (it sleeps or is gone) and is left out`);
    return undefined;
  }
  const config = Uint8Array.from(bytes);
  return {
    sbdf,
    config,
    barBytes: sizesOf(config, listing.regions),
    ...(listing.name === undefined ? {} : { name: listing.name }),
    ...(listing.driver === undefined ? {} : { driver: listing.driver }),
    ...(listing.irq === undefined ? {} : { irq: listing.irq }),
  };
}

/** `[size=…]` by register. A region without number belongs to the register that holds its address. */
function sizesOf(config: Uint8Array, regions: Listing['regions']): (number | undefined)[] {
  const sizes: (number | undefined)[] = new Array(7).fill(undefined);
  const space = new ConfigSpace(config);
  for (const region of regions) {
    const index = region.index ?? space.bars.find((b) => space.barAddress(b) === region.address)?.index;
    if (index !== undefined) sizes[index] = region.bytes;
  }
  return sizes;
}

/** Two listings of one function: the longer config space, and whatever text either has. */
function merge(
  source: string,
  a: FunctionDescription,
  b: FunctionDescription,
  second: Listing,
): FunctionDescription {
  for (let i = 0; i < 4; i++) {
    if (a.config[i] !== b.config[i]) {
      const problem = `${formatSbdf(a.sbdf)} is listed twice with different ids`;
      throw new InputError(source, `line ${second.line}`, problem, 'give the dump of one machine');
    }
  }
  const longer = b.config.length > a.config.length ? b : a;
  const other = longer === a ? b : a;
  const sizes = longer.barBytes!.map((n, i) => n ?? other.barBytes![i]);
  return { ...other, ...longer, barBytes: sizes };
}
