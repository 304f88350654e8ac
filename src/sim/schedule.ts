// edition: co
/**
 * Several vCPUs at once. A schedule is the list of the CPUs that ran, one a step; it replays its run exactly.
 * Whoever decides what runs next is a `Choose`: round robin, a seed, a printed schedule or the exhaustive counter.
 */
import { assert, InputError, XenBug } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import { Rng } from '../base/rng.js';
import { type Co, describe, type YieldPoint } from './co.js';
import { type Cpu, type Cpus, RwGuard, SpinLock } from './locks.js';

/** What one CPU does: a Co that has not been started. */
export interface Task {
  readonly cpu: Cpu;
  readonly co: Co<unknown>;
}

/**
 * Picks the next of `n` tasks that can run, as an index into `ready`. Called for a single one too. STOP ends the run
 * where it is, with its tasks unfinished: for one who sees that the rest is known.
 */
export type Choose = (n: number, ready: readonly Task[]) => number;

export const STOP = -1;

/** A choice that does not look at the tasks: it can decide what a device does, too. */
export type Pick = (n: number) => number;

/** Ids of the CPUs that ran, in order. */
export type Schedule = readonly number[];

export interface RunOptions {
  /** Called whenever a CPU has given up: devices may do DMA here, between any two steps of Xen. */
  readonly onYield?: (task: Task, at: YieldPoint) => void;
  /** Steps before the run is called hung. */
  readonly stepsMax?: number;
}

interface Entry {
  readonly task: Task;
  at: YieldPoint | undefined;
  /** It only waits for time to pass; another gets a turn first, so that nobody starves. */
  resting: boolean;
}

/**
 * Runs every task to its end, one step at a time, and returns the schedule. An error that a task throws carries the
 * schedule in its message. @throws XenBug on deadlock, or when a run does not end
 */
export function run(cpus: Cpus, tasks: readonly Task[], choose: Choose, options: RunOptions = {}): Schedule {
  assert(new Set(tasks.map((t) => t.cpu)).size === tasks.length, 'each task has a CPU of its own');
  const live: Entry[] = tasks.map((task) => ({ task, at: undefined, resting: false }));
  const schedule: number[] = [];
  const before = { current: cpus.current, exploring: cpus.exploring };
  cpus.exploring = true;
  try {
    while (live.length > 0 && step(cpus, live, choose, schedule, options));
  } catch (error) {
    if (error instanceof Error) error.message += ` (schedule ${formatSchedule(schedule)})`;
    throw error;
  } finally {
    cpus.current = before.current;
    cpus.exploring = before.exploring;
  }
  return schedule;
}

/** False when the run was stopped. */
function step(cpus: Cpus, live: Entry[], choose: Choose, schedule: number[], options: RunOptions): boolean {
  const ready = readyOf(live);
  const stepsMax = options.stepsMax ?? LIMITS.stepsMax;
  if (schedule.length >= stepsMax) throw new XenBug(`still running after ${stepsMax} steps`);
  const tasks = ready.map((e) => e.task);
  const at = choose(ready.length, tasks);
  if (at === STOP) return false;
  const picked = ready[at];
  assert(picked !== undefined, `the choice ${at} is one of ${ready.length}`);
  schedule.push(picked.task.cpu.id);
  for (const entry of live) entry.resting = false;
  cpus.current = picked.task.cpu;
  const result = picked.task.co.next();
  if (result.done === true) {
    live.splice(live.indexOf(picked), 1);
    return true;
  }
  picked.at = result.value;
  picked.resting = result.value === 'pause';
  options.onYield?.(picked.task, result.value);
  return true;
}

/** The tasks that can go on. One that paused waits until another has had a turn, unless there is no other. */
function readyOf(live: readonly Entry[]): readonly Entry[] {
  const runnable = live.filter((e) => !isBlocked(e));
  if (runnable.length === 0) {
    const waits = live.map((e) => `cpu${e.task.cpu.id} waits for ${waitOf(e)}`);
    throw new XenBug(`deadlock: ${waits.join(', ')}`);
  }
  const eager = runnable.filter((e) => !e.resting);
  return eager.length > 0 ? eager : runnable;
}

/** True while a task waits for a lock that another CPU holds. */
function isBlocked({ at, task }: Entry): boolean {
  if (at instanceof SpinLock) return at.owner !== undefined && at.owner !== task.cpu;
  if (at instanceof RwGuard) return !at.lock.isFree(at.write);
  return false;
}

function waitOf({ at }: Entry): string {
  assert(at !== undefined, 'a blocked task waits for something');
  const name = describe(at);
  if (at instanceof SpinLock) return `${name} of cpu${at.owner?.id}`;
  if (!(at instanceof RwGuard)) return name;
  const owners = at.lock.writer === undefined ? at.lock.readers : [at.lock.writer];
  return `${name} of ${owners.map((c) => `cpu${c.id}`).join(' and ')}`;
}

/** Each CPU in turn, in the order of their ids. */
export function roundRobin(): Choose {
  let last = -1;
  return (_n, ready) => {
    let best = 0;
    for (let i = 1; i < ready.length; i++)
      if (turn(ready[i]!.cpu.id, last) < turn(ready[best]!.cpu.id, last)) best = i;
    last = ready[best]!.cpu.id;
    return best;
  };
}
/** How long after `last` the CPU `id` has its turn; ids are below 2^16. */
const turn = (id: number, last: number): number => (id > last ? id - last : id - last + 0x1_0000);

/** Any order, decided by the seed. */
export function randomly(seed: number): Pick {
  const rng = new Rng(seed);
  return (n) => rng.below(n);
}

/** Runs `schedule` again. @throws InputError where the run no longer allows it */
export function replay(schedule: Schedule): Choose {
  let next = 0;
  return (_n, ready) => {
    const cpu = schedule[next++];
    const at = ready.findIndex((t) => t.cpu.id === cpu);
    if (at >= 0) return at;
    const can = ready.map((t) => t.cpu.id).join(' and ');
    const found = cpu === undefined ? 'it has ended' : `cpu${cpu} cannot run`;
    throw new InputError(
      'schedule',
      `step ${next}`,
      `${found}`,
      `here only ${can} can; use it with the run it was printed for`,
    );
  };
}

/**
 * Runs `body` once for every sequence of choices: counts in a mixed radix whose digits are the choices made. With two
 * tasks that is every schedule. @returns how many there were @throws XenBug beyond `runsMax`
 */
export function forEverySchedule(body: (choose: Pick) => void, runsMax = 1_000_000): number {
  const prefix: { pick: number; of: number }[] = [];
  for (let runs = 1; ; runs++) {
    if (runs > runsMax) throw new XenBug(`more than ${runsMax} schedules`);
    let at = 0;
    body((n) => {
      const digit = prefix[at];
      if (digit === undefined) prefix.push({ pick: 0, of: n });
      else assert(digit.of === n, `choice ${at} is among ${digit.of} each time the body runs`);
      return prefix[at++]!.pick;
    });
    assert(at === prefix.length, 'the body makes the same choices each time');
    while (prefix.length > 0 && prefix[prefix.length - 1]!.pick === prefix[prefix.length - 1]!.of - 1)
      prefix.pop();
    const last = prefix[prefix.length - 1];
    if (last === undefined) return runs;
    last.pick += 1;
  }
}

/** `0:3,1,0:2` is cpu 0 three times, cpu 1 once, cpu 0 twice; `-` is the empty schedule. */
export function formatSchedule(schedule: Schedule): string {
  const parts: string[] = [];
  for (let i = 0; i < schedule.length; ) {
    let end = i + 1;
    while (end < schedule.length && schedule[end] === schedule[i]) end++;
    parts.push(end - i === 1 ? `${schedule[i]}` : `${schedule[i]}:${end - i}`);
    i = end;
  }
  return parts.length === 0 ? '-' : parts.join(',');
}

/** Reads what formatSchedule() printed. @throws InputError */
export function parseSchedule(text: string): Schedule {
  const schedule: number[] = [];
  if (text.trim() === '-') return schedule;
  for (const [i, part] of text.trim().split(',').entries()) {
    const m = /^(\d{1,5})(?::(\d{1,9}))?$/.exec(part);
    const bad = (problem: string): InputError =>
      new InputError('schedule', `part ${i + 1}`, problem, 'write it as it was printed, such as 0:3,1,0:2');
    if (m === null) throw bad(`'${part.slice(0, 40)}' is not a CPU with a count`);
    const count = Number(m[2] ?? 1);
    if (count === 0 || schedule.length + count > SCHEDULE_STEPS_MAX) throw bad(`${count} steps`);
    for (let n = 0; n < count; n++) schedule.push(Number(m[1]));
  }
  return schedule;
}
/** Steps of a schedule that is read; a printed one is far shorter. */
const SCHEDULE_STEPS_MAX = 10_000_000;
