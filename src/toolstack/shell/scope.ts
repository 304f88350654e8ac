/** What a shell remembers: variables, arrays, arguments, functions, options. */
import type { Command } from './ast.js';
import { ExpansionError, ShellLimit } from './program.js';

const ELEMENTS_MAX = 100_000;

interface Saved {
  readonly variables: Map<string, string>;
  readonly arrays: Map<string, (string | undefined)[]>;
  readonly functions: Map<string, Command>;
  readonly options: Set<string>;
  readonly positional: readonly string[];
}

export class Scope {
  variables = new Map<string, string>([
    ['EUID', '0'],
    ['HOME', '/root'],
    ['IFS', ' \t\n'],
    ['PATH', '/usr/sbin:/usr/bin:/sbin:/bin'],
    ['PWD', '/root'],
    ['SHELL', '/bin/bash'],
    ['UID', '0'],
    ['USER', 'root'],
  ]);
  arrays = new Map<string, (string | undefined)[]>();
  functions = new Map<string, Command>();
  /** Of `set` and `shopt`, by their long names. */
  options = new Set<string>();
  /** `$1` and so on. */
  positional: readonly string[] = [];
  /** `$0`. */
  command = 'bash';
  /** `$?`. */
  status = 0;
  /** For each function that runs, what its local variables hide. */
  private readonly hidden: Map<
    string,
    { value: string | undefined; array: (string | undefined)[] | undefined }
  >[] = [];

  /** Variables, arguments and special parameters; the first element of an array. */
  get(name: string): string | undefined {
    switch (name) {
      case '?':
        return String(this.status);
      case '$':
      case '!':
        return '100';
      case '#':
        return String(this.positional.length);
      case '-':
        return 'hB';
      case '0':
        return this.command;
    }
    if (/^[1-9]/.test(name)) return this.positional[Number(name) - 1];
    return this.variables.get(name) ?? this.arrays.get(name)?.[0];
  }

  set(name: string, value: string): void {
    const array = this.arrays.get(name);
    if (array !== undefined) array[0] = value;
    else this.variables.set(name, value);
  }

  unset(name: string): void {
    this.variables.delete(name);
    this.arrays.delete(name);
  }

  /** The elements of an array that there are; a variable is an array of one. */
  elements(name: string): string[] {
    if (name === '@' || name === '*') return [...this.positional];
    const array = this.arrays.get(name);
    if (array !== undefined) return array.filter((v) => v !== undefined);
    const value = this.variables.get(name);
    return value === undefined ? [] : [value];
  }

  /** A negative index counts from the end. */
  element(name: string, index: number): string | undefined {
    const array = this.arrays.get(name) ?? this.elements(name);
    return array[index < 0 ? array.length + index : index];
  }

  setElement(name: string, index: number, value: string): void {
    const array = this.arrays.get(name) ?? this.elements(name);
    const at = index < 0 ? array.length + index : index;
    if (!(at >= 0 && at < ELEMENTS_MAX)) throw new ExpansionError(`${name}[${index}]: bad array subscript`);
    array[at] = value;
    this.setArray(name, array);
  }

  setArray(name: string, values: (string | undefined)[]): void {
    if (values.length > ELEMENTS_MAX) throw new ShellLimit(`${name}: too many elements`);
    this.variables.delete(name);
    this.arrays.set(name, values);
  }

  enter(): void {
    this.hidden.push(new Map());
  }

  /** `local`: false outside of functions. */
  hide(name: string): boolean {
    const frame = this.hidden[this.hidden.length - 1];
    if (frame === undefined) return false;
    if (!frame.has(name)) frame.set(name, { value: this.variables.get(name), array: this.arrays.get(name) });
    this.unset(name);
    return true;
  }

  leave(): void {
    for (const [name, { array, value }] of this.hidden.pop() ?? []) {
      this.unset(name);
      if (value !== undefined) this.variables.set(name, value);
      if (array !== undefined) this.arrays.set(name, array);
    }
  }

  /** How much a subshell has to copy. */
  get size(): number {
    let size = this.variables.size + this.functions.size;
    for (const values of this.arrays.values()) size += values.length + 1;
    return size;
  }

  /** What a subshell may change. */
  save(): Saved {
    const { arrays, functions, options, positional, variables } = this;
    this.variables = new Map(variables);
    this.arrays = new Map([...arrays].map(([name, values]) => [name, [...values]]));
    this.functions = new Map(functions);
    this.options = new Set(options);
    return { variables, arrays, functions, options, positional };
  }

  restore(saved: Saved): void {
    Object.assign(this, saved);
  }
}
