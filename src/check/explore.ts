// edition: co
/**
 * Hypercalls at once, one per vCPU, under every schedule that can make a difference, every schedule whatever, or many.
 * Between any two steps of Xen the devices of the machine do their worst (adversary.ts); at rest the invariants are
 * asked.
 */

import fc from 'fast-check';
import { Rng } from '../base/rng.js';
import { Accesses } from '../sim/accesses.js';
import { type Co, describe, type YieldPoint } from '../sim/co.js';
import type { StampedEvent } from '../sim/events.js';
import { Ram } from '../sim/ram.js';
import {
  type Choose,
  forEverySchedule,
  formatSchedule,
  replay,
  run,
  type Schedule,
  type Task,
} from '../sim/schedule.js';
import { forEveryClass } from '../sim/schedule_reduced.js';
import { restoreSnapshot, type Snapshot, takeSnapshot } from '../sim/snapshot.js';
import { Adversary } from './adversary.js';
import { type Call, callOf } from './calls.js';
import type { Command } from './commands.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { freeLockMeansRest } from './invariants/locks.js';
import { ownershipInvariants } from './invariants/ownership.js';
import { reachInvariants } from './invariants/reach.js';
import { stateInvariants } from './invariants/states.js';
import type { MachineSpec } from './machines.js';
import { World, type WorldOptions } from './world.js';

export { type Call, kitCalls, kitPairs, smallMachine, starts } from './calls.js';

export interface Pair {
  readonly machine: MachineSpec;
  /** What happens before, on one vCPU. */
  readonly before: readonly Command[];
  /** Two or more, the first on vCPU 0. */
  readonly calls: readonly Call[];
}

export interface PairResult {
  /** Schedules that ran, each to its end. */
  readonly schedules: number;
  /** Runs that were given up, since others stand for them. */
  readonly redundant: number;
  /** Every schedule that can make a difference ran, or one that stands for it. */
  readonly complete: boolean;
  /** How often the calls answered what: `0/-16`. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** States in which the machine came to rest, where `ends` was asked for. */
  readonly ends: ReadonlySet<string>;
  readonly violation?: Violation & { readonly schedule: string };
}

export interface ExploreOptions extends WorldOptions {
  /** More schedules than this are an error; a million when not given. */
  readonly schedulesMax?: number;
  /** After so many of them, as many again by random priorities, and the rest is left. */
  readonly bound?: number;
  /** Every schedule, equivalent ones too. */
  readonly unreduced?: boolean;
  /** In place of every schedule: this many by random priorities with `depth` - 1 changes (PCT). */
  readonly pct?: { readonly runs: number; readonly depth: number; readonly seed: number };
  /** In place of every schedule: those in which one vCPU is stopped once, by all others. The first violation ends it. */
  readonly interrupted?: boolean;
  /** This schedule alone. */
  readonly schedule?: Schedule;
  /** One schedule: the nth choice is the nth of these, modulo who can go on, and in the end the first who can. */
  readonly picks?: readonly number[];
  /** Called when a vCPU has given up, with where. */
  readonly onYield?: (cpu: number, at: string) => void;
  /** false: no device looks on between the steps. */
  readonly adversary?: boolean;
  /** Tells the states in which the machine comes to rest apart by this. */
  readonly ends?: (world: World) => string;
}

/** Invariants about a machine at rest that do not ask what the last command was. */
const atRest: readonly Invariant[] = [...reachInvariants, ...ownershipInvariants, ...stateInvariants].filter(
  (i) =>
    ['INV-I1', 'INV-I2', 'INV-I5', 'INV-I6', 'INV-O1', 'INV-O2', 'INV-O3', 'INV-P3', 'INV-D3'].includes(i.id),
);

class Explorer {
  readonly world: World;
  readonly outcomes = new Map<string, number>();
  readonly ends = new Set<string>();
  private readonly start: Snapshot;
  private readonly adversary: Adversary;
  private answers: (number | undefined)[] = [];
  /** Names of the locks that each CPU holds. */
  private held: Set<string>[] = [];
  private violation: Violation | undefined = undefined;
  /** Reading faults sees how often DMA ran into them: there nobody may look on. */
  readonly looks: boolean;

  constructor(
    private readonly pair: Pair,
    private readonly o: ExploreOptions,
  ) {
    this.looks = o.adversary !== false && pair.calls.every((c) => c.op !== 'faults');
    const { length } = pair.calls;
    const cpus = Math.max(length, pair.machine.cpus ?? length);
    this.world = new World({ ...pair.machine, cpus }, o);
    this.world.quiet();
    for (const c of pair.before) this.world.apply(c);
    this.world.machine.hw.events.attach((e) => this.hear(e));
    this.adversary = new Adversary(this.world, pair.calls);
    this.start = takeSnapshot(this.world, { constants: [this.world.layout.host] });
  }

  /** Watches the machine; what devices see of it first. */
  watch(): Accesses {
    const { hw, xen } = this.world.machine;
    const books = new Set(['used', 'piecesUsed', 'slots', 'pieces', 'near', 'lastTables']);
    const ignored = new Set<object>([hw.events, hw.clock, hw.faults, hw.cpus, ...hw.cpus.list, xen.console]);
    const accesses = new Accesses(ignored, (object, field) => object instanceof Ram && books.has(field));
    // Devices with ATS are seen to be told so in their configuration space.
    const seen = [hw.ram, hw.frames, ...hw.units, ...(this.world.layout.spec.ats === true ? [hw.pci] : [])];
    for (const one of seen) accesses.watch(one, true);
    // Whoever looks on asks who owns what, too.
    const lists = [xen.hwdom, xen.domIo, xen.domXen, ...xen.domains.values()].map((d) => d.pdevList);
    accesses.show([xen.pcidevsLock, xen.pdevs, ...xen.pdevs.values(), ...lists]);
    accesses.watch(this.world.machine);
    return accesses;
  }

  /** One run from the same start. `finished` says whether it ran to its end. */
  once(
    choose: Choose,
    onYield: (paused: boolean) => void,
    finished: () => boolean,
    accesses?: Accesses,
  ): Violation | undefined {
    if (accesses !== undefined) accesses.bare = true;
    restoreSnapshot(this.start);
    const { cpus } = this.world.machine.hw;
    this.answers = this.pair.calls.map(() => undefined);
    this.held = cpus.list.map(() => new Set());
    this.violation = undefined;
    this.adversary.clear();
    const tasks: Task[] = this.pair.calls.map((c, i) => ({ cpu: cpus.list[i]!, co: this.task(c, i) }));
    let schedule: Schedule = [];
    if (accesses !== undefined) accesses.bare = false;
    try {
      schedule = run(cpus, tasks, choose, {
        onYield: (task, at) => {
          onYield(at === 'pause');
          this.o.onYield?.(task.cpu.id, describe(at));
          if (this.looks) this.look(task, at, accesses);
        },
      });
    } catch (e) {
      finished();
      return { id: 'ASSERT', what: e instanceof Error ? e.message : String(e) };
    }
    if (!finished()) return undefined;
    if (accesses !== undefined) accesses.bare = true;
    const outcome = this.answers.map(String).join('/');
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    if (this.o.ends !== undefined) this.ends.add(`${outcome} ${this.o.ends(this.world)}`);
    this.violation ??= (this.looks ? this.adversary.rest() : undefined) ?? this.rest();
    return this.violation === undefined
      ? undefined
      : { ...this.violation, what: `${this.violation.what} (schedule ${formatSchedule(schedule)})` };
  }

  /** Entries are written with pcidevs_lock and the lock of the unit held (INV-L1, INV-L3). */
  private hear(e: StampedEvent): void {
    if (this.looks) this.adversary.hear(e);
    if (e.kind === 'lock') this.hearLock(e.cpu, e.lock, e.action);
    if (e.kind !== 'entry' || (e.table !== 'context' && e.table !== 'dte')) return;
    const held = [...(this.held[e.cpu] ?? [])];
    const lacks = (what: string): string =>
      `cpu${e.cpu} wrote the entry of ${e.id.toString(16)} without ${what}`;
    if (!held.includes('pcidevs_lock')) this.violation ??= { id: 'INV-L1', what: lacks('pcidevs_lock') };
    else if (!held.some((name) => /iommu\d+\.lock$/.test(name)))
      this.violation ??= { id: 'INV-L3', what: lacks('the lock of its unit') };
  }

  private hearLock(cpu: number, lock: string, action: 'acquire' | 'release'): void {
    if (action === 'acquire') this.held[cpu]!.add(lock);
    else this.held[cpu]!.delete(lock);
  }

  private *task(c: Call, i: number): Co<void> {
    this.answers[i] = yield* callOf(this.world, c);
  }

  private look(task: Task, at: YieldPoint, accesses: Accesses | undefined): void {
    if (accesses !== undefined) accesses.bare = true;
    this.violation ??= freeLockMeansRest(this.world);
    const seen = this.adversary.look(task.cpu.id, describe(at));
    this.violation ??= seen;
    if (accesses !== undefined) accesses.bare = false;
  }

  private rest(): Violation | undefined {
    const { world } = this;
    world.last = undefined;
    world.memo.clear();
    for (let i = world.domains.length - 1; i >= 0; i--)
      if (!world.machine.xen.domains.has(world.domains[i]!.domid)) world.domains.splice(i, 1);
    const holder = world.machine.hw.cpus.list.find((cpu) => cpu.holdsLocks);
    if (holder !== undefined) return { id: 'INV-L4', what: `cpu${holder.id} holds a lock at rest` };
    for (const judge of atRest) {
      const v = judge.holds(world);
      if (v !== undefined) return v;
    }
    return undefined;
  }
}

/** The first violation is kept; its text has the schedule that replays it. */
export function explorePair(pair: Pair, o: ExploreOptions = {}): PairResult {
  const explorer = new Explorer(pair, o);
  let schedules = 0;
  let redundant = 0;
  let complete = false;
  let found: Violation | undefined;
  const once = (choose: Choose): void => {
    schedules += 1;
    found ??= explorer.once(
      choose,
      () => {},
      () => true,
    );
  };
  if (o.schedule !== undefined) once(replay(o.schedule));
  else if (o.picks !== undefined) once(picked(o.picks));
  else if (o.interrupted === true) forEachInterruption(pair.calls.length, once, () => found !== undefined);
  else if (o.pct !== undefined) for (let i = 0; i < o.pct.runs; i++) once(pct(o.pct.seed + i, o.pct.depth));
  else if (o.unreduced === true) {
    forEverySchedule((pick) => once(pick), o.schedulesMax);
    complete = true;
  } else {
    const accesses = explorer.watch();
    const r = forEveryClass(
      accesses,
      explorer.looks,
      (steering, finished) => {
        const v = explorer.once(steering.choose, steering.onYield, finished, accesses);
        found ??= v;
      },
      o.schedulesMax,
      o.bound,
    );
    schedules = r.schedules;
    redundant = r.redundant;
    complete = r.complete;
    accesses.on = false;
    accesses.bare = true;
    if (!complete) for (let i = 0; i < o.bound!; i++) once(pct(i + 1, pair.calls.length));
  }
  const { ends, outcomes } = explorer;
  const r = { schedules, redundant, complete, outcomes, ends };
  if (found === undefined) return r;
  const schedule = /\(schedule ([^)]*)\)/.exec(found.what)?.[1] ?? '-';
  return { ...r, violation: { ...found, schedule } };
}

function picked(picks: readonly number[]): Choose {
  let next = 0;
  return (n) => (picks[next++] ?? 0) % n;
}

/** Turns of up to 30 steps in a row, as `picks`; shorter ones are simpler, and none is one vCPU after the other. */
export const arbSchedule: fc.Arbitrary<readonly number[]> = fc
  .array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 30 })), { maxLength: 12 })
  .map((turns) => turns.flatMap(([who, steps]) => Array.from({ length: steps }, () => who)));

/** Each vCPU runs 1, 2, 3... steps, then the others to their ends, and then it, until `enough`. */
function forEachInterruption(cpus: number, once: (choose: Choose) => void, enough: () => boolean): void {
  for (let first = 0; first < cpus; first++) {
    for (let steps = 1, left = 0; left === 0 && !enough(); steps++) {
      left = steps;
      once((_n, ready) => {
        const mine = ready.findIndex((t) => t.cpu.id === first);
        const others = ready.findIndex((t) => t.cpu.id !== first);
        const at = left > 0 || others < 0 ? mine : others;
        if (at === mine && left > 0) left -= 1;
        return at >= 0 ? at : Math.max(mine, others);
      });
    }
  }
}

/** Steps among which priorities change; runs of two hypercalls are shorter. */
const PCT_STEPS = 400;

/** Random priorities, lowered at `depth` - 1 random steps (Burckhardt et al., ASPLOS 2010). */
export function pct(seed: number, depth: number): Choose {
  const rng = new Rng(seed);
  const priority = new Map<number, number>();
  const changes = new Set(Array.from({ length: depth - 1 }, () => rng.below(PCT_STEPS)));
  let step = 0;
  return (_n, ready) => {
    let best = 0;
    for (const t of ready) {
      if (!priority.has(t.cpu.id)) priority.set(t.cpu.id, depth + rng.below(1000));
    }
    ready.forEach((t, i) => {
      if (priority.get(t.cpu.id)! > priority.get(ready[best]!.cpu.id)!) best = i;
    });
    if (changes.has(step)) priority.set(ready[best]!.cpu.id, depth - changes.size);
    step += 1;
    return best;
  };
}
