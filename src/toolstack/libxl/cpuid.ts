/** What a configuration says of CPUID, in the form that libxc takes. @xen tools/libs/light/libxl_cpuid.c */
import {
  CPU_FEATURES,
  CPUID_FLAGS,
  type CpuidNames,
  type CpuidRegister,
  type MsrNames,
} from './cpuid_names.js';

/** A leaf's registers as 32 characters each, the highest bit first: 0, 1, x (as by default), k or s (as the host). */
export interface CpuidLeaf {
  readonly leaf: number;
  readonly subleaf?: number | undefined;
  eax?: string;
  ebx?: string;
  ecx?: string;
  edx?: string;
}
/** 64 characters. */
export interface MsrPolicy {
  readonly index: number;
  policy: string;
}
export interface CpuidPolicy {
  readonly cpuid: CpuidLeaf[];
  readonly msr: MsrPolicy[];
}

/** What is wrong with an entry, by the number that xl prints. */
export const FLAG_ERRORS: readonly string[] = [
  '',
  'missing "=" in key=value',
  'unknown CPUID flag name',
  'illegal CPUID value (must be: [0|1|x|k|s])',
];
export const LINE_ERRORS: readonly string[] = [
  '',
  'illegal leaf number',
  'illegal subleaf number',
  'missing colon',
  'invalid register name (must be e[abcd]x)',
  'policy string must be exactly 32 characters long',
];
const [NO_EQUALS, UNKNOWN, ILLEGAL] = [1, 2, 3] as const;

const WIDTH = 32;
const SAME = 'x'.repeat(WIDTH);

interface Found {
  readonly row: CpuidNames | MsrNames;
  readonly bit: number;
  readonly length: number;
}

/** A number as strtoul reads it, and nothing when there is none. */
function number(text: string): bigint | undefined {
  const m = /^\s*([+-]?)(0x[0-9a-f]{1,16}|\d{1,20})/i.exec(text);
  if (m === null) return undefined;
  const digits = m[2]!;
  const octal = /^0[0-7]+/.exec(digits);
  const n = octal === null ? BigInt(digits) : BigInt(`0o${octal[0].slice(1)}`);
  return BigInt.asUintN(64, m[1] === '-' ? -n : n);
}

function find(rows: readonly (CpuidNames | MsrNames)[], name: string): Found | undefined {
  for (const row of rows) {
    for (const item of row.names.split(' ')) {
      const colon = item.indexOf(':');
      if (item.slice(colon + 1) !== name) continue;
      const [bit = 0, length = 1] = item.slice(0, colon).split('+').map(Number);
      return { row, bit, length };
    }
  }
  return undefined;
}

export function leafOf(policy: CpuidPolicy, leaf: number, subleaf: number | undefined): CpuidLeaf {
  const known = policy.cpuid.find((l) => l.leaf === leaf && l.subleaf === subleaf);
  if (known !== undefined) return known;
  const made: CpuidLeaf = subleaf === undefined ? { leaf } : { leaf, subleaf };
  policy.cpuid.push(made);
  return made;
}

const put = (text: string, at: number, part: string): string =>
  text.slice(0, at) + part + text.slice(at + part.length);

/** `key=value`. 0, or which of FLAG_ERRORS. @xen libxl_cpuid_parse_config */
export function parseCpuidFlag(policy: CpuidPolicy, text: string): number {
  const equals = text.indexOf('=');
  if (equals < 0) return NO_EQUALS;
  const [name, value] = [text.slice(0, equals), text.slice(equals + 1)];
  const found = find(CPUID_FLAGS, name) ?? find(CPU_FEATURES, name);
  if (found === undefined) return UNKNOWN;
  const { row } = found;
  return 'msr' in row ? setMsr(policy, row, found.bit, value) : setCpuid(policy, row, found, name, value);
}

function setCpuid(policy: CpuidPolicy, row: CpuidNames, at: Found, name: string, value: string): number {
  const entry = leafOf(policy, row.leaf, row.subleaf);
  const n = number(value);
  if (n === undefined && !/^[xks]/.test(value)) return ILLEGAL;
  const bits =
    n === undefined
      ? value[0]!.repeat(at.length)
      : BigInt.asUintN(at.length, n).toString(2).padStart(at.length, '0');
  entry[row.reg] = withBits(entry[row.reg] ?? SAME, name, at, bits, n ?? 0n);
  return 0;
}

/** Family and model are split over two fields. */
function withBits(text: string, name: string, at: Found, bits: string, n: bigint): string {
  const [low, high] = [WIDTH - 4 - at.bit, bits.slice(4)];
  if (name === 'family') {
    if (n < 16n) return put(put(text, low, high), WIDTH - 8 - 20, '00000000');
    const extended = BigInt.asUintN(7, n - 15n)
      .toString(2)
      .padStart(7, '0');
    return put(put(text, low, '1111'), WIDTH - 8 - 20, bits[0]! + extended);
  }
  if (name === 'model') return put(put(text, WIDTH - 4 - 16, bits.slice(0, 4)), low, high);
  return put(text, WIDTH - at.length - at.bit, bits);
}

function setMsr(policy: CpuidPolicy, row: MsrNames, bit: number, value: string): number {
  let entry = policy.msr.find((m) => m.index === row.msr);
  if (entry === undefined) {
    entry = { index: row.msr, policy: 'x'.repeat(64) };
    policy.msr.push(entry);
  }
  if (!/^[01xks]$/.test(value)) return ILLEGAL;
  entry.policy = put(entry.policy, 63 - row.from - bit, value === 's' ? 'k' : value);
  return 0;
}

/** `leaf[,subleaf]:eax=…,ebx=…`. 0, or which of LINE_ERRORS. @xen libxl_cpuid_parse_config_xend */
export function parseCpuidLine(policy: CpuidPolicy, text: string): number {
  const m = /^(\s*[+-]?(?:0x[0-9a-f]{1,16}|\d{1,20}))(?:(,)(\s*[+-]?(?:0x[0-9a-f]{1,16}|\d{1,20}))?)?/i.exec(
    text,
  );
  if (m === null) return 1;
  if (m[2] !== undefined && m[3] === undefined) return 2;
  let rest = text.slice(m[0].length);
  if (!rest.startsWith(':')) return 3;
  const low32 = (t: string): number => Number(BigInt.asUintN(32, number(t)!));
  const entry = leafOf(policy, low32(m[1]!), m[3] === undefined ? undefined : low32(m[3]));
  for (rest = rest.slice(1); rest !== ''; ) {
    const equals = rest.indexOf('=');
    if (!/^e[abcd]x/.test(rest) || equals < 0) return 4;
    const reg = rest.slice(0, 3) as CpuidRegister;
    const comma = rest.indexOf(',', equals);
    const value = rest.slice(equals + 1, comma < 0 ? undefined : comma);
    if (value.length !== WIDTH) return 5;
    entry[reg] = value;
    rest = comma < 0 ? '' : rest.slice(comma + 1).replace(/^[ \n]+/, '');
  }
  return 0;
}
