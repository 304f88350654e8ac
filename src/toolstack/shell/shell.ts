/** A shell at dom0's prompt: runs what parse.ts understood, with programs that are ours. Nothing of the host is reached. */
import { isErr, strerror } from '../../base/errno.js';
import { LIMITS } from '../../base/limits.js';
import type { Co } from '../../sim/co.js';
import type { Stdio } from '../dom0.js';
import type { Dom0Host } from '../host.js';
import { ProcessKilled } from '../sysfs/files.js';
import type { Command, For, If, List, Pipeline, Redirect, Simple, While } from './ast.js';
import { Expander } from './expand.js';
import { ShellSyntaxError } from './lexer.js';
import { parseShell } from './parse.js';
import { type Program, type ShellHost, ShellLimit } from './program.js';
import { RegexError } from './regex.js';
import { TOOLS } from './tools.js';

export interface CommandResult {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Both, in the order in which they were written. */
  readonly pieces: readonly { readonly fd: 1 | 2; readonly text: string }[];
}

/** Where a file descriptor leads. */
type Target =
  | { readonly kind: 'collect'; readonly fd: 1 | 2; readonly into: Collector }
  | { readonly kind: 'file'; readonly path: string; readonly attribute: boolean }
  | { readonly kind: 'null' };

class Collector {
  readonly pieces: { fd: 1 | 2; text: string }[] = [];
  private bytes = 0;
  add(fd: 1 | 2, text: string): void {
    if (text === '') return;
    this.bytes += text.length;
    if (this.bytes > LIMITS.inputBytesMax) throw new ShellLimit('too much output');
    const last = this.pieces[this.pieces.length - 1];
    if (last?.fd === fd) last.text += text;
    else this.pieces.push({ fd, text });
  }
  text(fd: 1 | 2): string {
    return this.pieces.map((p) => (p.fd === fd ? p.text : '')).join('');
  }
}

interface Files {
  readonly out: Target;
  readonly err: Target;
  readonly stdin: string;
}

/** `exit N`. */
class ShellExit extends Error {
  constructor(readonly status: number) {
    super('exit');
  }
}

/** Exit status of timeout(1). */
const TIMED_OUT = 124;
const TURNS_MAX = 200_000;
const DEPTH_MAX = 64;

export class Shell implements ShellHost {
  readonly variables = new Map<string, string>([
    ['HOME', '/root'],
    ['PATH', '/usr/sbin:/usr/bin:/sbin:/bin'],
    ['PWD', '/root'],
    ['USER', 'root'],
  ]);
  /** Programs by name; more can be added. */
  readonly programs = new Map<string, Program>();
  /** Set by `exit`. */
  exited: number | undefined = undefined;
  /** Nothing more of a command line starts after this time: it ends as one that timeout(1) killed. */
  deadlineNs = Number.POSITIVE_INFINITY;
  private status = 0;
  private files: Files;
  private depth = 0;
  private turns = 0;
  /** Loops around what runs. */
  private loops = 0;
  /** Loops that `break` or `continue` has still to end; the last of them goes on after `continue`. */
  private leaving = 0;
  private leavingBy = '';
  private readonly expander: Expander;

  constructor(readonly dom0: Dom0Host) {
    this.expander = new Expander(this);
    const into = new Collector();
    this.files = { out: { kind: 'collect', fd: 1, into }, err: { kind: 'collect', fd: 2, into }, stdin: '' };
  }

  /** Runs one command line, which may have several lines. What it sets off in dom0 and guests settles before it returns. */
  *run(text: string): Co<CommandResult> {
    const into = new Collector();
    this.files = { out: { kind: 'collect', fd: 1, into }, err: { kind: 'collect', fd: 2, into }, stdin: '' };
    this.turns = 0;
    this.depth = 0;
    this.loops = 0;
    this.leaving = 0;
    try {
      yield* this.list(parseShell(text));
    } catch (e) {
      this.status = this.failure(e, into);
    }
    yield* this.dom0.settle();
    return { exit: this.status, stdout: into.text(1), stderr: into.text(2), pieces: into.pieces };
  }

  private failure(e: unknown, into: Collector): number {
    if (e instanceof ProcessKilled) return TIMED_OUT;
    if (e instanceof ShellExit) {
      this.exited = e.status;
      return e.status;
    }
    if (e instanceof ShellSyntaxError || e instanceof ShellLimit) {
      into.add(2, `bash: ${e.message}\n`);
      return e instanceof ShellSyntaxError ? 2 : 1;
    }
    throw e;
  }

  variable(name: string): string | undefined {
    if (name === '?') return String(this.status);
    if (name === '$') return '100';
    if (name === '#') return '0';
    return this.variables.get(name);
  }

  /** What a list prints, for `$(…)`. */
  *capture(body: List): Co<string> {
    const into = new Collector();
    const { files, loops } = this;
    this.files = { ...files, out: { kind: 'collect', fd: 1, into } };
    this.loops = 0;
    try {
      yield* this.list(body);
    } finally {
      this.files = files;
      this.loops = loops;
    }
    return into.text(1);
  }

  /** Runs a program by name, as `sudo` and `timeout` do. */
  *call(argv: readonly string[], stdin: string, io: Stdio): Co<number> {
    const name = argv[0]!;
    const tool = TOOLS.get(name);
    const program = this.programs.get(name);
    if (tool === undefined && program === undefined) {
      io.err(`bash: ${name}: command not found\n`);
      return 127;
    }
    const call = { argv, stdin, shell: this, out: (t: string) => io.out(t), err: (t: string) => io.err(t) };
    try {
      if (tool !== undefined) return tool(call);
      return yield* program!.run(call);
    } catch (e) {
      if (!(e instanceof RegexError)) throw e;
      io.err(`${name}: ${e.message}\n`);
      return 2;
    }
  }

  private *list(list: List): Co<void> {
    for (const { pipeline, when } of list) {
      if (this.leaving > 0) return;
      if (when === 'and' && this.status !== 0) continue;
      if (when === 'or' && this.status === 0) continue;
      if (this.dom0.clock.nowNs > this.deadlineNs) throw new ShellExit(TIMED_OUT);
      yield* this.pipeline(pipeline);
    }
  }

  private *pipeline(p: Pipeline): Co<void> {
    const before = this.files;
    let { stdin } = before;
    for (let i = 0; i < p.commands.length; i++) {
      const last = i === p.commands.length - 1;
      const into = new Collector();
      const out: Target = last ? before.out : { kind: 'collect', fd: 1, into };
      this.files = { ...before, out, stdin };
      try {
        yield* this.command(p.commands[i]!);
      } finally {
        this.files = before;
      }
      stdin = into.text(1);
    }
    if (p.negated) this.status = this.status === 0 ? 1 : 0;
  }

  private *command(c: Command): Co<void> {
    if (++this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
    if (++this.depth > DEPTH_MAX) throw new ShellLimit('nested too deeply');
    const before = this.files;
    try {
      if (yield* this.redirect(c.redirects)) yield* this.dispatch(c);
      else this.status = 1;
    } finally {
      this.files = before;
      this.depth -= 1;
    }
  }

  private *dispatch(c: Command): Co<void> {
    switch (c.kind) {
      case 'simple':
        return yield* this.simple(c);
      case 'for':
        return yield* this.forLoop(c);
      case 'if':
        return yield* this.condition(c);
      case 'while':
        return yield* this.whileLoop(c);
      case 'group':
        if (c.subshell) yield* this.subshell(c.body);
        else yield* this.list(c.body);
        return;
    }
  }

  private *subshell(body: List): Co<void> {
    const saved = [...this.variables];
    const { cwd } = this.dom0.fs;
    const { loops } = this;
    this.loops = 0;
    try {
      yield* this.list(body);
    } catch (e) {
      if (!(e instanceof ShellExit)) throw e;
      this.status = e.status;
    } finally {
      this.variables.clear();
      for (const [k, v] of saved) this.variables.set(k, v);
      this.dom0.fs.cwd = cwd;
      this.loops = loops;
    }
  }

  private *forLoop(c: For): Co<void> {
    this.status = 0;
    const values = yield* this.expander.fields(c.words);
    this.loops += 1;
    for (const value of values) {
      this.variables.set(c.variable, value);
      yield* this.list(c.body);
      if (this.loopEnds()) break;
    }
    this.loops -= 1;
  }

  /** Asked after a loop's body: does `break` or `continue` end this loop? */
  private loopEnds(): boolean {
    if (this.leaving === 0) return false;
    this.leaving -= 1;
    return this.leaving > 0 || this.leavingBy === 'break';
  }

  /** @returns what bash says outside of loops, if anything */
  private leave(by: 'break' | 'continue', count: string | undefined): string {
    this.status = 0;
    if (this.loops === 0) return `bash: ${by}: only meaningful in a \`for', \`while', or \`until' loop\n`;
    this.leaving = Math.max(1, Math.min(Number.parseInt(count ?? '1', 10) || 1, this.loops));
    this.leavingBy = by;
    return '';
  }

  private *condition(c: If): Co<void> {
    for (const { body, test } of c.branches) {
      yield* this.list(test);
      if (this.leaving > 0) return;
      if (this.status === 0) return yield* this.list(body);
    }
    this.status = 0;
    if (c.otherwise !== undefined) yield* this.list(c.otherwise);
  }

  private *whileLoop(c: While): Co<void> {
    this.loops += 1;
    for (let last = 0; ; last = this.status) {
      if (++this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
      yield* this.list(c.test);
      if (this.leaving === 0) {
        if ((this.status === 0) === c.until) {
          this.status = last;
          break;
        }
        yield* this.list(c.body);
      }
      if (this.loopEnds()) break;
    }
    this.loops -= 1;
  }

  /** Opens what is redirected; false, with a line, when that failed. */
  private *redirect(redirects: readonly Redirect[]): Co<boolean> {
    for (const r of redirects) {
      if (r.kind === 'dup') {
        const target = r.to === 1 ? this.files.out : this.files.err;
        this.files = r.fd === 1 ? { ...this.files, out: target } : { ...this.files, err: target };
      } else if (r.kind === 'here') {
        this.files = { ...this.files, stdin: yield* this.expander.text(r.text) };
      } else {
        const path = yield* this.expander.text(r.target);
        const rc = r.kind === 'in' ? this.openIn(path) : yield* this.openOut(path, r);
        if (rc < 0) {
          yield* this.write(this.files.err, `bash: ${path}: ${strerror(rc)}\n`);
          return false;
        }
      }
    }
    return true;
  }

  private openIn(path: string): number {
    const text = path === '/dev/null' ? '' : this.dom0.fs.readFile(path);
    if (isErr(text)) return text;
    this.files = { ...this.files, stdin: text };
    return 0;
  }

  private *openOut(path: string, r: Redirect & { kind: 'out' }): Co<number> {
    const { fs } = this.dom0;
    let target: Target = { kind: 'null' };
    if (path !== '/dev/null') {
      const real = fs.realpath(path);
      const attribute = !isErr(real) && /^\/(sys|proc)\//.test(real);
      if (attribute) {
        const s = fs.stat(real);
        if (isErr(s)) return s;
        if (s.kind === 'dir') return -21;
        if ((s.mode & 0o222) === 0) return -13;
      } else {
        const rc = r.append ? fs.append(path, '') : yield* fs.writeFile(path, '');
        if (rc < 0) return rc;
      }
      target = { kind: 'file', path, attribute };
    }
    if (r.fd !== 2) this.files = { ...this.files, out: target };
    if (r.fd !== 1) this.files = { ...this.files, err: target };
    return 0;
  }

  /** 0 or the errno of the write. */
  private *write(target: Target, text: string): Co<number> {
    if (text === '' || target.kind === 'null') return 0;
    if (target.kind === 'collect') {
      target.into.add(target.fd, text);
      return 0;
    }
    const { fs } = this.dom0;
    const rc = target.attribute ? yield* fs.writeFile(target.path, text) : fs.append(target.path, text);
    return Math.min(rc, 0);
  }

  private *simple(c: Simple): Co<void> {
    const argv = yield* this.expander.fields(c.words);
    for (const { name, value } of c.assignments) this.variables.set(name, yield* this.expander.text(value));
    if (argv.length === 0) {
      // The status of `x=$(…)` is that of the substitution.
      if (!c.assignments.some((a) => a.value.some((p) => p.kind === 'command'))) this.status = 0;
      return;
    }
    const [name, first] = argv;
    if (name === 'exit')
      throw new ShellExit(first === undefined ? this.status : Number.parseInt(first, 10) & 0xff);
    if (name === 'break' || name === 'continue')
      return void (yield* this.write(this.files.err, this.leave(name, first)));
    if (name === 'export' || name === 'set' || name === ':') return this.assignAll(argv.slice(1));
    const pieces = new Collector();
    const io: Stdio = { out: (t) => pieces.add(1, t), err: (t) => pieces.add(2, t) };
    this.status = yield* this.call(argv, this.files.stdin, io);
    yield* this.flush(name!, pieces);
  }

  private assignAll(words: readonly string[]): void {
    for (const w of words) {
      const m = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(w);
      if (m !== null) this.variables.set(m[1]!, m[2]!);
    }
    this.status = 0;
  }

  /** An attribute of the kernel gets all that a command printed in one write, as a buffered stdout does it. */
  private *flush(name: string, printed: Collector): Co<void> {
    const { err, out } = this.files;
    const whole = out.kind === 'file' && out.attribute;
    const pieces: readonly { fd: 1 | 2; text: string }[] = whole
      ? [...printed.pieces.filter((p) => p.fd === 2), { fd: 1, text: printed.text(1) }]
      : printed.pieces;
    for (const p of pieces) {
      const rc = yield* this.write(p.fd === 1 ? out : err, p.text);
      if (rc === 0) continue;
      const who = name === 'echo' || name === 'printf' ? `bash: ${name}` : name;
      yield* this.write(err, `${who}: write error: ${strerror(rc)}\n`);
      this.status = 1;
    }
  }
}
