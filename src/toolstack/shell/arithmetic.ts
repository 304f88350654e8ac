/** `$((…))`: integers of 64 bits that wrap, with the operators of C but assignment and `?:`. (bash, ARITHMETIC EVALUATION) */
import { ShellLimit } from './program.js';

const TOKEN = /\s*(0x[0-9a-fA-F]+|\d+|[A-Za-z_]\w*|\*\*|<<|>>|<=|>=|==|!=|&&|\|\||\S)/y;
const TOKENS_MAX = 1000;
/** Binary operators from the loosest to the tightest. */
const LEVELS: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!='],
  ['<', '>', '<=', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%'],
];
const wrap = (n: bigint): bigint => BigInt.asIntN(64, n);
const truth = (is: boolean): bigint => (is ? 1n : 0n);

const OPERATORS: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  '||': (a, b) => truth(a !== 0n || b !== 0n),
  '&&': (a, b) => truth(a !== 0n && b !== 0n),
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '&': (a, b) => a & b,
  '==': (a, b) => truth(a === b),
  '!=': (a, b) => truth(a !== b),
  '<': (a, b) => truth(a < b),
  '>': (a, b) => truth(a > b),
  '<=': (a, b) => truth(a <= b),
  '>=': (a, b) => truth(a >= b),
  '<<': (a, b) => a << (b & 63n),
  '>>': (a, b) => a >> (b & 63n),
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
};

/** @throws ShellLimit with what bash says of an expression that is none */
export function arithmetic(text: string, variables: ReadonlyMap<string, string>): string {
  return new Expression(text, variables).value().toString();
}

class Expression {
  private readonly tokens: string[] = [];
  private readonly starts: number[] = [];
  private at = 0;
  constructor(
    private readonly text: string,
    private readonly variables: ReadonlyMap<string, string>,
  ) {
    TOKEN.lastIndex = 0;
    for (let m = TOKEN.exec(text); m !== null; m = TOKEN.exec(text)) {
      this.tokens.push(m[1]!);
      this.starts.push(TOKEN.lastIndex - m[1]!.length);
      if (this.tokens.length > TOKENS_MAX) throw this.wrong('expression recursion level exceeded');
    }
  }

  value(): bigint {
    if (this.tokens.length === 0) return 0n;
    const v = this.binary(0);
    if (this.at < this.tokens.length) throw this.wrong('syntax error in expression');
    return v;
  }

  private wrong(why: string): ShellLimit {
    const rest = this.text.slice(this.starts[Math.min(this.at, this.tokens.length - 1)]);
    return new ShellLimit(`${this.text.trimStart()}: ${why} (error token is "${rest}")`);
  }

  private binary(level: number): bigint {
    const names = LEVELS[level];
    if (names === undefined) return this.power();
    let left = this.binary(level + 1);
    for (let op = this.tokens[this.at]; op !== undefined && names.includes(op); op = this.tokens[this.at]) {
      this.at += 1;
      const from = this.at;
      const right = this.binary(level + 1);
      if (right === 0n && (op === '/' || op === '%')) {
        this.at = from;
        throw this.wrong('division by 0');
      }
      left = wrap(OPERATORS[op]!(left, right));
    }
    return left;
  }

  private power(): bigint {
    const base = this.unary();
    if (this.tokens[this.at] !== '**') return base;
    this.at += 1;
    let exponent = this.power();
    if (exponent < 0n) throw this.wrong('exponent less than 0');
    let [out, square] = [1n, base];
    for (; exponent > 0n; exponent >>= 1n) {
      if ((exponent & 1n) === 1n) out = wrap(out * square);
      square = wrap(square * square);
    }
    return out;
  }

  private unary(): bigint {
    const t = this.tokens[this.at];
    const isNumber = t !== undefined && /^\w/.test(t);
    if (t === undefined || !(isNumber || ['(', '-', '+', '!', '~'].includes(t)))
      throw this.wrong('syntax error: operand expected');
    this.at += 1;
    if (isNumber) return this.number(/^\d/.test(t) ? t : (this.variables.get(t) ?? ''));
    if (t === '(') {
      const v = this.binary(0);
      if (this.tokens[this.at] !== ')') throw this.wrong("missing `)'");
      this.at += 1;
      return v;
    }
    const v = this.unary();
    return t === '-' ? wrap(-v) : t === '+' ? v : t === '!' ? truth(v === 0n) : ~v;
  }

  /** Octal with a leading 0; a variable that holds no number is 0. */
  private number(text: string): bigint {
    if (/^-?(0x[0-9a-f]{1,64}|[1-9]\d{0,63}|0)$/i.test(text))
      return text.startsWith('-') ? wrap(-BigInt(text.slice(1))) : wrap(BigInt(text));
    if (/^0[0-7]{1,64}$/.test(text)) return wrap(BigInt(`0o${text.slice(1)}`));
    if (!/^\d/.test(text)) return 0n;
    this.at -= 1;
    throw this.wrong('value too great for base');
  }
}
