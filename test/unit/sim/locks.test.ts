import { describe, expect, test } from 'vitest';
import { XenBug } from '../../../src/base/assert.js';
import { type Co, hold, holdRead, holdWrite, runAlone } from '../../../src/sim/co.js';
import { EventStream, type StampedEvent } from '../../../src/sim/events.js';
import { Cpus, RwLock, SpinLock } from '../../../src/sim/locks.js';

class Board {
  readonly events = new EventStream();
  readonly cpus = new Cpus(2, this.events);
  readonly outer = new SpinLock(this.cpus, 'outer', 1);
  readonly inner = new SpinLock(this.cpus, 'inner', 2);
  readonly again = new SpinLock(this.cpus, 'again', 3, true);
  readonly rw = new RwLock(this.cpus, 'rw', 4);
  get held(): string[] {
    const locks = [this.outer, this.inner, this.again];
    const names = locks.filter((l) => l.owner === this.cpus.current).map((l) => l.name);
    const rw = this.rw.readers.includes(this.cpus.current) || this.rw.writeHeldByCurrent();
    return rw ? [...names, 'rw'] : names;
  }
}

function* take(lock: SpinLock, body: () => void): Co<void> {
  using _lock = yield* hold(lock);
  body();
}
function* takeBoth(a: SpinLock, b: SpinLock, body: () => void): Co<void> {
  using _a = yield* hold(a);
  using _b = yield* hold(b);
  body();
}
function* early(b: Board, leave: boolean): Co<string> {
  {
    using _outer = yield* hold(b.outer);
    if (leave) return b.held.join();
  }
  return b.held.join();
}
function* readThenWrite(b: Board): Co<void> {
  using _r = yield* holdRead(b.rw);
  using _w = yield* holdWrite(b.rw);
}
function* readAndWrite(b: Board): Co<string[]> {
  const seen: string[] = [];
  {
    using _r = yield* holdRead(b.rw);
    seen.push(b.held.join(), String(b.rw.writeHeldByCurrent()));
  }
  using _w = yield* holdWrite(b.rw);
  seen.push(b.held.join(), String(b.rw.writeHeldByCurrent()));
  return seen;
}

describe('a lock', () => {
  test('is held to the end of its block, however that is left', () => {
    const b = new Board();
    expect(runAlone(early(b, true))).toBe('outer');
    expect(runAlone(early(b, false))).toBe('');
    const fail = () => {
      throw new XenBug('in the middle');
    };
    const go = () => runAlone(take(b.outer, fail));
    expect(go).toThrow('in the middle');
    expect([b.held, b.outer.owner]).toEqual([[], undefined]);
  });

  test('is taken in rising rank only', () => {
    const b = new Board();
    runAlone(takeBoth(b.outer, b.inner, () => expect(b.held).toEqual(['outer', 'inner'])));
    const go = () => runAlone(takeBoth(b.inner, b.outer, () => {}));
    expect(go).toThrow('outer ranks above 2, held by cpu0');
  });

  test('is given back before those taken before it', () => {
    const b = new Board();
    b.outer.acquire();
    b.inner.acquire();
    expect(b.cpus.current.holdsLocks).toBe(true);
    expect(() => b.outer.release()).toThrow('outer was taken last by cpu0');
  });

  test('is taken again only when it is recursive', () => {
    const b = new Board();
    runAlone(takeBoth(b.again, b.again, () => expect(b.again.depth).toBe(2)));
    expect(b.again.depth).toBe(0);
    const go = () => runAlone(takeBoth(b.outer, b.outer, () => {}));
    expect(go).toThrow('outer is not taken twice by cpu0');
  });

  test('that another CPU holds cannot be waited for alone', () => {
    const b = new Board();
    b.cpus.current = b.cpus.list[1]!;
    b.outer.acquire();
    b.cpus.current = b.cpus.list[0]!;
    const go = () => runAlone(take(b.outer, () => {}));
    expect(go).toThrow(XenBug);
    expect(() => b.outer.release()).toThrow('outer is held by the cpu0');
  });

  test('says when it is taken and given back', () => {
    const b = new Board();
    const seen: string[] = [];
    b.events.attach((e: StampedEvent) => void (e.kind === 'lock' && seen.push(`${e.action} ${e.lock}`)));
    runAlone(takeBoth(b.outer, b.again, () => {}));
    expect(seen).toEqual(['acquire outer', 'acquire again', 'release again', 'release outer']);
  });
});

describe('a read-write lock', () => {
  test('is held for reading or for writing', () => {
    expect(runAlone(readAndWrite(new Board()))).toEqual(['rw', 'false', 'rw', 'true']);
  });

  test('is not upgraded', () => {
    const go = () => runAlone(readThenWrite(new Board()));
    expect(go).toThrow('rw is not taken twice by cpu0');
  });

  test('has many readers or one writer', () => {
    const b = new Board();
    const [cpu0, cpu1] = [b.cpus.list[0]!, b.cpus.list[1]!];
    b.rw.acquire(false);
    b.cpus.current = cpu1;
    expect([b.rw.isFree(false), b.rw.isFree(true)]).toEqual([true, false]);
    b.rw.acquire(false);
    b.rw.releaseRead();
    b.cpus.current = cpu0;
    b.rw.releaseRead();
    b.rw.acquire(true);
    expect([b.rw.isFree(false), b.rw.isFree(true)]).toEqual([false, false]);
    expect(() => b.rw.acquire(false)).toThrow(XenBug);
  });
});
