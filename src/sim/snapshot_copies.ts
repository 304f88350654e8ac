/** What a snapshot keeps, one class a kind of object. Each puts everything back in one call. */

export type TypedArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array;

export interface Copies {
  readonly size: number;
  restore(): void;
}

/** An object that knows which of its words were written, so that not all of them need to be copied back. */
export interface CopiesItself {
  copyItself(): OwnCopy;
}
export interface OwnCopy {
  /** Typed arrays and lists that the copy looks after, and nobody else then. Fields are none of it. */
  readonly words: readonly object[];
  /** Restored before all others, while the fields of the object still are what they became. */
  readonly copy: Copies;
}

/** Typed arrays, long ones without the zeros at their ends. */
export class WordCopies implements Copies {
  private readonly targets: TypedArray[] = [];
  private readonly saved: TypedArray[] = [];
  /** Views of a buffer that they may share, until `finish`. */
  private readonly views = new Map<ArrayBufferLike, TypedArray[]>();
  get size(): number {
    return this.targets.length;
  }
  add(target: TypedArray): void {
    // Small arrays have no buffer until somebody asks for it.
    const sharing = target.byteLength > OWN_BYTES ? this.views.get(target.buffer) : undefined;
    if (sharing !== undefined) sharing.push(target);
    else if (target.byteLength > OWN_BYTES) this.views.set(target.buffer, [target]);
    else this.keep(target);
  }
  /** Views that lie side by side in one buffer are one copy. */
  finish(): void {
    for (const [buffer, views] of this.views) {
      views.sort((a, b) => a.byteOffset - b.byteOffset);
      for (let i = 0; i < views.length; ) {
        const first = views[i++]!;
        let end = first.byteOffset + first.byteLength;
        const alone = i;
        for (; i < views.length && views[i]!.byteOffset <= end; i++)
          end = Math.max(end, views[i]!.byteOffset + views[i]!.byteLength);
        this.keep(i === alone ? first : new Uint8Array(buffer, first.byteOffset, end - first.byteOffset));
      }
    }
    this.views.clear();
  }
  private keep(target: TypedArray): void {
    let used = target.length;
    if (used > WHOLE_WORDS) while (used > 0 && Object.is(target[used - 1], 0)) used--;
    this.targets.push(target);
    this.saved.push(target.slice(0, used));
  }
  restore(): void {
    for (let i = 0; i < this.targets.length; i++) {
      const target = this.targets[i]!;
      const saved = this.saved[i]!;
      if (target.length <= FEW_WORDS) {
        for (let k = 0; k < saved.length; k++) target[k] = saved[k]!;
        for (let k = saved.length; k < target.length; k++) target[k] = 0;
      } else {
        target.set(saved);
        if (saved.length < target.length) target.fill(0, saved.length);
      }
    }
  }
}
/** Typed arrays of so many bytes lie in the heap themselves. */
const OWN_BYTES = 64;
/** So many are stored sooner one by one: set() and fill() take 20 ns each before they begin. */
const FEW_WORDS = 32;
/** So many are copied whole: one call takes less than two. */
const WHOLE_WORDS = 1024;

export class ArrayCopies implements Copies {
  /** Most lists of a machine are empty. */
  private readonly empty: unknown[][] = [];
  private readonly targets: unknown[][] = [];
  private readonly saved: unknown[][] = [];
  /** Arrays with holes are rebuilt, so that the holes come back. */
  private readonly sparse: unknown[][] = [];
  private readonly sparseSaved: unknown[][] = [];
  get size(): number {
    return this.empty.length + this.targets.length + this.sparse.length;
  }
  add(target: unknown[]): void {
    const copy = target.slice();
    if (copy.length === 0) this.empty.push(target);
    else if (Object.keys(copy).length === copy.length) {
      this.targets.push(target);
      this.saved.push(copy);
    } else {
      this.sparse.push(target);
      this.sparseSaved.push(copy);
    }
  }
  restore(): void {
    for (let i = 0; i < this.empty.length; i++) {
      if (this.empty[i]!.length !== 0) shorten(this.empty[i]!, 0);
    }
    for (let i = 0; i < this.targets.length; i++) {
      const target = this.targets[i]!;
      const saved = this.saved[i]!;
      if (target.length > saved.length) shorten(target, saved.length);
      // Stores that grow nothing are fast ones.
      let k = 0;
      for (; k < target.length; k++) target[k] = saved[k];
      for (; k < saved.length; k++) target.push(saved[k]);
    }
    for (let i = 0; i < this.sparse.length; i++) rebuild(this.sparse[i]!, this.sparseSaved[i]!);
  }
}

/** Keeps the memory behind the list, which the next one to fill it needs again: setting `length` gives it up. */
function shorten(list: unknown[], length: number): void {
  if (list.length > length + SHORTENED_MAX) list.length = length;
  else while (list.length > length) list.pop();
}
const SHORTENED_MAX = 64;

function rebuild(target: unknown[], saved: readonly unknown[]): void {
  target.length = 0;
  target.length = saved.length;
  saved.forEach((value, k) => {
    target[k] = value;
  });
}

export class MapCopies implements Copies {
  private readonly empty: Map<unknown, unknown>[] = [];
  /** Of objects by number, as most maps are: two of those are compared without a call. */
  private readonly tables: Map<unknown, unknown>[] = [];
  private readonly savedTables: (readonly unknown[])[] = [];
  private readonly targets: Map<unknown, unknown>[] = [];
  private readonly saved: (readonly unknown[])[] = [];
  get size(): number {
    return this.empty.length + this.tables.length + this.targets.length;
  }
  add(target: Map<unknown, unknown>): void {
    const saved = [...target].flat(1);
    if (saved.length === 0) this.empty.push(target);
    else if (saved.every((x, k) => typeof x === (k % 2 === 0 ? 'number' : 'object') && x !== null)) {
      this.tables.push(target);
      this.savedTables.push(saved);
    } else {
      this.targets.push(target);
      this.saved.push(saved);
    }
  }
  restore(): void {
    for (let i = 0; i < this.empty.length; i++) if (this.empty[i]!.size !== 0) this.empty[i]!.clear();
    for (let i = 0; i < this.tables.length; i++) {
      if (!isUnchangedTable(this.tables[i]!, this.savedTables[i]!))
        refill(this.tables[i]!, this.savedTables[i]!);
    }
    for (let i = 0; i < this.targets.length; i++) {
      if (!isUnchangedMap(this.targets[i]!, this.saved[i]!)) refill(this.targets[i]!, this.saved[i]!);
    }
  }
}

function refill(map: Map<unknown, unknown>, saved: readonly unknown[]): void {
  map.clear();
  for (let k = 0; k < saved.length; k += 2) map.set(saved[k], saved[k + 1]);
}

/** Objects are what they are; a number that has come among them differs from all. */
function isUnchangedTable(map: Map<unknown, unknown>, saved: readonly unknown[]): boolean {
  if (map.size * 2 !== saved.length) return false;
  let k = 0;
  for (const [key, value] of map) {
    if (key !== saved[k] || value !== saved[k + 1]) return false;
    k += 2;
  }
  return true;
}

function isUnchangedMap(map: Map<unknown, unknown>, saved: readonly unknown[]): boolean {
  if (map.size * 2 !== saved.length) return false;
  let k = 0;
  for (const [key, value] of map) {
    if (!Object.is(saved[k], key) || !Object.is(saved[k + 1], value)) return false;
    k += 2;
  }
  return true;
}

export class SetCopies implements Copies {
  private readonly targets: Set<unknown>[] = [];
  private readonly saved: unknown[][] = [];
  get size(): number {
    return this.targets.length;
  }
  add(target: Set<unknown>): void {
    this.targets.push(target);
    this.saved.push([...target]);
  }
  restore(): void {
    for (let i = 0; i < this.targets.length; i++) {
      const target = this.targets[i]!;
      const saved = this.saved[i]!;
      if (isUnchangedSet(target, saved)) continue;
      target.clear();
      for (const value of saved) target.add(value);
    }
  }
}

function isUnchangedSet(set: ReadonlySet<unknown>, saved: readonly unknown[]): boolean {
  if (set.size !== saved.length) return false;
  if (saved.length === 0) return true;
  let k = 0;
  for (const value of set) if (!Object.is(saved[k++], value)) return false;
  return true;
}
