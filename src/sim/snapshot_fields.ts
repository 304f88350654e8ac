/** Fields of objects, in groups of one class each, and how all of them are put back in one call. */
import type { Copies } from './snapshot_copies.js';

type Fields = Record<string, unknown>;

/** Objects of one prototype with the same fields. */
export class FieldGroup {
  readonly targets: object[] = [];
  /** Object by object. */
  readonly values: unknown[] = [];
  constructor(
    readonly names: readonly string[],
    /** Keys may come and go: plain objects used as dictionaries. */
    readonly loose: boolean,
  ) {}
  add(target: object): void {
    this.targets.push(target);
    for (const name of this.names) this.values.push((target as Fields)[name]);
  }
}

export class FieldCopies implements Copies {
  private readonly groups: FieldGroup[] = [];
  private write: (() => void) | undefined = undefined;
  get size(): number {
    return this.groups.length;
  }
  add(group: FieldGroup): void {
    this.groups.push(group);
  }
  restore(): void {
    this.write ??= writerOf(this.groups);
    this.write();
  }
}

function removeKeys(object: object): void {
  for (const key of Object.keys(object)) Reflect.deleteProperty(object, key);
}

const PLAIN_NAME = /^[A-Za-z_$][\w$]{0,63}$/;
/** Fields of which a writer is compiled; beyond it, and where compiling is forbidden, a loop does it. */
const COMPILED_FIELDS_MAX = 128;
/** Stores in one compiled function: the engine optimizes none that is much longer. */
const COMPILED_STORES_MAX = 1000;

const isCompiled = ({ names }: FieldGroup): boolean =>
  names.length <= COMPILED_FIELDS_MAX && names.every((n) => PLAIN_NAME.test(n) && n !== '__proto__');

function writerOf(groups: readonly FieldGroup[]): () => void {
  const writers: (() => void)[] = [];
  const compiled = groups.filter(isCompiled);
  for (let from = 0; from < compiled.length; ) {
    let to = from;
    for (let stores = 0; to < compiled.length && stores <= COMPILED_STORES_MAX; to++)
      stores += compiled[to]!.names.length;
    const some = compiled.slice(from, to);
    const writer = compile(some);
    if (writer === undefined) writers.push(...some.map(writeByName));
    else writers.push(writer);
    from = to;
  }
  writers.push(...groups.filter((g) => !isCompiled(g)).map(writeByName));
  return () => {
    for (let i = 0; i < writers.length; i++) writers[i]!();
  };
}

/**
 * Stores to fields that the engine knows by name take 1 ns each, those by a variable name 11 ns, and a machine has
 * thousands: so a function with the names in it is compiled. What all objects of a group have alike, as most fields
 * that nobody has used yet, stands in it as a constant, which is neither fetched nor shown to the collector. Other
 * values it reads from objects of one shape for each group: then the engine knows what is a small number and moves it
 * without a look.
 */
function compile(groups: readonly FieldGroup[]): (() => void) | undefined {
  const constants = groups.map(constantsOf);
  const make = groups.map(({ names }, g) => {
    const kept = names.flatMap((name, k) => (constants[g]![k] === undefined ? [{ name, k }] : []));
    const fields = kept.map(({ name, k }) => `${JSON.stringify(name)}: v[j + ${k}]`);
    return fields.length === 0
      ? 'undefined'
      : `groups[${g}].targets.map((_, i) => { const v = groups[${g}].values, j = i * ${names.length}; return { ${fields.join(', ')} }; })`;
  });
  const write = groups.map(({ loose, names }, g) => {
    const stores = names.map((name, k) => `o.${name} = ${constants[g]![k] ?? `p.${name}`};`).join(' ');
    // The keys are looked at here, for the engine knows those of one group as it knows the fields.
    const list = `const names = groups[${g}].names;`;
    const look = `let k = 0; for (const key in o) if (key !== names[k++]) { k = -1; break; }`;
    const keys = loose ? `${list} ${look} if (k !== ${names.length}) removeKeys(o);` : '';
    const saved = constants[g]!.includes(undefined) ? `const p = s${g}[i];` : '';
    return `for (let i = 0; i < t${g}.length; i++) { const o = t${g}[i]; ${saved} ${keys} ${stores} }`;
  });
  const lists = groups.map((_, g) => `const t${g} = groups[${g}].targets, s${g} = ${make[g]};`);
  try {
    return new Function(
      'groups',
      'removeKeys',
      `${lists.join('\n')}\nreturn () => {\n${write.join('\n')}\n};`,
    )(groups, removeKeys) as () => void;
  } catch {
    return undefined; // A page with a strict content policy.
  }
}

/** Field by field, as it is written in a program, what all objects of the group have there; else undefined. */
function constantsOf({ names, targets, values }: FieldGroup): (string | undefined)[] {
  return names.map((_, k) => {
    const value = values[k];
    for (let i = 1; i < targets.length; i++)
      if (!Object.is(values[i * names.length + k], value)) return undefined;
    if (typeof value === 'number') return isSmall(value) ? String(value) : undefined;
    return value === undefined || value === null || typeof value === 'boolean' ? String(value) : undefined;
  });
}
const isSmall = (x: number): boolean => Object.is(x | 0, x) && Math.abs(x) < 2 ** 30;

const writeByName =
  ({ loose, names, targets, values }: FieldGroup): (() => void) =>
  () => {
    let j = 0;
    for (let i = 0; i < targets.length; i++) {
      const object = targets[i] as Fields;
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
