/** Xen's command line: which options are modelled, and what they set. @xen common/kernel.c parse_params */
import { E, type Rc } from '../base/errno.js';
import type { ExtraRange, IommuOptions } from '../iommu/driver/types.js';
import { PARAMS } from './cmdline_names.js';
import type { Console } from './console.js';
import { type MemSize, parseDom0MaxVcpus, parseDom0Mem, parseSize, type Range } from './dom0_options.js';
import { parseBool } from './passthrough/bool_param.js';
import { parseDom0IommuParam, parseIommuParam } from './passthrough/iommu_options.js';
import { parseIvmdParam, parsePciParam, parsePciPhantom, parseRmrrParam } from './passthrough/pci_options.js';
import type { PciOptions, PhantomOption } from './xen.js';

/** What the command line decides. */
export interface CmdlineResult {
  readonly iommu: IommuOptions;
  readonly phantoms: PhantomOption[];
  readonly extraRanges: ExtraRange[];
  readonly pci: PciOptions;
  /** `dom0_mem=`: the amount itself, and what it is kept between. */
  readonly dom0Mem: { size?: MemSize; min?: MemSize; max?: MemSize };
  /** `dom0_max_vcpus=` */
  dom0Vcpus: Range | undefined;
  /** `conring_size=` in bytes, 0 when not given. */
  conringSize: number;
  syncConsole: boolean;
  /** `bootscrub=idle`, the default. */
  scrubsInBackground: boolean;
}

/** @xen drivers/passthrough/iommu.c, x86/iommu.c: the defaults of the variables */
class DefaultOptions implements IommuOptions {
  enable = true;
  force = false;
  quarantine: IommuOptions['quarantine'] = 'basic';
  verbose = false;
  debug = false;
  crashDisable = false;
  igfx = true;
  qinval = true;
  snoop = true;
  superpages = true;
  intremap: IommuOptions['intremap'] = 'full';
  intpost = false;
  hapPtShare = true;
  amdPerdevIntremap = true;
  ats = false;
  devIotlbTimeoutMs = 1000;
  hwdomStrict = false;
  hwdomPassthrough = false;
  hwdomInclusive = false;
  hwdomReserved: IommuOptions['hwdomReserved'] = -1;
  hwdomNone = false;
  nonCoherent = false;
}
export const defaultIommuOptions = (): IommuOptions => new DefaultOptions();

/** @xen MAX_PARAM_SIZE, less the terminator */
const PARAM_CHARS_MAX = 127;

/** Options that came before a mistake count. What Xen cannot use it complains about on its console. */
export function parseCmdline(cmdline: string, console: Console): CmdlineResult {
  const r: CmdlineResult = {
    iommu: defaultIommuOptions(),
    phantoms: [],
    extraRanges: [],
    pci: { maskSerr: false, maskPerr: false, quirks: true },
    dom0Mem: {},
    dom0Vcpus: undefined,
    conringSize: 0,
    syncConsole: false,
    scrubsInBackground: true,
  };
  if (cmdline === '') return r;
  // Quotes mean nothing to Xen: boot loaders take them away.
  for (const word of cmdline.split(' '))
    if (word !== '') parseWord(r, word.slice(0, PARAM_CHARS_MAX), console);
  return r;
}

function parseWord(r: CmdlineResult, word: string, console: Console): void {
  const eq = word.indexOf('=');
  const key = eq < 0 ? word : word.slice(0, eq);
  const given = eq < 0 ? '' : word.slice(eq + 1);
  const negated = key.startsWith('no-');
  const name = negated ? key.slice(3) : key;
  const kind = PARAMS.get(name);
  if (kind === undefined) {
    const bracket = eq < 0 ? -1 : key.search(/[([{<]/);
    if (bracket < 0 || PARAMS.get(key.slice(0, bracket + 1)) !== 'custom')
      console.printk(CMDLINE_LEVEL, `parameter "${key}" unknown!`);
    return;
  }
  let value = given;
  let rc: Rc = 0;
  if (kind === 'boolean') rc = setBoolean(r, name, value, negated);
  else if (negated && kind === 'custom' && value !== '') rc = E.INVAL;
  else {
    if (negated && kind === 'custom') value = 'no';
    rc = setValue(r, name, value, console);
  }
  if (rc !== 0) console.printk(CMDLINE_LEVEL, `parameter "${key}" has invalid value "${value}", rc=${rc}!`);
}

/** The default level is always printed before `loglvl=` says otherwise. */
const CMDLINE_LEVEL = 1;

function setBoolean(r: CmdlineResult, name: string, value: string, negated: boolean): Rc {
  const on = value === '' ? 1 : parseBool(value);
  if (on < 0) return on;
  if (name === 'ats') r.iommu.ats = (on === 1) !== negated;
  else if (name === 'sync_console') r.syncConsole = (on === 1) !== negated;
  else if (name === 'iommu_inclusive_mapping') r.iommu.hwdomInclusive = (on === 1) !== negated;
  return 0;
}

function setValue(r: CmdlineResult, name: string, value: string, console: Console): Rc {
  switch (name) {
    case 'iommu':
      return parseIommuParam(r.iommu, value);
    case 'dom0-iommu':
      return parseDom0IommuParam(r.iommu, value);
    case 'iommu_dev_iotlb_timeout':
      return setTimeoutMs(r.iommu, value);
    case 'pci-phantom':
      return parsePciPhantom(r.phantoms, value);
    case 'pci':
      return parsePciParam(r.pci, value);
    case 'rmrr':
      return parseRmrrParam(r.extraRanges, value, (text) => console.printk(CMDLINE_LEVEL, text));
    case 'ivmd':
      return parseIvmdParam(r.extraRanges, value);
    case 'loglvl':
      return console.setLevels('host', value);
    case 'guest_loglvl':
      return console.setLevels('guest', value);
    case 'conring_size': {
      const size = parseSize(value);
      r.conringSize = size.bytes;
      return size.rest === '' ? 0 : E.INVAL;
    }
    case 'bootscrub':
      r.scrubsInBackground = value === 'idle';
      return value === '' || value === 'idle' || parseBool(value) >= 0 ? 0 : E.INVAL;
    case 'dom0_mem':
      return parseDom0Mem(r.dom0Mem, value);
    case 'dom0_max_vcpus': {
      const { rc, ...range } = parseDom0MaxVcpus(value);
      r.dom0Vcpus = range;
      return rc;
    }
    default:
      return 0; // serial lines, cpufreq and the like have no effect here
  }
}

/** What is a number counts, even where more follows. @xen OPT_UINT */
function setTimeoutMs(o: IommuOptions, value: string): Rc {
  const m = /^(-?)(0x[0-9a-f]+|[0-9]*)/i.exec(value)!;
  const octal = /^0[0-7]+$/.test(m[2]!);
  const ms = octal ? Number.parseInt(m[2]!, 8) : Number(m[2]);
  if (m[1] === '-' ? ms > 2 ** 31 : ms >= 2 ** 32) return E.OVERFLOW;
  o.devIotlbTimeoutMs = m[1] === '-' && ms > 0 ? 2 ** 32 - ms : ms;
  return m[0].length === value.length ? 0 : E.INVAL;
}
