/** Random histories over random machines: the property, its failures as a script and a token, and what was reached. */
import fc from 'fast-check';
import type { Seams } from '../hypervisor/seams.js';
import { arbCommand, type Command, showCommand } from './commands.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { memoryInvariants } from './invariants/memory.js';
import { ownershipInvariants } from './invariants/ownership.js';
import { reachInvariants } from './invariants/reach.js';
import { stateInvariants } from './invariants/states.js';
import { tableInvariants } from './invariants/tables.js';
import { arbMachine, type MachineSpec, type Vendor } from './machines.js';
import { formatToken } from './token.js';
import { World } from './world.js';

export const invariants: readonly Invariant[] = [
  ...reachInvariants,
  ...ownershipInvariants,
  ...tableInvariants,
  ...memoryInvariants,
  ...stateInvariants,
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
  readonly invariants?: readonly Invariant[];
  /** Single decisions of Xen replaced: a historical bug. */
  readonly seams?: Partial<Seams>;
  /** The bug's id, for the token. */
  readonly bug?: string;
  /** What is given of the machine; the rest is random. */
  readonly machine?: Partial<MachineSpec>;
  /** Commands to draw from. */
  readonly draw?: fc.Arbitrary<Command>;
  /** Ends the search, without a failure. Milliseconds. */
  readonly limitMs?: number;
  /** false: the failure is left as it was found. */
  readonly shrink?: boolean;
}

export interface HistoryResult {
  readonly ok: boolean;
  readonly histories: number;
  readonly commandsRun: number;
  /** How often what was reached: `assign -16`, `roll-back`, `dma by phantom`. */
  readonly counts: ReadonlyMap<string, number>;
  /** The history of the failure. */
  readonly failing?: History;
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
  o: {
    readonly release?: string | undefined;
    readonly fixed?: boolean | undefined;
    readonly seams?: Partial<Seams> | undefined;
  },
  judges: readonly Invariant[] = invariants,
): { violation: Violation | undefined; at: number; world: World } {
  const world = new World(h.machine, {
    ...(o.release === undefined ? {} : { release: o.release }),
    ...(o.fixed === undefined ? {} : { fixed: o.fixed }),
    ...(o.seams === undefined ? {} : { seams: o.seams }),
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

/** Exactly `n` commands as generated; shrinking leaves single ones out (a drawn 0 does, which is never drawn first). */
const arbCommands = (n: number, one: fc.Arbitrary<Command>): fc.Arbitrary<Command[]> =>
  fc
    .array(fc.tuple(fc.noBias(fc.integer({ min: 0, max: 0x7fff_ffff })), one), {
      minLength: n,
      maxLength: n,
      size: 'max',
    })
    .map((drawn) => drawn.filter(([keep]) => keep !== 0).map(([, command]) => command));

/** Runs histories until one fails, and shrinks that. */
export function checkHistories(o: HistoryOptions): HistoryResult {
  const counts = new Map<string, number>();
  let histories = 0;
  let commandsRun = 0;
  const machines = arbMachine(o.vendor).map((spec) => ({ ...spec, ...o.machine }));
  const property = fc.property(
    machines,
    arbCommands(o.commands, o.draw ?? arbCommand),
    (machine, commands) => {
      const { violation, world } = runHistory(
        { machine, commands },
        { release: o.release, fixed: o.fixed ?? true, seams: o.seams },
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
    endOnFailure: o.shrink === false,
    ...(o.limitMs === undefined ? {} : { interruptAfterTimeLimit: o.limitMs }),
  });
  if (!run.failed) return { ok: true, histories, commandsRun, counts };
  if (run.counterexample === null) return { ok: true, histories, commandsRun, counts };
  const [machine, commands] = run.counterexample;
  const h = { machine, commands };
  const violation = replay(h, o);
  const token = formatToken({ ...h, release: o.release ?? '4.18', fixed: o.fixed ?? true, bug: o.bug });
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
    failing: h,
    failure: { report, token, violation },
  };
}

/** What a shrunk history violates; an assertion of the simulator or of Xen counts as a violation of its own. */
function replay(h: History, o: HistoryOptions): Violation {
  try {
    const found = runHistory(
      h,
      { release: o.release, fixed: o.fixed ?? true, seams: o.seams },
      o.invariants,
    ).violation;
    return found ?? { id: 'none', what: 'the failure did not come back: the run is not deterministic' };
  } catch (e) {
    return { id: 'ASSERT', what: e instanceof Error ? `${e.name}: ${e.message}` : String(e) };
  }
}
