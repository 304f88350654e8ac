/** From words to the arguments of a command: variables, substitutions, splitting, file names. (POSIX.1, 2.6) */
import type { Co } from '../../sim/co.js';
import { arithmetic } from './arithmetic.js';
import type { ParameterOp, Part, Word } from './ast.js';
import { expandGlob, isPattern, matchGlob, type PatternChar, plain } from './glob.js';
import { type ShellHost, ShellLimit } from './program.js';

const FIELDS_MAX = 200_000;
/** Characters of one word: what doubles a variable for ever ends here. */
const WORD_MAX = 1 << 21;

function bounded(text: string, more: string): string {
  if (text.length + more.length > WORD_MAX) throw new ShellLimit('argument list too long');
  return text + more;
}

export class Expander {
  constructor(private readonly shell: ShellHost) {}

  /** All words of a command, as fields. */
  *fields(words: readonly Word[]): Co<string[]> {
    const out: string[] = [];
    for (const word of words) {
      for (const chars of yield* this.split(word)) {
        const names = isPattern(chars) ? expandGlob(this.shell.dom0.fs, chars) : [];
        if (names.length > 0) out.push(...names);
        else out.push(chars.map((c) => c.c).join(''));
      }
      if (out.length > FIELDS_MAX) throw new ShellLimit('argument list too long');
    }
    return out;
  }

  /** One word as one text: assignments, targets of redirections, here-documents. */
  *text(word: Word): Co<string> {
    let out = '';
    for (const part of word) out = bounded(out, yield* this.part(part));
    return out;
  }

  private *split(word: Word): Co<PatternChar[][]> {
    const fields: PatternChar[][] = [];
    let current: PatternChar[] | undefined;
    let whole = '';
    for (const part of word) {
      const text = yield* this.part(part);
      whole = bounded(whole, text);
      if (part.kind === 'text' || part.quoted) {
        current ??= [];
        for (const c of text) current.push({ c, quoted: part.quoted });
        continue;
      }
      for (const piece of text.split(/([ \t\n]+)/)) {
        if (piece === '') continue;
        if (/^[ \t\n]/.test(piece)) {
          if (current !== undefined) fields.push(current);
          current = undefined;
        } else {
          current ??= [];
          for (const c of piece) current.push({ c, quoted: false });
        }
      }
    }
    if (current !== undefined) fields.push(current);
    return fields;
  }

  private *part(part: Part): Co<string> {
    switch (part.kind) {
      case 'text':
        return part.text;
      case 'command':
        return (yield* this.shell.capture(part.body)).replace(/\n+$/, '');
      case 'arithmetic':
        return arithmetic(yield* this.text(part.body), this.shell.variables);
      case 'variable':
        return yield* this.parameter(part.name, part.op);
    }
  }

  private *parameter(name: string, op: ParameterOp | undefined): Co<string> {
    const value = this.shell.variable(name);
    if (op === undefined) return value ?? '';
    const set = value !== undefined && (op.op[0] !== ':' || value !== '');
    switch (op.op) {
      case 'length':
        return String((value ?? '').length);
      case ':-':
      case '-':
        return set ? value : yield* this.text(op.word);
      case ':+':
      case '+':
        return set ? yield* this.text(op.word) : '';
      default:
        return trim(value ?? '', op.op, yield* this.text(op.word));
    }
  }
}

/** `%` and `#` cut the shortest match, doubled the longest. */
function trim(value: string, op: string, pattern: string): string {
  const chars = plain(pattern);
  const suffix = op.startsWith('%');
  const cuts = Array.from({ length: value.length + 1 }, (_, i) => i);
  // Suffixes are tried from the shortest cut, prefixes too; the doubled forms from the other end.
  if (suffix !== (op.length === 2)) cuts.reverse();
  for (const at of cuts) {
    if (suffix ? matchGlob(chars, value.slice(at)) : matchGlob(chars, value.slice(0, at)))
      return suffix ? value.slice(0, at) : value.slice(at);
  }
  return value;
}
