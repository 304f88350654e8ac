/** test and [. (POSIX.1, test) */
import { isErr } from '../../base/errno.js';
import type { Dom0Files } from '../sysfs/files.js';
import type { Call } from './program.js';

export function test(call: Call): number {
  let args = call.argv.slice(1);
  if (call.argv[0] === '[') {
    if (args[args.length - 1] !== ']') {
      call.err("bash: [: missing `]'\n");
      return 2;
    }
    args = args.slice(0, -1);
  }
  const result = new Evaluator(call, args).all();
  if (result !== undefined) return result ? 0 : 1;
  call.err(`bash: ${call.argv[0]}: ${args.join(' ')}: unexpected operator\n`);
  return 2;
}

class Evaluator {
  private at = 0;
  constructor(
    private readonly call: Call,
    private readonly args: readonly string[],
  ) {}

  /** Undefined: no expression. */
  all(): boolean | undefined {
    if (this.args.length === 0) return false;
    const value = this.or();
    return this.at === this.args.length ? value : undefined;
  }
  private or(): boolean | undefined {
    let v = this.and();
    while (this.args[this.at] === '-o') {
      this.at += 1;
      const r = this.and();
      v = v === undefined || r === undefined ? undefined : v || r;
    }
    return v;
  }
  private and(): boolean | undefined {
    let v = this.not();
    while (this.args[this.at] === '-a') {
      this.at += 1;
      const r = this.not();
      v = v === undefined || r === undefined ? undefined : v && r;
    }
    return v;
  }
  private not(): boolean | undefined {
    if (this.args[this.at] !== '!' || this.args.length - this.at < 2) return this.primary();
    this.at += 1;
    const v = this.not();
    return v === undefined ? undefined : !v;
  }

  private primary(): boolean | undefined {
    const [a, op, b] = [this.args[this.at], this.args[this.at + 1], this.args[this.at + 2]];
    if (a === undefined) return undefined;
    if (op !== undefined && b !== undefined) {
      const value = compare(a, op, b);
      if (value !== undefined) {
        this.at += 3;
        return value;
      }
    }
    if (/^-[a-zA-Z]$/.test(a) && op !== undefined) {
      this.at += 2;
      return fileTest(this.call.shell.dom0.fs, a, op);
    }
    this.at += 1;
    return a !== '';
  }
}

/** Two texts, or two numbers. */
export function compare(a: string, op: string, b: string): boolean | undefined {
  if (op === '=' || op === '==') return a === b;
  if (op === '!=') return a !== b;
  const [x, y] = [Number(a), Number(b)];
  switch (op) {
    case '-eq':
      return x === y;
    case '-ne':
      return x !== y;
    case '-lt':
      return x < y;
    case '-le':
      return x <= y;
    case '-gt':
      return x > y;
    case '-ge':
      return x >= y;
    case '<':
      return a < b;
    case '>':
      return a > b;
    default:
      return undefined;
  }
}

/** What `-e` and its like say of a text; undefined for an operator that is none. */
export function fileTest(fs: Dom0Files, op: string, arg: string): boolean | undefined {
  if (op === '-z') return arg === '';
  if (op === '-n') return arg !== '';
  if (op === '-L' || op === '-h') return fs.lstat(arg) === 'link';
  const s = fs.stat(arg);
  if (isErr(s)) return /^-[bcdefgkprstuwxGOS]$/.test(op) ? false : undefined;
  switch (op) {
    case '-a':
    case '-e':
    case '-O':
    case '-G':
      return true;
    case '-f':
      return s.kind === 'file';
    case '-d':
      return s.kind === 'dir';
    case '-s':
      return s.size > 0;
    case '-r':
      return (s.mode & 0o444) !== 0;
    case '-w':
      return (s.mode & 0o222) !== 0;
    case '-x':
      return (s.mode & 0o111) !== 0;
    default:
      return undefined;
  }
}
