import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError, XenBug } from '../../src/base/assert.js';
import { Clock } from '../../src/sim/clock.js';
import { type Co, hold, holdRead, holdWrite, pause, preemptPoint, runAlone } from '../../src/sim/co.js';
import { EventStream } from '../../src/sim/events.js';
import { Cpus, RwLock, SpinLock } from '../../src/sim/locks.js';
import {
  type Choose,
  forEverySchedule,
  formatSchedule,
  parseSchedule,
  randomly,
  replay,
  roundRobin,
  run,
} from '../../src/sim/schedule.js';

/** A board with two locks and a word that both CPUs write. */
class Board {
  readonly cpus = new Cpus(2, new EventStream());
  readonly outer = new SpinLock(this.cpus, 'outer', 1);
  readonly inner = new SpinLock(this.cpus, 'inner', 2);
  readonly rw = new RwLock(this.cpus, 'rw', 3);
  readonly clock = new Clock();
  word = 0;
  log: string[] = [];
}

function* addUnlocked(b: Board): Co<void> {
  const was = b.word;
  yield* preemptPoint(b.cpus);
  b.word = was + 1;
}

function* addLocked(b: Board): Co<void> {
  using _outer = yield* hold(b.outer);
  yield* addUnlocked(b);
}

function* takeTwo(b: Board, first: SpinLock, second: SpinLock): Co<void> {
  using _a = yield* hold(first);
  using _b = yield* hold(second);
  b.word += 1;
}

function* waitFor(b: Board, word: number): Co<void> {
  while (b.word !== word) yield* pause(b.clock, 10);
}

const tasks = (b: Board, ...cos: Co<unknown>[]) => cos.map((co, i) => ({ cpu: b.cpus.list[i]!, co }));
/** All end values of `word` that some schedule reaches. */
function reached(body: (b: Board) => Co<void>): { words: Set<number>; runs: number } {
  const words = new Set<number>();
  const runs = forEverySchedule((choose) => {
    const b = new Board();
    run(b.cpus, tasks(b, body(b), body(b)), choose);
    words.add(b.word);
  });
  return { words, runs };
}

describe('every schedule of two CPUs', () => {
  test('finds the lost update of a counter without its lock', () => {
    // Two tasks of two steps each: C(4, 2) orders.
    expect(reached(addUnlocked)).toEqual({ words: new Set([1, 2]), runs: 6 });
  });

  test('finds none when the lock is held', () => {
    const { words, runs } = reached(addLocked);
    expect(words).toEqual(new Set([2]));
    expect(runs).toBeGreaterThan(2);
  });

  test('refuses a body that chooses differently each time', () => {
    let n = 1;
    expect(() => forEverySchedule((choose) => void choose(++n))).toThrow('each time the body runs');
  });

  test('stops at its bound', () => {
    expect(() => forEverySchedule((choose) => void (choose(2) + choose(2)), 3)).toThrow(
      'more than 3 schedules',
    );
  });
});

describe('a deadlock', () => {
  /** Takes two locks against their ranks. The rank check would end the run earlier, so it is switched off. */
  function* against(b: Board, low: SpinLock): Co<void> {
    low.checkBeforeWait = () => {};
    using _outer = yield* hold(b.outer);
    using _low = yield* hold(low);
    b.word += 1;
  }
  const cross = (choose: Choose) => {
    const b = new Board();
    const low = new SpinLock(b.cpus, 'low', 0);
    return run(b.cpus, tasks(b, takeTwo(b, low, b.outer), against(b, low)), choose);
  };

  test('is a bug that names who waits for what, and the schedule', () => {
    let found = '';
    expect(() => forEverySchedule((choose) => void cross(choose))).toThrow(XenBug);
    try {
      forEverySchedule((choose) => void cross(choose));
    } catch (error) {
      found = String(error);
    }
    const m =
      /deadlock: cpu0 waits for outer of cpu1, cpu1 waits for low of cpu0 \(schedule ([\d:,]+)\)/.exec(found);
    expect(m).not.toBeNull();
    expect(() => cross(replay(parseSchedule(m![1]!)))).toThrow('deadlock');
  });
});

describe('a run', () => {
  test('replays from its printed schedule', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const trace = (choose: Choose) => {
          const b = new Board();
          const schedule = run(b.cpus, tasks(b, addUnlocked(b), addLocked(b)), choose, {
            onYield: (t) => b.log.push(`cpu${t.cpu.id} ${b.word}`),
          });
          return { log: b.log, word: b.word, printed: formatSchedule(schedule) };
        };
        const first = trace(randomly(seed));
        expect(trace(replay(parseSchedule(first.printed)))).toEqual(first);
      }),
    );
  });

  test('says where a schedule of another run stops to fit', () => {
    const b = new Board();
    const go = () => run(b.cpus, tasks(b, addUnlocked(b), addUnlocked(b)), replay([0, 0, 0]));
    expect(go).toThrow(InputError);
    expect(() => run(b.cpus, tasks(b, addUnlocked(b)), replay([0]))).toThrow('it has ended');
  });

  test('sets the current CPU, and puts it back', () => {
    const b = new Board();
    const seen: number[] = [];
    function* look(): Co<void> {
      seen.push(b.cpus.current.id);
      yield* preemptPoint(b.cpus);
      seen.push(b.cpus.current.id);
    }
    run(b.cpus, tasks(b, look(), look()), roundRobin());
    expect(seen).toEqual([0, 1, 0, 1]);
    expect([b.cpus.current.id, b.cpus.exploring]).toEqual([0, false]);
    runAlone(look());
  });

  test('takes turns in round robin', () => {
    const b = new Board();
    const schedule = run(b.cpus, tasks(b, addUnlocked(b), addUnlocked(b)), roundRobin());
    expect(schedule).toEqual([0, 1, 0, 1]);
  });

  test('lets a device act at each yield point', () => {
    const b = new Board();
    const at: string[] = [];
    run(b.cpus, tasks(b, addLocked(b)), roundRobin(), {
      onYield: (_t, point) => at.push(typeof point === 'string' ? point : 'lock'),
    });
    expect(at).toEqual(['lock', 'preempt']);
  });

  test('never starves the one that a pausing CPU waits for', () => {
    const pauser: Choose = (n, ready) => {
      const at = ready.findIndex((t) => t.cpu.id === 0);
      return at >= 0 ? at : n - 1;
    };
    const b = new Board();
    const schedule = run(b.cpus, tasks(b, waitFor(b, 1), addLocked(b)), pauser);
    expect(b.word).toBe(1);
    expect(schedule.length).toBeLessThan(10);
    expect(b.clock.nowNs).toBeGreaterThan(0);
  });

  test('lets a pausing CPU look again after each step of another', () => {
    const b = new Board();
    const schedule = run(b.cpus, tasks(b, waitFor(b, 1), addUnlocked(b)), () => 0);
    expect(schedule).toEqual([0, 1, 0, 1, 0]);
  });

  test('explores a waiting loop in finitely many schedules', () => {
    const runs = forEverySchedule((choose) => {
      const b = new Board();
      run(b.cpus, tasks(b, waitFor(b, 1), addUnlocked(b)), choose);
    }, 1000);
    expect(runs).toBeGreaterThan(1);
  });

  test('that waits for ever is called hung', () => {
    const b = new Board();
    const go = () => run(b.cpus, tasks(b, waitFor(b, 7)), roundRobin(), { stepsMax: 100 });
    expect(go).toThrow('still running after 100 steps');
  });

  test('adds the schedule to the error of a task', () => {
    const b = new Board();
    function* fail(): Co<void> {
      yield* preemptPoint(b.cpus);
      throw new XenBug('wrong');
    }
    expect(() => run(b.cpus, tasks(b, fail()), roundRobin())).toThrow('wrong (schedule 0:2)');
  });
});

describe('a read-write lock', () => {
  function* reader(b: Board): Co<void> {
    using _r = yield* holdRead(b.rw);
    b.log.push('r+');
    yield* preemptPoint(b.cpus);
    b.log.push('r-');
  }
  function* writer(b: Board): Co<void> {
    using _w = yield* holdWrite(b.rw);
    b.log.push('w+');
    yield* preemptPoint(b.cpus);
    b.log.push('w-');
  }
  const orders = (first: (b: Board) => Co<void>, second: (b: Board) => Co<void>): string[] => {
    const all = new Set<string>();
    forEverySchedule((choose) => {
      const b = new Board();
      run(b.cpus, tasks(b, first(b), second(b)), choose);
      all.add(b.log.join(' '));
    });
    return [...all].sort();
  };

  test('lets two readers in, and a writer only alone', () => {
    expect(orders(reader, reader)).toEqual(['r+ r+ r- r-', 'r+ r- r+ r-']);
    expect(orders(reader, writer)).toEqual(['r+ r- w+ w-', 'w+ w- r+ r-']);
  });
});

describe('a printed schedule', () => {
  test('reads back as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(3)), (schedule) => {
        expect(parseSchedule(formatSchedule(schedule))).toEqual(schedule);
      }),
    );
    expect(formatSchedule([0, 0, 0, 1, 0, 0])).toBe('0:3,1,0:2');
  });

  test.each(['', 'x', '0:', '0:0', '1,,2', '0:99999999999', '0:999999999', '-1'])('refuses %j', (text) => {
    expect(() => parseSchedule(text)).toThrow(InputError);
  });
});
