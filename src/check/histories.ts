/** Random histories over random machines: the property, its failures as a script and a token, and what was reached. */
import fc from 'fast-check';
import { InputError } from '../base/assert.js';
import { arbCommand, type Command, showCommand } from './commands.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { ownershipInvariants } from './invariants/ownership.js';
import { reachInvariants } from './invariants/reach.js';
import { tableInvariants } from './invariants/tables.js';
import { arbMachine, type MachineSpec, type Vendor } from './machines.js';
import { World } from './world.js';

export const invariants: readonly Invariant[] = [
  ...reachInvariants,
  ...ownershipInvariants,
  ...tableInvariants,
];

export interface History {
  readonly machine: MachineSpec;
  readonly commands: readonly Command[];
}

export interface HistoryOptions {
  readonly vendor: Vendor;
  readonly release?: string;
  readonly fixed?: boolean;
  readonly runs: number;
  /** Commands of a history, exactly. */
  readonly commands: number;
  readonly seed: number;
  /** fast-check's path of a failure, to replay just that. */
  readonly path?: string;
  readonly invariants?: readonly Invariant[];
}

export interface HistoryResult {
  readonly ok: boolean;
  readonly histories: number;
  readonly commandsRun: number;
  /** How often what was reached: `assign -16`, `roll-back`, `dma by phantom`. */
  readonly counts: ReadonlyMap<string, number>;
  /** The shrunk failure: script, violation and token. */
  readonly failure?: {
    readonly report: string;
    readonly token: string;
    readonly violation: Violation;
  };
}

/** Runs one history; the first violated invariant ends it. */
export function runHistory(
  h: History,
  o: { readonly release?: string | undefined; readonly fixed?: boolean | undefined },
  judges: readonly Invariant[] = invariants,
): { violation: Violation | undefined; at: number; world: World } {
  const world = new World(h.machine, {
    ...(o.release === undefined ? {} : { release: o.release }),
    ...(o.fixed === undefined ? {} : { fixed: o.fixed }),
  });
  for (let i = 0; i < h.commands.length; i++) {
    world.apply(h.commands[i]!);
    for (const judge of judges) {
      const violation = judge.holds(world);
      if (violation !== undefined) return { violation, at: i, world };
    }
  }
  return { violation: undefined, at: -1, world };
}

/** `xp1:vtd:4.18:fixed:60:SEED:PATH` names a run, and with a path one failure in it. */
export const formatToken = (o: HistoryOptions, seed: number, path: string | null): string =>
  `xp1:${o.vendor}:${o.release ?? '4.18'}:${(o.fixed ?? true) ? 'fixed' : 'real'}:${o.commands}:${seed}:${path ?? ''}`;

/** @throws InputError when it is no token */
export function parseToken(token: string): HistoryOptions {
  const m = /^xp1:(vtd|amd):([0-9.]{1,8}):(fixed|real):([0-9]{1,4}):(-?[0-9]{1,10}):([0-9:]{0,20000})$/.exec(
    token,
  );
  if (m === null) {
    throw new InputError(
      'token',
      '',
      `"${token.slice(0, 40)}" is not a replay token`,
      'copy it whole, xp1:… to the last digit',
    );
  }
  return {
    vendor: m[1] as Vendor,
    release: m[2]!,
    fixed: m[3] === 'fixed',
    commands: Number(m[4]),
    seed: Number(m[5]),
    runs: 1,
    ...(m[6] === '' ? {} : { path: m[6]! }),
  };
}

/** Runs histories until one fails, and shrinks that. */
export function checkHistories(o: HistoryOptions): HistoryResult {
  const counts = new Map<string, number>();
  let histories = 0;
  let commandsRun = 0;
  const property = fc.property(
    arbMachine(o.vendor),
    fc.array(arbCommand, { minLength: 0, maxLength: o.commands, size: 'max' }),
    (machine, commands) => {
      const { violation, world } = runHistory(
        { machine, commands },
        { release: o.release, fixed: o.fixed ?? true },
        o.invariants,
      );
      histories += 1;
      commandsRun += commands.length;
      for (const [what, n] of world.counts) counts.set(what, (counts.get(what) ?? 0) + n);
      return violation === undefined;
    },
  );
  const run = fc.check(property, {
    numRuns: o.runs,
    seed: o.seed,
    ...(o.path === undefined ? {} : { path: o.path, numRuns: 1 }),
  });
  if (!run.failed) return { ok: true, histories, commandsRun, counts };
  const [machine, commands] = run.counterexample!;
  const h = { machine, commands };
  const violation = replay(h, o);
  const token = formatToken(o, run.seed, run.counterexamplePath);
  const report = [
    `machine: ${JSON.stringify(machine)}`,
    ...commands.map((c, i) => `${String(i + 1).padStart(3)}  ${showCommand(c)}`),
    `${violation.id}: ${violation.what}`,
    `replay: ${token}`,
  ].join('\n');
  return {
    ok: false,
    histories,
    commandsRun,
    counts,
    failure: { report, token, violation },
  };
}

/** What a shrunk history violates; an assertion of the simulator or of Xen counts as a violation of its own. */
function replay(h: History, o: HistoryOptions): Violation {
  try {
    const found = runHistory(h, { release: o.release, fixed: o.fixed ?? true }, o.invariants).violation;
    return found ?? { id: 'none', what: 'the failure did not come back: the run is not deterministic' };
  } catch (e) {
    return { id: 'ASSERT', what: e instanceof Error ? `${e.name}: ${e.message}` : String(e) };
  }
}
