/** find: names, types and depths, printed or handed to a command. @gnu findutils */
import { isErr, strerror } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { matchGlob, plainPattern } from './glob.js';
import { type Call, complain, type Program } from './program.js';

const FOUND_MAX = 100_000;
const DEPTH_MAX = 64;

interface Test {
  readonly name: string;
  readonly value: string;
  readonly negated: boolean;
}
interface Query {
  readonly roots: readonly string[];
  readonly tests: readonly Test[];
  readonly least: number;
  readonly most: number;
  /** Follow symbolic links. */
  readonly follow: boolean;
  readonly exec: readonly string[];
  /** `-exec … +`: all at once. */
  readonly together: boolean;
}
const TESTS = new Set(['-name', '-iname', '-path', '-type', '-lname']);

export class Find implements Program {
  *run(call: Call): Co<number> {
    const query = parse(call.argv.slice(1));
    if (typeof query === 'string') return complain(call, query);
    const found: string[] = [];
    let exit = 0;
    for (const root of query.roots) exit |= walk(call, query, root, 0, found);
    if (query.exec.length === 0) for (const path of found) call.out(`${path}\n`);
    else if (query.together) {
      const at = query.exec.lastIndexOf('{}');
      const argv = [...query.exec.slice(0, at), ...found, ...query.exec.slice(at + 1)];
      if (found.length > 0) exit |= yield* call.shell.call(argv, call.input, call);
    } else {
      for (const path of found) {
        const argv = query.exec.map((a) => a.replaceAll('{}', path));
        yield* call.shell.call(argv, call.input, call);
      }
    }
    return exit === 0 ? 0 : 1;
  }
}

/** What is wrong as find says it, if anything. */
function parse(args: readonly string[]): Query | string {
  let [i, least, most, negated, together] = [0, 0, DEPTH_MAX, false, false];
  let follow = false;
  const roots: string[] = [];
  const tests: Test[] = [];
  let exec: readonly string[] = [];
  for (; i < args.length && /^-[HLP]$/.test(args[i]!); i++) follow = args[i] === '-L';
  for (; i < args.length && !/^[-!(]/.test(args[i]!); i++) roots.push(args[i]!);
  for (; i < args.length; i++) {
    const name = args[i]!;
    if (name === '!' || name === '-not') {
      negated = true;
      continue;
    }
    if (name === '-print' || name === '-a' || name === '-xdev') continue;
    if (name === '-exec') {
      const end = args.findIndex((a, n) => n > i && (a === ';' || (a === '+' && args[n - 1] === '{}')));
      if (end < 0) return "missing argument to `-exec'";
      exec = args.slice(i + 1, end);
      together = args[end] === '+';
      i = end;
      continue;
    }
    const value = args[++i];
    if (name === '-maxdepth') most = Math.min(Number.parseInt(value ?? '', 10) || 0, DEPTH_MAX);
    else if (name === '-mindepth') least = Number.parseInt(value ?? '', 10) || 0;
    else if (!TESTS.has(name)) return `unknown predicate \`${name}'`;
    else if (value === undefined) return `missing argument to \`${name}'`;
    else tests.push({ name, value, negated });
    negated = false;
  }
  return { roots: roots.length === 0 ? ['.'] : roots, tests, least, most, follow, exec, together };
}

function walk(call: Call, q: Query, path: string, depth: number, found: string[]): number {
  const { fs } = call.shell.dom0;
  const s = fs.stat(path, q.follow);
  if (isErr(s)) return complain(call, `'${path}': ${strerror(s)}`);
  if (depth >= q.least && q.tests.every((t) => holds(t, path, s.kind, s.target) !== t.negated))
    found.push(path);
  if (s.kind !== 'dir' || depth >= q.most || found.length > FOUND_MAX) return 0;
  const names = fs.readdir(path);
  if (isErr(names)) return complain(call, `'${path}': ${strerror(names)}`);
  let exit = 0;
  for (const name of names) exit |= walk(call, q, `${path.replace(/\/$/, '')}/${name}`, depth + 1, found);
  return exit;
}

function holds(t: Test, path: string, kind: string, target: string | undefined): boolean {
  const pattern = plainPattern(t.value);
  switch (t.name) {
    case '-type':
      return t.value === { file: 'f', dir: 'd', link: 'l' }[kind];
    case '-path':
      return matchGlob(pattern, path);
    case '-lname':
      return matchGlob(pattern, target ?? '');
    case '-iname':
      return matchGlob(plainPattern(t.value.toLowerCase()), baseName(path).toLowerCase());
    default:
      return matchGlob(pattern, baseName(path));
  }
}

const baseName = (path: string): string => path.replace(/\/+$/, '').split('/').pop() ?? path;
