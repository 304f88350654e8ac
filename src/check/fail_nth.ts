/**
 * Each step of a command that can fail is made to fail, one after the other, until none is left. Afterwards the machine
 * is judged by all invariants, taken apart, and compared with one on which nothing failed: what is missing has leaked.
 */
import type { FaultSite } from '../sim/faults.js';
import type { Command } from './commands.js';
import { type History, invariants, type RunOptions, runHistory } from './histories.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import type { MachineSpec } from './machines.js';
import type { World } from './world.js';

/** What can fail below a hypercall. */
const HYPERCALL_SITES = ['alloc', 'domainAlloc', 'vendorOp', 'cmpxchg', 'flush'] as const;

/** No command has more steps of one kind. */
const STEPS_MAX = 4096;

/**
 * Calls `attempt(n)` with 1, 2, 3… until it says that nothing was left to fail, and gives back how often something did.
 * Beyond `dense` only every 101st step is tried: the pages of a guest are allocated one by one, and are all alike.
 */
export function untilNoneIsLeft(attempt: (nth: number) => boolean, dense = STEPS_MAX): number {
  let failed = 0;
  for (let nth = 1; nth <= STEPS_MAX && attempt(nth); nth += nth < dense ? 1 : 101) failed += 1;
  return failed;
}

export interface FailNthFailure {
  readonly site: FaultSite;
  readonly nth: number;
  readonly violation: Violation;
}

export interface FailNthResult {
  /** Steps that were made to fail, by kind. */
  readonly failed: ReadonlyMap<FaultSite, number>;
  readonly failures: readonly FailNthFailure[];
}

/** Takes the machine apart: every guest goes, then every device. */
function takeApart(world: World): void {
  world.apply({ op: 'clock', ms: 1000 });
  for (let i = 0; i < 4 * 2 && world.domains.length > 0; i++) world.apply({ op: 'destroy', dom: 0 });
  world.layout.devices.forEach((_, dev) => void world.apply({ op: 'release', dev }));
  world.layout.devices.forEach((_, dev) => void world.apply({ op: 'remove', dev }));
}

/** What is left on a machine that was taken apart. */
interface Rest {
  readonly freeFrames: number;
  readonly domains: number;
  /** Interrupts of messages. */
  readonly interrupts: number;
}

function restOf(world: World): Rest {
  takeApart(world);
  const { hw, xen } = world.machine;
  const interrupts = [...xen.irqs.descs.keys()].filter((irq) => irq > xen.nrIrqsGsi).length;
  const rest = { freeFrames: hw.heap.freeFrames, domains: xen.domains.size, interrupts };
  world.machine.dispose();
  return rest;
}

/** A command of the kit, or any other thing done to the machine. */
export type Attempt = Command | ((world: World) => unknown);

/** Fails every step of `attempt` in turn, on a machine on which `before` has happened. */
export function failEachStep(
  machine: MachineSpec,
  before: readonly Command[],
  attempt: Attempt,
  o: RunOptions = {},
  judges: readonly Invariant[] = invariants,
): FailNthResult {
  const clean = restOf(run({ machine, commands: before }, attempt, o, []).world);
  const failed = new Map<FaultSite, number>();
  const failures: FailNthFailure[] = [];
  for (const site of HYPERCALL_SITES) {
    const n = untilNoneIsLeft((nth) => {
      const history = { machine, commands: [...before, { op: 'fail', site, nth } as const] };
      const one = failOne(history, attempt, clean, o, judges);
      if (one.violation !== undefined) failures.push({ site, nth, violation: one.violation });
      return one.hit;
    });
    if (n > 0) failed.set(site, n);
  }
  return { failed, failures };
}

/** What happened before, then the attempt. */
function run(
  before: History,
  attempt: Attempt,
  o: RunOptions,
  judges: readonly Invariant[],
): { violation: Violation | undefined; world: World } {
  if (typeof attempt !== 'function')
    return runHistory({ ...before, commands: [...before.commands, attempt] }, o, judges);
  const { violation: earlier, world } = runHistory(before, o, judges);
  if (earlier !== undefined) return { violation: earlier, world };
  attempt(world);
  world.last = undefined;
  world.memo.clear();
  for (const judge of judges) {
    const violation = judge.holds(world);
    if (violation !== undefined) return { violation, world };
  }
  return { violation: undefined, world };
}

function failOne(
  history: History,
  attempt: Attempt,
  clean: Rest,
  o: RunOptions,
  judges: readonly Invariant[],
): { hit: boolean; violation: Violation | undefined } {
  try {
    const { violation, world } = run(history, attempt, o, judges);
    const hit = world.machine.hw.faults.hit.length > 0;
    world.machine.hw.faults.disarm();
    if (violation !== undefined || !hit) return { hit, violation };
    const rest = restOf(world);
    return { hit, violation: leakOf(clean, rest) };
  } catch (e) {
    return {
      hit: true,
      violation: { id: 'ASSERT', what: e instanceof Error ? `${e.name}: ${e.message}` : String(e) },
    };
  }
}

function leakOf(clean: Rest, rest: Rest): Violation | undefined {
  if (rest.domains !== clean.domains)
    return { id: 'LEAK', what: `${rest.domains} domains are left, ${clean.domains} without the failure` };
  if (rest.interrupts > clean.interrupts)
    return { id: 'LEAK', what: `${rest.interrupts - clean.interrupts} interrupts are left` };
  if (rest.freeFrames >= clean.freeFrames) return undefined;
  return { id: 'LEAK', what: `${clean.freeFrames - rest.freeFrames} frames are lost` };
}
