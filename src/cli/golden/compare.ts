/** Their record of a command against ours, field by field. */
import { diffLines } from './diff.js';
import { entryLine } from './entries.js';
import { BOOT_KINDS, type LineField, RULES, type Rule } from './exclusions.js';
import { type NormalLine, normalLines } from './normal_lines.js';
import type { FaultRegisters, ReplayRecord } from './recorded_host.js';
import type { GoldenRecord } from './recording.js';

export const FIELDS = [
  'exit',
  'stdout',
  'stderr',
  'console',
  'kernel',
  'trace',
  'entries',
  'keys',
  'faults',
  'memory',
] as const;
export type Field = (typeof FIELDS)[number];

/** A line that only one side has, or that both have with addresses that name other tables. */
export interface Difference {
  readonly side: 'theirs' | 'ours' | 'names';
  readonly line: NormalLine;
  /** Our text, where the sides differ in names. */
  readonly against?: string;
}

export interface FieldResult {
  readonly field: Field;
  /** Lines that both have; lines that one of them has. */
  readonly equal: number;
  readonly compared: number;
  readonly differences: readonly Difference[];
  readonly byRule: ReadonlyMap<Rule, number>;
}

const NO_RULES: ReadonlyMap<Rule, number> = new Map();
/** The recorder lost the answer. */
const LOST = -999;

/** `xen`: the command line of Xen. */
export function compareRecord(theirs: GoldenRecord, ours: ReplayRecord, xen: string): FieldResult[] {
  const boot = theirs.cmd === '<boot>';
  const results: FieldResult[] = [];
  const plain = (field: Field, a: readonly NormalLine[], b: readonly NormalLine[]): void => {
    if (a.length + b.length > 0) results.push(compareLines(field, a, b, NO_RULES));
  };
  const text = (field: LineField, a: readonly string[], b: readonly string[]): void => {
    const [na, nb] = [normalLines(field, a, boot, xen), normalLines(field, b, boot, xen)];
    if (na.lines.length + nb.lines.length + na.byRule.size > 0)
      results.push(compareLines(field, na.lines, nb.lines, na.byRule));
  };
  if (theirs.exit !== undefined && theirs.exit !== LOST)
    plain('exit', [bare(`exit ${theirs.exit}`)], [bare(`exit ${ours.exit ?? 0}`)]);
  text('stdout', textLines(theirs.stdout), textLines(ours.stdout ?? ''));
  text('stderr', textLines(theirs.stderr), textLines(ours.stderr ?? ''));
  const console = boot ? bootLines : (lines: readonly string[]) => lines;
  text('console', console(theirs.xen_log), console(ours.xen_log ?? []));
  if (!boot) text('kernel', theirs.dom0_kernel_log, ours.dom0_kernel_log ?? []);
  text('trace', theirs.vtd_trace, ours.vtd_trace ?? []);
  plain('entries', ...entryLines(theirs, ours));
  for (const [key, lines] of Object.entries(theirs.debug_keys ?? {}))
    text('keys', lines, ours.debug_keys?.[key] ?? []);
  if (theirs.fault_regs !== undefined)
    plain('faults', registerLines(theirs.fault_regs.after), registerLines(ours.fault_regs?.after ?? {}));
  plain('memory', memoryLines(theirs.machine_memory), memoryLines(ours.machine_memory));
  return results;
}

const bootLines = (lines: readonly string[]): string[] =>
  lines.filter((l) => BOOT_KINDS.some((kind) => kind.test(l)));
const bare = (key: string): NormalLine => ({ key, names: [], text: key });
const textLines = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'));

function entryLines(theirs: GoldenRecord, ours: ReplayRecord): [NormalLine[], NormalLine[]] {
  const a: NormalLine[] = [];
  const b: NormalLine[] = [];
  const changed = Object.entries(theirs.context_entries_changed ?? {}).map(([bdf, c]) => [bdf, c.after]);
  const all = { ...theirs.amd_devtab?.dtes, ...theirs.context_entries, ...Object.fromEntries(changed) };
  const oursAll = { ...ours.amd_devtab?.dtes, ...ours.context_entries };
  for (const bdf of Object.keys(all).sort()) {
    a.push(entryLine(bdf, all[bdf]));
    b.push(entryLine(bdf, oursAll[bdf]));
  }
  return [a, b];
}

const FAULT_RECORD = /^0x[0-9a-f]{16}$/;

/** The process id of a fault record means nothing while its valid bit is clear. */
function registerLines(registers: FaultRegisters): NormalLine[] {
  return Object.entries(registers).flatMap(([name, value]): NormalLine[] => {
    if (name === 'evt_base') return [{ key: 'evt_base …', names: [], text: `${name} ${String(value)}` }];
    if (!Array.isArray(value)) return [bare(`${name} ${String(value)}`)];
    const words = value as readonly string[];
    const lines: NormalLine[] = [];
    for (let i = 0; i + 1 < words.length; i += 2) {
      const [low, high] = [words[i]!, words[i + 1]!];
      if (!FAULT_RECORD.test(low) || !FAULT_RECORD.test(high)) continue;
      const top = BigInt(high) & ~(0xf_ffffn << 40n);
      lines.push(bare(`${name} ${low} 0x${top.toString(16).padStart(16, '0')}`));
    }
    return lines;
  });
}

const memoryLines = (
  memory: Readonly<Record<string, { readonly before: string; readonly after: string }>> | undefined,
): NormalLine[] => Object.entries(memory ?? {}).map(([at, m]) => bare(`${at} ${m.before} -> ${m.after}`));

function compareLines(
  field: Field,
  theirs: readonly NormalLine[],
  ours: readonly NormalLine[],
  byRule: ReadonlyMap<Rule, number>,
): FieldResult {
  const inPlace = compareSequences(theirs, ours);
  if (inPlace.differences.length === 0 || ![...theirs, ...ours].some((l) => l.anytime !== undefined))
    return { field, ...inPlace, byRule };
  // What may come at any time does not stand between what has its place.
  const has = (late: boolean) => (l: NormalLine) => (l.anytime !== undefined) === late;
  const [steady, late] = [false, true].map((x) =>
    compareSequences(theirs.filter(has(x)), ours.filter(has(x))),
  ) as [Sequences, Sequences];
  return {
    field,
    equal: steady.equal + late.equal,
    compared: steady.compared + late.compared,
    differences: [...steady.differences, ...late.differences],
    byRule,
  };
}

type Sequences = Pick<FieldResult, 'equal' | 'compared' | 'differences'>;

function compareSequences(theirs: readonly NormalLine[], ours: readonly NormalLine[]): Sequences {
  const differences: Difference[] = [];
  const renaming = new Renaming();
  let equal = 0;
  let compared = 0;
  const edits = diffLines(
    theirs.map((l) => l.key),
    ours.map((l) => l.key),
  );
  for (const e of edits) {
    compared += 1;
    const [a, b] = [theirs[e.theirs], ours[e.ours]];
    if (a === undefined || b === undefined)
      differences.push({ side: e.kind === 'ours' ? 'ours' : 'theirs', line: (a ?? b)! });
    else if (renaming.accepts(a.names, b.names)) equal += 1;
    else differences.push({ side: 'names', line: a, against: b.text });
  }
  return { equal, compared, differences };
}

/** What our kernel said while the recorder was between two commands, as far as their side may have it in a record. */
export function unrecordedLines(kernel: readonly string[]): FieldResult[] {
  const { lines } = normalLines('kernel', kernel, false, '');
  const late = lines.filter((l) => l.anytime?.id === 'reset-waits');
  return late.length === 0 ? [] : [compareLines('kernel', [], late, NO_RULES)];
}

/**
 * What one side has in one record and the other in another, where a rule allows that: such a line is compared once and
 * equal. One list of results per record.
 */
export function matchAcrossRecords(records: readonly (readonly FieldResult[])[]): FieldResult[][] {
  const waiting = new Map<string, { readonly at: FieldResult; readonly difference: Difference }[]>();
  const matched = new Map<FieldResult, Difference[]>();
  const won = new Map<FieldResult, number>();
  const take = (r: FieldResult, d: Difference): void => void matched.set(r, [...(matched.get(r) ?? []), d]);
  // What debug keys print is on the console too.
  const stream = ({ field }: FieldResult): Field => (field === 'keys' ? 'console' : field);
  for (const at of records.flat()) {
    for (const difference of at.differences) {
      if (difference.line.anytime === undefined || difference.side === 'names') continue;
      const other = difference.side === 'ours' ? 'theirs' : 'ours';
      const found = waiting.get(`${stream(at)} ${other} ${difference.line.key}`)?.shift();
      if (found === undefined) {
        const key = `${stream(at)} ${difference.side} ${difference.line.key}`;
        waiting.set(key, [...(waiting.get(key) ?? []), { at, difference }]);
        continue;
      }
      take(at, difference);
      take(found.at, found.difference);
      const theirs = difference.side === 'theirs' ? at : found.at;
      won.set(theirs, (won.get(theirs) ?? 0) + 1);
    }
  }
  return records.map((results) => results.map((r) => without(r, matched.get(r) ?? [], won.get(r) ?? 0)));
}

const UNSEEN = RULES.find((r) => r.id === 'guest-unseen')!;

/**
 * `matched` of its differences are settled; `equal` of them count as equal here, the rest where their pair is. What no
 * record of theirs has of a guest came while nothing was recorded.
 */
function without(r: FieldResult, matched: readonly Difference[], equal: number): FieldResult {
  const left = r.differences.filter((d) => !matched.includes(d));
  const differences = left.filter((d) => d.side !== 'ours' || d.line.anytime?.id !== 'guest-probes');
  const unseen = left.length - differences.length;
  if (matched.length + unseen === 0) return r;
  const byRule = new Map(r.byRule);
  if (equal > 0) byRule.set(matched[0]!.line.anytime!, equal);
  if (unseen > 0) byRule.set(UNSEEN, unseen);
  return {
    ...r,
    equal: r.equal + equal,
    compared: r.compared - matched.length + equal - unseen,
    differences,
    byRule,
  };
}

/** One to one, within a field of a record. */
class Renaming {
  private readonly forth = new Map<string, string>();
  private readonly back = new Map<string, string>();
  accepts(theirs: readonly string[], ours: readonly string[]): boolean {
    if (theirs.length !== ours.length) return false;
    return theirs.every((a, i) => {
      const b = ours[i]!;
      if (!this.forth.has(a) && !this.back.has(b)) {
        this.forth.set(a, b);
        this.back.set(b, a);
      }
      return this.forth.get(a) === b;
    });
  }
}
