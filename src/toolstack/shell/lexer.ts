/** Cuts a command line into words and operators, quotes included. (POSIX.1 Shell Command Language, 2.2 and 2.3) */
import type { List, ParameterOp, Part, Word } from './ast.js';
import { unescapeText } from './escapes.js';

export type Token =
  | { readonly kind: 'word'; readonly word: Word; readonly at: number }
  | { readonly kind: 'op'; readonly op: string; readonly at: number }
  | { readonly kind: 'end'; readonly at: number };

/** What was typed is not a command. `incomplete`: more lines could make it one. */
export class ShellSyntaxError extends Error {
  override readonly name = 'ShellSyntaxError';
  constructor(
    message: string,
    readonly incomplete = false,
  ) {
    super(message);
  }
}

/** Longer ones before those that they begin with. */
const OPERATORS = [
  ...['<<<', '<<-', '&>>', ';;&', '&&', '||', ';;', ';&', '&>', '>>', '>&', '>|', '<<', '|&'],
  ...['|', '&', ';', '(', ')', '<', '>', '\n'],
];
const BREAKS = ' \t\r\n|&;()<>';
/** A regular expression after `=~` may hold what ends other words. */
const REGEX_BREAKS = ' \t\r\n';
/** `#` for the length, `!` for what it names, name, `[index]`, operator, word. */
const BRACED =
  /^(?:(#)(?=[\w@*])|(!)(?=\w))?([A-Za-z_]\w*|\d+|[@*?#$!-])(?:\[([^\]]*)\])?(?:(:[-=?+]|\/\/|\/|%%|%|##|#|\^\^|\^|,,|,|:|[-=?+])([\s\S]*))?$/;
const ALL = new Set(['@', '*']);
const DEPTH_MAX = 32;
const LENGTH_MAX = 65_536;

/** Parses a list up to a closing bracket: the parser hands itself in, so that `$(…)` can hold any command. */
export type ParseInner = (lexer: Lexer, close: string) => List;

export class Lexer {
  pos = 0;
  depth = 0;
  /** Compound commands around the one that is parsed. */
  nesting = 0;
  /** Here-documents announced on this line, still to be read. */
  private readonly pendingHere: { delimiter: string; quoted: boolean; into: Part[]; tabs: boolean }[] = [];

  constructor(
    readonly text: string,
    private readonly parseInner: ParseInner,
  ) {
    if (text.length > LENGTH_MAX) throw new ShellSyntaxError('command line too long');
  }

  next(): Token {
    this.skipBlanks();
    const at = this.pos;
    if (at >= this.text.length) {
      if (this.pendingHere.length > 0)
        throw new ShellSyntaxError('unexpected end of file in here-document', true);
      return { kind: 'end', at };
    }
    const fd = /^[0-9](?=[<>])/.exec(this.text.slice(at, at + 2));
    if (fd !== null) {
      if (fd[0] > '2') throw new ShellSyntaxError(`${fd[0]}: there are descriptors 0, 1 and 2 alone`);
      this.pos += 1;
      const op = this.operator()!;
      return { kind: 'op', op: fd[0] + op, at };
    }
    const op = this.operator();
    if (op === '\n') this.readHere();
    if (op !== undefined) return { kind: 'op', op, at };
    return { kind: 'word', word: this.word(), at };
  }

  private operator(): string | undefined {
    const op = OPERATORS.find((o) => this.text.startsWith(o, this.pos));
    if (op !== undefined) this.pos += op.length;
    return op;
  }

  private skipBlanks(): void {
    for (;;) {
      const c = this.text[this.pos];
      if (c === ' ' || c === '\t' || c === '\r') this.pos += 1;
      else if (c === '\\' && this.text[this.pos + 1] === '\n') this.pos += 2;
      else if (c === '#') {
        while (this.pos < this.text.length && this.text[this.pos] !== '\n') this.pos += 1;
      } else return;
    }
  }

  /** Registers a here-document; its text appears in `into` once the line has ended. */
  announceHere(delimiter: Word, into: Part[], tabs: boolean): void {
    const quoted = delimiter.some((p) => p.kind === 'text' && p.quoted);
    const text = delimiter.map((p) => (p.kind === 'text' ? p.text : '')).join('');
    this.pendingHere.push({ delimiter: text, quoted, into, tabs });
  }

  private readHere(): void {
    for (const here of this.pendingHere.splice(0)) {
      let body = '';
      for (;;) {
        if (this.pos >= this.text.length)
          throw new ShellSyntaxError('unexpected end of file in here-document', true);
        const end = this.text.indexOf('\n', this.pos);
        const read = this.text.slice(this.pos, end < 0 ? undefined : end).replace(/\r$/, '');
        const line = here.tabs ? read.replace(/^\t+/, '') : read;
        this.pos = end < 0 ? this.text.length : end + 1;
        if (line === here.delimiter) break;
        body += `${line}\n`;
      }
      if (here.quoted) here.into.push({ kind: 'text', text: body, quoted: true });
      else here.into.push(...new Lexer(body, this.parseInner).hereParts());
    }
  }

  /** A whole text as if in double quotes, but with quotes as ordinary characters. */
  hereParts(): Part[] {
    const parts: Part[] = [];
    this.quotedUntil(undefined, parts);
    return parts;
  }

  /** The word after `=~`. */
  regex(): Word {
    this.skipBlanks();
    return this.word(REGEX_BREAKS);
  }

  private word(breaks = BREAKS): Word {
    const parts: Part[] = [];
    for (;;) {
      const c = this.text[this.pos];
      if (c === undefined || breaks.includes(c)) return parts;
      if (c === "'") this.singleQuoted(parts);
      else if (c === '"') {
        this.pos += 1;
        parts.push({ kind: 'text', text: '', quoted: true });
        this.quotedUntil('"', parts);
      } else if (c === '\\') {
        this.pos += 1;
        const escaped = this.text[this.pos++];
        if (escaped === undefined) throw new ShellSyntaxError('unexpected end of line', true);
        if (escaped !== '\n') parts.push({ kind: 'text', text: escaped, quoted: true });
      } else if (c === '$') this.dollar(parts, false);
      else if (c === '`') this.backquote(parts, false);
      else this.plain(parts, breaks);
    }
  }

  private plain(parts: Part[], breaks: string): void {
    const from = this.pos;
    const stops = `${breaks}'"\\$\``;
    while (this.pos < this.text.length && !stops.includes(this.text[this.pos]!)) this.pos += 1;
    parts.push({ kind: 'text', text: this.text.slice(from, this.pos), quoted: false });
  }

  private singleQuoted(parts: Part[]): void {
    const end = this.text.indexOf("'", this.pos + 1);
    if (end < 0) throw new ShellSyntaxError("unexpected EOF while looking for matching `''", true);
    parts.push({ kind: 'text', text: this.text.slice(this.pos + 1, end), quoted: true });
    this.pos = end + 1;
  }

  private quotedUntil(close: '"' | undefined, parts: Part[]): void {
    let text = '';
    const flush = (): void => {
      if (text !== '') parts.push({ kind: 'text', text, quoted: true });
      text = '';
    };
    for (;;) {
      const c = this.text[this.pos];
      if (c === undefined) {
        if (close !== undefined)
          throw new ShellSyntaxError('unexpected EOF while looking for matching `"\'', true);
        break;
      }
      if (c === close) {
        this.pos += 1;
        break;
      }
      if (c === '\\' && this.text[this.pos + 1] === '\n') this.pos += 2;
      else if (c === '\\' && '$`"\\'.includes(this.text[this.pos + 1] ?? '?')) {
        text += this.text[this.pos + 1]!;
        this.pos += 2;
      } else if (c === '$' || c === '`') {
        flush();
        if (c === '$') this.dollar(parts, true);
        else this.backquote(parts, true);
      } else {
        text += c;
        this.pos += 1;
      }
    }
    flush();
  }

  private inner(close: string): List {
    if (++this.depth > DEPTH_MAX) throw new ShellSyntaxError('nested too deeply');
    const body = this.parseInner(this, close);
    this.depth -= 1;
    return body;
  }

  private dollar(parts: Part[], quoted: boolean): void {
    const rest = this.text.slice(this.pos, this.pos + 64);
    if (rest.startsWith('$((') && this.arithmeticEnd(this.pos + 1) !== undefined)
      this.arithmetic(parts, quoted);
    else if (!quoted && rest.startsWith("$'")) this.escaped(parts);
    else if (!quoted && rest.startsWith('$"')) this.pos += 1;
    else if (rest.startsWith('$(')) {
      this.pos += 2;
      parts.push({ kind: 'command', body: this.inner(')'), quoted });
    } else if (rest.startsWith('${')) this.braced(parts, quoted);
    else this.variable(rest, parts, quoted);
  }

  private variable(rest: string, parts: Part[], quoted: boolean): void {
    const name = /^\$([A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*!-])/.exec(rest)?.[1];
    if (name === undefined) {
      parts.push({ kind: 'text', text: '$', quoted });
      this.pos += 1;
      return;
    }
    this.pos += 1 + name.length;
    parts.push({ kind: 'variable', name, quoted });
  }

  /** `$'…'`. */
  private escaped(parts: Part[]): void {
    let end = this.pos + 2;
    while (end < this.text.length && this.text[end] !== "'") end += this.text[end] === '\\' ? 2 : 1;
    if (end >= this.text.length)
      throw new ShellSyntaxError("unexpected EOF while looking for matching `''", true);
    const text = this.text
      .slice(this.pos + 2, end)
      .replaceAll("\\'", "'")
      .replaceAll('\\"', '"');
    parts.push({ kind: 'text', text: unescapeText(text, '[0-7]{1,3}'), quoted: true });
    this.pos = end + 1;
  }

  /** Index of the last bracket of a `((…))` that starts at `from`; undefined where it is none. */
  arithmeticEnd(from: number): number | undefined {
    let end = from + 2;
    for (let open = 0; ; end++) {
      const c = this.text[end];
      if (c === undefined) throw new ShellSyntaxError("unexpected EOF while looking for matching `)'", true);
      if (c === '(') open += 1;
      else if (c === ')' && open-- === 0) break;
    }
    return this.text[end + 1] === ')' ? end + 1 : undefined;
  }

  /** The expressions of `((…))`, `((…; …; …))`, from its first bracket on. */
  arithmeticParts(from: number, end: number): Word[] {
    const inside = this.text.slice(from + 2, end - 1);
    this.pos = end + 1;
    return inside.split(';').map((text) => new Lexer(text, this.parseInner).hereParts());
  }

  private arithmetic(parts: Part[], quoted: boolean): void {
    const from = this.pos + 1;
    const end = this.arithmeticEnd(from)!;
    const body = new Lexer(this.text.slice(from + 2, end - 1), this.parseInner).hereParts();
    this.pos = end + 1;
    parts.push({ kind: 'arithmetic', body, quoted });
  }

  private braced(parts: Part[], quoted: boolean): void {
    const end = this.matchingBrace(this.pos + 2);
    const inside = this.text.slice(this.pos + 2, end);
    this.pos = end + 1;
    const m = BRACED.exec(inside);
    if (m === null) throw new ShellSyntaxError(`\${${inside}}: bad substitution`);
    const [, length, indirect, name, subscript, op, rest] = m;
    const index =
      subscript === undefined
        ? {}
        : { index: ALL.has(subscript) ? (subscript as '@') : this.sub(subscript, true) };
    const common = { kind: 'variable', name: name!, quoted, ...index } as const;
    if (length !== undefined) parts.push({ ...common, op: { op: 'length', word: [] } });
    else if (indirect !== undefined)
      parts.push({ ...common, indirect: true, ...this.opOf(op, rest, quoted) });
    else parts.push({ ...common, ...this.opOf(op, rest, quoted) });
  }

  private sub(text: string, quoted: boolean): Word {
    const lexer = new Lexer(text, this.parseInner);
    lexer.depth = this.depth + 1;
    if (lexer.depth > DEPTH_MAX) throw new ShellSyntaxError('nested too deeply');
    return quoted ? lexer.hereParts() : lexer.allParts();
  }

  /** Patterns keep their quotes; what stands in for a value is quoted as the whole is. */
  private opOf(op: string | undefined, rest: string | undefined, quoted: boolean): { op?: ParameterOp } {
    if (op === undefined) return {};
    const text = rest!;
    if (op === ':') {
      const [from, length] = text.split(':');
      const second = length === undefined ? {} : { second: this.sub(length, true) };
      return { op: { op, word: this.sub(from!, true), ...second } };
    }
    if (op.startsWith('/')) {
      const cut = /^((?:\\[\s\S]|'[^']*'|"[^"]*"|[^/\\'"])*)(?:\/([\s\S]*))?$/.exec(text);
      const [pattern, replacement] = cut === null ? [text, ''] : [cut[1]!, cut[2] ?? ''];
      return { op: { op, word: this.sub(pattern, false), second: this.sub(replacement, false) } };
    }
    return { op: { op, word: this.sub(text, quoted && /^:?[-=?+]$/.test(op)) } };
  }

  private allParts(): Part[] {
    const parts: Part[] = [];
    while (this.pos < this.text.length) {
      const before = this.pos;
      parts.push(...this.word());
      if (this.pos === before) {
        parts.push({ kind: 'text', text: this.text[this.pos]!, quoted: true });
        this.pos += 1;
      }
    }
    return parts;
  }

  private matchingBrace(from: number): number {
    let depth = 1;
    for (let i = from; i < this.text.length; i++) {
      if (this.text[i] === '{') depth += 1;
      else if (this.text[i] === '}' && --depth === 0) return i;
    }
    throw new ShellSyntaxError("unexpected EOF while looking for matching `}'", true);
  }

  private backquote(parts: Part[], quoted: boolean): void {
    const end = this.text.indexOf('`', this.pos + 1);
    if (end < 0) throw new ShellSyntaxError("unexpected EOF while looking for matching ``'", true);
    const inner = new Lexer(this.text.slice(this.pos + 1, end), this.parseInner);
    inner.depth = this.depth;
    parts.push({ kind: 'command', body: inner.inner(''), quoted });
    this.pos = end + 1;
  }
}
