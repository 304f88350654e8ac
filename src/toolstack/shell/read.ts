/** What `read` makes of a line. (bash, read) */
import type { Input } from './input.js';

interface Reading {
  readonly delimiter: string;
  readonly max: number;
  /** `-r`: a backslash is a character. */
  readonly raw: boolean;
  /** Of fields; empty for none. */
  readonly separators: string;
  /** Fields that are wanted: the last one takes what is left. */
  readonly count: number;
}

/** `whole` is false where the input ended before the line did. */
export function readFields(input: Input, r: Reading): { values: string[]; whole: boolean } {
  let { text, whole } = input.line(r.delimiter, r.max);
  // A backslash before the end of the line goes on with the next one.
  while (!r.raw && whole && /(^|[^\\])(\\\\)*\\$/.test(text)) {
    const next = input.line(r.delimiter, r.max);
    text = text.slice(0, -1) + next.text;
    whole = next.whole;
  }
  return { values: split(unescaped(text, r.raw), r), whole };
}

interface Char {
  readonly c: string;
  readonly literal: boolean;
}

function unescaped(text: string, raw: boolean): Char[] {
  const out: Char[] = [];
  for (let i = 0; i < text.length; i++) {
    const literal = !raw && text[i] === '\\';
    if (literal) i += 1;
    if (i < text.length) out.push({ c: text[i]!, literal });
  }
  return out;
}

const WHITE = ' \t\n';

function split(chars: readonly Char[], { count, separators }: Reading): string[] {
  const separates = (i: number): boolean => !chars[i]!.literal && separators.includes(chars[i]!.c);
  const white = (i: number): boolean => separates(i) && WHITE.includes(chars[i]!.c);
  const values: string[] = [];
  let at = 0;
  while (at < chars.length && white(at)) at += 1;
  while (at < chars.length) {
    if (values.length + 1 >= count) {
      let end = chars.length;
      while (end > at && white(end - 1)) end -= 1;
      values.push(textOf(chars.slice(at, end)));
      break;
    }
    const from = at;
    while (at < chars.length && !separates(at)) at += 1;
    values.push(textOf(chars.slice(from, at)));
    // White space, one other separator, white space: together they end one field.
    while (at < chars.length && white(at)) at += 1;
    if (at < chars.length && separates(at)) at += 1;
    while (at < chars.length && white(at)) at += 1;
  }
  return values;
}

const textOf = (chars: readonly Char[]): string => chars.map((c) => c.c).join('');
