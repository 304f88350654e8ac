/** File name patterns: `*`, `?`, `[…]`. (POSIX.1, 2.13) */
import { isErr } from '../../base/errno.js';
import type { Vfs } from '../dom0.js';

/** One character of a pattern; `quoted` ones stand for themselves. */
export interface PatternChar {
  readonly c: string;
  readonly quoted: boolean;
}
const MATCHES_MAX = 100_000;

const isPattern = (chars: readonly PatternChar[]): boolean =>
  chars.some((p) => !p.quoted && (p.c === '*' || p.c === '?' || p.c === '['));

/** A text of which no part is quoted. */
export const plainPattern = (text: string): PatternChar[] => [...text].map((c) => ({ c, quoted: false }));

/** Greedy with one point to return to, so that time stays below pattern times text. */
export function matchGlob(pattern: readonly PatternChar[], text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let mark = 0;
  while (t < text.length) {
    const step = p < pattern.length ? one(pattern, p, text[t]!) : 0;
    if (step > 0) {
      p += step;
      t += 1;
    } else if (p < pattern.length && pattern[p]!.c === '*' && !pattern[p]!.quoted) {
      star = p++;
      mark = t;
    } else if (star >= 0) {
      p = star + 1;
      t = ++mark;
    } else return false;
  }
  while (p < pattern.length && pattern[p]!.c === '*' && !pattern[p]!.quoted) p++;
  return p === pattern.length;
}

/** Pattern characters that match `c` at `p`, 0 for none. A star matches nothing here. */
function one(pattern: readonly PatternChar[], p: number, c: string): number {
  const { c: x, quoted } = pattern[p]!;
  if (quoted) return x === c ? 1 : 0;
  if (x === '*') return 0;
  if (x === '?') return 1;
  if (x !== '[') return x === c ? 1 : 0;
  let i = p + 1;
  const negated = pattern[i]?.c === '!' || pattern[i]?.c === '^';
  if (negated) i++;
  let hit = false;
  for (let first = true; ; first = false) {
    const lo = pattern[i]?.c;
    if (lo === undefined) return c === '[' ? 1 : 0;
    if (lo === ']' && !first) break;
    const range = pattern[i + 1]?.c === '-' && pattern[i + 2] !== undefined && pattern[i + 2]!.c !== ']';
    const hi = range ? pattern[i + 2]!.c : lo;
    if (c >= lo && c <= hi) hit = true;
    i += range ? 3 : 1;
  }
  return hit === negated ? 0 : i - p + 1;
}

/** The paths that a pattern names, sorted; empty when there are none. */
export function expandGlob(fs: Vfs, chars: readonly PatternChar[]): string[] {
  const parts: PatternChar[][] = [[]];
  for (const p of chars) {
    if (p.c === '/') parts.push([]);
    else parts[parts.length - 1]!.push(p);
  }
  const absolute = chars[0]?.c === '/';
  let found = [absolute ? '/' : ''];
  for (const part of parts) {
    if (part.length === 0) continue;
    const next: string[] = [];
    for (const base of found) {
      if (next.length > MATCHES_MAX) break;
      next.push(...step(fs, base, part));
    }
    found = next;
  }
  return found.sort((a, b) => (a < b ? -1 : 1));
}

function step(fs: Vfs, base: string, part: readonly PatternChar[]): string[] {
  const join = (name: string): string =>
    base === '' || base.endsWith('/') ? base + name : `${base}/${name}`;
  const text = part.map((p) => p.c).join('');
  if (!isPattern(part)) return isErr(fs.lstat(join(text))) ? [] : [join(text)];
  const names = fs.readdir(base === '' ? '.' : base);
  if (isErr(names)) return [];
  const hidden = part[0]!.c === '.';
  return names.filter((n) => (hidden || !n.startsWith('.')) && matchGlob(part, n)).map(join);
}
