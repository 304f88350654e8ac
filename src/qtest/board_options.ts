/** A QEMU command line, as far as the test board understands it; what it does not know is passed over. */
import { InputError } from '../base/assert.js';
import { DEVICE_MODELS } from './devices.js';
import { DEFAULT_QUIRKS, parseQuirks, QUIRKS, type Quirk } from './quirks.js';

export interface DeviceOption {
  readonly driver: string;
  readonly properties: ReadonlyMap<string, string>;
}

export interface BoardOptions {
  /** `none` has no board at all: only questions by QMP are answered. */
  readonly machine: 'q35' | 'none';
  readonly ramBytes: number;
  readonly vga: boolean;
  readonly devices: readonly DeviceOption[];
  readonly extendedTsegMbytes: number;
  /** System management memory at 0x30000 can be locked: machine types from 5.0 on. */
  readonly smbase: boolean;
  readonly quirks: ReadonlySet<Quirk>;
  /** Sockets to connect to. */
  readonly qtestSocket: string | undefined;
  readonly qmpSocket: string | undefined;
}

const MIB = 2 ** 20;
const RAM_MAX = 64 * 1024 * MIB;
const TSEG_DEFAULT = 16;

/** The command line asks for something that cannot be. */
export const commandLineError = (problem: string): InputError =>
  new InputError('qemu command line', '', problem, 'docs/qtest.md says what is understood');

const refuse = (problem: string): never => {
  throw commandLineError(problem);
};

/** `a,b=c,d` as its first word and a map of the rest; a word without `=` is the property `on`. */
function words(text: string): { first: string; properties: Map<string, string> } {
  const [first = '', ...rest] = text.split(',');
  const properties = new Map<string, string>();
  for (const word of rest) {
    const eq = word.indexOf('=');
    if (eq < 0) properties.set(word, 'on');
    else properties.set(word.slice(0, eq), word.slice(eq + 1));
  }
  return { first, properties };
}

/** `512`, `512M`, `2G`, `size=512M`: bytes; a bare number counts MiB. */
function memory(text: string): number {
  const m = /^(?:size=)?(\d{1,7})([KMGkmg]?)/.exec(text);
  if (m === null) return refuse(`-m ${text} is no size`);
  const unit = { '': MIB, m: MIB, k: 1024, g: 1024 * MIB }[m[2]!.toLowerCase() as '' | 'k' | 'm' | 'g'];
  const bytes = Number(m[1]) * unit;
  if (bytes < MIB || bytes > RAM_MAX) return refuse(`-m ${text}: 1 MiB to 64 GiB can be simulated`);
  return bytes;
}

/** Options that take no argument; all others take one. */
const FLAGS: ReadonlySet<string> = new Set([
  'nodefaults',
  'nographic',
  'S',
  'no-reboot',
  'no-shutdown',
  'enable-kvm',
  'no-acpi',
  'no-hpet',
  'no-user-config',
  'daemonize',
  'snapshot',
]);

type Mutable = { -readonly [K in keyof BoardOptions]: BoardOptions[K] };

export function parseCommandLine(argv: readonly string[]): BoardOptions {
  const devices: DeviceOption[] = [];
  const o: Mutable = {
    machine: 'q35',
    ramBytes: 128 * MIB,
    vga: true,
    devices,
    extendedTsegMbytes: TSEG_DEFAULT,
    smbase: true,
    quirks: new Set(DEFAULT_QUIRKS),
    qtestSocket: undefined,
    qmpSocket: undefined,
  };
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (!word.startsWith('-')) return refuse(`${word}: images cannot be loaded`);
    const name = word.replace(/^--?/, '');
    if (FLAGS.has(name)) {
      if (name === 'nodefaults') o.vga = false;
      continue;
    }
    if (++i >= argv.length) return refuse(`${word} needs an argument`);
    option(o, devices, name, argv[i]!);
  }
  return o;
}

function option(o: Mutable, devices: DeviceOption[], name: string, value: string): void {
  switch (name) {
    case 'M':
    case 'machine':
      machine(o, value);
      return;
    case 'm':
      o.ramBytes = memory(value);
      return;
    case 'vga':
      if (value === 'none') o.vga = false;
      return;
    case 'device':
      devices.push(device(value));
      return;
    case 'global':
      if (value.startsWith('mch.extended-tseg-mbytes='))
        o.extendedTsegMbytes = Math.min(Number(value.split('=')[1]) || 0, 0xfff);
      return;
    case 'qtest':
      o.qtestSocket = socketPath(value);
      return;
    case 'chardev':
      o.qmpSocket = words(value).properties.get('path') ?? o.qmpSocket;
  }
}

function machine(o: Mutable, value: string): void {
  const { first, properties } = words(value);
  const name = first.startsWith('type=') ? first.slice(5) : first;
  if (name === 'none') o.machine = 'none';
  else if (name !== 'q35' && name !== '' && !/^pc-q35-\d+\.\d+$/.test(name) && name !== 'pc')
    refuse(`unsupported machine type "${name}"; q35 and none exist`);
  if (/^pc-q35-[0-4]\./.test(name)) o.smbase = false;
  const asQemu = properties.get('as-qemu');
  if (asQemu === undefined) return;
  o.quirks =
    parseQuirks(asQemu) ?? refuse(`as-qemu=${asQemu} names no quirk; there are ${QUIRKS.join(', ')}`);
}

function device(value: string): DeviceOption {
  const { first, properties } = words(value);
  if (first !== 'intel-iommu' && !DEVICE_MODELS.has(first))
    refuse(`'${first}' is not a valid device model name`);
  return { driver: first, properties };
}

function socketPath(value: string): string {
  return value.startsWith('unix:')
    ? value.slice(5).split(',')[0]!
    : refuse(`-qtest ${value} is no UNIX socket`);
}
