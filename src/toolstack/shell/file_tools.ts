/** Commands that move files about, and that run others. @gnu coreutils, findutils */
import { isErr, strerror } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { Find } from './find.js';
import { Input } from './input.js';
import { type Call, complain, linesOf, options, type Program } from './program.js';
import type { Shell } from './shell.js';

/** `cp`, `mv`: files, not folders. */
class Copy implements Program {
  *run(call: Call): Co<number> {
    const o = options(call.argv, 'afrRpvniLPT');
    const { fs } = call.shell.dom0;
    const to = o.args[o.args.length - 1];
    if (to === undefined || o.args.length < 2) return complain(call, 'missing file operand');
    const s = fs.stat(to);
    for (const from of o.args.slice(0, -1)) {
      const text = fs.readFile(from);
      if (isErr(text)) return complain(call, `cannot stat '${from}': ${strerror(text)}`);
      const name = from.split('/').pop()!;
      const target = !isErr(s) && s.kind === 'dir' ? `${to.replace(/\/$/, '')}/${name}` : to;
      const rc = yield* fs.writeFile(target, text);
      if (rc < 0) return complain(call, `cannot create regular file '${target}': ${strerror(rc)}`);
      if (call.argv[0] !== 'mv') continue;
      const gone = fs.remove(from);
      if (gone < 0) return complain(call, `cannot remove '${from}': ${strerror(gone)}`);
    }
    return 0;
  }
}

class Touch implements Program {
  *run(call: Call): Co<number> {
    const { fs } = call.shell.dom0;
    for (const path of options(call.argv, 'acm').args) {
      const rc = fs.exists(path) ? 0 : fs.append(path, '');
      if (rc < 0) return complain(call, `cannot touch '${path}': ${strerror(rc)}`);
    }
    return 0;
  }
}

const RUNS_MAX = 10_000;

/** Each line, or all of them, as arguments of a command. */
class Xargs implements Program {
  *run(call: Call): Co<number> {
    const at = argumentsAfter(call.argv, 'nILPsda');
    const o = options(call.argv.slice(0, at), 'r0tn:I:L:P:s:d:');
    const argv = at < call.argv.length ? call.argv.slice(at) : ['echo'];
    const place = o.values.get('I')?.[0];
    const text = call.stdin;
    const items = o.flags.has('0')
      ? text.split('\0').filter((t) => t !== '')
      : place !== undefined || o.values.has('L') || o.values.get('d')?.[0] === '\\n'
        ? linesOf(text).map((l) => l.trim())
        : text.split(/\s+/).filter((t) => t !== '');
    const each =
      place !== undefined ? 1 : Number.parseInt((o.values.get('n') ?? o.values.get('L'))?.[0] ?? '', 10);
    const size = each > 0 ? each : Math.max(items.length, 1);
    if (items.length / size > RUNS_MAX) return complain(call, 'too many commands');
    let exit = 0;
    for (let i = 0; i < Math.max(items.length, o.flags.has('r') || place !== undefined ? 0 : 1); i += size) {
      const some = items.slice(i, i + size);
      const run =
        place === undefined ? [...argv, ...some] : argv.map((a) => a.replaceAll(place, some[0] ?? ''));
      if (o.flags.has('t')) call.err(`${run.join(' ')}\n`);
      const rc = yield* call.shell.call(run, new Input(''), call);
      if (rc === 127) return 127;
      if (rc !== 0) exit = 123;
    }
    return exit;
  }
}

/** Where the command begins: after options, of which those in `withValue` take one. */
function argumentsAfter(argv: readonly string[], withValue: string): number {
  let at = 1;
  for (; argv[at]?.startsWith('-'); at++) {
    const option = argv[at]!;
    if (option === '--') return at + 1;
    if (option.length === 2 && withValue.includes(option[1]!)) at += 1;
  }
  return at;
}

/** `sudo`, `timeout`, `env` and their like: everybody is root here, and nothing hangs. */
class Wrapper implements Program {
  constructor(
    /** Options that take a value. */
    private readonly withValue: string,
    private readonly operands = 0,
  ) {}
  *run(call: Call): Co<number> {
    let at = argumentsAfter(call.argv, this.withValue);
    const { variables } = call.shell;
    const before = new Map<string, string | undefined>();
    for (let m = ASSIGNMENT.exec(call.argv[at] ?? ''); m !== null; m = ASSIGNMENT.exec(call.argv[at] ?? '')) {
      before.set(m[1]!, variables.get(m[1]!));
      variables.set(m[1]!, m[2]!);
      at += 1;
    }
    const argv = call.argv.slice(at + this.operands);
    const exit =
      argv.length === 0
        ? complain(call, 'missing operand', 125)
        : yield* call.shell.call(argv, call.input, call);
    for (const [name, value] of before) {
      if (value === undefined) variables.delete(name);
      else variables.set(name, value);
    }
    return exit;
  }
}
const ASSIGNMENT = /^([A-Za-z_]\w*)=([\s\S]*)$/;

class Which implements Program {
  constructor(private readonly shell: Shell) {}
  *run(call: Call): Co<number> {
    let missing = 0;
    for (const name of options(call.argv, 'as').args) {
      const path = this.shell.kindOf(name, true);
      if (path === undefined) missing = 1;
      else call.out(`${path}\n`);
    }
    return missing;
  }
}

class Id implements Program {
  *run(call: Call): Co<number> {
    const o = options(call.argv, 'ugnGr');
    const name = call.argv[0] === 'whoami' || o.flags.has('n');
    if (name) call.out('root\n');
    else call.out(o.flags.size > 0 ? '0\n' : 'uid=0(root) gid=0(root) groups=0(root)\n');
    return 0;
  }
}

export function addFilePrograms(shell: Shell): void {
  const { programs } = shell;
  programs.set('find', new Find());
  for (const name of ['cp', 'mv']) programs.set(name, new Copy());
  programs.set('touch', new Touch());
  programs.set('xargs', new Xargs());
  programs.set('which', new Which(shell));
  for (const name of ['id', 'whoami']) programs.set(name, new Id());
  programs.set('sudo', new Wrapper('ugCDRThp'));
  programs.set('timeout', new Wrapper('sk', 1));
  for (const name of ['env', 'nohup', 'nice', 'ionice', 'setsid', 'stdbuf'])
    programs.set(name, new Wrapper('nuioec'));
}
