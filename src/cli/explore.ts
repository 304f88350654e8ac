// edition: co
/** `xpsim explore`: pairs of hypercalls on two vCPUs, under every schedule that can make a difference. */
import { InputError } from '../base/assert.js';
import { kitCalls, kitPairs, smallMachine, starts } from '../check/calls.js';
import { showCommand } from '../check/commands.js';
import { explorePair, type PairResult } from '../check/explore.js';
import type { Vendor } from '../check/machines.js';
import { formatToken, parseToken } from '../check/token.js';
import { parseSchedule } from '../sim/schedule.js';

export interface ExplorePairsOptions {
  readonly vendor?: Vendor;
  readonly xen: string;
  readonly fixed?: boolean;
  /** `assign to PV,destroy PV` */
  readonly pair?: string;
  readonly start?: string;
  readonly schedule?: string;
  readonly json?: boolean;
}

interface Row {
  readonly vendor: Vendor;
  readonly start: string;
  readonly a: string;
  readonly z: string;
}

/** 1 when a pair violates anything, else 0. @throws InputError for a name that is not one of the kit's */
export function explorePairs(o: ExplorePairsOptions, write: (text: string) => void): number {
  const rows = rowsOf(o);
  const schedule = o.schedule === undefined ? {} : { schedule: parseSchedule(o.schedule) };
  let schedules = 0;
  let violated = 0;
  for (const row of rows) {
    const pair = {
      machine: smallMachine(row.vendor),
      before: starts[row.start]!,
      calls: [kitCalls[row.a]!, kitCalls[row.z]!] as const,
    };
    const r = explorePair(pair, { release: o.xen, fixed: o.fixed ?? false, ...schedule });
    schedules += r.schedules;
    if (r.violation !== undefined) violated += 1;
    const record = r.violation === undefined ? undefined : tokenOf(row, r.violation.schedule, o);
    write(o.json === true ? `${JSON.stringify(recordOf(row, r, record))}\n` : lineOf(row, r, record));
  }
  if (o.json !== true)
    write(
      `${rows.length} pairs, ${schedules} schedules, ${violated === 0 ? 'no violation' : `${violated} violated`}\n`,
    );
  return violated === 0 ? 0 : 1;
}

const tokenOf = ({ a, start, vendor, z }: Row, schedule: string, o: ExplorePairsOptions): string =>
  formatToken({
    release: o.xen,
    fixed: o.fixed ?? false,
    machine: smallMachine(vendor),
    commands: starts[start]!,
    race: { calls: [a, z], schedule },
  });

/** A pair of a token again, under its schedule. 1 when it violates anything, else 0. @throws InputError */
export function replayRace(token: string, write: (text: string) => void): number {
  const { commands, fixed, machine, race, release } = parseToken(token);
  const names = race!.calls.map((name) => known('token', name, Object.keys(kitCalls)));
  const calls = [kitCalls[names[0]!]!, kitCalls[names[1]!]!] as const;
  write(`Xen ${release}${fixed ? ' fixed' : ''} on ${JSON.stringify(machine)}\n`);
  for (const c of commands) write(`  ${showCommand(c)}\n`);
  write(`at once: ${names.join(', ')}; schedule ${race!.schedule}\n`);
  const schedule = race!.schedule === '-' ? {} : { schedule: parseSchedule(race!.schedule) };
  const r = explorePair({ machine, before: commands, calls }, { release, fixed, ...schedule });
  write(`answers: ${[...r.outcomes.keys()].join(' ')}\n`);
  const { violation } = r;
  write(violation === undefined ? 'holds: nothing is violated\n' : `${violation.id}: ${violation.what}\n`);
  return violation === undefined ? 0 : 1;
}

const recordOf = (row: Row, r: PairResult, token: string | undefined): object => ({
  ...row,
  schedules: r.schedules,
  redundant: r.redundant,
  outcomes: Object.fromEntries(r.outcomes),
  violation: r.violation,
  token,
});

function lineOf({ vendor, start, a, z }: Row, r: PairResult, token: string | undefined): string {
  const answers = [...r.outcomes.keys()].sort().join(' ');
  const line = `${vendor} ${start.padEnd(9)} ${a.padEnd(16)} ${z.padEnd(16)} ${String(r.schedules).padStart(6)}  ${answers}\n`;
  if (r.violation === undefined) return line;
  return `${line}  ${r.violation.id}: ${r.violation.what}\n  replay: ${token}\n`;
}

function rowsOf(o: ExplorePairsOptions): Row[] {
  const vendors: Vendor[] = o.vendor === undefined ? ['vtd', 'amd'] : [o.vendor];
  const from = o.start === undefined ? Object.keys(starts) : [known('start', o.start, Object.keys(starts))];
  const pairs = o.pair === undefined ? kitPairs() : [pairOf(o.pair)];
  if (o.schedule !== undefined && pairs.length * from.length * vendors.length > 1)
    throw new InputError('schedule', '', 'belongs to one pair', 'name --vendor, --start and --pair too');
  return vendors.flatMap((vendor) =>
    from.flatMap((start) => pairs.map(([a, z]) => ({ vendor, start, a, z }))),
  );
}

function pairOf(text: string): [string, string] {
  const names = text.split(',').map((n) => known('pair', n.trim(), Object.keys(kitCalls)));
  if (names.length === 2) return [names[0]!, names[1]!];
  throw new InputError('pair', '', `${names.length} names`, 'write two, such as "assign to PV,destroy PV"');
}

function known(what: string, name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  throw new InputError(what, '', `${name.slice(0, 40)} is none`, `choose from: ${names.join(', ')}`);
}
