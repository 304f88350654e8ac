/** A shell at dom0's prompt: runs what parse.ts understood, with programs that are ours. Nothing of the host is reached. */
import { isErr, strerror } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { Stdio } from '../dom0.js';
import type { Dom0Host } from '../host.js';
import { ProcessKilled } from '../sysfs/files.js';
import { arithmetic } from './arithmetic.js';
import type { Assignment, Case, Command, Counting, For, If, List, Pipeline, Simple, While } from './ast.js';
import { type BuiltinHost, Builtins, isBuiltin, ShellExit, ShellReturn } from './builtins.js';
import { Conditions } from './condition.js';
import { Collector, collecting, Descriptors, type Files, type Target } from './descriptors.js';
import { Expander } from './expand.js';
import { matchGlob } from './glob.js';
import { Input } from './input.js';
import { ShellSyntaxError } from './lexer.js';
import { DECLARING, parseShell } from './parse.js';
import { Call, ExpansionError, type Program, ShellLimit } from './program.js';
import { RegexError } from './regex.js';
import { Scope } from './scope.js';
import { TOOLS } from './tools.js';

export interface CommandResult {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Both, in the order in which they were written. */
  readonly pieces: readonly { readonly fd: 1 | 2; readonly text: string }[];
}

/** Exit status of timeout(1). */
const TIMED_OUT = 124;
const TURNS_MAX = 200_000;
const DEPTH_MAX = 200;
/** Variables that a subshell copies in the time of one command. */
const COPIED_PER_TURN = 100;
/** Where programs are. */
const PLACES = /^\/(usr\/)?(local\/)?s?bin\/([^/]+)$/;
const SHELLS = new Set(['sh', 'bash', 'dash']);

export class Shell implements BuiltinHost {
  readonly scope = new Scope();
  /** Programs by name; more can be added. */
  readonly programs = new Map<string, Program>();
  /** Set by `exit`. */
  exited: number | undefined = undefined;
  /** Nothing more of a command line starts after this time: it ends as one that timeout(1) killed. */
  deadlineNs = Number.POSITIVE_INFINITY;
  /** Functions and sourced files around what runs. */
  returnable = 0;
  private files: Files;
  private depth = 0;
  private turns = 0;
  /** Loops around what runs. */
  private loops = 0;
  /** Loops that `break` or `continue` has still to end; the last of them goes on after `continue`. */
  private leaving = 0;
  private leavingBy = '';
  /** Tests around what runs: a failure there does not end a shell with `set -e`. */
  private tested = 0;
  private readonly expander: Expander;
  private readonly conditions: Conditions;
  private readonly descriptors: Descriptors;
  private readonly builtins: Builtins;

  constructor(readonly dom0: Dom0Host) {
    this.expander = new Expander(this, this.scope);
    this.conditions = new Conditions(this, this.scope, this.expander);
    this.descriptors = new Descriptors(dom0.fs, this.expander);
    this.builtins = new Builtins(this);
    this.files = collecting(new Collector());
  }

  get variables(): Map<string, string> {
    return this.scope.variables;
  }

  /** Runs one command line, which may have several lines. What it sets off in dom0 and guests settles before it returns. */
  *run(text: string): Co<CommandResult> {
    const into = new Collector();
    this.files = collecting(into);
    this.turns = 0;
    this.depth = 0;
    this.loops = 0;
    this.leaving = 0;
    this.tested = 0;
    this.expander.spent = 0;
    try {
      yield* this.list(parseShell(text));
    } catch (e) {
      this.scope.status = this.failure(e, into);
    }
    yield* this.dom0.settle();
    const { pieces } = into;
    return { exit: this.scope.status, stdout: into.text(1), stderr: into.text(2), pieces };
  }

  private failure(e: unknown, into: Collector): number {
    if (e instanceof ProcessKilled) return TIMED_OUT;
    if (e instanceof ShellExit) {
      this.exited = e.status;
      return e.status;
    }
    if (e instanceof ShellSyntaxError || e instanceof ShellLimit || e instanceof ExpansionError) {
      into.add(2, `bash: ${e.message}\n`);
      return e instanceof ShellSyntaxError ? 2 : 1;
    }
    throw e;
  }

  /** What a list prints, for `$(…)`. */
  *capture(body: List): Co<string> {
    const into = new Collector();
    const { files } = this;
    this.files = { ...files, out: { kind: 'collect', fd: 1, into } };
    try {
      yield* this.apart(body);
    } finally {
      this.files = files;
    }
    return into.text(1);
  }

  /** Runs a program by name, as `sudo` and `timeout` do. */
  *call(argv: readonly string[], input: Input, io: Stdio): Co<number> {
    const path = argv[0]!;
    const name = PLACES.exec(path)?.[3] ?? path;
    const tool = TOOLS.get(name);
    const program = this.programs.get(name);
    if (SHELLS.has(name)) return yield* this.script(argv.slice(1), input, io);
    if (program === undefined && name.includes('/')) return yield* this.script(argv, input, io);
    if (tool === undefined && program === undefined) {
      io.err(`bash: ${path}: command not found\n`);
      return 127;
    }
    const call = new Call([name, ...argv.slice(1)], input, this, io);
    try {
      if (tool !== undefined) return tool(call);
      return yield* program!.run(call);
    } catch (e) {
      if (!(e instanceof RegexError)) throw e;
      io.err(`${name}: ${e.message}\n`);
      return 2;
    }
  }

  kindOf(name: string, onDisk = false): string | undefined {
    if (!onDisk && this.scope.functions.has(name)) return 'a function';
    if (!onDisk && (isBuiltin(name) || ['cd', 'echo', 'test', '['].includes(name))) return 'a shell builtin';
    return TOOLS.has(name) || this.programs.has(name) || SHELLS.has(name) ? `/usr/bin/${name}` : undefined;
  }

  /** `sh -c TEXT NAME ARGUMENTS`, `sh FILE ARGUMENTS`, `sh` with commands at its input: a shell of its own. */
  private *script(argv: readonly string[], input: Input, io: Stdio): Co<number> {
    const flags = argv.findIndex((a) => !/^[-+]/.test(a));
    const options = flags < 0 ? argv : argv.slice(0, flags);
    const args = flags < 0 ? [] : argv.slice(flags);
    const inline = options.some((o) => /^-[a-z]*c/.test(o));
    const [first, ...rest] = args;
    const text = inline ? (first ?? '') : first === undefined ? input.rest() : this.dom0.fs.readFile(first);
    if (isErr(text)) {
      io.err(`bash: ${first}: ${strerror(text)}\n`);
      return text === -2 ? 127 : 126;
    }
    const into = new Collector();
    const { files, scope } = this;
    this.files = { ...collecting(into), stdin: inline || first !== undefined ? input : new Input('') };
    const { command, positional } = scope;
    scope.command = (inline ? rest[0] : first) ?? 'bash';
    scope.positional = inline ? rest.slice(1) : rest;
    try {
      if (options.some((o) => /^-[a-z]*e/.test(o))) scope.options.add('errexit');
      yield* this.apart(parseShell(text));
    } catch (e) {
      if (!(e instanceof ShellSyntaxError)) throw e;
      into.add(2, `${scope.command}: ${e.message}\n`);
      scope.status = 2;
    } finally {
      this.files = files;
      scope.command = command;
      scope.positional = positional;
    }
    for (const p of into.pieces) p.fd === 1 ? io.out(p.text) : io.err(p.text);
    return scope.status;
  }

  /** In this shell: `eval`, sourced files. */
  *runHere(list: List, positional?: readonly string[]): Co<number> {
    const before = this.scope.positional;
    const { loops, tested } = this;
    if (positional !== undefined) this.scope.positional = positional;
    this.returnable += 1;
    this.scope.status = 0;
    try {
      yield* this.list(list);
    } finally {
      this.returnable -= 1;
      this.loops = loops;
      this.tested = tested;
      if (positional !== undefined) this.scope.positional = before;
    }
    return this.scope.status;
  }

  private *list(list: List): Co<void> {
    for (let i = 0; i < list.length; i++) {
      const { pipeline, when } = list[i]!;
      if (this.leaving > 0) return;
      if (when === 'and' && this.scope.status !== 0) continue;
      if (when === 'or' && this.scope.status === 0) continue;
      if (this.dom0.clock.nowNs > this.deadlineNs) throw new ShellExit(TIMED_OUT);
      const guarded = pipeline.negated || (list[i + 1]?.when ?? 'always') !== 'always';
      this.tested += guarded ? 1 : 0;
      yield* this.pipeline(pipeline);
      this.tested -= guarded ? 1 : 0;
      if (this.scope.status !== 0 && !guarded && this.tested === 0 && this.scope.options.has('errexit'))
        throw new ShellExit(this.scope.status);
    }
  }

  /** What is asked whether it holds. */
  private *test(list: List): Co<boolean> {
    this.tested += 1;
    yield* this.list(list);
    this.tested -= 1;
    return this.scope.status === 0;
  }

  private *pipeline(p: Pipeline): Co<void> {
    if (p.commands.length === 1) yield* this.command(p.commands[0]!);
    else yield* this.stages(p.commands);
    if (p.negated) this.scope.status = this.scope.status === 0 ? 1 : 0;
  }

  private *stages(commands: readonly Command[]): Co<void> {
    const before = this.files;
    let { stdin } = before;
    let failed = 0;
    for (let i = 0; i < commands.length; i++) {
      const into = new Collector();
      const out: Target = i === commands.length - 1 ? before.out : { kind: 'collect', fd: 1, into };
      this.files = { ...before, out, stdin };
      try {
        yield* this.apart(commands[i]!);
      } finally {
        this.files = before;
      }
      failed = this.scope.status || failed;
      stdin = new Input(into.text(1));
    }
    if (this.scope.options.has('pipefail')) this.scope.status = failed;
  }

  private *command(c: Command): Co<void> {
    if (++this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
    if (++this.depth > DEPTH_MAX) throw new ShellLimit('nested too deeply');
    const before = this.files;
    try {
      const files = yield* this.descriptors.redirect(before, c.redirects);
      if (files === undefined) this.scope.status = 1;
      else {
        this.files = files;
        yield* this.dispatch(c);
      }
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
      case 'counting':
        return yield* this.counting(c);
      case 'if':
        return yield* this.condition(c);
      case 'while':
        return yield* this.whileLoop(c);
      case 'case':
        return yield* this.caseOf(c);
      case 'group':
        return c.subshell ? yield* this.apart(c.body) : yield* this.list(c.body);
      case 'arithmetic':
        this.scope.status = (yield* this.expander.number(c.body)) === 0 ? 1 : 0;
        return;
      case 'conditional':
        this.scope.status = (yield* this.conditions.holds(c.test)) ? 0 : 1;
        return;
      case 'function':
        this.scope.functions.set(c.name, c.body);
        this.scope.status = 0;
    }
  }

  /** In a shell of its own: stages of a pipeline, `$(…)`, `(…)`. */
  private *apart(what: Command | List): Co<void> {
    this.turns += Math.floor(this.scope.size / COPIED_PER_TURN);
    if (this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
    const saved = this.scope.save();
    const { cwd } = this.dom0.fs;
    const { depth, loops, tested } = this;
    this.loops = 0;
    try {
      if ('kind' in what) yield* this.command(what);
      else yield* this.list(what);
    } catch (e) {
      if (e instanceof ExpansionError) {
        yield* this.descriptors.write(this.files.err, `bash: ${e.message}\n`);
        this.scope.status = 1;
        return;
      }
      if (!(e instanceof ShellExit || e instanceof ShellReturn)) throw e;
      if (this.dom0.clock.nowNs > this.deadlineNs) throw e;
      this.scope.status = e.status;
    } finally {
      this.scope.restore(saved);
      this.dom0.fs.cwd = cwd;
      this.depth = depth;
      this.loops = loops;
      this.tested = tested;
    }
  }

  private *forLoop(c: For): Co<void> {
    this.scope.status = 0;
    const values = c.words === undefined ? this.scope.positional : yield* this.expander.fields(c.words);
    this.loops += 1;
    for (const value of values) {
      this.scope.set(c.variable, value);
      yield* this.list(c.body);
      if (this.loopEnds()) break;
    }
    this.loops -= 1;
  }

  private *counting(c: Counting): Co<void> {
    const test = c.test.length === 0;
    this.loops += 1;
    yield* this.expander.number(c.start);
    while (test || (yield* this.expander.number(c.test)) !== 0) {
      if (++this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
      yield* this.list(c.body);
      if (this.loopEnds()) break;
      yield* this.expander.number(c.step);
    }
    this.loops -= 1;
  }

  /** Asked after a loop's body: does `break` or `continue` end this loop? */
  private loopEnds(): boolean {
    if (this.leaving === 0) return false;
    this.leaving -= 1;
    return this.leaving > 0 || this.leavingBy === 'break';
  }

  leave(by: 'break' | 'continue', count: string | undefined): string {
    if (this.loops === 0) return `bash: ${by}: only meaningful in a \`for', \`while', or \`until' loop\n`;
    this.leaving = Math.max(1, Math.min(Number.parseInt(count ?? '1', 10) || 1, this.loops));
    this.leavingBy = by;
    return '';
  }

  private *condition(c: If): Co<void> {
    for (const { body, test } of c.branches) {
      const holds = yield* this.test(test);
      if (this.leaving > 0) return;
      if (holds) return yield* this.list(body);
    }
    this.scope.status = 0;
    if (c.otherwise !== undefined) yield* this.list(c.otherwise);
  }

  private *whileLoop(c: While): Co<void> {
    this.loops += 1;
    for (let last = 0; ; last = this.scope.status) {
      if (++this.turns > TURNS_MAX) throw new ShellLimit('too many commands');
      const holds = yield* this.test(c.test);
      if (this.leaving === 0) {
        if (holds === c.until) {
          this.scope.status = last;
          break;
        }
        yield* this.list(c.body);
      }
      if (this.loopEnds()) break;
    }
    this.loops -= 1;
  }

  private *caseOf(c: Case): Co<void> {
    const text = yield* this.expander.text(c.word);
    this.scope.status = 0;
    let falls = false;
    for (const { body, end, patterns } of c.clauses) {
      let hit = falls;
      for (const p of patterns) hit ||= matchGlob(yield* this.expander.pattern(p), text);
      if (!hit) continue;
      yield* this.list(body);
      if (end === ';;' || this.leaving > 0) return;
      falls = end === ';&';
    }
  }

  private *simple(c: Simple): Co<void> {
    const { scope } = this;
    const argv = yield* this.expander.fields(c.words);
    if (argv.length === 0) {
      scope.status = 0;
      // The status of `x=$(…)` is that of the substitution.
      for (const a of c.assignments) yield* this.assign(a);
      return;
    }
    const name = argv[0]!;
    if (scope.options.has('xtrace')) yield* this.descriptors.write(this.files.err, `+ ${argv.join(' ')}\n`);
    const pieces = new Collector();
    const io: Stdio = { out: (t) => pieces.add(1, t), err: (t) => pieces.add(2, t) };
    if (DECLARING.has(name)) {
      scope.status = this.builtins.declare(
        argv,
        c.assignments.map((a) => a.name),
        io,
      );
      if (scope.status === 0) for (const a of c.assignments) yield* this.assign(a);
    } else {
      const hidden = c.assignments.map((a) => ({ a, value: scope.get(a.name) }));
      for (const { a } of hidden) yield* this.assign(a);
      const body = scope.functions.get(name);
      if (body !== undefined) yield* this.callFunction(body, argv);
      else if (isBuiltin(name)) scope.status = yield* this.builtins.run(argv, this.files.stdin, io);
      else scope.status = yield* this.call(argv, this.files.stdin, io);
      for (const { a, value } of hidden)
        if (value === undefined) scope.unset(a.name);
        else scope.set(a.name, value);
    }
    yield* this.flush(name, pieces);
  }

  private *assign(a: Assignment): Co<void> {
    const { scope } = this;
    if ('words' in a.value) {
      const values = yield* this.expander.fields(a.value.words);
      scope.setArray(a.name, a.append ? [...scope.elements(a.name), ...values] : values);
      return;
    }
    const text = yield* this.expander.text(a.value);
    if (a.index === undefined) scope.set(a.name, a.append ? (scope.get(a.name) ?? '') + text : text);
    else {
      const at = Number(arithmetic(yield* this.expander.text(a.index), scope));
      scope.setElement(a.name, at, a.append ? (scope.element(a.name, at) ?? '') + text : text);
    }
  }

  private *callFunction(body: Command, argv: readonly string[]): Co<void> {
    const { scope } = this;
    const { positional } = scope;
    const { loops, tested } = this;
    scope.enter();
    scope.positional = argv.slice(1);
    this.loops = 0;
    this.returnable += 1;
    try {
      yield* this.command(body);
    } catch (e) {
      if (!(e instanceof ShellReturn)) throw e;
      scope.status = e.status;
    } finally {
      this.returnable -= 1;
      this.loops = loops;
      this.tested = tested;
      scope.positional = positional;
      scope.leave();
    }
  }

  /** An attribute of the kernel gets all that a command printed in one write, as a buffered stdout does it. */
  private *flush(name: string, printed: Collector): Co<void> {
    const { err, out } = this.files;
    const whole = out.kind === 'file' && out.attribute;
    const pieces: readonly { fd: 1 | 2; text: string }[] = whole
      ? [...printed.pieces.filter((p) => p.fd === 2), { fd: 1, text: printed.text(1) }]
      : printed.pieces;
    for (const p of pieces) {
      const rc = yield* this.descriptors.write(p.fd === 1 ? out : err, p.text);
      if (rc === 0) continue;
      const who = name === 'echo' || name === 'printf' ? `bash: ${name}` : name;
      yield* this.descriptors.write(err, `${who}: write error: ${strerror(rc)}\n`);
      this.scope.status = 1;
    }
  }
}
