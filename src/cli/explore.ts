// edition: co
/** `xpsim explore`: hypercalls on two or more vCPUs, under every schedule that can make a difference. */
import { InputError } from '../base/assert.js';
import { drawnSets, kitCalls, kitPairs, smallMachine, starts } from '../check/calls.js';
import { explorePair, type PairResult } from '../check/explore.js';
import type { Vendor } from '../check/machines.js';
import { formatToken } from '../check/token.js';
import { parseSchedule } from '../sim/schedule.js';
import { known } from './race.js';

export { replayRace, runRaceBug } from './race.js';

export interface ExplorePairsOptions {
  readonly vendor?: Vendor;
  readonly xen: string;
  readonly fixed?: boolean;
  /** `assign to PV,destroy PV`; more names for more vCPUs. */
  readonly pair?: string;
  readonly vcpus?: '2' | '3' | '4';
  /** Of three vCPUs and more: how many sets of calls are drawn, by the seed. */
  readonly sets?: number;
  readonly seed?: number;
  /** Schedules of a set before the rest is left to chance. */
  readonly bound?: number;
  readonly start?: string;
  /** The i-th of n parts: every n-th pair. */
  readonly shard?: { readonly index: number; readonly of: number };
  readonly schedule?: string;
  readonly json?: boolean;
}

interface Row {
  readonly vendor: Vendor;
  readonly start: string;
  readonly names: readonly string[];
}

/** Sets of three calls and more have too many schedules to run them all. */
const SETS = 20;
const BOUND = 500;
const VCPUS_MAX = 4;

/** 1 when a pair violates anything, else 0. @throws InputError for a name that is not one of the kit's */
export function explorePairs(o: ExplorePairsOptions, write: (text: string) => void): number {
  const rows = rowsOf(o);
  const schedule = o.schedule === undefined ? {} : { schedule: parseSchedule(o.schedule) };
  let complete = 0;
  let schedules = 0;
  let violated = 0;
  for (const row of rows) {
    const pair = {
      machine: smallMachine(row.vendor),
      before: starts[row.start]!,
      calls: row.names.map((name) => kitCalls[name]!),
    };
    const bound = o.bound ?? (row.names.length > 2 ? BOUND : undefined);
    const limit = bound === undefined ? {} : { bound };
    const r = explorePair(pair, { release: o.xen, fixed: o.fixed ?? false, ...schedule, ...limit });
    schedules += r.schedules;
    if (r.complete) complete += 1;
    if (r.violation !== undefined) violated += 1;
    const record = r.violation === undefined ? undefined : tokenOf(row, r.violation.schedule, o);
    write(o.json === true ? `${JSON.stringify(recordOf(row, r, record))}\n` : lineOf(row, r, record));
  }
  if (o.json !== true)
    write(
      `${rows.length} ${rows.every((r) => r.names.length === 2) ? 'pairs' : 'sets'}, ${schedules} schedules, ` +
        `${complete === rows.length || o.schedule !== undefined ? '' : `${complete} complete, `}` +
        `${violated === 0 ? 'no violation' : `${violated} violated`}\n`,
    );
  return violated === 0 ? 0 : 1;
}

const tokenOf = ({ names, start, vendor }: Row, schedule: string, o: ExplorePairsOptions): string =>
  formatToken({
    release: o.xen,
    fixed: o.fixed ?? false,
    machine: smallMachine(vendor),
    commands: starts[start]!,
    race: { calls: names, schedule },
  });

const recordOf = (row: Row, r: PairResult, token: string | undefined): object => ({
  ...row,
  schedules: r.schedules,
  redundant: r.redundant,
  complete: r.complete,
  outcomes: Object.fromEntries(r.outcomes),
  violation: r.violation,
  token,
});

function lineOf({ vendor, start, names }: Row, r: PairResult, token: string | undefined): string {
  const answers = [...r.outcomes.keys()].sort().join(' ');
  const calls = names.map((name) => name.padEnd(16)).join(' ');
  const line = `${vendor} ${start.padEnd(9)} ${calls} ${String(r.schedules).padStart(6)}${r.complete || names.length === 2 ? ' ' : '+'} ${answers}\n`;
  if (r.violation === undefined) return line;
  return `${line}  ${r.violation.id}: ${r.violation.what}\n  replay: ${token}\n`;
}

function rowsOf(o: ExplorePairsOptions): Row[] {
  const vendors: Vendor[] = o.vendor === undefined ? ['vtd', 'amd'] : [o.vendor];
  const from = o.start === undefined ? Object.keys(starts) : [known('start', o.start, Object.keys(starts))];
  const pairs = setsOf(o);
  if (o.schedule !== undefined && pairs.length * from.length * vendors.length > 1)
    throw new InputError('schedule', '', 'belongs to one pair', 'name --vendor, --start and --pair too');
  const { index, of } = o.shard ?? { index: 1, of: 1 };
  return vendors
    .flatMap((vendor) => from.flatMap((start) => pairs.map((names) => ({ vendor, start, names }))))
    .filter((_, i) => i % of === index - 1);
}

function setsOf(o: ExplorePairsOptions): readonly (readonly string[])[] {
  if (o.pair !== undefined) return [namesOf(o.pair)];
  const vcpus = Number(o.vcpus ?? 2);
  return vcpus === 2 ? kitPairs() : drawnSets(vcpus, o.sets ?? SETS, o.seed ?? 1);
}

function namesOf(text: string): string[] {
  const names = text.split(',').map((n) => known('pair', n.trim(), Object.keys(kitCalls)));
  if (names.length >= 2 && names.length <= VCPUS_MAX) return names;
  throw new InputError('pair', '', `${names.length} names`, 'write two, such as "assign to PV,destroy PV"');
}
