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

/** Typed arrays, without the zeros at their ends. */
export class WordCopies implements Copies {
  private readonly targets: TypedArray[] = [];
  private readonly saved: TypedArray[] = [];
  get size(): number {
    return this.targets.length;
  }
  add(target: TypedArray): void {
    let used = target.length;
    while (used > 0 && Object.is(target[used - 1], 0)) used--;
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
/** So many are stored sooner one by one: set() and fill() take 20 ns each before they begin. */
const FEW_WORDS = 32;

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
      if (this.empty[i]!.length !== 0) this.empty[i]!.length = 0;
    }
    for (let i = 0; i < this.targets.length; i++) {
      const target = this.targets[i]!;
      const saved = this.saved[i]!;
      if (target.length !== saved.length) rebuild(target, saved);
      else for (let k = 0; k < saved.length; k++) target[k] = saved[k]; // Stores that grow nothing are fast ones.
    }
    for (let i = 0; i < this.sparse.length; i++) rebuild(this.sparse[i]!, this.sparseSaved[i]!);
  }
}

function rebuild(target: unknown[], saved: readonly unknown[]): void {
  target.length = 0;
  target.length = saved.length;
  saved.forEach((value, k) => {
    target[k] = value;
  });
}

export class MapCopies implements Copies {
  private readonly targets: Map<unknown, unknown>[] = [];
  private readonly saved: unknown[][] = [];
  get size(): number {
    return this.targets.length;
  }
  add(target: Map<unknown, unknown>): void {
    this.targets.push(target);
    this.saved.push([...target].flat(1));
  }
  restore(): void {
    for (let i = 0; i < this.targets.length; i++) {
      const target = this.targets[i]!;
      const saved = this.saved[i]!;
      if (isUnchangedMap(target, saved)) continue;
      target.clear();
      for (let k = 0; k < saved.length; k += 2) target.set(saved[k], saved[k + 1]);
    }
  }
}

function isUnchangedMap(map: Map<unknown, unknown>, saved: readonly unknown[]): boolean {
  if (map.size * 2 !== saved.length) return false;
  if (saved.length === 0) return true;
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

type Fields = Record<string, unknown>;
/** Writes the fields of all objects of a group; `values` has them object by object. */
type WriteFields = (objects: readonly object[], values: readonly unknown[]) => void;

/** Objects of one prototype with the same fields. */
export class FieldCopies implements Copies {
  private readonly targets: object[] = [];
  private readonly values: unknown[] = [];
  private write: WriteFields | undefined = undefined;
  constructor(
    readonly names: readonly string[],
    /** Keys may come and go: plain objects used as dictionaries. */
    private readonly loose: boolean,
  ) {}
  get size(): number {
    return this.targets.length;
  }
  add(target: object): void {
    this.targets.push(target);
    for (const name of this.names) this.values.push((target as Fields)[name]);
  }
  restore(): void {
    this.write ??= writerOf(this.names, this.targets.length, this.loose);
    this.write(this.targets, this.values);
  }
}

function removeKeys(object: object): void {
  for (const key of Object.keys(object)) Reflect.deleteProperty(object, key);
}

const PLAIN_NAME = /^[A-Za-z_$][\w$]{0,63}$/;
/** Fields of which a writer is compiled; beyond it, and where compiling is forbidden, the loop does it. */
const COMPILED_FIELDS_MAX = 128;

/**
 * Stores to fields that the engine knows by name take 1 ns each, those by a variable name 11 ns, and a machine has
 * thousands: so a function with the names in it is compiled for each group.
 */
function writerOf(names: readonly string[], objects: number, loose: boolean): WriteFields {
  const known = names.every((n) => PLAIN_NAME.test(n) && n !== '__proto__');
  if (!known || names.length > COMPILED_FIELDS_MAX || objects * names.length < 2) {
    return writeByName(names, loose);
  }
  return compile(names, loose) ?? writeByName(names, loose);
}

function compile(names: readonly string[], loose: boolean): WriteFields | undefined {
  const stores = names.map((name, k) => `o[${JSON.stringify(name)}] = values[j + ${k}];`).join(' ');
  // The keys are looked at here, for the engine knows those of one group as it knows the fields.
  const look = `let k = 0; for (const key in o) if (key !== names[k++]) { k = -1; break; }`;
  const keys = loose ? `${look} if (k !== ${names.length}) removeKeys(o);` : '';
  const body = `return (objects, values) => {
    for (let i = 0, j = 0; i < objects.length; i++, j += ${names.length}) { const o = objects[i]; ${keys} ${stores} }
  };`;
  try {
    return new Function('names', 'removeKeys', body)(names, removeKeys) as WriteFields;
  } catch {
    return undefined; // A page with a strict content policy.
  }
}

const writeByName =
  (names: readonly string[], loose: boolean): WriteFields =>
  (objects, values) => {
    let j = 0;
    for (let i = 0; i < objects.length; i++) {
      const object = objects[i] as Fields;
      if (loose && !hasKeys(object, names)) removeKeys(object);
      for (let k = 0; k < names.length; k++) {
        const name = names[k]!;
        if (name === '__proto__') defineKey(object, name, values[j++]);
        else object[name] = values[j++];
      }
    }
  };

function hasKeys(object: object, names: readonly string[]): boolean {
  let k = 0;
  for (const key in object) if (key !== names[k++]) return false;
  return k === names.length;
}

/** `object.__proto__ = value` would change the prototype instead. */
function defineKey(object: object, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}
