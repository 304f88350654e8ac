/** A host as a user gives it: a folder of files taken from a real machine, or a dump of lspci alone. */
import { InputError } from '../base/assert.js';
import { parseSbdf, type Sbdf, segOf } from '../base/sbdf.js';
import type { E820Entry } from '../iommu/driver/types.js';
import { readAcpiTable } from './acpi.js';
import { defaultDmar, defaultIvrs } from './default_tables.js';
import { defaultE820, ramRanges, readE820 } from './e820.js';
import type { FunctionDescription, HostDescription } from './host_description.js';
import { type HostJson, readHostJson } from './host_json.js';
import { readLspci } from './lspci.js';

/** Files of a host folder; others in it are ignored. */
export const HOST_FILES = ['lspci.txt', 'DMAR', 'IVRS', 'e820', 'host.json'] as const;

export interface HostInput {
  readonly host: HostDescription;
  /** What was passed over or made up, one sentence each. */
  readonly notes: readonly string[];
}

/** The folder `name` with its files by name. Only `lspci.txt` must be there. */
export function readHost(name: string, files: ReadonlyMap<string, Uint8Array>): HostInput {
  const dump = files.get('lspci.txt');
  if (dump === undefined) {
    const remedy = 'put the output of `sudo lspci -vvnnxxxx` there';
    throw new InputError(`${name}/lspci.txt`, '', 'no such file', remedy);
  }
  const table = (signature: 'DMAR' | 'IVRS'): Uint8Array | undefined => {
    const data = files.get(signature);
    return data === undefined ? undefined : readAcpiTable(`${name}/${signature}`, signature, data);
  };
  const json = files.get('host.json');
  const e820 = files.get('e820');
  return assemble(name, {
    dumpName: `${name}/lspci.txt`,
    dump,
    dmar: table('DMAR'),
    ivrs: table('IVRS'),
    e820: e820 === undefined ? undefined : readE820(`${name}/e820`, e820),
    json: json === undefined ? {} : readHostJson(`${name}/host.json`, json),
    jsonName: `${name}/host.json`,
  });
}

/** A dump alone; everything else is the default. */
export function readHostFile(name: string, data: Uint8Array): HostInput {
  return assemble(name, {
    dumpName: name,
    dump: data,
    dmar: undefined,
    ivrs: undefined,
    e820: undefined,
    json: {},
    jsonName: name,
  });
}

interface Parts {
  readonly dumpName: string;
  readonly dump: Uint8Array;
  readonly dmar: Uint8Array | undefined;
  readonly ivrs: Uint8Array | undefined;
  readonly e820: E820Entry[] | undefined;
  readonly json: HostJson;
  readonly jsonName: string;
}

const DEFAULT_MEMORY_MIB = 16_384;

function assemble(name: string, parts: Parts): HostInput {
  const { json } = parts;
  if (parts.dmar !== undefined && parts.ivrs !== undefined) {
    throw new InputError(name, '', 'both a DMAR and an IVRS', 'keep the one of this machine');
  }
  const dump = readLspci(parts.dumpName, parts.dump);
  const notes = [...dump.notes];
  const vendor = vendorOf(parts, dump.functions);
  const tables = tablesOf(parts, vendor, dump.functions, notes);
  const e820 = parts.e820 ?? defaultE820((json.memoryMiB ?? DEFAULT_MEMORY_MIB) * 2 ** 20);
  if (parts.e820 === undefined) notes.push(`no e820 file: a usual map of ${memoryMiB(e820)} MiB is assumed`);
  const host: HostDescription = {
    name: json.name ?? baseName(name),
    functions: withDrivers(parts.jsonName, tables.functions, json.drivers),
    slots: dump.slots,
    e820,
    cpu: cpuOf(json, vendor),
    ...(tables.dmar === undefined ? {} : { dmar: tables.dmar }),
    ...(tables.ivrs === undefined ? {} : { ivrs: tables.ivrs }),
    ...(json.vtdUnits === undefined ? {} : { vtdUnits: json.vtdUnits.map(vtdUnit) }),
    ...(json.amdFeatures === undefined ? {} : { amdFeatures: words(json.amdFeatures) }),
    ...(json.xenCmdline === undefined ? {} : { xenCmdline: json.xenCmdline }),
    dom0: dom0Of(json, e820),
    ...(json.guests === undefined ? {} : { guests: json.guests }),
  };
  return { host, notes };
}

const VENDOR_AMD = 0x1022;

/** What host.json says, else whose firmware table there is, else who made the host bridge at 00:00.0. */
function vendorOf(parts: Parts, functions: readonly FunctionDescription[]): 'intel' | 'amd' {
  if (parts.json.cpu?.vendor !== undefined) return parts.json.cpu.vendor;
  if (parts.dmar !== undefined) return 'intel';
  if (parts.ivrs !== undefined) return 'amd';
  const bridge = functions.find((f) => f.sbdf === 0);
  return bridge !== undefined && bridge.config[0]! + bridge.config[1]! * 256 === VENDOR_AMD ? 'amd' : 'intel';
}

interface Tables {
  readonly dmar?: Uint8Array;
  readonly ivrs?: Uint8Array;
  readonly functions: readonly FunctionDescription[];
}

function tablesOf(
  parts: Parts,
  vendor: 'intel' | 'amd',
  functions: readonly FunctionDescription[],
  notes: string[],
): Tables {
  if (parts.dmar !== undefined) return { dmar: parts.dmar, functions };
  if (parts.ivrs !== undefined) return { ivrs: parts.ivrs, functions };
  if (vendor === 'amd') {
    notes.push('no IVRS: one AMD IOMMU that covers segment 0 is assumed');
    return defaultIvrs(functions);
  }
  const segments = [...new Set(functions.map((f) => segOf(f.sbdf)))].sort((a, b) => a - b).slice(0, 64);
  notes.push('no DMAR: one VT-d unit that covers each segment is assumed');
  return { dmar: defaultDmar(segments), functions };
}

function cpuOf(json: HostJson, vendor: 'intel' | 'amd'): HostDescription['cpu'] {
  const c = json.cpu ?? {};
  return {
    vendor,
    count: c.count ?? 8,
    model: c.model ?? (vendor === 'intel' ? 'Intel(R) Core(TM) Processor' : 'AMD Ryzen Processor'),
    khz: Math.round((c.mhz ?? 3000) * 1000),
    hap: c.hap ?? true,
    hap2m: c.hap2m ?? true,
    hap1g: c.hap1g ?? true,
    cx16: c.cx16 ?? true,
    ...(c.intelModel === undefined ? {} : { intelModel: c.intelModel }),
    ...(c.hwCaps === undefined ? {} : { hwCaps: c.hwCaps.map((w) => Number.parseInt(w, 16)) }),
  };
}

function dom0Of(json: HostJson, e820: readonly E820Entry[]): HostDescription['dom0'] {
  const d = json.dom0 ?? {};
  return {
    memoryBytes: (d.memoryMiB ?? Math.min(4096, Math.floor(memoryMiB(e820) / 4))) * 2 ** 20,
    vcpus: d.vcpus ?? json.cpu?.count ?? 8,
    hostname: d.hostname ?? 'dom0',
    kernelRelease: d.kernelRelease ?? '6.1.0-56-amd64',
    kernelCmdline: d.kernelCmdline ?? 'placeholder root=/dev/sda1 ro console=hvc0',
    pciback: d.pciback ?? 'module',
    files: d.files ?? {},
  };
}

const memoryMiB = (e820: readonly E820Entry[]): number =>
  Math.round(ramRanges(e820).reduce((n, r) => n + r.count, 0) / 256);

function withDrivers(
  source: string,
  functions: readonly FunctionDescription[],
  drivers: HostJson['drivers'],
): readonly FunctionDescription[] {
  if (drivers === undefined) return functions;
  const known = new Set(functions.map((f) => f.sbdf));
  const bySbdf = new Map<Sbdf, string | null>();
  for (const [text, driver] of Object.entries(drivers)) {
    const sbdf = parseSbdf(text);
    if (sbdf === undefined || !known.has(sbdf)) {
      const remedy = 'name a function of the dump';
      throw new InputError(source, `drivers.${text}`, 'no such function in the dump', remedy);
    }
    bySbdf.set(sbdf, driver);
  }
  return functions.map((f) => {
    const driver = bySbdf.get(f.sbdf);
    if (driver === undefined) return f;
    const { driver: _old, ...rest } = f;
    return driver === null ? rest : { ...rest, driver };
  });
}

type Unit = NonNullable<HostJson['vtdUnits']>[number];
const vtdUnit = (u: Unit): NonNullable<HostDescription['vtdUnits']>[number] => ({
  base: Number(u.base),
  ...(u.cap === undefined ? {} : { cap: words(u.cap) }),
  ...(u.ecap === undefined ? {} : { ecap: words(u.ecap) }),
  ...(u.version === undefined ? {} : { version: u.version }),
});

/** `0x` and up to 16 digits as low and high word. */
function words(hex: string): [number, number] {
  const digits = hex.slice(2).padStart(16, '0');
  return [Number.parseInt(digits.slice(8), 16), Number.parseInt(digits.slice(0, 8), 16)];
}

const baseName = (name: string): string =>
  name
    .replace(/[/\\]+$/, '')
    .split(/[/\\]/)
    .pop() || name;
