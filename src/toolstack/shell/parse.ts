/** The grammar: lists, pipelines, loops, conditions, groups. (POSIX.1 Shell Command Language, 2.10) */
import type { Command, List, Part, Pipeline, Redirect, Word } from './ast.js';
import { Lexer, ShellSyntaxError, type Token } from './lexer.js';

/** @throws ShellSyntaxError */
export function parseShell(text: string): List {
  return new Parser(new Lexer(text, parseInner)).all('');
}

const parseInner = (lexer: Lexer, close: string): List => new Parser(lexer).all(close);

/** A word that is one plain unquoted text, else undefined: only such words are reserved words or operators. */
const plainText = (t: Token): string | undefined => {
  if (t.kind !== 'word' || t.word.length !== 1) return undefined;
  const [p] = t.word;
  return p!.kind === 'text' && !p!.quoted ? p!.text : undefined;
};

const ENDS = new Set(['then', 'else', 'elif', 'fi', 'do', 'done', '}']);
const REDIRECT = /^([12]?)(>>|>&|>|<<|<|&>)$/;

class Parser {
  private token: Token;
  constructor(private readonly lexer: Lexer) {
    this.token = lexer.next();
  }

  /** Everything up to `)` (or the end, for ''). */
  all(close: string): List {
    const list = this.list();
    if (close === ')') {
      if (this.token.kind === 'end')
        throw new ShellSyntaxError("unexpected EOF while looking for matching `)'", true);
      if (!this.isOp(')')) throw this.unexpected();
      this.lexer.pos = this.token.at + 1;
      return list;
    }
    if (this.token.kind !== 'end') throw this.unexpected();
    return list;
  }

  private isOp(op: string): boolean {
    return this.token.kind === 'op' && this.token.op === op;
  }
  private advance(): Token {
    const was = this.token;
    this.token = this.lexer.next();
    return was;
  }
  private unexpected(): ShellSyntaxError {
    const t = this.token;
    if (t.kind === 'end') return new ShellSyntaxError('syntax error: unexpected end of file', true);
    const text = t.kind === 'op' ? (t.op === '\n' ? 'newline' : t.op) : (plainText(t) ?? 'word');
    return new ShellSyntaxError(`syntax error near unexpected token \`${text}'`);
  }

  private newlines(): void {
    while (this.isOp('\n')) this.advance();
  }

  private list(): List {
    const items: { when: 'always' | 'and' | 'or'; pipeline: Pipeline }[] = [];
    let when: 'always' | 'and' | 'or' = 'always';
    this.newlines();
    for (;;) {
      const word = plainText(this.token);
      const ends = this.token.kind === 'end' || this.isOp(')') || (word !== undefined && ENDS.has(word));
      if (ends && when === 'always') return items;
      if (ends) throw this.unexpected();
      items.push({ when, pipeline: this.pipeline() });
      if (this.isOp('&&') || this.isOp('||')) {
        when = this.isOp('&&') ? 'and' : 'or';
        this.advance();
        this.newlines();
        continue;
      }
      when = 'always';
      // There is nothing to run beside the prompt: a command in the background runs at once, too.
      if (this.isOp(';') || this.isOp('\n') || this.isOp('&')) {
        this.advance();
        this.newlines();
      } else if (!(this.token.kind === 'end' || this.isOp(')') || ENDS.has(plainText(this.token) ?? ''))) {
        throw this.unexpected();
      }
    }
  }

  private pipeline(): Pipeline {
    const negated = plainText(this.token) === '!';
    if (negated) this.advance();
    const commands = [this.command()];
    while (this.isOp('|')) {
      this.advance();
      this.newlines();
      commands.push(this.command());
    }
    return { negated, commands };
  }

  private command(): Command {
    const word = plainText(this.token);
    if (this.isOp('(')) {
      this.advance();
      const body = this.list();
      if (!this.isOp(')')) throw this.unexpected();
      this.advance();
      return { kind: 'group', subshell: true, body, redirects: this.redirects() };
    }
    switch (word) {
      case '{': {
        this.advance();
        const body = this.list();
        this.expect('}');
        return { kind: 'group', subshell: false, body, redirects: this.redirects() };
      }
      case 'for':
        return this.forLoop();
      case 'if':
        return this.condition();
      case 'while':
      case 'until': {
        this.advance();
        const test = this.list();
        const body = this.doBody();
        return { kind: 'while', until: word === 'until', test, body, redirects: this.redirects() };
      }
      default:
        return this.simple();
    }
  }

  private expect(word: string): void {
    if (plainText(this.token) !== word) throw this.unexpected();
    this.advance();
  }

  private doBody(): List {
    if (this.isOp(';')) this.advance();
    this.newlines();
    this.expect('do');
    const body = this.list();
    this.expect('done');
    return body;
  }

  private forLoop(): Command {
    this.advance();
    const variable = plainText(this.token);
    if (variable === undefined || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(variable)) throw this.unexpected();
    this.advance();
    this.newlines();
    const words: Word[] = [];
    if (plainText(this.token) === 'in') {
      this.advance();
      while (this.token.kind === 'word') words.push((this.advance() as Token & { kind: 'word' }).word);
    }
    const body = this.doBody();
    return { kind: 'for', variable, words, body, redirects: this.redirects() };
  }

  private condition(): Command {
    const branches: { test: List; body: List }[] = [];
    let otherwise: List | undefined;
    do {
      this.advance();
      const test = this.list();
      this.expect('then');
      branches.push({ test, body: this.list() });
    } while (plainText(this.token) === 'elif');
    if (plainText(this.token) === 'else') {
      this.advance();
      otherwise = this.list();
    }
    this.expect('fi');
    return { kind: 'if', branches, otherwise, redirects: this.redirects() };
  }

  private simple(): Command {
    const assignments: { name: string; value: Word }[] = [];
    const words: Word[] = [];
    const redirects: Redirect[] = [];
    for (;;) {
      const redirect = this.redirect();
      if (redirect !== undefined) {
        redirects.push(redirect);
        continue;
      }
      if (this.token.kind !== 'word') break;
      const { word } = this.token;
      const assignment = words.length === 0 ? assignmentOf(word) : undefined;
      this.advance();
      if (assignment !== undefined) assignments.push(assignment);
      else words.push(word);
    }
    if (assignments.length + words.length + redirects.length === 0) throw this.unexpected();
    return { kind: 'simple', assignments, words, redirects };
  }

  private redirects(): Redirect[] {
    const all: Redirect[] = [];
    for (let r = this.redirect(); r !== undefined; r = this.redirect()) all.push(r);
    return all;
  }

  private redirect(): Redirect | undefined {
    const m = this.token.kind === 'op' ? REDIRECT.exec(this.token.op) : null;
    if (m === null) return undefined;
    this.advance();
    const target = this.token;
    if (target.kind !== 'word') throw this.unexpected();
    const fd = m[1] === '2' ? 2 : 1;
    const op = m[2]!;
    if (op === '<<') {
      const text: Part[] = [];
      this.lexer.announceHere(target.word, text);
      this.advance();
      return { kind: 'here', text };
    }
    this.advance();
    if (op === '<') return { kind: 'in', target: target.word };
    if (op === '&>') return { kind: 'out', fd: 'both', append: false, target: target.word };
    if (op !== '>&') return { kind: 'out', fd, append: op === '>>', target: target.word };
    const to = plainText(target);
    if (to === '1' || to === '2') return { kind: 'dup', fd, to: to === '1' ? 1 : 2 };
    throw new ShellSyntaxError(`${to ?? 'word'}: ambiguous redirect`);
  }
}

function assignmentOf(word: Word): { name: string; value: Word } | undefined {
  const [first, ...rest] = word;
  if (first === undefined || first.kind !== 'text' || first.quoted) return undefined;
  const m = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(first.text);
  if (m === null) return undefined;
  const head: Part[] = m[2] === '' ? [] : [{ kind: 'text', text: m[2]!, quoted: false }];
  return { name: m[1]!, value: [...head, ...rest] };
}
