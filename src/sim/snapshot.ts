/**
 * The state of a whole machine at rest, and its return. Taking a snapshot walks every object that can be reached from
 * the root and keeps a shallow copy of each; restoring puts the copies back into the same objects, without a walk, so
 * references held elsewhere stay good.
 *
 * Seen: own enumerable fields (private ones of TypeScript too), arrays, maps, sets and typed arrays. Not seen: state in
 * closures, `#private` fields and symbol keys, so the simulator keeps none there. What is frozen does not change, but
 * what it refers to may; instances of a class with `static readonly unchanging = true` are left out, with all they lead
 * to. An instance of a class has its fields for life, and those declared readonly with one value: the build lists them
 * in `fixedFields` (tools/fixed_fields.mjs). Plain objects may gain and lose keys.
 */
import { assert, XenBug } from '../base/assert.js';
import {
  ArrayCopies,
  type Copies,
  type CopiesItself,
  MapCopies,
  SetCopies,
  type TypedArray,
  WordCopies,
} from './snapshot_copies.js';
import { FieldCopies, FieldGroup } from './snapshot_fields.js';

export interface SnapshotOptions {
  /** What never changes, nor anything that it leads to: descriptions and tables. It is left out. */
  readonly constants?: readonly object[];
}

export interface Snapshot {
  /** Objects it holds. */
  readonly objects: number;
  /** By kind; `restoreSnapshot` runs through them. */
  readonly copies: readonly Copies[];
}

/** @throws XenBug when something on the way cannot be copied, such as a vCPU that has stopped in the middle */
export function takeSnapshot(root: object, options: SnapshotOptions = {}): Snapshot {
  const aside = new Walk(new Set());
  for (const constant of options.constants ?? []) aside.reach(constant);
  aside.finish();
  assert(!aside.seen.has(root), 'what never changes does not lead to the machine');
  const walk = new Walk(aside.seen);
  walk.reach(root);
  return walk.finish();
}

/** Everything is again as it was when `snapshot` was taken. It can be restored any number of times. */
export function restoreSnapshot(snapshot: Snapshot): void {
  const { copies } = snapshot;
  for (let i = 0; i < copies.length; i++) copies[i]!.restore();
}

type Kind = 'fields' | 'array' | 'map' | 'set' | 'words' | 'opaque' | 'refused';

interface Fields {
  readonly held: readonly string[];
  readonly kept: readonly string[];
}
interface Shape {
  /** Fields that are looked into. */
  readonly held: readonly string[];
  readonly group: FieldGroup;
}
const NONE: ReadonlySet<string> = new Set();

/** What a class and those it extends declare readonly. */
function fixedFieldsOf(prototype: object | null): ReadonlySet<string> {
  const fixed = new Set<string>();
  for (let p = prototype; p !== null; p = Object.getPrototypeOf(p) as object | null) {
    const made = Object.getOwnPropertyDescriptor(p, 'constructor')?.value as unknown;
    if (typeof made !== 'function' || !Object.hasOwn(made, 'fixedFields')) continue;
    for (const name of (made as unknown as { fixedFields: readonly string[] }).fixedFields) fixed.add(name);
  }
  return fixed;
}

class Walk {
  private held = 0;
  private readonly waiting: object[] = [];
  private readonly kinds = new Map<object | null, Kind>();
  /** By prototype, then by the names of the fields. */
  private readonly shapes = new Map<object | null, Map<string, Shape>>();
  /** Of plain objects, by the names that are kept. */
  private readonly alone = new Map<string, FieldGroup>();
  private readonly fields = new FieldCopies();
  /** Of objects that copy a part of themselves. */
  private readonly own: Copies[] = [];
  private readonly arrays = new ArrayCopies();
  private readonly maps = new MapCopies();
  private readonly sets = new SetCopies();
  private readonly words = new WordCopies();

  constructor(
    /** Objects that need no further look. */
    readonly seen: Set<object>,
  ) {}

  reach(value: unknown): void {
    if (typeof value !== 'object' || value === null || this.seen.has(value)) return;
    this.seen.add(value);
    this.waiting.push(value);
  }

  finish(): Snapshot {
    for (let next = this.waiting.pop(); next !== undefined; next = this.waiting.pop()) {
      this.held += 1;
      this.copy(next);
    }
    this.words.finish();
    const copies: Copies[] = [...this.own, this.words, this.arrays, this.maps, this.sets, this.fields];
    return { objects: this.held, copies: copies.filter((c) => c.size > 0) };
  }

  private copy(object: object): void {
    switch (this.kindOf(object)) {
      case 'opaque':
        break;
      case 'refused': {
        const tag = tagOf(object);
        throw new XenBug(`a snapshot cannot hold a ${tag}: is the machine at rest?`);
      }
      case 'words':
        this.words.add(object as TypedArray);
        break;
      case 'array':
        this.copyArray(object as unknown[]);
        break;
      case 'map':
        this.copyMap(object as Map<unknown, unknown>);
        break;
      case 'set':
        this.copySet(object as Set<unknown>);
        break;
      case 'fields':
        this.copyFields(object);
    }
  }

  private copyArray(array: unknown[]): void {
    for (const value of array) this.reach(value);
    if (!Object.isFrozen(array)) this.arrays.add(array);
  }

  private copyMap(map: Map<unknown, unknown>): void {
    for (const [key, value] of map) {
      this.reach(key);
      this.reach(value);
    }
    if (!('copyItself' in map)) this.maps.add(map);
    this.copyFields(map);
  }

  private copySet(set: Set<unknown>): void {
    for (const value of set) this.reach(value);
    this.sets.add(set);
    this.copyFields(set);
  }

  private copyFields(object: object): void {
    const prototype = Object.getPrototypeOf(object) as object | null;
    const plain = prototype === Object.prototype || prototype === null;
    const names = Object.keys(object);
    if (!plain && 'copyItself' in object) this.copySelf(object as CopiesItself);
    if (plain || Object.isFrozen(object)) this.copyAlone(object, names);
    else if (names.length > 0) this.copyAlike(object, names, prototype);
  }

  private copySelf(object: CopiesItself): void {
    const { copy, words } = object.copyItself();
    for (const w of words) this.seen.add(w);
    this.own.push(copy);
  }

  /** Plain and frozen objects: the fields of each are its own. */
  private copyAlone(object: object, names: readonly string[]): void {
    const { held, kept } = this.lookAt(object, names, NONE);
    for (const name of held) this.reach((object as Record<string, unknown>)[name]);
    if (Object.isFrozen(object)) return;
    const loose = kept.length === names.length;
    const key = JSON.stringify([kept, loose]);
    let group = this.alone.get(key);
    if (group === undefined) {
      group = new FieldGroup(kept, loose);
      this.alone.set(key, group);
      this.fields.add(group);
    }
    group.add(object);
  }

  /** Instances of one class, which have the same fields: the first one tells of what kind each is. */
  private copyAlike(object: object, names: readonly string[], prototype: object | null): void {
    let shapes = this.shapes.get(prototype);
    if (shapes === undefined) {
      shapes = new Map();
      this.shapes.set(prototype, shapes);
    }
    const key = JSON.stringify(names);
    let shape = shapes.get(key);
    if (shape === undefined) {
      const { held, kept } = this.lookAt(object, names, fixedFieldsOf(prototype));
      shape = { held, group: new FieldGroup(kept, false) };
      shapes.set(key, shape);
      if (kept.length > 0) this.fields.add(shape.group);
    }
    for (const name of shape.held) this.reach((object as Record<string, unknown>)[name]);
    shape.group.add(object);
  }

  /** Fields that hold something, and those of them that may come to hold something else. */
  private lookAt(object: object, names: readonly string[], fixed: ReadonlySet<string>): Fields {
    const fields = names.map((name) => ({ name, field: Object.getOwnPropertyDescriptor(object, name) }));
    const held = fields.filter(({ field }) => field?.get === undefined && field?.set === undefined);
    const kept = held.filter(({ field, name }) => field?.writable === true && !fixed.has(name));
    return { held: held.map((f) => f.name), kept: kept.map((f) => f.name) };
  }

  private kindOf(object: object): Kind {
    const prototype = Object.getPrototypeOf(object) as object | null;
    let kind = this.kinds.get(prototype);
    if (kind === undefined) {
      kind = classify(object);
      this.kinds.set(prototype, kind);
    }
    return kind;
  }
}

function classify(object: object): Kind {
  const prototype = Object.getPrototypeOf(object) as { constructor?: { unchanging?: unknown } } | null;
  if (prototype?.constructor?.unchanging === true) return 'opaque';
  if (Array.isArray(object)) return 'array';
  if (object instanceof Map) return 'map';
  if (object instanceof Set) return 'set';
  const tag = tagOf(object);
  if (WORDS.has(tag)) return 'words';
  if (ArrayBuffer.isView(object)) return 'refused';
  if (tag === 'RegExp' || tag === 'ArrayBuffer' || tag === 'Function') return 'opaque';
  return REFUSED.has(tag) ? 'refused' : 'fields';
}
const tagOf = (object: object): string => Object.prototype.toString.call(object).slice(8, -1);
const WORDS = new Set([
  'Int8Array',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'Float32Array',
  'Float64Array',
]);
const REFUSED = new Set(['Generator', 'AsyncGenerator', 'Promise', 'WeakMap', 'WeakSet', 'WeakRef', 'Date']);
