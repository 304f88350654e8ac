/** Xen's command line: which options are modelled, and what they set. @xen common/kernel.c cmdline_parse */
import type { ExtraRange, IommuOptions } from '../iommu/driver/types.js';
import type { Console } from './console.js';
import { parseDom0IommuParam, parseIommuParam } from './passthrough/iommu_options.js';
import { parseIvmdParam, parsePciParam, parsePciPhantom, parseRmrrParam } from './passthrough/pci_options.js';
import type { PciOptions, PhantomOption } from './xen.js';

/** What the command line decides. */
export interface CmdlineResult {
  readonly iommu: IommuOptions;
  readonly phantoms: PhantomOption[];
  readonly extraRanges: ExtraRange[];
  readonly pci: PciOptions;
  /** `dom0_mem=` in bytes, undefined when not given. */
  dom0MemBytes: number | undefined;
  dom0MaxVcpus: number | undefined;
  /** Lines Xen prints about options it could not use. */
  readonly complaints: string[];
}

/** @xen drivers/passthrough/iommu.c, x86/iommu.c: the defaults of the variables */
export const defaultIommuOptions = (): IommuOptions => ({
  enable: true,
  force: false,
  quarantine: 'basic',
  verbose: false,
  debug: false,
  crashDisable: false,
  igfx: true,
  qinval: true,
  snoop: true,
  superpages: true,
  intremap: 'full',
  intpost: false,
  hapPtShare: true,
  amdPerdevIntremap: true,
  ats: false,
  devIotlbTimeoutMs: 1000,
  hwdomStrict: false,
  hwdomPassthrough: false,
  hwdomInclusive: false,
  hwdomReserved: -1,
  hwdomNone: false,
  nonCoherent: false,
});

const UNITS: Readonly<Record<string, number>> = { B: 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };

/** `512M`, `1G`; a number without a unit counts KiB. Undefined when malformed. @xen parse_size_and_unit */
export function parseSize(text: string): number | undefined {
  const m = /^(0x[0-9a-f]{1,12}|[0-9]{1,15})([BKMGT]?)$/i.exec(text);
  if (m === null) return undefined;
  const unit = m[2] === '' ? 1024 : UNITS[m[2]!.toUpperCase()]!;
  return Number(m[1]) * unit;
}

/** `dom0_mem=[min:<size>],[max:<size>],[<size>]`: the amount itself. @xen parse_dom0_mem */
function parseDom0Mem(value: string): number | undefined {
  let bytes: number | undefined;
  for (const part of value.split(',')) {
    if (part.startsWith('min:') || part.startsWith('max:')) continue;
    bytes = parseSize(part);
  }
  return bytes;
}

/** Splits at blanks; a double-quoted value may hold some. */
function words(cmdline: string): string[] {
  const found: string[] = [];
  let word = '';
  let quoted = false;
  for (const c of cmdline) {
    if (c === '"') quoted = !quoted;
    else if (c === ' ' && !quoted) {
      if (word !== '') found.push(word);
      word = '';
    } else word += c;
  }
  if (word !== '') found.push(word);
  return found;
}

export function parseCmdline(cmdline: string, console: Console): CmdlineResult {
  const r: CmdlineResult = {
    iommu: defaultIommuOptions(),
    phantoms: [],
    extraRanges: [],
    pci: { maskSerr: false, maskPerr: false, quirks: true },
    dom0MemBytes: undefined,
    dom0MaxVcpus: undefined,
    complaints: [],
  };
  for (const word of words(cmdline)) {
    const eq = word.indexOf('=');
    const name = eq < 0 ? word : word.slice(0, eq);
    const value = eq < 0 ? '' : word.slice(eq + 1);
    const rc = applyOption(r, name, value, console);
    if (rc !== 0) r.complaints.push(`parameter "${name}" has invalid value "${value}", rc=${rc}!`);
  }
  return r;
}

function applyOption(r: CmdlineResult, name: string, value: string, console: Console): number {
  const INVAL = -22;
  switch (name) {
    case 'iommu':
      return parseIommuParam(r.iommu, value);
    case 'dom0-iommu':
      return parseDom0IommuParam(r.iommu, value);
    case 'iommu_inclusive_mapping':
      r.iommu.hwdomInclusive = value === '' || /^(1|yes|on|true|enable)$/.test(value);
      return 0;
    case 'iommu_dev_iotlb_timeout':
      if (!/^[0-9]{1,9}$/.test(value)) return INVAL;
      r.iommu.devIotlbTimeoutMs = Number(value);
      return 0;
    case 'ats':
      r.iommu.ats = value === '' || /^(1|yes|on|true|enable)$/.test(value);
      return 0;
    case 'no-ats':
      r.iommu.ats = false;
      return 0;
    case 'pci-phantom':
      return parsePciPhantom(r.phantoms, value);
    case 'pci':
      return parsePciParam(r.pci, value);
    case 'rmrr':
      return parseRmrrParam(r.extraRanges, value);
    case 'ivmd':
      return parseIvmdParam(r.extraRanges, value);
    case 'loglvl':
      return console.setLevels('host', value) ? 0 : INVAL;
    case 'guest_loglvl':
      return console.setLevels('guest', value) ? 0 : INVAL;
    case 'dom0_mem':
      r.dom0MemBytes = parseDom0Mem(value);
      return r.dom0MemBytes === undefined ? INVAL : 0;
    case 'dom0_max_vcpus':
      if (!/^[0-9]{1,4}$/.test(value)) return INVAL;
      r.dom0MaxVcpus = Number(value);
      return 0;
    default:
      return 0; // serial lines, cpufreq and the like have no effect here
  }
}
