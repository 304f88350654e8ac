/** `$((…))`: integers of 64 bits that wrap, with the operators of C. (bash, ARITHMETIC EVALUATION) */
import { ExpansionError } from './program.js';

const TOKEN =
  /\s*(0x[0-9a-fA-F]+|\d+#\w+|\d+|[A-Za-z_]\w*|<<=|>>=|[-+*/%&|^]=|\+\+|--|\*\*|<<|>>|<=|>=|==|!=|&&|\|\||\S)/y;
const ASSIGN = /^(<<|>>|[-+*/%&|^]?)=$/;
const NAME = /^[A-Za-z_]/;
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

/** Where an expression finds its variables, and leaves what it assigns. */
export interface Variables {
  get(name: string): string | undefined;
  set(name: string, value: string): unknown;
}

/** @throws ExpansionError with what bash says of an expression that is none */
export function arithmetic(text: string, variables: Variables): string {
  return new Expression(text, variables).value().toString();
}

class Expression {
  private readonly tokens: string[] = [];
  private readonly starts: number[] = [];
  private at = 0;
  private skipped = false;
  constructor(
    private readonly text: string,
    private readonly variables: Variables,
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
    const v = this.comma();
    if (this.at < this.tokens.length) throw this.wrong('syntax error in expression');
    return v;
  }

  private comma(): bigint {
    let v = this.assignment();
    while (this.take(',')) v = this.assignment();
    return v;
  }
  private take(token: string): boolean {
    if (this.tokens[this.at] !== token) return false;
    this.at += 1;
    return true;
  }

  private assignment(): bigint {
    const [name, op] = [this.tokens[this.at], this.tokens[this.at + 1]];
    const m = name !== undefined && NAME.test(name) && op !== undefined ? ASSIGN.exec(op) : null;
    if (m === null) return this.choice();
    this.at += 2;
    const from = this.at;
    const right = this.assignment();
    if (m[1] === '') return this.store(name!, right);
    if (right === 0n && (m[1] === '/' || m[1] === '%')) {
      this.at = from;
      throw this.wrong('division by 0');
    }
    return this.store(name!, wrap(OPERATORS[m[1]!]!(this.variable(name!), right)));
  }
  private store(name: string, value: bigint): bigint {
    if (!this.skipped) this.variables.set(name, value.toString());
    return value;
  }
  private variable(name: string): bigint {
    return this.number(this.variables.get(name) ?? '');
  }

  private choice(): bigint {
    const test = this.binary(0);
    if (!this.take('?')) return test;
    const yes = this.unless(test === 0n, () => this.comma());
    if (!this.take(':')) throw this.wrong("`:' expected for conditional expression");
    const no = this.unless(test !== 0n, () => this.assignment());
    return test !== 0n ? yes : no;
  }

  /** What is not evaluated assigns nothing. */
  private unless(skip: boolean, read: () => bigint): bigint {
    const before = this.skipped;
    this.skipped = before || skip;
    const v = read();
    this.skipped = before;
    return v;
  }

  private wrong(why: string): ExpansionError {
    const rest = this.text.slice(this.starts[Math.min(this.at, this.tokens.length - 1)]);
    return new ExpansionError(`${this.text.trimStart()}: ${why} (error token is "${rest}")`);
  }

  private binary(level: number): bigint {
    const names = LEVELS[level];
    if (names === undefined) return this.power();
    let left = this.binary(level + 1);
    for (let op = this.tokens[this.at]; op !== undefined && names.includes(op); op = this.tokens[this.at]) {
      this.at += 1;
      const from = this.at;
      const idle = (op === '&&' && left === 0n) || (op === '||' && left !== 0n);
      const right = this.unless(idle, () => this.binary(level + 1));
      if (right === 0n && (op === '/' || op === '%') && !this.skipped) {
        this.at = from;
        throw this.wrong('division by 0');
      }
      left = right === 0n && (op === '/' || op === '%') ? 0n : wrap(OPERATORS[op]!(left, right));
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
    if (t === undefined || !(isNumber || ['(', '-', '+', '!', '~', '++', '--'].includes(t)))
      throw this.wrong('syntax error: operand expected');
    this.at += 1;
    if (isNumber) return NAME.test(t) ? this.counted(t) : this.number(t);
    if (t === '++' || t === '--') return this.stepped(t);
    if (t === '(') {
      const v = this.comma();
      if (this.tokens[this.at] !== ')') throw this.wrong("missing `)'");
      this.at += 1;
      return v;
    }
    const v = this.unary();
    return t === '-' ? wrap(-v) : t === '+' ? v : t === '!' ? truth(v === 0n) : ~v;
  }

  /** `x`, `x++`, `x--`. */
  private counted(name: string): bigint {
    const v = this.variable(name);
    if (this.take('++')) this.store(name, wrap(v + 1n));
    else if (this.take('--')) this.store(name, wrap(v - 1n));
    return v;
  }
  /** `++x`, `--x`; before anything else two signs. */
  private stepped(sign: '++' | '--'): bigint {
    const name = this.tokens[this.at];
    if (name === undefined || !NAME.test(name)) {
      const v = this.unary();
      return sign === '--' ? wrap(-wrap(-v)) : v;
    }
    this.at += 1;
    return this.store(name, wrap(this.variable(name) + (sign === '++' ? 1n : -1n)));
  }

  /** Octal with a leading 0; a variable that holds no number is 0. */
  private number(text: string): bigint {
    if (/^-?(0x[0-9a-f]{1,64}|[1-9]\d{0,63}|0)$/i.test(text))
      return text.startsWith('-') ? wrap(-BigInt(text.slice(1))) : wrap(BigInt(text));
    const based = /^(\d{1,2})#([0-9a-z]{1,64})$/i.exec(text);
    if (based !== null) return this.inBase(Number(based[1]), based[2]!.toLowerCase());
    if (/^0[0-7]{1,64}$/.test(text)) return wrap(BigInt(`0o${text.slice(1)}`));
    if (!/^\d/.test(text)) return 0n;
    this.at -= 1;
    throw this.wrong('value too great for base');
  }

  /** `16#ff`. */
  private inBase(base: number, digits: string): bigint {
    let out = 0n;
    for (const c of digits) {
      const digit = Number.parseInt(c, 36);
      if (base < 2 || base > 36 || digit >= base) throw this.wrong('value too great for base');
      out = wrap(out * BigInt(base) + BigInt(digit));
    }
    return out;
  }
}
