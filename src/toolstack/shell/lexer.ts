/** Cuts a command line into words and operators, quotes included. (POSIX.1 Shell Command Language, 2.2 and 2.3) */
import type { List, ParameterOp, Part, Word } from './ast.js';

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

const OPERATORS = ['&&', '||', ';;', '&>', '>>', '>&', '<<', '|', '&', ';', '(', ')', '<', '>', '\n'];
const DEPTH_MAX = 32;
const LENGTH_MAX = 65_536;

/** Parses a list up to a closing bracket: the parser hands itself in, so that `$(…)` can hold any command. */
export type ParseInner = (lexer: Lexer, close: string) => List;

export class Lexer {
  pos = 0;
  depth = 0;
  /** Here-documents announced on this line, still to be read. */
  private readonly pendingHere: { delimiter: string; quoted: boolean; into: Part[] }[] = [];

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
    const fd = /^[12](?=[<>])/.exec(this.text.slice(at, at + 2));
    if (fd !== null) {
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
  announceHere(delimiter: Word, into: Part[]): void {
    const quoted = delimiter.some((p) => p.kind === 'text' && p.quoted);
    const text = delimiter.map((p) => (p.kind === 'text' ? p.text : '')).join('');
    this.pendingHere.push({ delimiter: text, quoted, into });
  }

  private readHere(): void {
    for (const here of this.pendingHere.splice(0)) {
      let body = '';
      for (;;) {
        if (this.pos >= this.text.length)
          throw new ShellSyntaxError('unexpected end of file in here-document', true);
        const end = this.text.indexOf('\n', this.pos);
        const line = this.text.slice(this.pos, end < 0 ? undefined : end);
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

  private word(): Word {
    const parts: Part[] = [];
    for (;;) {
      const c = this.text[this.pos];
      if (c === undefined || ' \t\r\n|&;()<>'.includes(c)) return parts;
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
      else this.plain(parts);
    }
  }

  private plain(parts: Part[]): void {
    const from = this.pos;
    while (this.pos < this.text.length && !' \t\r\n|&;()<>\'"\\$`'.includes(this.text[this.pos]!))
      this.pos += 1;
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
    if (rest.startsWith('$((')) this.arithmetic(parts, quoted);
    else if (rest.startsWith('$(')) {
      this.pos += 2;
      parts.push({ kind: 'command', body: this.inner(')'), quoted });
    } else if (rest.startsWith('${')) this.braced(parts, quoted);
    else this.variable(rest, parts, quoted);
  }

  private variable(rest: string, parts: Part[], quoted: boolean): void {
    const name = /^\$([A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*])/.exec(rest)?.[1];
    if (name === undefined) {
      parts.push({ kind: 'text', text: '$', quoted });
      this.pos += 1;
      return;
    }
    this.pos += 1 + name.length;
    parts.push({ kind: 'variable', name, quoted });
  }

  private arithmetic(parts: Part[], quoted: boolean): void {
    let end = this.pos + 3;
    for (let open = 0; ; end++) {
      const c = this.text[end];
      if (c === undefined) throw new ShellSyntaxError("unexpected EOF while looking for matching `)'", true);
      if (c === '(') open += 1;
      else if (c === ')' && open-- === 0) break;
    }
    if (this.text[end + 1] !== ')') throw new ShellSyntaxError('syntax error in arithmetic expression');
    const body = new Lexer(this.text.slice(this.pos + 3, end), this.parseInner).hereParts();
    this.pos = end + 2;
    parts.push({ kind: 'arithmetic', body, quoted });
  }

  private braced(parts: Part[], quoted: boolean): void {
    const end = this.matchingBrace(this.pos + 2);
    const inside = this.text.slice(this.pos + 2, end);
    this.pos = end + 1;
    const length = /^#([A-Za-z_][A-Za-z0-9_]*)$/.exec(inside);
    if (length !== null) {
      parts.push({ kind: 'variable', name: length[1]!, quoted, op: { op: 'length', word: [] } });
      return;
    }
    const m = /^([A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*])(?:(:-|-|:\+|\+|%%|%|##|#)([\s\S]*))?$/.exec(inside);
    if (m === null) throw new ShellSyntaxError(`\${${inside}}: bad substitution`);
    if (m[2] === undefined) {
      parts.push({ kind: 'variable', name: m[1]!, quoted });
      return;
    }
    const sub = new Lexer(m[3]!, this.parseInner);
    const word: Word = quoted ? sub.hereParts() : sub.allParts();
    parts.push({ kind: 'variable', name: m[1]!, quoted, op: { op: m[2] as ParameterOp['op'], word } });
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
