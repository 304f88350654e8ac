/**
 * What a piece of code reads and writes of a machine, seen without its help. All state that may change lives in fields of
 * objects, arrays, maps, sets and typed arrays that can be reached from the machine (a test keeps that rule, because
 * snapshots need it). So each field is replaced by an accessor, each container by a proxy, and an object that is stored
 * in a watched place is watched from then on: no access to shared state goes unseen.
 */

/** The places that one step read and wrote, each by its number. */
export interface Footprint {
  readonly reads: ReadonlySet<number>;
  readonly writes: ReadonlySet<number>;
  /** It wrote what is seen from outside: memory, caches and registers of units, owners of frames. */
  readonly visible: boolean;
}

/** Numbers of the places of one container. */
const SPAN = 2 ** 24;
/** Elements of a large typed array that count as one place. */
const PAGE = 1024;

type Words = {
  readonly length: number;
  [i: number]: number;
  fill(v: number, a?: number, b?: number): unknown;
};

export class Accesses {
  /** True while a step is watched. */
  on = false;
  /** Containers are handed out bare, to somebody who is not to be watched. */
  bare = false;
  private reads = new Set<number>();
  private writes = new Set<number>();
  private visible = false;
  private containers = 0;
  private readonly numbers = new WeakMap<object, number>();
  private readonly proxies = new WeakMap<object, object>();
  private readonly bareOf = new WeakMap<object, object>();
  private readonly seen = new WeakSet<object>();
  /** Containers below this number are seen from outside. */
  private hardware = 0;

  constructor(
    /** Objects that are no shared state, such as streams of events. */
    private readonly ignored: ReadonlySet<object>,
    /** Fields that are not: where the simulator keeps its own books. */
    private readonly skips: (object: object, field: string) => boolean,
  ) {
    for (const object of ignored) this.seen.add(object);
  }

  /** Watches everything that can be reached from `root`; with `hardware`, as what is seen from outside. */
  watch(root: object, hardware = false): void {
    this.adopt(root);
    if (hardware) this.hardware = this.containers;
  }

  /** Makes the fields of some objects, not what they lead to, a part of what is seen. Call before they are watched. */
  show(objects: readonly object[]): void {
    for (const object of objects) this.number(object);
    this.hardware = this.containers;
  }

  /** What was read and written since the last call. */
  take(): Footprint {
    const { reads, visible, writes } = this;
    this.reads = new Set();
    this.writes = new Set();
    this.visible = false;
    return { reads, writes, visible };
  }

  private read(place: number): void {
    if (this.on) this.reads.add(place);
  }
  private write(place: number): void {
    if (!this.on) return;
    this.writes.add(place);
    if (place < this.hardware * SPAN) this.visible = true;
  }

  private number(container: object): number {
    let n = this.numbers.get(container);
    if (n === undefined) {
      n = this.containers++;
      this.numbers.set(container, n);
    }
    return n * SPAN;
  }

  /** Watches a value that is stored in a watched place. */
  private adopt(value: unknown): void {
    const waiting: unknown[] = [value];
    while (waiting.length > 0) {
      const object = waiting.pop();
      if (typeof object !== 'object' || object === null || this.seen.has(object)) continue;
      this.seen.add(object);
      this.number(object);
      if (ArrayBuffer.isView(object)) continue;
      if (Array.isArray(object)) waiting.push(...object);
      else if (object instanceof Map) for (const [k, v] of object) waiting.push(k, v);
      else if (object instanceof Set) waiting.push(...object);
      else waiting.push(...this.instrument(object as Record<string, unknown>));
    }
  }

  /** Replaces the fields of an object by accessors; what they hold. */
  private instrument(object: Record<string, unknown>): unknown[] {
    const base = this.number(object);
    const values: unknown[] = [];
    Object.keys(object).forEach((name, i) => {
      if (this.skips(object, name)) return;
      const field = Object.getOwnPropertyDescriptor(object, name)!;
      values.push(field.value);
      if (!field.configurable || field.get !== undefined || typeof field.value === 'function') return;
      this.accessor(object, name, base + i, field.value, field.writable === true);
    });
    return values;
  }

  private accessor(object: object, name: string, place: number, first: unknown, writable: boolean): void {
    let value = first;
    let wrapped = this.wrap(first);
    const get = (): unknown => {
      if (this.on) this.reads.add(place);
      return this.bare ? value : wrapped;
    };
    const set = (next: unknown): void => {
      this.write(place);
      const plain = this.plain(next);
      if (plain === value) return;
      // A typed array that has grown is the one that it was.
      if (ArrayBuffer.isView(plain) && ArrayBuffer.isView(value))
        this.numbers.set(plain, this.numbers.get(value)!);
      this.adopt(plain);
      value = plain;
      wrapped = this.wrap(plain);
    };
    const field = { enumerable: true, configurable: true, get };
    Object.defineProperty(object, name, writable ? { ...field, set } : field);
  }

  /** The container behind a proxy. */
  private plain(value: unknown): unknown {
    return typeof value === 'object' && value !== null ? (this.bareOf.get(value) ?? value) : value;
  }

  /** A container as watched code is to see it. */
  private wrap(value: unknown): unknown {
    if (typeof value !== 'object' || value === null || this.ignored.has(value)) return value;
    const known = this.proxies.get(value);
    if (known !== undefined) return known;
    let proxy: object | undefined;
    if (ArrayBuffer.isView(value)) proxy = this.wrapWords(value as unknown as Words);
    else if (Array.isArray(value)) proxy = this.wrapArray(value);
    else if (value instanceof Map) proxy = this.wrapKeyed(value);
    else if (value instanceof Set) proxy = this.wrapKeyed(value);
    if (proxy === undefined) return value;
    this.proxies.set(value, proxy);
    this.bareOf.set(proxy, value);
    return proxy;
  }

  private wrapArray(array: unknown[]): object {
    const place = this.number(array);
    return new Proxy(array, {
      get: (target, key) => {
        this.read(place);
        return this.wrap(Reflect.get(target, key));
      },
      set: (target, key, next) => {
        this.write(place);
        const plain = this.plain(next);
        this.adopt(plain);
        return Reflect.set(target, key, plain);
      },
      deleteProperty: (target, key) => {
        this.write(place);
        return Reflect.deleteProperty(target, key);
      },
    });
  }

  /** Elements are places of their own, pages of large arrays are one; a method may touch all. */
  private wrapWords(words: Words): object {
    const base = this.number(words);
    const shift = words.length > SPAN / 2 || words.length >= 16 * PAGE ? PAGE : 1;
    const range = (note: (place: number) => void, from: number, to: number): void => {
      for (let at = Math.floor(from / shift); at * shift < to; at++) note(base + at);
    };
    const read = (place: number): void => this.read(place);
    const write = (place: number): void => this.write(place);
    return new Proxy(words as object, {
      get: (_target, key) => {
        if (typeof key === 'string') {
          const i = Number(key);
          if (i >= 0) {
            this.read(base + Math.floor(i / shift));
            return words[i];
          }
        }
        const value = (words as unknown as Record<PropertyKey, unknown>)[key];
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          const [from, to] = touchedBy(key, args, words.length);
          range(read, from, to);
          if (key === 'fill' || key === 'set' || key === 'copyWithin') range(write, from, to);
          return (value as (...a: unknown[]) => unknown).apply(
            words,
            args.map((a) => this.plain(a)),
          );
        };
      },
      set: (_target, key, next) => {
        const i = Number(key as string);
        this.write(base + Math.floor(i / shift));
        words[i] = next as number;
        return true;
      },
    });
  }

  /** A map or set: each key is a place, and looking at all of them is one that each change touches. */
  private wrapKeyed(target: Map<unknown, unknown> | Set<unknown>): object {
    const base = this.number(target);
    const keys = new Map<unknown, number>();
    const place = (key: unknown): number => {
      let at = keys.get(key);
      if (at === undefined) {
        at = base + 1 + keys.size;
        keys.set(key, at);
      }
      return at;
    };
    const change = (key: unknown): void => {
      this.write(base);
      this.write(place(key));
    };
    const methods: Record<string, (...args: never[]) => unknown> = {
      get: (key: unknown) => {
        this.read(place(key));
        return this.wrap((target as Map<unknown, unknown>).get(key));
      },
      has: (key: unknown) => {
        this.read(place(key));
        return target.has(key);
      },
      set: (key: unknown, value: unknown) => {
        change(key);
        const plain = this.plain(value);
        this.adopt(key);
        this.adopt(plain);
        (target as Map<unknown, unknown>).set(key, plain);
        return this.wrap(target);
      },
      forEach: (each: (value: unknown, key: unknown) => void) => {
        this.read(base);
        target.forEach((value, key) => void each(this.wrap(value), key));
      },
      add: (key: unknown) => {
        change(key);
        this.adopt(key);
        (target as Set<unknown>).add(key);
        return this.wrap(target);
      },
      delete: (key: unknown) => {
        change(key);
        return target.delete(key);
      },
      clear: () => {
        for (const key of target.keys()) change(key);
        target.clear();
      },
    };
    return new Proxy(target, {
      get: (_t, key) => {
        const method = typeof key === 'string' && Object.hasOwn(methods, key) ? methods[key] : undefined;
        if (method !== undefined) return method;
        this.read(base);
        const value = Reflect.get(target, key, target) as unknown;
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          const made = (value as (...a: unknown[]) => unknown).apply(target, args);
          return this.wrapEach(made);
        };
      },
    });
  }

  /** What an iterator gives is watched as what a lookup gives. */
  private wrapEach(made: unknown): unknown {
    if (typeof made !== 'object' || made === null || !(Symbol.iterator in made)) return made;
    const all = [...(made as Iterable<unknown>)].map((x) =>
      Array.isArray(x) && !this.numbers.has(x) ? x.map((y) => this.wrap(y)) : this.wrap(x),
    );
    return all[Symbol.iterator]();
  }
}

/** Elements of a typed array that a method may touch. */
function touchedBy(
  method: PropertyKey,
  args: readonly unknown[],
  length: number,
): [from: number, to: number] {
  if (method === 'fill') return [Number(args[1] ?? 0), Number(args[2] ?? length)];
  if (method !== 'set') return [0, length];
  const from = Number(args[1] ?? 0);
  return [from, from + (args[0] as ArrayLike<unknown>).length];
}
