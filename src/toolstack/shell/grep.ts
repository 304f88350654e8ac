/** grep, with the options people type. @gnu grep */
import { isErr, strerror } from '../../base/errno.js';
import { type Call, complain, linesOf, options } from './program.js';
import { Regex } from './regex.js';

export function grep(call: Call): number {
  const o = options(call.argv, 'ivcEFGnqolwxhHse:m:A:B:C:');
  if (o.unknown !== undefined) return complain(call, `invalid option -- '${o.unknown}'`, 2);
  const patterns = o.values.get('e') ?? o.args.slice(0, 1);
  const files = o.values.has('e') ? o.args : o.args.slice(1);
  if (patterns.length === 0) {
    call.err('Usage: grep [OPTION]... PATTERNS [FILE]...\n');
    return 2;
  }
  const search = new Search(
    patterns.flatMap((p) => p.split('\n')),
    call.argv[0] === 'fgrep' ? new Set([...o.flags, 'F']) : o.flags,
    call.argv[0] === 'egrep',
  );
  const count = (name: string): number => Number(o.values.get(name)?.[0] ?? o.values.get('C')?.[0] ?? 0) || 0;
  const context = { after: count('A'), before: count('B') };
  const max = Number(o.values.get('m')?.[0] ?? Number.POSITIVE_INFINITY);
  let found = false;
  let failed = false;
  for (const file of files.length === 0 ? ['-'] : files) {
    const text = file === '-' ? call.stdin : call.shell.dom0.fs.readFile(file);
    if (isErr(text)) {
      failed = true;
      if (!o.flags.has('s')) complain(call, `${file}: ${strerror(text)}`);
      continue;
    }
    const label =
      (files.length > 1 || o.flags.has('H')) && !o.flags.has('h')
        ? `${file === '-' ? '(standard input)' : file}`
        : '';
    if (report(call, search, o.flags, linesOf(text), label, file, context, max)) found = true;
  }
  return failed ? 2 : found ? 0 : 1;
}

class Search {
  private readonly regexes: Regex[];
  constructor(
    patterns: readonly string[],
    private readonly flags: ReadonlySet<string>,
    egrep: boolean,
  ) {
    const extended = egrep || flags.has('E');
    this.regexes = patterns.map((p) => {
      const text = flags.has('F') ? p.replace(/[\\.*[\]^$]/g, '\\$&') : p;
      const wide = extended && !flags.has('F');
      const wrapped = flags.has('x') ? (wide ? `^(${text})$` : `^\\(${text}\\)$`) : text;
      return new Regex(wrapped, { extended: wide, ignoreCase: flags.has('i') });
    });
  }

  /** Matches of one line, as [from, to). */
  spans(line: string, all: boolean): [number, number][] {
    const spans: [number, number][] = [];
    for (const r of this.regexes) {
      for (let from = 0; from <= line.length; ) {
        const m = r.exec(line, from);
        if (m === undefined) break;
        const [start, end] = [m[0]!, m[1]!];
        if (!this.flags.has('w') || isWhole(line, start, end)) {
          spans.push([start, end]);
          if (!all) return spans;
        }
        from = end > start ? end : end + 1;
      }
    }
    return spans.sort((a, b) => a[0] - b[0]);
  }
}

const isWhole = (line: string, from: number, to: number): boolean =>
  !/\w/.test(line[from - 1] ?? '') && !/\w/.test(line[to] ?? '');

/** Prints what matched; true when something did. */
function report(
  call: Call,
  search: Search,
  flags: ReadonlySet<string>,
  lines: readonly string[],
  label: string,
  file: string,
  context: { readonly after: number; readonly before: number },
  max: number,
): boolean {
  const hits: number[] = [];
  lines.forEach((line, i) => {
    if (hits.length < max && search.spans(line, false).length > 0 !== flags.has('v')) hits.push(i);
  });
  const prefix = label === '' ? '' : `${label}:`;
  if (flags.has('q')) return hits.length > 0;
  if (flags.has('c')) call.out(`${prefix}${hits.length}\n`);
  else if (flags.has('l')) call.out(hits.length > 0 ? `${file}\n` : '');
  else if (flags.has('o')) {
    for (const i of hits)
      for (const [a, b] of search.spans(lines[i]!, true).filter(([a, b]) => b > a))
        call.out(`${prefix}${lines[i]!.slice(a, b)}\n`);
  } else printLines(call, flags, lines, hits, label, context);
  return hits.length > 0;
}

function printLines(
  call: Call,
  flags: ReadonlySet<string>,
  lines: readonly string[],
  hits: readonly number[],
  label: string,
  context: { readonly after: number; readonly before: number },
): void {
  const isHit = new Set(hits);
  let next = 0;
  for (const hit of hits) {
    const from = Math.max(next, hit - context.before);
    const to = Math.min(lines.length - 1, hit + context.after);
    if (next > 0 && from > next && (context.after > 0 || context.before > 0)) call.out('--\n');
    for (let i = from; i <= to; i++) {
      const mark = isHit.has(i) ? ':' : '-';
      call.out(`${label === '' ? '' : label + mark}${flags.has('n') ? `${i + 1}${mark}` : ''}${lines[i]}\n`);
    }
    next = Math.max(next, to + 1);
  }
}
