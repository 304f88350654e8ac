/** What `${x…}` makes of a value. (bash, Shell Parameter Expansion) */
import { matchGlob, type PatternChar } from './glob.js';
import { ExpansionError, ShellLimit } from './program.js';

/** Characters compared: a pattern against every part of a value takes a square. */
const WORK_MAX = 50_000_000;
const LENGTH_MAX = 1 << 21;

/** Throws when it has gone too far. */
class Work {
  private done = 0;
  constructor(private readonly pattern: readonly PatternChar[]) {}
  matches(text: string): boolean {
    this.done += 1 + (this.pattern.some((p) => p.c === '*') ? text.length : this.pattern.length);
    if (this.done > WORK_MAX) throw new ShellLimit('pattern takes too long');
    return matchGlob(this.pattern, text);
  }
}

/** `%` and `#` cut the shortest match, doubled the longest. */
export function trim(value: string, op: string, pattern: readonly PatternChar[]): string {
  const suffix = op.startsWith('%');
  const cuts = Array.from({ length: value.length + 1 }, (_, i) => i);
  // Suffixes are tried from the shortest cut, prefixes too; the doubled forms from the other end.
  if (suffix !== (op.length === 2)) cuts.reverse();
  const work = new Work(pattern);
  for (const at of cuts) {
    if (work.matches(suffix ? value.slice(at) : value.slice(0, at)))
      return suffix ? value.slice(0, at) : value.slice(at);
  }
  return value;
}

/** A negative start counts from the end, and so does a negative length. */
export function substring(value: string, from: number, length: number | undefined): string {
  const first = from < 0 ? value.length + from : from;
  if (first < 0 || first > value.length) return '';
  if (length === undefined) return value.slice(first);
  const end = length < 0 ? value.length + length : first + length;
  if (end < first) throw new ExpansionError(`${length}: substring expression < 0`);
  return value.slice(first, end);
}

/** `${x/pattern/text}`: the longest match at the first place that has one; all of them with `//`. */
export function replace(value: string, given: readonly PatternChar[], text: string, all: boolean): string {
  const mark = given[0] !== undefined && !given[0].quoted && !all ? given[0].c : '';
  const [atStart, atEnd] = [mark === '#', mark === '%'];
  const pattern = atStart || atEnd ? given.slice(1) : given;
  if (pattern.length === 0) return atStart ? text + value : atEnd ? value + text : value;
  let out = '';
  const work = new Work(pattern);
  for (let from = 0; from < value.length; ) {
    let end = value.length;
    while (end > from && !work.matches(value.slice(from, end))) end = atEnd ? from : end - 1;
    if (end > from) {
      out += text;
      if (out.length > LENGTH_MAX) throw new ShellLimit('argument list too long');
      from = end;
      if (!all) return out + value.slice(from);
    } else {
      if (atStart) return value;
      out += value[from++]!;
    }
  }
  return out;
}

export function changeCase(value: string, op: string): string {
  const change = (text: string): string => (op.startsWith('^') ? text.toUpperCase() : text.toLowerCase());
  return op.length === 2 ? change(value) : change(value.slice(0, 1)) + value.slice(1);
}
