/**
 * The grammar of an xl configuration as the LR automaton that bison makes of it: which tokens a syntax error calls
 * expected follows from the automaton's default reductions, so a recursive parser would word its errors otherwise.
 * @xen tools/libs/util/libxlu_cfg_y.y
 */
import { assert } from '../../base/assert.js';
import { CfgLexer, TOKENS, type Token } from './cfg_lex.js';

export type CfgValue =
  | { readonly kind: 'string'; text: string; readonly line: number }
  | { readonly kind: 'list'; items: CfgValue[]; readonly line: number };

export interface CfgSetting {
  readonly name: string;
  readonly value: CfgValue;
  readonly addition: boolean;
  readonly lineno: number;
}

interface State {
  readonly shift?: Partial<Record<Token, number>>;
  /** Rule reduced whatever comes next, or only before the end of the input. */
  readonly reduce?: number;
  readonly reduceAtEnd?: number;
  readonly goto?: Readonly<Record<string, number>>;
}

const ATOMS = { STRING: 14, NUMBER: 15, "'['": 16 } as const;
const STATES: readonly State[] = [
  { reduce: 3, goto: { stmts: 1, file: 2 } },
  {
    shift: { IDENT: 3, NEWLINE: 4, "';'": 5, error: 6 },
    reduceAtEnd: 1,
    goto: { assignment: 7, endstmt: 8, stmt: 9 },
  },
  { shift: { $end: -1 } },
  { shift: { '+=': 10, "'='": 11 } },
  { reduce: 10 },
  { reduce: 11 },
  { shift: { NEWLINE: 12 } },
  { shift: { NEWLINE: 4, "';'": 5 }, reduce: 2, goto: { endstmt: 13 } },
  { reduce: 6 },
  { reduce: 4 },
  { shift: ATOMS, goto: { value: 17, atom: 19 } },
  { shift: ATOMS, goto: { value: 18, atom: 19 } },
  { reduce: 7 },
  { reduce: 5 },
  { reduce: 14 },
  { reduce: 15 },
  { reduce: 21, goto: { nlok: 20 } },
  { reduce: 9 },
  { reduce: 8 },
  { reduce: 12 },
  {
    shift: { ...ATOMS, NEWLINE: 21 },
    reduce: 16,
    goto: { value: 22, valuelist: 23, values: 24, atom: 19 },
  },
  { reduce: 22 },
  { reduce: 21, goto: { nlok: 25 } },
  { shift: { "']'": 26 } },
  { shift: { "','": 27 }, reduce: 17 },
  { shift: { NEWLINE: 21 }, reduce: 19 },
  { reduce: 13 },
  { reduce: 21, goto: { nlok: 28 } },
  { shift: { ...ATOMS, NEWLINE: 21 }, reduce: 18, goto: { value: 29, atom: 19 } },
  { reduce: 21, goto: { nlok: 30 } },
  { shift: { NEWLINE: 21 }, reduce: 20 },
];

/** Left side and length of each rule, numbered as in the grammar. */
const RULES: readonly (readonly [string, number])[] = [
  ['$accept', 2],
  ['file', 1],
  ['file', 2],
  ['stmts', 0],
  ['stmts', 2],
  ['stmt', 2],
  ['stmt', 1],
  ['stmt', 2],
  ['assignment', 3],
  ['assignment', 3],
  ['endstmt', 1],
  ['endstmt', 1],
  ['value', 1],
  ['value', 4],
  ['atom', 1],
  ['atom', 1],
  ['valuelist', 0],
  ['valuelist', 1],
  ['valuelist', 3],
  ['values', 2],
  ['values', 5],
  ['nlok', 0],
  ['nlok', 2],
];

interface Symbol {
  readonly state: number;
  readonly text?: string | undefined;
  readonly value?: CfgValue | undefined;
  readonly line: number;
}

export class CfgParser {
  readonly settings: CfgSetting[] = [];
  private readonly lexer: CfgLexer;
  private readonly stack: Symbol[] = [{ state: 0, line: 0 }];
  private lookahead: Token | undefined = undefined;
  /** Tokens still to be shifted before errors are reported again. */
  private recovering = 0;

  constructor(
    input: string,
    source: string,
    private readonly report: (text: string) => void,
  ) {
    this.lexer = new CfgLexer(input, source, report);
  }

  /** 0, or the errno of the first error (EINVAL is 22). */
  parse(): number {
    while (this.step());
    if (this.lexer.err !== 0 && this.lexer.likelyPython) {
      this.report(
        'warning: Config file looks like it contains Python code.\n' +
          'warning:  Arbitrary Python is no longer supported.\n' +
          'warning:  See https://wiki.xen.org/wiki/PythonInXlConfig\n',
      );
    }
    return this.lexer.err;
  }

  private top(back = 0): Symbol {
    const symbol = this.stack[this.stack.length - 1 - back];
    assert(symbol !== undefined, 'the parser stack reaches that far');
    return symbol;
  }

  /** One action; false when the parser has accepted or given up. */
  private step(): boolean {
    const state = STATES[this.top().state]!;
    if (state.shift === undefined) return this.reduce(state.reduce!);
    this.lookahead ??= this.lexer.next();
    const to = state.shift[this.lookahead];
    if (to === -1) return false;
    if (to !== undefined) return this.shift(to);
    if (state.reduce !== undefined) return this.reduce(state.reduce);
    if (this.lookahead === '$end' && state.reduceAtEnd !== undefined) return this.reduce(state.reduceAtEnd);
    return this.recover(state);
  }

  private shift(to: number): boolean {
    this.stack.push({ state: to, text: this.lexer.value, line: this.lexer.firstLine });
    this.lookahead = undefined;
    if (this.recovering > 0) this.recovering--;
    return true;
  }

  private recover(state: State): boolean {
    if (this.recovering === 0) this.lexer.error(this.lexer.firstLine, this.syntaxError(state));
    if (this.recovering === 3) {
      if (this.lookahead === '$end') return false;
      this.lookahead = undefined;
    }
    this.recovering = 3;
    while (STATES[this.top().state]!.shift?.error === undefined) {
      this.stack.pop();
      if (this.stack.length === 0) return false;
    }
    this.stack.push({ state: STATES[this.top().state]!.shift!.error!, line: this.lexer.firstLine });
    return true;
  }

  private syntaxError(state: State): string {
    const expected = TOKENS.filter(
      (t) => t !== 'error' && (state.shift?.[t] !== undefined || (t === '$end' && state.reduceAtEnd)),
    );
    const list = expected.length > 4 ? '' : `, expecting ${expected.join(' or ')}`;
    return `syntax error, unexpected ${this.lookahead}${list}`;
  }

  private reduce(rule: number): boolean {
    const [left, length] = RULES[rule]!;
    const result = this.act(rule, length);
    const line = length > 0 ? this.top(length - 1).line : this.lexer.firstLine;
    this.stack.length -= length;
    const to = STATES[this.top().state]!.goto?.[left];
    assert(to !== undefined, `the automaton goes on after ${left}`);
    this.stack.push({ state: to, line, ...result });
    return true;
  }

  /** The semantic action of a rule; after an error nothing is built or stored any more. */
  private act(rule: number, length: number): { text?: string | undefined; value?: CfgValue | undefined } {
    const ok = this.lexer.err === 0;
    if (rule === 8 || rule === 9) {
      this.store(this.top(2).text, rule === 9, this.top().value, this.top().line);
      return {};
    }
    if (rule === 12) {
      const { text, line } = this.top();
      return ok && text !== undefined ? { value: { kind: 'string', text, line } } : {};
    }
    if (rule === 13) return { value: this.top(1).value };
    if (rule === 16) return ok ? { value: { kind: 'list', items: [], line: this.lexer.firstLine } } : {};
    if (rule === 17 || rule === 18) return { value: this.top(length - 1).value };
    if (rule === 19) {
      const { value, line } = this.top(1);
      return ok && value !== undefined ? { value: { kind: 'list', items: [value], line } } : {};
    }
    if (rule === 20) {
      const list = this.top(4).value;
      const item = this.top(1).value;
      if (ok && list?.kind === 'list' && item !== undefined) list.items.push(item);
      return { value: list };
    }
    return rule === 14 || rule === 15 ? { text: this.top().text } : {};
  }

  private store(
    name: string | undefined,
    addition: boolean,
    value: CfgValue | undefined,
    lineno: number,
  ): void {
    if (this.lexer.err !== 0 || name === undefined || value === undefined) return;
    const previous = addition ? this.settings.findLast((s) => s.name === name) : undefined;
    if (previous !== undefined && !this.concat(previous.value, value)) return;
    this.settings.push({ name, value, addition, lineno });
  }

  /** Puts `before` in front of `value`, which must be of its kind. */
  private concat(before: CfgValue, value: CfgValue): boolean {
    if (before.kind === 'string' && value.kind === 'string') value.text = before.text + value.text;
    else if (before.kind === 'list' && value.kind === 'list') {
      value.items = [...before.items, ...value.items];
      before.items = [];
    } else {
      this.lexer.lexicalError('can\'t add [list] to "string" or vice versa');
      this.lexer.err = 22;
      return false;
    }
    return true;
  }
}
