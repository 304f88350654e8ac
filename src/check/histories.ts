/** Random histories over random machines: the property, its failures as a script and a token, and what was reached. */
import fc from 'fast-check';
import type { Seams } from '../hypervisor/seams.js';
import type { HostDescription } from '../inputs/host_description.js';
import type { Sink } from '../sim/events.js';
import { arbCommand, arbCommandOf, type Command, commandOps, showCommand } from './commands.js';
import { addCounts, requireCoverage } from './coverage.js';
import { deviceTlbInvariants } from './invariants/device_tlbs.js';
import { interruptInvariants } from './invariants/interrupts.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { lockInvariants } from './invariants/locks.js';
import { memoryInvariants } from './invariants/memory.js';
import { ownershipInvariants } from './invariants/ownership.js';
import { reachInvariants } from './invariants/reach.js';
import { rightsInvariants } from './invariants/rights.js';
import { stateInvariants } from './invariants/states.js';
import { tableInvariants } from './invariants/tables.js';
import { arbMachine, arbOptions, type MachineSpec, type Vendor } from './machines.js';
import { formatToken } from './token.js';
import { World } from './world.js';

export const invariants: readonly Invariant[] = [
  ...reachInvariants,
  ...ownershipInvariants,
  ...tableInvariants,
  ...memoryInvariants,
  ...stateInvariants,
  ...rightsInvariants,
  ...deviceTlbInvariants,
  ...lockInvariants,
  ...interruptInvariants,
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
  /** A machine that somebody owns: histories move its devices, under random options of Xen. */
  readonly host?: HostDescription;
  /** Half of the histories draw from some kinds of commands only. */
  readonly swarm?: boolean;
  /** Counts the decisions of Xen too. */
  readonly countSeams?: boolean;
  /** What the run must have reached, as `counts` names it; else it is not ok. */
  readonly require?: readonly string[];
}

export interface HistoryResult {
  readonly ok: boolean;
  readonly histories: number;
  readonly commandsRun: number;
  /** How often what was reached: `assign -16`, `roll-back`, `dma by phantom`. */
  readonly counts: ReadonlyMap<string, number>;
  /** What was required and never reached. */
  readonly missing: readonly string[];
  /** The history of the failure. */
  readonly failing?: History;
  /** The shrunk failure: script, violation and token. */
  readonly failure?: {
    readonly report: string;
    readonly token: string;
    readonly violation: Violation;
  };
}

/** How a history is run. */
export interface RunOptions {
  readonly release?: string | undefined;
  readonly fixed?: boolean | undefined;
  readonly seams?: Partial<Seams> | undefined;
  readonly host?: HostDescription | undefined;
  readonly countSeams?: boolean | undefined;
  readonly sink?: Sink | undefined;
  /** Called after each command. */
  readonly onCommand?: ((world: World, i: number) => void) | undefined;
}

/** Runs one history; the first violated invariant ends it. The machine is left to the caller, who may dispose of it. */
export function runHistory(
  h: History,
  o: RunOptions,
  judges: readonly Invariant[] = invariants,
): { violation: Violation | undefined; at: number; world: World } {
  const world = new World(h.machine, {
    ...(o.release === undefined ? {} : { release: o.release }),
    ...(o.fixed === undefined ? {} : { fixed: o.fixed }),
    ...(o.seams === undefined ? {} : { seams: o.seams }),
    ...(o.host === undefined ? {} : { host: o.host }),
    ...(o.countSeams === undefined ? {} : { countSeams: o.countSeams }),
    ...(o.sink === undefined ? {} : { sink: o.sink }),
  });
  for (let i = 0; i < h.commands.length; i++) {
    world.apply(h.commands[i]!);
    o.onCommand?.(world, i);
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

/** Without these nothing ever happens. */
const ALWAYS: readonly string[] = ['create', 'assign', 'dma'];

/** Some kinds of commands, at least half of the time all. */
const arbSwarm = (n: number): fc.Arbitrary<Command[]> =>
  fc
    .oneof(fc.constant(commandOps), fc.subarray([...commandOps], { minLength: 5 }))
    .chain((ops) => arbCommands(n, arbCommandOf([...ops, ...ALWAYS])));

/** Machines and commands, as `o` wants them. */
export function arbHistory(o: HistoryOptions): fc.Arbitrary<History> {
  const specs = o.host === undefined ? arbMachine(o.vendor) : arbOptions(o.vendor);
  return fc.record({
    machine: specs.map((spec) => ({ ...spec, ...o.machine })),
    commands: o.swarm === true ? arbSwarm(o.commands) : arbCommands(o.commands, o.draw ?? arbCommand),
  });
}

/** Runs histories until one fails, and shrinks that. @throws what a host description makes Xen throw */
export function checkHistories(o: HistoryOptions): HistoryResult {
  const counts = new Map<string, number>();
  let histories = 0;
  let commandsRun = 0;
  const how = { ...o, fixed: o.fixed ?? true };
  const property = fc.property(arbHistory(o), (h) => {
    const { violation, world } = runHistory(h, how, o.invariants);
    histories += 1;
    commandsRun += h.commands.length;
    addCounts(counts, world.counts);
    world.machine.dispose();
    return violation === undefined;
  });
  const run = fc.check(property, {
    numRuns: o.runs,
    seed: o.seed,
    endOnFailure: o.shrink === false,
    ...(o.limitMs === undefined ? {} : { interruptAfterTimeLimit: o.limitMs }),
  });
  const missing = requireCoverage(counts, o.require ?? []);
  const base = { histories, commandsRun, counts, missing };
  if (!run.failed || run.counterexample === null) return { ...base, ok: missing.length === 0 };
  const [h] = run.counterexample;
  const violation = replay(h, o);
  return { ...base, ok: false, failing: h, failure: failureOf(h, violation, o) };
}

/** A failure in full: the script, what it violates, and the token that replays it. */
export function failureOf(
  h: History,
  violation: Violation,
  o: Pick<HistoryOptions, 'release' | 'fixed' | 'bug' | 'host'>,
): NonNullable<HistoryResult['failure']> {
  const token = formatToken({
    ...h,
    release: o.release ?? '4.18',
    fixed: o.fixed ?? true,
    bug: o.bug,
    host: o.host?.name,
  });
  const report = [
    `machine: ${JSON.stringify(h.machine)}`,
    ...h.commands.map((c, i) => `${String(i + 1).padStart(3)}  ${showCommand(c)}`),
    `${violation.id}: ${violation.what}`,
    `replay: ${token}`,
  ].join('\n');
  return { report, token, violation };
}

/** What a shrunk history violates; an assertion of the simulator or of Xen counts as a violation of its own. */
function replay(h: History, o: HistoryOptions): Violation {
  const none = { id: 'none', what: 'the failure did not come back: the run is not deterministic' };
  try {
    const { violation, world } = runHistory(h, { ...o, fixed: o.fixed ?? true }, o.invariants);
    world.machine.dispose();
    return violation ?? none;
  } catch (e) {
    return { id: 'ASSERT', what: e instanceof Error ? `${e.name}: ${e.message}` : String(e) };
  }
}
