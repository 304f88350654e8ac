/** sed as far as one-liners go: addresses, s, p, d, q, and -n, -e, -E. @gnu sed */
import { isErr, strerror } from '../../base/errno.js';
import { type Call, complain, linesOf, options } from './program.js';
import { type Match, Regex } from './regex.js';

interface Address {
  readonly line?: number;
  readonly last?: boolean;
  readonly regex?: Regex;
}
interface Step {
  readonly from: Address | undefined;
  readonly to: Address | undefined;
  readonly negated: boolean;
  readonly command: 'p' | 'd' | 'q' | 's' | '=';
  readonly regex?: Regex;
  readonly replacement?: string;
  readonly flags?: string;
}

export function sed(call: Call): number {
  const o = options(call.argv, 'nEre:s');
  if (o.unknown !== undefined) return complain(call, `invalid option -- '${o.unknown}'`, 1);
  const scripts = o.values.get('e') ?? o.args.slice(0, 1);
  const files = o.values.has('e') ? o.args : o.args.slice(1);
  if (scripts.length === 0) return complain(call, 'no script specified', 1);
  const extended = o.flags.has('E') || o.flags.has('r');
  const steps = parseScript(scripts.join('\n'), extended);
  if (typeof steps === 'string') return complain(call, `-e expression #1, ${steps}`, 1);
  let text = files.length === 0 ? call.stdin : '';
  let exit = 0;
  for (const f of files) {
    const content = call.shell.dom0.fs.readFile(f);
    if (isErr(content)) exit = complain(call, `can't read ${f}: ${strerror(content)}`, 2);
    else text += content;
  }
  call.out(edit(steps, linesOf(text), o.flags.has('n')));
  return exit;
}

/** The steps, or what is wrong with the script. */
function parseScript(script: string, extended: boolean): Step[] | string {
  const steps: Step[] = [];
  let rest = script;
  for (;;) {
    rest = rest.replace(/^[\s;]+/, '');
    if (rest === '') return steps;
    const from = address(rest, extended);
    rest = rest.slice(from?.length ?? 0);
    const comma = from !== undefined && /^\s*,\s*/.exec(rest);
    if (comma) rest = rest.slice(comma[0].length);
    const to = comma ? address(rest, extended) : undefined;
    if (comma && to === undefined) return "unexpected `,'";
    rest = rest.slice(to?.length ?? 0).replace(/^\s+/, '');
    const negated = rest.startsWith('!');
    if (negated) rest = rest.slice(1);
    const command = rest[0];
    const where = { from: from?.address, to: to?.address, negated };
    if (command === 'p' || command === 'd' || command === 'q' || command === '=') {
      steps.push({ ...where, command });
      rest = rest.slice(1);
    } else if (command === 's') {
      const s = substitution(rest, extended);
      if (s === undefined) return "unterminated `s' command";
      steps.push({ ...where, command, ...s });
      rest = rest.slice(s.length);
    } else return `unknown command: \`${command ?? ''}'`;
  }
}

function address(text: string, extended: boolean): { address: Address; length: number } | undefined {
  const line = /^(\d{1,9}|\$)/.exec(text);
  if (line !== null)
    return { address: line[1] === '$' ? { last: true } : { line: Number(line[1]) }, length: line[1]!.length };
  if (!text.startsWith('/')) return undefined;
  const end = closing(text, 1, '/');
  if (end < 0) return undefined;
  const regex = new Regex(text.slice(1, end).replaceAll('\\/', '/'), { extended });
  return { address: { regex }, length: end + 1 };
}

/** Index of the next unescaped delimiter, -1 when there is none. */
function closing(text: string, from: number, delimiter: string): number {
  for (let i = from; i < text.length; i++) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === delimiter) return i;
  }
  return -1;
}

function substitution(
  text: string,
  extended: boolean,
): { regex: Regex; replacement: string; flags: string; length: number } | undefined {
  const d = text[1];
  if (d === undefined || d === '\n' || d === '\\') return undefined;
  const middle = closing(text, 2, d);
  const end = middle < 0 ? -1 : closing(text, middle + 1, d);
  if (end < 0) return undefined;
  const flags = /^[gpiI\d]*/.exec(text.slice(end + 1))![0];
  const pattern =
    d === '/' ? text.slice(2, middle).replaceAll('\\/', '/') : text.slice(2, middle).replaceAll(`\\${d}`, d);
  return {
    regex: new Regex(pattern, { extended, ignoreCase: /i/i.test(flags) }),
    replacement: text.slice(middle + 1, end).replaceAll(`\\${d}`, d),
    flags,
    length: end + 1 + flags.length,
  };
}

function edit(steps: readonly Step[], lines: readonly string[], quiet: boolean): string {
  const out: string[] = [];
  const inRange = steps.map(() => false);
  for (let n = 1; n <= lines.length; n++) {
    let line = lines[n - 1]!;
    let dropped = false;
    let stop = false;
    for (let i = 0; i < steps.length && !dropped && !stop; i++) {
      const s = steps[i]!;
      if (selects(s, line, n, lines.length, inRange, i) === s.negated) continue;
      if (s.command === 'p') out.push(line);
      else if (s.command === '=') out.push(String(n));
      else if (s.command === 'd') dropped = true;
      else if (s.command === 'q') stop = true;
      else {
        const next = replace(s.regex!, line, s.replacement!, s.flags!);
        if (next !== undefined) {
          line = next;
          if (s.flags!.includes('p')) out.push(line);
        }
      }
    }
    if (!dropped && !quiet) out.push(line);
    if (stop) break;
  }
  return out.map((l) => `${l}\n`).join('');
}

function selects(s: Step, line: string, n: number, last: number, inRange: boolean[], i: number): boolean {
  if (s.from === undefined) return true;
  if (s.to === undefined) return hits(s.from, line, n, last);
  if (!inRange[i]) {
    if (!hits(s.from, line, n, last)) return false;
    inRange[i] = !(s.to.line !== undefined && s.to.line <= n);
    return true;
  }
  if (hits(s.to, line, n, last)) inRange[i] = false;
  return true;
}

const hits = (a: Address, line: string, n: number, last: number): boolean =>
  a.regex !== undefined ? a.regex.test(line) : a.last === true ? n === last : n === a.line;

function replace(regex: Regex, line: string, replacement: string, flags: string): string | undefined {
  const all = flags.includes('g');
  const nth = Number(/\d+/.exec(flags)?.[0] ?? 1);
  let out = '';
  let from = 0;
  let count = 0;
  let changed = false;
  while (from <= line.length) {
    const m = regex.exec(line, from);
    if (m === undefined) break;
    count += 1;
    const [start, end] = [m[0]!, m[1]!];
    out += line.slice(from, start);
    const here = all ? count >= nth : count === nth;
    out += here ? fill(replacement, line, m) : line.slice(start, end);
    changed ||= here;
    if (end === start) out += line[end] ?? '';
    from = end === start ? end + 1 : end;
    if (here && !all) break;
  }
  return changed ? out + line.slice(from) : undefined;
}

function fill(replacement: string, line: string, m: Match): string {
  return replacement.replace(/\\([0-9n&\\])|&/g, (all, e: string | undefined) => {
    if (e === 'n') return '\n';
    if (e === '&' || e === '\\') return e;
    const g = all === '&' ? 0 : Number(e);
    const [start, end] = [m[2 * g] ?? -1, m[2 * g + 1] ?? -1];
    return start < 0 ? '' : line.slice(start, end);
  });
}
