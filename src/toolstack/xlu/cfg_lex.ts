/** Tokens of an xl configuration. @xen tools/libs/util/libxlu_cfg_l.l */
import { strtol } from './cnum.js';

/** Token names as the syntax errors spell them, in the order in which they list them. */
export const TOKENS = [
  '$end',
  'error',
  '$undefined',
  'IDENT',
  'STRING',
  'NUMBER',
  'NEWLINE',
  '+=',
  "'='",
  "';'",
  "'['",
  "']'",
  "','",
] as const;
export type Token = (typeof TOKENS)[number];

const PUNCTUATION = new Map<string, Token>([
  [',', "','"],
  ['[', "'['"],
  [']', "']'"],
  ['=', "'='"],
  [';', "';'"],
]);
const SIMPLE_ESCAPES = new Map([
  ['"', '"'],
  ["'", "'"],
  ['\\', '\\'],
  ['a', '\x07'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
]);

export class CfgLexer {
  /** Text of the token, as error messages quote it; at the end of the input one NUL. */
  text = '';
  /** Value of IDENT, STRING and NUMBER; undefined once an error has been seen. */
  value: string | undefined = undefined;
  /** Line the scanner is on, from 1. */
  lineno = 1;
  /** Line of the last token that set one. */
  firstLine = 0;
  /** Set by + - . ( ) and : outside strings. */
  likelyPython = false;
  /** 0, or the errno of the first error. */
  err = 0;
  private lexErrLineno = -1;
  private pos = 0;

  constructor(
    private readonly input: string,
    private readonly source: string,
    private readonly report: (text: string) => void,
  ) {}

  next(): Token {
    for (;;) {
      const c = this.input[this.pos];
      if (c === undefined) {
        this.text = '\0';
        return '$end';
      }
      if (c === ' ' || c === '\t') {
        this.pos++;
        continue;
      }
      const token = this.nameOrNumber(c) ?? this.newline(c) ?? this.quoted(c) ?? this.punctuation(c);
      if (token !== undefined) return token;
      const bad = this.badCharacter(c);
      if (bad !== undefined) return bad;
    }
  }

  private got(token: Token): Token {
    this.firstLine = this.lineno;
    return token;
  }

  private take(end: number): void {
    this.text = this.input.slice(this.pos, end);
    this.pos = end;
  }

  private nameOrNumber(c: string): Token | undefined {
    const ident = c >= 'a' && c <= 'z';
    if (!ident && !(c >= '0' && c <= '9')) return undefined;
    let end = this.pos + 1;
    while (end < this.input.length && continues(this.input[end]!, ident)) end++;
    this.take(end);
    this.value = this.err === 0 ? this.text : undefined;
    return this.got(ident ? 'IDENT' : 'NUMBER');
  }

  /** A newline, with a comment before it. A comment that the file ends in is no comment: it has no newline. */
  private newline(c: string): Token | undefined {
    const end = c === '\n' ? this.pos : c === '#' ? this.input.indexOf('\n', this.pos) : -1;
    if (end < 0) return undefined;
    this.take(end + 1);
    this.firstLine = this.lineno++;
    return 'NEWLINE';
  }

  private quoted(c: string): Token | undefined {
    if (c !== '"' && c !== "'") return undefined;
    let end = this.pos + 1;
    for (;;) {
      const x = this.input[end];
      if (x === undefined || x === '\n') return undefined;
      if (x === c) break;
      const next = this.input[end + 1];
      if (x === '\\' && (next === undefined || next === '\n')) return undefined;
      end += x === '\\' ? 2 : 1;
    }
    this.take(end + 1);
    this.value = this.dequote();
    return this.got('STRING');
  }

  private punctuation(c: string): Token | undefined {
    if (c === '+' && this.input[this.pos + 1] === '=') {
      this.take(this.pos + 2);
      return this.got('+=');
    }
    const token = PUNCTUATION.get(c);
    if (token === undefined) return undefined;
    this.take(this.pos + 1);
    return this.got(token);
  }

  /** Swallows the word around a character that starts no token. */
  private badCharacter(c: string): Token | undefined {
    if ('+-.():'.includes(c)) this.likelyPython = true;
    const from = this.pos;
    let end = from + 1;
    const after = this.input[end];
    if (after === undefined) {
      this.pos = end;
      this.text = `${c}\0`;
      return '$end';
    }
    if (after === '\n' || after === ' ' || after === '\t') end++;
    else while (end < this.input.length && !' \t\n'.includes(this.input[end]!)) end++;
    this.take(end);
    if (after === '\n') this.lineno++;
    this.lexicalError('lexical error');
    return after === '\n' ? this.got('NEWLINE') : undefined;
  }

  /** @xen libxlu_cfg.c xlu__cfgl_dequote: a numerical escape is checked and then lost, and hexadecimal ones never pass. */
  private dequote(): string | undefined {
    if (this.err !== 0) return undefined;
    const src = this.text;
    let out = '';
    for (let p = 1; p < src.length - 1; ) {
      const c = src[p++]!;
      if (c !== '\\') {
        out += c;
        continue;
      }
      const e = src[p++]!;
      const simple = SIMPLE_ESCAPES.get(e);
      if (simple !== undefined) out += simple;
      else if (e === 'x' || (e >= '0' && e <= '7')) {
        const digits = e === 'x' ? 0 : strtol(src.slice(p, p + 3), 0, 10).end;
        if (digits <= 1) {
          const base = e === 'x' ? 'hex' : 'octal';
          this.lexicalError(
            `invalid digit after backslash ${base}numerical character escape in quoted string`,
          );
          return out;
        }
        p += digits;
      } else {
        this.lexicalError('invalid character after backlash in quoted string');
        return out;
      }
    }
    return out;
  }

  lexicalError(msg: string): void {
    const line = this.lineno;
    this.error(line, msg);
    this.lexErrLineno = line;
  }

  /** @xen libxlu_cfg.c xlu__cfg_yyerror. `line` is where the token starts; one line has one error. */
  error(line: number, msg: string): void {
    if (line <= this.lexErrLineno) return;
    let text = this.text;
    let len = text.length;
    let newline = '';
    let lineno = line;
    if (text.endsWith('\n')) {
      len--;
      lineno--;
      if (len === 0) newline = '<newline>';
    }
    while (len > 0 && (text[len - 1] === '\t' || text[len - 1] === ' ')) len--;
    text = text.slice(0, len);
    const shown = text.includes('\0') ? text.slice(0, text.indexOf('\0')) : text;
    const near = len > 0 ? `\`${shown}'` : '';
    this.report(`${this.source}:${lineno}: config parsing error near ${near}${newline}: ${msg}\n`);
    if (this.err === 0) this.err = 22;
  }
}

const continues = (c: string, ident: boolean): boolean =>
  (c >= '0' && c <= '9') ||
  (ident ? (c >= 'a' && c <= 'z') || c === '.' || c === '_' : (c >= 'a' && c <= 'f') || c === 'x');
