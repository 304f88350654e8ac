/** The grammar: lists, pipelines, loops, conditions, groups. (POSIX.1 Shell Command Language, 2.10) */
import type {
  Assignment,
  Clause,
  Command,
  Condition,
  If,
  List,
  Part,
  Pipeline,
  Redirect,
  Simple,
  While,
  Word,
} from './ast.js';
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

const ENDS = new Set(['then', 'else', 'elif', 'fi', 'do', 'done', 'esac', '}']);
const CLAUSE_ENDS = [';;', ';&', ';;&'] as const;
const REDIRECT = /^([012]?)(>>|>&|>\||>|<<<|<<-|<<|<|&>>|&>)$/;
const NAME = /^[A-Za-z_]\w*$/;
/** Compound commands in compound commands. */
const NESTING_MAX = 100;
const UNARY = /^-[a-zA-Z]$/;
const BINARY = new Set([
  '=',
  '==',
  '!=',
  '=~',
  '-eq',
  '-ne',
  '-lt',
  '-le',
  '-gt',
  '-ge',
  '-ef',
  '-nt',
  '-ot',
]);

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
      const ends = this.endsList() || (word !== undefined && ENDS.has(word));
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
      } else if (!(this.endsList() || ENDS.has(plainText(this.token) ?? ''))) {
        throw this.unexpected();
      }
    }
  }

  private endsList(): boolean {
    return this.token.kind === 'end' || this.isOp(')') || CLAUSE_ENDS.some((op) => this.isOp(op));
  }

  private pipeline(): Pipeline {
    let negated = false;
    for (; plainText(this.token) === '!'; negated = !negated) this.advance();
    const commands = [this.command()];
    while (this.isOp('|') || this.isOp('|&')) {
      if (this.isOp('|&')) commands.push(withErrors(commands.pop()!));
      this.advance();
      this.newlines();
      commands.push(this.command());
    }
    return { negated, commands };
  }

  private command(): Command {
    if (++this.lexer.nesting > NESTING_MAX) throw new ShellSyntaxError('nested too deeply');
    const command = this.isOp('(') ? this.bracketed() : this.named(plainText(this.token));
    this.lexer.nesting -= 1;
    return command;
  }

  /** `((…))`, or commands in a shell of their own. */
  private bracketed(): Command {
    const { at } = this.token;
    const end = this.lexer.text[at + 1] === '(' ? this.lexer.arithmeticEnd(at) : undefined;
    if (end !== undefined) {
      const body = this.lexer.arithmeticParts(at, end)[0]!;
      this.advance();
      return { kind: 'arithmetic', body, redirects: this.redirects() };
    }
    this.advance();
    const body = this.list();
    if (!this.isOp(')')) throw this.unexpected();
    this.advance();
    return { kind: 'group', subshell: true, body, redirects: this.redirects() };
  }

  private named(word: string | undefined): Command {
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
      case 'case':
        return this.caseOf();
      case 'function':
        this.advance();
        return this.functionNamed(this.name());
      case '[[': {
        this.advance();
        const test = this.either();
        this.expect(']]');
        return { kind: 'conditional', test, redirects: this.redirects() };
      }
      case 'while':
      case 'until': {
        this.advance();
        const test = this.list();
        const body = this.doBody();
        const loop: While = {
          kind: 'while',
          until: word === 'until',
          test,
          body,
          redirects: this.redirects(),
        };
        return loop;
      }
      default:
        return this.simple();
    }
  }

  private word(): Word {
    if (this.token.kind !== 'word') throw this.unexpected();
    const { word } = this.token;
    this.advance();
    return word;
  }
  private name(): string {
    const name = plainText(this.token);
    if (name === undefined) throw this.unexpected();
    this.advance();
    return name;
  }

  /** After the name: `()` if there is one, and a compound command. */
  private functionNamed(name: string): Command {
    if (this.isOp('(')) {
      this.advance();
      if (!this.isOp(')')) throw this.unexpected();
      this.advance();
    }
    this.newlines();
    const body = this.command();
    if (body.kind === 'simple') throw new ShellSyntaxError(`syntax error near unexpected token \`${name}'`);
    return { kind: 'function', name, body, redirects: [] };
  }

  private caseOf(): Command {
    this.advance();
    const word = this.word();
    this.newlines();
    this.expect('in');
    this.newlines();
    const clauses: Clause[] = [];
    while (plainText(this.token) !== 'esac') {
      if (this.isOp('(')) this.advance();
      const patterns = [this.word()];
      while (this.isOp('|')) {
        this.advance();
        patterns.push(this.word());
      }
      if (!this.isOp(')')) throw this.unexpected();
      this.advance();
      const body = this.list();
      const end = CLAUSE_ENDS.find((op) => this.isOp(op));
      clauses.push({ patterns, body, end: end ?? ';;' });
      if (end === undefined) break;
      this.advance();
      this.newlines();
    }
    this.expect('esac');
    return { kind: 'case', word, clauses, redirects: this.redirects() };
  }

  // Inside `[[ ]]`: `||` binds looser than `&&`, and that looser than `!`.
  private either(): Condition {
    const left = this.both();
    if (!this.isOp('||')) return left;
    this.advance();
    this.newlines();
    return { op: 'or', left, right: this.either() };
  }
  private both(): Condition {
    const left = this.negation();
    if (!this.isOp('&&')) return left;
    this.advance();
    this.newlines();
    return { op: 'and', left, right: this.both() };
  }
  private negation(): Condition {
    if (++this.lexer.nesting > NESTING_MAX) throw new ShellSyntaxError('nested too deeply');
    this.newlines();
    let out: Condition;
    if (plainText(this.token) === '!') {
      this.advance();
      out = { op: 'not', of: this.negation() };
    } else if (this.isOp('(')) {
      this.advance();
      out = this.either();
      if (!this.isOp(')')) throw this.unexpected();
      this.advance();
    } else out = this.comparison();
    this.newlines();
    this.lexer.nesting -= 1;
    return out;
  }
  private comparison(): Condition {
    const first = plainText(this.token);
    const left = this.word();
    const op = this.isOp('<') ? '<' : this.isOp('>') ? '>' : plainText(this.token);
    if (first !== undefined && UNARY.test(first) && this.token.kind === 'word' && !BINARY.has(op ?? ''))
      return op === ']]'
        ? { op: 'unary', name: '-n', word: left }
        : { op: 'unary', name: first, word: this.word() };
    if (op === undefined || !(op === '<' || op === '>' || BINARY.has(op)))
      return { op: 'unary', name: '-n', word: left };
    if (op === '=~') {
      const right = this.lexer.regex();
      this.advance();
      return { op: 'binary', name: op, left, right };
    }
    this.advance();
    return { op: 'binary', name: op, left, right: this.word() };
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
    if (this.isOp('(')) return this.counting();
    const variable = plainText(this.token);
    if (variable === undefined || !NAME.test(variable)) throw this.unexpected();
    this.advance();
    this.newlines();
    let words: Word[] | undefined;
    if (plainText(this.token) === 'in') {
      words = [];
      this.advance();
      while (this.token.kind === 'word') words.push(this.word());
    }
    const body = this.doBody();
    return { kind: 'for', variable, words, body, redirects: this.redirects() };
  }

  private counting(): Command {
    const { at } = this.token;
    const end = this.lexer.text[at + 1] === '(' ? this.lexer.arithmeticEnd(at) : undefined;
    const parts = end === undefined ? [] : this.lexer.arithmeticParts(at, end);
    if (parts.length !== 3) throw this.unexpected();
    this.advance();
    const [start, test, step] = parts;
    const body = this.doBody();
    return { kind: 'counting', start: start!, test: test!, step: step!, body, redirects: this.redirects() };
  }

  private condition(): If {
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
    const assignments: Assignment[] = [];
    const words: Word[] = [];
    const redirects: Redirect[] = [];
    for (;;) {
      const redirect = this.redirect();
      if (redirect !== undefined) {
        redirects.push(redirect);
        continue;
      }
      if (this.token.kind !== 'word') break;
      const end = this.lexer.pos;
      const first = plainText(this.token);
      const word = this.word();
      const builtin = DECLARING.has(words.length === 0 ? '' : (plainWord(words[0]!) ?? ''));
      const assignment = words.length === 0 || builtin ? assignmentOf(word) : undefined;
      const isArray = this.isOp('(') && this.token.at === end;
      if (assignment === undefined) words.push(word);
      else assignments.push(isArray ? { ...assignment, value: this.array() } : assignment);
      if (words.length === 1 && assignments.length === 0 && redirects.length === 0 && this.isOp('(')) {
        if (first === undefined || this.lexer.text[this.token.at + 1] === '(') throw this.unexpected();
        return this.functionNamed(first);
      }
    }
    if (assignments.length + words.length + redirects.length === 0) throw this.unexpected();
    const simple: Simple = { kind: 'simple', assignments, words, redirects };
    return simple;
  }

  private array(): { words: Word[] } {
    const words: Word[] = [];
    this.advance();
    for (this.newlines(); this.token.kind === 'word'; this.newlines()) words.push(this.word());
    if (!this.isOp(')')) throw this.unexpected();
    this.advance();
    return { words };
  }

  /** The second `<` of `< <(…)`. */
  private process(): Redirect {
    this.advance();
    this.advance();
    const body = this.list();
    if (!this.isOp(')')) throw this.unexpected();
    this.advance();
    return { kind: 'process', body };
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
    if (m[2] === '<' && this.isOp('<') && this.lexer.text[target.at + 1] === '(') return this.process();
    if (target.kind !== 'word') throw this.unexpected();
    const fd = m[1] === '2' ? 2 : 1;
    const op = m[2]!;
    if (op === '<<' || op === '<<-') {
      const text: Part[] = [];
      this.lexer.announceHere(target.word, text, op === '<<-');
      this.advance();
      return { kind: 'here', text };
    }
    this.advance();
    const { word } = target;
    if (op === '<<<') return { kind: 'here', text: [...word, { kind: 'text', text: '\n', quoted: true }] };
    if (op === '<') return { kind: 'in', target: word };
    if (op.startsWith('&>')) return { kind: 'out', fd: 'both', append: op === '&>>', target: word };
    if (op !== '>&') return { kind: 'out', fd, append: op === '>>', target: word };
    const to = plainText(target);
    if (to === '-') return { kind: 'dup', fd, to: 'closed' };
    if (to === '1' || to === '2') return { kind: 'dup', fd, to: to === '1' ? 1 : 2 };
    throw new ShellSyntaxError(`${to ?? 'word'}: ambiguous redirect`);
  }
}

/** Commands whose arguments may be assignments. */
export const DECLARING: ReadonlySet<string> = new Set(['local', 'declare', 'typeset', 'readonly', 'export']);

const plainWord = (word: Word): string | undefined =>
  word.length === 1 && word[0]!.kind === 'text' ? word[0]!.text : undefined;

/** `a |& b`. */
const withErrors = (c: Command): Command => ({
  ...c,
  redirects: [...c.redirects, { kind: 'dup', fd: 2, to: 1 }],
});

function assignmentOf(word: Word): Assignment | undefined {
  const [first, ...rest] = word;
  if (first === undefined || first.kind !== 'text' || first.quoted) return undefined;
  const m = /^([A-Za-z_]\w*)(?:\[([^\]]*)\])?(\+?)=([\s\S]*)$/.exec(first.text);
  if (m === null) return elementOf(first.text, rest);
  const index = m[2] === undefined ? {} : { index: textPart(m[2]) };
  return { name: m[1]!, append: m[3] === '+', value: [...textPart(m[4]!), ...rest], ...index };
}

/** `a[$i]=…`: the index has parts of its own. */
function elementOf(head: string, rest: readonly Part[]): Assignment | undefined {
  const m = /^([A-Za-z_]\w*)\[([^\]]*)$/.exec(head);
  const close = rest.findIndex((p) => p.kind === 'text' && !p.quoted && /^[^\]]*\]\+?=/.test(p.text));
  if (m === null || close < 0) return undefined;
  const tail = rest[close] as Part & { kind: 'text' };
  const [, last, plus, value] = /^([^\]]*)\](\+?)=([\s\S]*)$/.exec(tail.text)!;
  return {
    name: m[1]!,
    index: [...textPart(m[2]!), ...rest.slice(0, close), ...textPart(last!)],
    append: plus === '+',
    value: [...textPart(value!), ...rest.slice(close + 1)],
  };
}

const textPart = (text: string): Part[] => (text === '' ? [] : [{ kind: 'text', text, quoted: false }]);
