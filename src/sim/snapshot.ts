/**
 * The state of a whole machine at rest, and its return. Taking a snapshot walks every object that can be reached from
 * the root and keeps a shallow copy of each; restoring puts the copies back into the same objects, without a walk, so
 * references held elsewhere stay good.
 *
 * Seen: own enumerable fields (private ones of TypeScript too), arrays, maps, sets and typed arrays. Not seen: state in
 * closures, `#private` fields and symbol keys, so the simulator keeps none there. What is frozen does not change, but
 * what it refers to may; instances of a class with `static readonly unchanging = true` are left out, with all they lead
 * to. An instance of a class has its fields for life; plain objects may gain and lose keys.
 */
import { assert, XenBug } from '../base/assert.js';
import {
  ArrayCopies,
  type Copies,
  FieldCopies,
  MapCopies,
  SetCopies,
  type TypedArray,
  WordCopies,
} from './snapshot_copies.js';

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

class Walk {
  private held = 0;
  private readonly waiting: object[] = [];
  private readonly kinds = new Map<object | null, Kind>();
  /** By prototype, then by the names of the fields. */
  private readonly fields = new Map<object | null, Map<string, FieldCopies>>();
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
    const copies: Copies[] = [this.words, this.arrays, this.maps, this.sets];
    for (const group of this.fields.values()) copies.push(...group.values());
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
    this.maps.add(map);
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
    if (names.length === 0 && !plain) return;
    let groups = this.fields.get(prototype);
    if (groups === undefined) {
      groups = new Map();
      this.fields.set(prototype, groups);
    }
    const group = plain ? undefined : groups.get(JSON.stringify(names));
    if (group !== undefined && !Object.isFrozen(object)) {
      for (const name of names) this.reach((object as Record<string, unknown>)[name]);
      group.add(object);
    } else this.copyNewFields(object, names, groups, plain);
  }

  /** The first object of a group, or a plain one: its fields are looked at one by one. */
  private copyNewFields(
    object: object,
    names: readonly string[],
    groups: Map<string, FieldCopies>,
    plain: boolean,
  ): void {
    const kept: string[] = [];
    for (const name of names) {
      const field = Object.getOwnPropertyDescriptor(object, name);
      this.reach(field?.value);
      if (field?.writable === true) kept.push(name);
    }
    if (Object.isFrozen(object)) return;
    const key = JSON.stringify(kept);
    let group = groups.get(key);
    if (group === undefined) {
      group = new FieldCopies(kept, plain && kept.length === names.length);
      groups.set(key, group);
    }
    group.add(object);
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
