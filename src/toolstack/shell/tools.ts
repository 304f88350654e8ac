/** Commands that only compute: text in, text out. @gnu coreutils */
import { isErr, strerror } from '../../base/errno.js';
import { unescapeText } from './escapes.js';
import { grep } from './grep.js';
import { ls } from './ls.js';
import { type Call, complain, linesOf, options, type Tool } from './program.js';
import { sed } from './sed.js';
import { test } from './test_command.js';

/** Input of a filter: the files named, or stdin. Reports those that cannot be read; `failed` then. */
function input(call: Call, files: readonly string[]): { text: string; failed: boolean } {
  if (files.length === 0) return { text: call.stdin, failed: false };
  let text = '';
  let failed = false;
  for (const f of files) {
    const content = f === '-' ? call.stdin : f === '/dev/null' ? '' : call.shell.dom0.fs.readFile(f);
    if (isErr(content)) {
      complain(call, `${f}: ${strerror(content)}`);
      failed = true;
    } else text += content;
  }
  return { text, failed };
}

const count = (text: string | undefined, missing: number): number => {
  const n = Number.parseInt((text ?? '').replace(/^[-+]/, ''), 10);
  return Number.isNaN(n) ? missing : n;
};

/** `-5` is `-n 5`. */
const oldStyle = (argv: readonly string[]): string[] => argv.map((a) => a.replace(/^-(\d+)$/, '-n$1'));

const head: Tool = (call) => {
  const o = options(oldStyle(call.argv), 'n:c:q');
  const { failed, text } = input(call, o.args);
  const bytes = o.values.get('c')?.[0];
  if (bytes !== undefined) call.out(text.slice(0, count(bytes, 0)));
  else {
    const n = o.values.get('n')?.[0];
    const lines = linesOf(text);
    const keep = n?.startsWith('-') ? Math.max(0, lines.length - count(n, 0)) : count(n, 10);
    call.out(
      lines
        .slice(0, keep)
        .map((l) => `${l}\n`)
        .join(''),
    );
  }
  return failed ? 1 : 0;
};

const tail: Tool = (call) => {
  const o = options(oldStyle(call.argv), 'n:c:qf');
  const { failed, text } = input(call, o.args);
  const lines = linesOf(text);
  const n = o.values.get('n')?.[0];
  const bytes = o.values.get('c')?.[0];
  if (bytes !== undefined) call.out(text.slice(Math.max(0, text.length - count(bytes, 0))));
  else {
    const from = n?.startsWith('+') ? count(n, 1) - 1 : Math.max(0, lines.length - count(n, 10));
    call.out(
      lines
        .slice(from)
        .map((l) => `${l}\n`)
        .join(''),
    );
  }
  return failed ? 1 : 0;
};

const wc: Tool = (call) => {
  const o = options(call.argv, 'lwc');
  const { failed, text } = input(call, o.args);
  const all = o.flags.size === 0;
  const fields: number[] = [];
  if (all || o.flags.has('l')) fields.push(text.split('\n').length - 1);
  if (all || o.flags.has('w')) fields.push(text.split(/\s+/).filter((w) => w !== '').length);
  if (all || o.flags.has('c')) fields.push(text.length);
  const wide = fields.length > 1 ? fields.map((n) => String(n).padStart(7)).join(' ') : String(fields[0]);
  call.out(`${wide}${o.args.length === 1 ? ` ${o.args[0]}` : ''}\n`);
  return failed ? 1 : 0;
};

const sort: Tool = (call) => {
  const o = options(call.argv, 'nrufVk:t:');
  const { failed, text } = input(call, o.args);
  const key = count(o.values.get('k')?.[0], 0);
  const separator = o.values.get('t')?.[0];
  const keyOf = (line: string): string => {
    if (key === 0) return line;
    return (separator === undefined ? line.trim().split(/\s+/) : line.split(separator))
      .slice(key - 1)
      .join(' ');
  };
  const number = (line: string): number => Number.parseFloat(keyOf(line)) || 0;
  const compare = (a: string, b: string): number => {
    const byNumber = o.flags.has('n') ? number(a) - number(b) : 0;
    const [x, y] = o.flags.has('f') ? [keyOf(a).toLowerCase(), keyOf(b).toLowerCase()] : [keyOf(a), keyOf(b)];
    const order = byNumber || (x < y ? -1 : x > y ? 1 : a < b ? -1 : a > b ? 1 : 0);
    return o.flags.has('r') ? -order : order;
  };
  const lines = linesOf(text).sort(compare);
  const kept = o.flags.has('u')
    ? lines.filter((l, i) => i === 0 || keyOf(l) !== keyOf(lines[i - 1]!))
    : lines;
  call.out(kept.map((l) => `${l}\n`).join(''));
  return failed ? 1 : 0;
};

const uniq: Tool = (call) => {
  const o = options(call.argv, 'cdu');
  const { failed, text } = input(call, o.args);
  const groups: { line: string; n: number }[] = [];
  for (const line of linesOf(text)) {
    const last = groups[groups.length - 1];
    if (last?.line === line) last.n += 1;
    else groups.push({ line, n: 1 });
  }
  const shown = groups.filter((g) => (o.flags.has('d') ? g.n > 1 : o.flags.has('u') ? g.n === 1 : true));
  call.out(shown.map((g) => `${o.flags.has('c') ? `${String(g.n).padStart(7)} ` : ''}${g.line}\n`).join(''));
  return failed ? 1 : 0;
};

const cut: Tool = (call) => {
  const o = options(call.argv, 'd:f:c:s');
  const { failed, text } = input(call, o.args);
  const list = o.values.get('f')?.[0] ?? o.values.get('c')?.[0];
  if (list === undefined) return complain(call, 'you must specify a list of bytes, characters, or fields');
  const ranges = list.split(',').map((r) => {
    const m = /^(\d*)(-?)(\d*)$/.exec(r);
    const from = m?.[1] ? Number(m[1]) : 1;
    return [from, m?.[2] ? (m[3] ? Number(m[3]) : Number.POSITIVE_INFINITY) : from] as const;
  });
  const byField = o.values.has('f');
  const delimiter = o.values.get('d')?.[0] ?? '\t';
  for (const line of linesOf(text)) {
    const items = byField ? line.split(delimiter) : [...line];
    if (byField && items.length === 1) {
      if (!o.flags.has('s')) call.out(`${line}\n`);
      continue;
    }
    const kept = items.filter((_, i) => ranges.some(([a, b]) => i + 1 >= a && i + 1 <= b));
    call.out(`${kept.join(byField ? delimiter : '')}\n`);
  }
  return failed ? 1 : 0;
};

/** Ranges `a-z` written out. */
const characters = (set: string): string[] => {
  const text = set.replace(/\\(.)/g, (_, c: string) => ({ n: '\n', t: '\t', '\\': '\\' })[c] ?? c);
  const out: string[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i + 1] === '-' && i + 2 < text.length) {
      for (let c = text.charCodeAt(i); c <= text.charCodeAt(i + 2); c++) out.push(String.fromCharCode(c));
      i += 2;
    } else out.push(text[i]!);
  }
  return out;
};

const tr: Tool = (call) => {
  const o = options(call.argv, 'ds');
  const from = characters(o.args[0] ?? '');
  const to = characters(o.args[1] ?? '');
  let out = '';
  for (const c of call.stdin) {
    const at = from.indexOf(c);
    if (at < 0) out += c;
    else if (!o.flags.has('d')) {
      const x = to.length === 0 ? c : (to[at] ?? to[to.length - 1]!);
      if (!(o.flags.has('s') && out.endsWith(x))) out += x;
    }
  }
  call.out(out);
  return 0;
};

const echo: Tool = (call) => {
  const args = call.argv.slice(1);
  let newline = true;
  let escapes = false;
  while (/^-[neE]+$/.test(args[0] ?? '')) {
    const flags = args.shift()!;
    if (flags.includes('n')) newline = false;
    if (flags.includes('e')) escapes = true;
  }
  const text = args.join(' ');
  call.out((escapes ? unescapeText(text, '0[0-7]{0,3}') : text) + (newline ? '\n' : ''));
  return 0;
};

/** One directive of printf with its argument. */
function formatted(width: string, kind: string, arg: string): string {
  if (kind === 's' || kind === 'b') {
    const text = kind === 'b' ? unescapeText(arg, '0?[0-7]{1,3}') : arg;
    const cut = /\.(\d+)/.exec(width);
    return padded(cut === null ? text : text.slice(0, Number(cut[1])), width.replace(/\.\d*/, ''));
  }
  if (kind === 'c') return padded(arg.slice(0, 1), width);
  if (kind === 'q') return /^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`;
  const n = Math.trunc(Number(arg.startsWith('0') && /^0[0-7]+$/.test(arg) ? `0o${arg}` : arg)) || 0;
  const text = n.toString(kind === 'x' || kind === 'X' ? 16 : kind === 'o' ? 8 : 10);
  return padded(kind === 'X' ? text.toUpperCase() : text, width);
}
function padded(text: string, width: string): string {
  const n = Math.abs(Number.parseInt(width, 10)) || 0;
  if (width.startsWith('-')) return text.padEnd(n);
  return width.startsWith('0') ? text.padStart(n, '0') : text.padStart(n);
}

const printf: Tool = (call) => {
  const [, ...args] = call.argv;
  const into = args[0] === '-v' ? args.splice(0, 2)[1] : undefined;
  const format = args[0] === '--' ? args.splice(0, 2)[1] : args.shift();
  if (format === undefined) return complain(call, 'usage: printf [-v var] format [arguments]', 2);
  const template = unescapeText(format, '[0-7]{1,3}');
  let out = '';
  for (let left = args.length + 1; args.length < left; ) {
    left = args.length;
    out += template.replace(
      /%(-?0?\d{0,4}(?:\.\d{1,4})?)([sdxXucboqi%])/g,
      (_, width: string, kind: string) => (kind === '%' ? '%' : formatted(width, kind, args.shift() ?? '')),
    );
    if (args.length === 0) break;
  }
  if (into === undefined) call.out(out);
  else call.shell.variables.set(into, out);
  return 0;
};

const cat: Tool = (call) => {
  const o = options(call.argv, 'nAe');
  const { failed, text } = input(call, o.args);
  call.out(
    o.flags.has('n')
      ? linesOf(text)
          .map((l, i) => `${String(i + 1).padStart(6)}\t${l}\n`)
          .join('')
      : text,
  );
  return failed ? 1 : 0;
};

const basename: Tool = (call) => {
  const [, path, suffix] = call.argv;
  if (path === undefined) return complain(call, 'missing operand');
  const name = path.replace(/\/+$/, '').split('/').pop()!;
  const cutAt =
    suffix !== undefined && name.endsWith(suffix) && name !== suffix
      ? name.length - suffix.length
      : name.length;
  call.out(`${name.slice(0, cutAt) || (path.startsWith('/') ? '/' : '')}\n`);
  return 0;
};

const dirname: Tool = (call) => {
  const path = call.argv[1];
  if (path === undefined) return complain(call, 'missing operand');
  const trimmed = path.replace(/\/+$/, '');
  const at = trimmed.lastIndexOf('/');
  call.out(`${at < 0 ? '.' : trimmed.slice(0, at) || '/'}\n`);
  return 0;
};

const readlink: Tool = (call) => {
  const o = options(call.argv, 'fenm');
  const path = o.args[0];
  if (path === undefined) return complain(call, 'missing operand');
  const { fs } = call.shell.dom0;
  const target = o.flags.has('f') || o.flags.has('e') ? fs.realpath(path) : fs.readlink(path);
  if (isErr(target)) return 1;
  call.out(`${target}${o.flags.has('n') ? '' : '\n'}`);
  return 0;
};

const seq: Tool = (call) => {
  const numbers = call.argv.slice(1).map(Number);
  if (numbers.length === 0 || numbers.length > 3 || numbers.some(Number.isNaN))
    return complain(call, 'invalid argument');
  const [from, step, to] =
    numbers.length === 1
      ? [1, 1, numbers[0]!]
      : numbers.length === 2
        ? [numbers[0]!, 1, numbers[1]!]
        : [numbers[0]!, numbers[1]!, numbers[2]!];
  if (step === 0 || Math.abs((to - from) / step) > 100_000) return complain(call, 'too many numbers');
  for (let n = from; step > 0 ? n <= to : n >= to; n += step) call.out(`${n}\n`);
  return 0;
};

const pwd: Tool = (call) => {
  call.out(`${call.shell.dom0.fs.cwd}\n`);
  return 0;
};

const cd: Tool = (call) => {
  const { fs } = call.shell.dom0;
  const { variables } = call.shell;
  const back = call.argv[1] === '-';
  const path = back ? (variables.get('OLDPWD') ?? '') : (call.argv[1] ?? variables.get('HOME') ?? '/root');
  if (back && path === '') {
    call.err('bash: cd: OLDPWD not set\n');
    return 1;
  }
  const real = fs.realpath(path);
  const s = isErr(real) ? real : fs.stat(real);
  if (isErr(s) || isErr(real)) {
    call.err(`bash: cd: ${path}: ${strerror(isErr(s) ? s : -2)}\n`);
    return 1;
  }
  if (s.kind !== 'dir') {
    call.err(`bash: cd: ${path}: ${strerror(-20)}\n`);
    return 1;
  }
  variables.set('OLDPWD', fs.cwd);
  fs.cwd = real;
  variables.set('PWD', real);
  if (back) call.out(`${real}\n`);
  return 0;
};

const mkdir: Tool = (call) => {
  const o = options(call.argv, 'p');
  const { fs } = call.shell.dom0;
  for (const path of o.args) {
    if (o.flags.has('p')) {
      if (isErr(fs.stat(path))) fs.mkdirs(path.startsWith('/') ? path : `${fs.cwd}/${path}`);
      continue;
    }
    const rc = fs.mkdir(path);
    if (rc !== 0) return complain(call, `cannot create directory '${path}': ${strerror(rc)}`);
  }
  return 0;
};

const rm: Tool = (call) => {
  const o = options(call.argv, 'frR');
  for (const path of o.args) {
    const rc = call.shell.dom0.fs.remove(path);
    if (rc !== 0 && !(o.flags.has('f') && rc === -2))
      return complain(call, `cannot remove '${path}': ${strerror(rc)}`);
  }
  return 0;
};

/** Lines from the last to the first, or each line from its end. */
const backwards: Tool = (call) => {
  const { failed, text } = input(call, call.argv.slice(1));
  const lines = linesOf(text);
  const out = call.argv[0] === 'tac' ? lines.reverse() : lines.map((l) => [...l].reverse().join(''));
  call.out(out.map((l) => `${l}\n`).join(''));
  return failed ? 1 : 0;
};

export const TOOLS: ReadonlyMap<string, Tool> = new Map<string, Tool>([
  ['true', () => 0],
  ['false', () => 1],
  ...Object.entries({
    basename,
    cat,
    cd,
    cut,
    dirname,
    echo,
    grep,
    head,
    ls,
    mkdir,
    printf,
    pwd,
    readlink,
    rm,
    sed,
    seq,
    sort,
    tail,
    test,
    tr,
    uniq,
    wc,
  }),
  ['[', test],
  ['egrep', grep],
  ['fgrep', grep],
  ['less', cat],
  ['more', cat],
  ['tac', backwards],
  ['rev', backwards],
  ['clear', () => 0],
  ['sync', () => 0],
]);
