/** From words to the arguments of a command: variables, substitutions, splitting, file names. (POSIX.1, 2.6) */
import type { Co } from '../../sim/co.js';
import { arithmetic } from './arithmetic.js';
import type { List, Parameter, Part, Word } from './ast.js';
import { expandBraces } from './braces.js';
import { expandGlob, type PatternChar } from './glob.js';
import { changeCase, replace, substring, trim } from './parameter.js';
import { ExpansionError, type ShellHost, ShellLimit } from './program.js';
import type { Scope } from './scope.js';

const FIELDS_MAX = 200_000;
/** Characters of one word: what doubles a variable for ever ends here. */
const WORD_MAX = 1 << 21;

function bounded(text: string, more: string): string {
  if (text.length + more.length > WORD_MAX) throw new ShellLimit('argument list too long');
  return text + more;
}

/** A part of a field. */
interface Piece {
  readonly text: string;
  readonly quoted: boolean;
}

/** The fields that a word becomes. */
class Fields {
  readonly done: Piece[][] = [];
  private current: Piece[] | undefined = undefined;
  /** White space ended the last field: a separator that follows belongs to the same end. */
  private ended = false;
  constructor(private readonly separators: string) {}

  add(text: string, quoted: boolean): void {
    this.current ??= [];
    if (text !== '') this.current.push({ text, quoted });
    this.ended = false;
  }
  close(): void {
    if (this.current !== undefined) this.done.push(this.current);
    this.current = undefined;
  }
  /** What was not quoted: cut where a character of IFS is. */
  split(text: string): void {
    let from = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text[i]!;
      if (!this.separators.includes(c)) continue;
      if (i > from) this.add(text.slice(from, i), false);
      from = i + 1;
      if (c === ' ' || c === '\t' || c === '\n') {
        this.ended ||= this.current !== undefined;
        this.close();
      } else {
        if (!this.ended) this.current ??= [];
        this.ended = false;
        this.close();
      }
    }
    if (text.length > from) this.add(text.slice(from), false);
  }
}

const patternOf = (pieces: readonly Piece[]): PatternChar[] =>
  pieces.flatMap(({ quoted, text }) => [...text].map((c) => ({ c, quoted })));
const hasPattern = (pieces: readonly Piece[]): boolean =>
  pieces.some(({ quoted, text }) => !quoted && /[*?[]/.test(text));

const isAll = (p: Part): boolean =>
  p.kind === 'variable' && (p.index === '@' || (p.name === '@' && p.index === undefined));

/** Characters that the words of one command line become. */
const SPENT_MAX = 20_000_000;

export class Expander {
  /** Since the command line began. */
  spent = 0;
  constructor(
    private readonly shell: ShellHost,
    private readonly scope: Scope,
  ) {}

  /** All words of a command, as fields. */
  *fields(words: readonly Word[]): Co<string[]> {
    const out: string[] = [];
    for (const word of words) {
      for (const one of expandBraces(word)) {
        for (const pieces of yield* this.split(one)) {
          const pattern = hasPattern(pieces);
          const names = pattern ? expandGlob(this.shell.dom0.fs, patternOf(pieces)) : [];
          if (names.length > 0) out.push(...names);
          else if (!pattern || !this.scope.options.has('nullglob'))
            out.push(pieces.map((p) => p.text).join(''));
        }
      }
      if (out.length > FIELDS_MAX) throw new ShellLimit('argument list too long');
    }
    return out;
  }

  /** One word as one text: assignments, targets of redirections, here-documents. */
  *text(word: Word): Co<string> {
    let out = this.home(word);
    for (const part of out === '' ? word : word.slice(1)) out = bounded(out, yield* this.part(part));
    return out;
  }

  /** One word as a pattern: what was quoted stands for itself. */
  *pattern(word: Word): Co<PatternChar[]> {
    const out: PatternChar[] = [];
    for (const part of word) {
      const quoted = part.quoted;
      for (const c of yield* this.part(part)) out.push({ c, quoted });
    }
    this.spent += out.length;
    if (this.spent > SPENT_MAX) throw new ShellLimit('too much text');
    return out;
  }

  /** What a list prints. */
  *output(body: List): Co<string> {
    return yield* this.shell.capture(body);
  }

  *number(word: Word): Co<number> {
    return Number(arithmetic(yield* this.text(word), this.scope));
  }

  /** `~` and what follows it in the first part; empty where there is none. */
  private home(word: Word): string {
    const first = word[0];
    if (first === undefined || first.kind !== 'text' || first.quoted || !/^~(\/|$)/.test(first.text))
      return '';
    return (this.scope.get('HOME') ?? '~') + first.text.slice(1);
  }

  private *split(word: Word): Co<Piece[][]> {
    const fields = new Fields(this.scope.get('IFS') ?? ' \t\n');
    const home = this.home(word);
    if (home !== '') fields.add(home, true);
    let length = 0;
    // `"$@"` without arguments is no field, though it has quotes.
    const bare = word.some(isAll) && word.every((p) => isAll(p) || (p.kind === 'text' && p.text === ''));
    for (const part of bare ? word.filter(isAll) : home === '' ? word : word.slice(1)) {
      const list = yield* this.listed(part);
      if (list !== undefined) {
        list.forEach((text, i) => {
          if (i > 0) fields.close();
          if (part.quoted) fields.add(text, true);
          else fields.split(text);
        });
        length += list.reduce((n, text) => n + text.length, 0);
      } else {
        const text = yield* this.part(part);
        length += text.length;
        if (part.kind === 'text' || part.quoted) fields.add(text, part.quoted);
        else fields.split(text);
      }
      if (length > WORD_MAX) throw new ShellLimit('argument list too long');
    }
    this.spent += length;
    if (this.spent > SPENT_MAX) throw new ShellLimit('too much text');
    fields.close();
    return fields.done;
  }

  private *part(part: Part): Co<string> {
    switch (part.kind) {
      case 'text':
        return part.text;
      case 'command':
        return (yield* this.shell.capture(part.body)).replace(/\n+$/, '');
      case 'arithmetic':
        return arithmetic(yield* this.text(part.body), this.scope);
      case 'variable': {
        const list = yield* this.listed(part);
        if (list !== undefined) return list.join(this.scope.get('IFS')?.[0] ?? ' ');
        return yield* this.parameter(part);
      }
    }
  }

  /** `$@` and `${a[@]}`: each element by itself. `"$*"` is one text. */
  private *listed(part: Part): Co<string[] | undefined> {
    if (part.kind !== 'variable') return undefined;
    const { index, name, op } = part;
    const all = index === undefined ? (name === '@' || name === '*' ? name : undefined) : index;
    if (all !== '@' && all !== '*') return undefined;
    if (op?.op === 'length') return undefined;
    const values = part.indirect === true ? this.indexes(name) : this.scope.elements(name);
    const out: string[] = [];
    if (op === undefined) out.push(...values);
    else if (op.op === ':') out.push(...(yield* this.slice(part, values)));
    else for (const value of values) out.push(yield* this.changed(part, value, true));
    if (out.reduce((n, text) => n + text.length, 0) > WORD_MAX)
      throw new ShellLimit('argument list too long');
    return all === '*' && part.quoted ? [out.join(this.scope.get('IFS')?.[0] ?? ' ')] : out;
  }
  private indexes(name: string): string[] {
    const values = this.scope.arrays.get(name) ?? this.scope.elements(name);
    return Object.keys(values);
  }
  private *slice(part: Parameter, values: readonly string[]): Co<string[]> {
    const from = yield* this.number(part.op!.word);
    const length = part.op!.second === undefined ? undefined : yield* this.number(part.op!.second);
    // `${@:1}` begins with $1.
    const first = part.name === '@' || part.name === '*' ? Math.max(from - 1, 0) : from;
    return values.slice(first, length === undefined ? undefined : first + length);
  }

  private *parameter(part: Parameter): Co<string> {
    const { index, name, op } = part;
    const element = typeof index === 'object' ? yield* this.number(index) : undefined;
    let value = element === undefined ? this.scope.get(name) : this.scope.element(name, element);
    if (part.indirect === true) value = this.scope.get(value ?? '');
    if (op?.op === 'length') {
      const list = index === '@' || index === '*' || name === '@' || name === '*';
      return String(list ? this.scope.elements(name).length : (value ?? '').length);
    }
    const stands = op !== undefined && /^:?[-=?+]$/.test(op.op);
    if (value === undefined && !stands && this.scope.options.has('nounset'))
      throw new ExpansionError(`${name}: unbound variable`);
    if (op === undefined) return value ?? '';
    return yield* this.changed(part, value ?? '', value !== undefined);
  }

  private *changed(part: Parameter, value: string, isSet: boolean): Co<string> {
    const { op, second, word } = part.op!;
    const has = isSet && (op[0] !== ':' || value !== '');
    switch (op) {
      case ':-':
      case '-':
        return has ? value : yield* this.text(word);
      case ':+':
      case '+':
        return has ? yield* this.text(word) : '';
      case ':=':
      case '=':
        if (!has) this.scope.set(part.name, yield* this.text(word));
        return has ? value : (this.scope.get(part.name) ?? '');
      case ':?':
      case '?':
        if (has) return value;
        throw new ExpansionError(`${part.name}: ${(yield* this.text(word)) || 'parameter null or not set'}`);
      case ':':
        return substring(value, yield* this.number(word), second && (yield* this.number(second)));
      case '/':
      case '//':
        return replace(value, yield* this.pattern(word), yield* this.text(second ?? []), op === '//');
      case '^':
      case '^^':
      case ',':
      case ',,':
        return changeCase(value, op);
      default:
        return trim(value, op, yield* this.pattern(word));
    }
  }
}
