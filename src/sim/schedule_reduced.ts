// edition: co
/**
 * Every schedule that can make a difference. Two steps of different CPUs that touch no place in common, or only read it,
 * come to the same in either order, so that one order stands for both: dynamic partial-order reduction with sleep sets
 * (Flanagan and Godefroid, POPL 2005; Godefroid, LNCS 1032).
 *
 * Why nothing is missed. A step runs from one yield to the next and is deterministic, so that it does the same again
 * wherever the places it reads hold the same; `Accesses` sees every read and write of shared state, locks included,
 * because a lock is an object with fields. Steps without a conflict therefore commute, and neither makes the other
 * possible or impossible. For each step the last earlier one of another CPU that conflicts with it, and is not ordered
 * before it already, gives a point to go back to; there the other CPU goes first. What was tried at a point sleeps below
 * it until something conflicts. So each class of schedules that differ only in the order of steps without conflict is run
 * at least once, to its end, with all its end states, deadlocks and errors. Devices that look on between the steps see
 * memory, caches and owners of frames alone: with them, any two steps that write those are a conflict, and every sequence
 * of what they can see comes up. A step that ends in a pause is in conflict with all, since it waits for a turn of others.
 */
import { assert, XenBug } from '../base/assert.js';
import type { Accesses, Footprint } from './accesses.js';
import { type Choose, STOP, type Task } from './schedule.js';

interface Step extends Footprint {
  readonly paused: boolean;
}

/** A point of the run at hand: who could go on, who did, who must, and who need not. */
interface Point {
  readonly ready: readonly number[];
  readonly wanted: Set<number>;
  readonly asleep: Map<number, Step>;
  chosen: number;
  step: Step | undefined;
  /** For each CPU, the number of its steps that come before this one's end in every order. */
  clock: ReadonlyMap<number, number>;
}

export interface Reduced {
  /** Schedules that ran to their end. */
  readonly schedules: number;
  /** Runs that were given up, since others stand for them. */
  readonly redundant: number;
  /** False where the bound ended it. */
  readonly complete: boolean;
}

const meets = (a: ReadonlySet<number>, b: ReadonlySet<number>): boolean => {
  const [small, large] = a.size < b.size ? [a, b] : [b, a];
  for (const x of small) if (large.has(x)) return true;
  return false;
};

function conflict(a: Step, b: Step, visible: boolean): boolean {
  if (a.paused || b.paused || (visible && a.visible && b.visible)) return true;
  return meets(a.writes, b.writes) || meets(a.writes, b.reads) || meets(a.reads, b.writes);
}

/** What the body of an exploration calls: it decides, and hears of each step. */
export interface Steering {
  readonly choose: Choose;
  /** A CPU has yielded; `paused`: it waits for a turn of another. Call before anybody else looks at the machine. */
  readonly onYield: (paused: boolean) => void;
}

class Search {
  readonly points: Point[] = [];
  private depth = 0;
  redundant = false;
  /** Steps of the run at hand are watched beyond this depth; those before it are known. */
  private known = 0;

  constructor(
    private readonly accesses: Accesses,
    private readonly visible: boolean,
  ) {}

  start(): void {
    this.depth = 0;
    this.redundant = false;
    this.known = this.points.length;
    this.accesses.on = false;
    this.accesses.take();
  }

  choose(ready: readonly Task[]): number {
    this.close(false);
    const cpus = ready.map((t) => t.cpu.id);
    let point = this.points[this.depth];
    if (point === undefined) {
      const asleep = this.sleepers();
      const first = cpus.find((cpu) => !asleep.has(cpu));
      if (first === undefined) {
        this.redundant = true;
        return STOP;
      }
      const wanted = new Set([first]);
      point = { ready: cpus, wanted, asleep, chosen: first, step: undefined, clock: new Map() };
      this.points.push(point);
    }
    assert(point.ready.join() === cpus.join(), 'the body does the same each time');
    this.depth += 1;
    this.accesses.on = this.depth >= this.known;
    return cpus.indexOf(point.chosen);
  }

  /** The step that was chosen last has ended. */
  close(paused: boolean): void {
    const point = this.points[this.depth - 1];
    if (!this.accesses.on || point === undefined) return;
    this.accesses.on = false;
    point.step = { ...this.accesses.take(), paused };
    this.order(this.depth - 1, point, point.step);
  }

  /** Who sleeps at a new point: those asleep or tried above whose step the last one does not touch. */
  private sleepers(): Map<number, Step> {
    const above = this.points[this.depth - 1];
    const asleep = new Map<number, Step>();
    if (above?.step === undefined) return asleep;
    for (const [cpu, step] of above.asleep)
      if (cpu !== above.chosen && !conflict(step, above.step, this.visible)) asleep.set(cpu, step);
    return asleep;
  }

  /** Orders the step at `at` after what it conflicts with, and notes the point where the order can be turned round. */
  private order(at: number, point: Point, step: Step): void {
    const cpu = point.chosen;
    const clock = new Map<number, number>();
    for (let i = at - 1; i >= 0; i--) {
      const own = this.points[i]!;
      if (own.chosen !== cpu) continue;
      for (const [c, n] of own.clock) clock.set(c, n);
      break;
    }
    let noted = false;
    for (let i = at - 1; i >= 0; i--) {
      const other = this.points[i]!;
      if (other.chosen === cpu || i < (clock.get(other.chosen) ?? 0)) continue;
      if (!conflict(other.step!, step, this.visible)) continue;
      if (noted) continue;
      // Who waits there for a lock of a third one can go first only after others have.
      if (other.ready.includes(cpu)) {
        noted = true;
        other.wanted.add(cpu);
      } else for (const c of other.ready) other.wanted.add(c);
    }
    // The order is that of all conflicts, whether they could be turned round or not.
    for (let i = 0; i < at; i++) {
      const other = this.points[i]!;
      if (other.chosen === cpu || !conflict(other.step!, step, this.visible)) continue;
      for (const [c, n] of other.clock) clock.set(c, Math.max(clock.get(c) ?? 0, n));
    }
    clock.set(cpu, at + 1);
    point.clock = clock;
  }

  /** Goes back to the deepest point where somebody has yet to go first. False when there is none. */
  next(): boolean {
    for (;;) {
      const point = this.points.at(-1);
      if (point === undefined) return false;
      if (point.step !== undefined) point.asleep.set(point.chosen, point.step);
      const cpu = [...point.wanted].find((c) => !point.asleep.has(c));
      if (cpu !== undefined) {
        point.chosen = cpu;
        point.step = undefined;
        return true;
      }
      this.points.pop();
    }
  }
}

/**
 * Runs `body` for one schedule of each class. It must start from the same state each time, run to its end with the
 * given steering, and touch shared state only where `accesses` watches. `visible`: somebody looks at the machine between
 * the steps. After `bound` runs it ends. @throws XenBug beyond `runsMax` runs
 */
export function forEveryClass(
  accesses: Accesses,
  visible: boolean,
  body: (steering: Steering, finished: () => boolean) => void,
  runsMax = 1_000_000,
  bound = Number.POSITIVE_INFINITY,
): Reduced {
  const search = new Search(accesses, visible);
  const steering: Steering = {
    choose: (_n, ready) => search.choose(ready),
    onYield: (paused) => search.close(paused),
  };
  let schedules = 0;
  let redundant = 0;
  do {
    if (schedules + redundant >= bound) return { schedules, redundant, complete: false };
    if (schedules + redundant >= runsMax) throw new XenBug(`more than ${runsMax} schedules`);
    search.start();
    body(steering, () => {
      search.close(false);
      return !search.redundant;
    });
    if (search.redundant) redundant += 1;
    else schedules += 1;
  } while (search.next());
  return { schedules, redundant, complete: true };
}
