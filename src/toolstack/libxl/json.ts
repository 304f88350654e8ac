/** libxl's JSON: yajl's beautified form with four blanks, an empty map having an empty line of its own. */
import type { CpuidPolicy } from './cpuid.js';
import { DOMAIN_CONFIG, type Field, fieldName, type Schema } from './schema.js';
import type { DomainConfig } from './types.js';

type Json = null | boolean | number | string | Json[] | Map<string, Json>;

const isInitial = (f: Field, v: unknown): boolean => {
  switch (f.kind) {
    case 'plain':
      return v === f.init;
    case 'defbool':
      return v === undefined;
    case 'mac':
      return (v as number[]).every((b) => b === 0);
    case 'cpuid':
      return (v as CpuidPolicy).cpuid.length + (v as CpuidPolicy).msr.length === 0;
    case 'struct':
    case 'union':
      return false;
    default:
      return (v as unknown[]).length === 0;
  }
};

const toJson = (f: Field, v: unknown): Json => {
  switch (f.kind) {
    case 'defbool':
      return v === true ? 'True' : 'False';
    case 'mac':
      return (v as number[]).map((b) => b.toString(16).padStart(2, '0')).join(':');
    case 'cpuid':
      return cpuidJson(v as CpuidPolicy);
    case 'struct':
    case 'union':
      return structJson(f.of, v as Record<string, unknown>);
    case 'list':
      return (v as unknown[]).map((x) =>
        f.of === undefined ? (x as Json) : structJson(f.of, x as Record<string, unknown>),
      );
    default:
      // A value that no name belongs to has no text.
      return v === 'uninitialised' ? null : (v as Json);
  }
};

const CPUID_FIELDS = ['leaf', 'subleaf', 'eax', 'ebx', 'ecx', 'edx'] as const;

/** @xen libxl_cpuid_policy_list_gen_json */
const cpuidJson = (v: CpuidPolicy): Json =>
  new Map([
    [
      'cpuid',
      v.cpuid.map(
        (leaf) =>
          new Map<string, Json>(
            CPUID_FIELDS.flatMap((f) => (leaf[f] === undefined ? [] : [[f, leaf[f]] as const])),
          ),
      ),
    ],
    [
      'msr',
      v.msr.map(
        (m) =>
          new Map<string, Json>([
            ['index', m.index],
            ['policy', m.policy],
          ]),
      ),
    ],
  ]);

function structJson(schema: Schema, v: Record<string, unknown>): Map<string, Json> {
  const out = new Map<string, Json>();
  for (const [name, field] of schema) {
    const value = v[fieldName(name)];
    if (isInitial(field, value)) continue;
    if (field.kind !== 'union') out.set(name, toJson(field, value));
    else if (v[field.key] === name) out.set(`${field.key}.${name}`, toJson(field, value));
  }
  return out;
}

/** yajl_gen_string: control characters, quotes, backslashes and DEL are escaped; upper case hex. */
const quote = (s: string): string => {
  let out = '"';
  for (const c of s) {
    const short = '\b\f\n\r\t"\\'.indexOf(c);
    if (short >= 0) out += `\\${'bfnrt"\\'[short]}`;
    else if (c < ' ') out += `\\u00${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
    else out += c;
  }
  return `${out}"`;
};

function print(j: Json, depth: number): string {
  const pad = '    '.repeat(depth + 1);
  const end = '    '.repeat(depth);
  if (Array.isArray(j)) {
    return `[\n${j.map((x) => pad + print(x, depth + 1)).join(',\n')}\n${end}]`;
  }
  if (j instanceof Map) {
    const members = [...j].map(([k, v]) => `${pad}${quote(k)}: ${print(v, depth + 1)}`);
    return `{\n${members.join(',\n')}\n${end}}`;
  }
  return typeof j === 'string' ? quote(j) : String(j);
}

/** @xen libxl_domain_config_to_json */
export const domainConfigToJson = (c: DomainConfig): string =>
  `${print(structJson(DOMAIN_CONFIG, c as unknown as Record<string, unknown>), 0)}\n`;

/** What `xl list -l` prints for one or more domains. @xen tools/xl/xl_info.c list_domains_details */
export const domainListJson = (list: readonly { domid: number; config: DomainConfig }[]): string => {
  const items = list.map(
    ({ domid, config }) =>
      new Map<string, Json>([
        ['domid', domid],
        ['config', structJson(DOMAIN_CONFIG, config as unknown as Record<string, unknown>)],
      ]),
  );
  return `${print(items, 0)}\n`;
};
