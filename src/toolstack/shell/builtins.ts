/** Commands that change the shell they run in. (POSIX.1, 2.14; bash, SHELL BUILTIN COMMANDS) */
import { isErr, strerror } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { Stdio } from '../dom0.js';
import { arithmetic } from './arithmetic.js';
import type { List } from './ast.js';
import type { Input } from './input.js';
import { parseShell } from './parse.js';
import { linesOf, options, type ShellHost } from './program.js';
import { readFields } from './read.js';
import type { Scope } from './scope.js';

/** `exit N`. */
export class ShellExit extends Error {
  constructor(readonly status: number) {
    super('exit');
  }
}
/** `return N`. */
export class ShellReturn extends Error {
  constructor(readonly status: number) {
    super('return');
  }
}

/** What builtins need of their shell. */
export interface BuiltinHost extends ShellHost {
  readonly scope: Scope;
  /** Functions and sourced files around what runs. */
  readonly returnable: number;
  /** @returns what bash says outside of loops, if anything */
  leave(by: 'break' | 'continue', count: string | undefined): string;
  /** Runs a list in this shell, with other arguments where they are given. */
  runHere(list: List, positional?: readonly string[]): Co<number>;
  /** What a name stands for, `type` and `command -v` say; undefined for nothing. */
  kindOf(name: string): string | undefined;
}

const NAMES = new Set(
  `: . source break builtin command continue declare eval exec exit export hash let local mapfile read readarray readonly
  return set shift shopt trap type typeset umask unset wait`.split(/\s+/),
);
export const isBuiltin = (name: string): boolean => NAMES.has(name);

const OPTIONS: ReadonlyMap<string, string> = new Map([
  ['e', 'errexit'],
  ['u', 'nounset'],
  ['x', 'xtrace'],
]);
const byte = (text: string): number => Number.parseInt(text, 10) & 0xff;

export class Builtins {
  constructor(private readonly shell: BuiltinHost) {}

  *run(argv: readonly string[], input: Input, io: Stdio): Co<number> {
    const [name, ...args] = argv;
    switch (name) {
      case 'eval':
        return yield* this.shell.runHere(parseShell(args.join(' ')));
      case '.':
      case 'source':
        return yield* this.source(args, io);
      case 'command':
      case 'builtin':
      case 'exec':
        if (args[0] === '-v' || args[0] === '-V') return this.kinds(args.slice(1), io, args[0] === '-v');
        return args.length === 0 ? 0 : yield* this.shell.call(args, input, io);
      default:
        return this.plain(name!, args, input, io);
    }
  }

  private plain(name: string, args: readonly string[], input: Input, io: Stdio): number {
    const { scope } = this.shell;
    const first = args[0];
    switch (name) {
      case 'exit':
        throw new ShellExit(first === undefined ? scope.status : byte(first));
      case 'return':
        if (this.shell.returnable > 0)
          throw new ShellReturn(first === undefined ? scope.status : byte(first));
        io.err("bash: return: can only `return' from a function or sourced script\n");
        return 1;
      case 'break':
      case 'continue':
        io.err(this.shell.leave(name, first));
        return 0;
      case 'set':
        return this.set(args, io);
      case 'shopt':
        for (const option of args.filter((a) => !a.startsWith('-')))
          if (first === '-u') scope.options.delete(option);
          else scope.options.add(option);
        return 0;
      case 'shift': {
        const n = Number.parseInt(first ?? '1', 10);
        if (!(n >= 0 && n <= scope.positional.length)) return 1;
        scope.positional = scope.positional.slice(n);
        return 0;
      }
      case 'unset':
        return this.unset(args);
      case 'let':
        return args.map((a) => arithmetic(a, scope)).at(-1) === '0' ? 1 : 0;
      case 'type':
        return this.kinds(args, io, false);
      case 'read':
        return this.read(args, input, io);
      case 'mapfile':
      case 'readarray':
        scope.setArray(args.find((a) => !a.startsWith('-')) ?? 'MAPFILE', linesOf(input.rest()));
        return 0;
      case 'trap':
        io.err('bash: trap: there are no signals here\n');
        return 1;
      default:
        return 0;
    }
  }

  /** `local`, `declare`, `export`: their assignments are made by the caller, after this. */
  declare(argv: readonly string[], assigned: readonly string[], io: Stdio): number {
    const [name, ...args] = argv;
    const { scope } = this.shell;
    const flags = args.filter((a) => /^[-+]/.test(a)).join('');
    if (/[A]/.test(flags)) {
      io.err(`bash: ${name}: -A: there are no associative arrays here\n`);
      return 2;
    }
    const local = name === 'local' || ((name === 'declare' || name === 'typeset') && !flags.includes('g'));
    for (const variable of [...args.filter((a) => /^\w+$/.test(a)), ...assigned]) {
      if (local && !scope.hide(variable) && name === 'local') {
        io.err('bash: local: can only be used in a function\n');
        return 1;
      }
      if (flags.includes('a') && !assigned.includes(variable)) scope.setArray(variable, []);
    }
    return 0;
  }

  private set(args: readonly string[], io: Stdio): number {
    const { scope } = this.shell;
    for (let i = 0; i < args.length; i++) {
      const a = args[i]!;
      if (a === '--' || !/^[-+]./.test(a)) {
        scope.positional = args.slice(a === '--' ? i + 1 : i);
        return 0;
      }
      for (const letter of a.slice(1)) {
        const option = letter === 'o' ? args[++i] : OPTIONS.get(letter);
        if (option !== undefined && a.startsWith('-')) scope.options.add(option);
        else if (option !== undefined) scope.options.delete(option);
      }
    }
    if (args.length === 0) for (const [name, value] of scope.variables) io.out(`${name}=${value}\n`);
    return 0;
  }

  private unset(args: readonly string[]): number {
    for (const a of args) {
      const element = /^(\w+)\[(-?\d+)\]$/.exec(a);
      if (element !== null) delete this.shell.scope.arrays.get(element[1]!)?.[Number(element[2])];
      else if (args[0] !== '-f') this.shell.scope.unset(a);
      if (args[0] !== '-v') this.shell.scope.functions.delete(a);
    }
    return 0;
  }

  private kinds(names: readonly string[], io: Stdio, terse: boolean): number {
    let missing = 0;
    for (const name of names.filter((n) => !n.startsWith('-'))) {
      const kind = this.shell.kindOf(name);
      if (kind === undefined) {
        missing = 1;
        if (!terse) io.err(`bash: type: ${name}: not found\n`);
      } else if (terse) io.out(`${kind.startsWith('/') ? kind : name}\n`);
      else io.out(`${name} is ${kind}\n`);
    }
    return missing;
  }

  private read(args: readonly string[], input: Input, io: Stdio): number {
    const { scope } = this.shell;
    const o = options(['read', ...args], 'rsep:n:N:t:d:a:u:i:');
    if (o.unknown !== undefined) {
      io.err(`bash: read: -${o.unknown}: invalid option\n`);
      return 2;
    }
    const max = Number.parseInt((o.values.get('n') ?? o.values.get('N'))?.[0] ?? '', 10);
    const array = o.values.get('a')?.[0];
    const names = o.args.length === 0 ? ['REPLY'] : o.args;
    const { values, whole } = readFields(input, {
      delimiter: o.values.get('d')?.[0]?.[0] ?? (o.values.has('d') ? '\0' : '\n'),
      max: Number.isNaN(max) ? Number.POSITIVE_INFINITY : max,
      raw: o.flags.has('r'),
      separators: o.args.length === 0 && array === undefined ? '' : (scope.get('IFS') ?? ' \t\n'),
      count: array === undefined ? names.length : Number.POSITIVE_INFINITY,
    });
    if (array !== undefined) scope.setArray(array, values);
    else names.forEach((name, i) => void scope.set(name, values[i] ?? ''));
    return whole ? 0 : 1;
  }

  private *source(args: readonly string[], io: Stdio): Co<number> {
    const [path, ...rest] = args;
    if (path === undefined) {
      io.err('bash: source: filename argument required\n');
      return 2;
    }
    const text = this.shell.dom0.fs.readFile(path);
    if (isErr(text)) {
      io.err(`bash: ${path}: ${strerror(text)}\n`);
      return 1;
    }
    try {
      return yield* this.shell.runHere(parseShell(text), rest.length === 0 ? undefined : rest);
    } catch (e) {
      if (!(e instanceof ShellReturn)) throw e;
      return e.status;
    }
  }
}
