/**
 * POSIX regular expressions for grep and sed, matched in time linear in the text: all states at once, no backtracking.
 * Basic and extended syntax, with GNU's `\w`, `\s`, `\b`, `\<`, `\>`; no back-references. (POSIX.1, 9.3 and 9.4)
 */

type Node =
  | { readonly kind: 'set'; readonly test: (c: number) => boolean }
  | { readonly kind: 'assert'; readonly what: '^' | '$' | '<' | '>' | 'b' | 'B' }
  | { readonly kind: 'seq'; readonly items: readonly Node[] }
  | { readonly kind: 'alt'; readonly items: readonly Node[] }
  | { readonly kind: 'repeat'; readonly node: Node; readonly min: number; readonly max: number }
  | { readonly kind: 'group'; readonly node: Node; readonly index: number };

type Step =
  | { readonly op: 'set'; readonly test: (c: number) => boolean }
  | { readonly op: 'assert'; readonly what: string }
  | { readonly op: 'split'; a: number; b: number }
  | { readonly op: 'jump'; to: number }
  | { readonly op: 'save'; readonly slot: number }
  | { readonly op: 'match' };

export class RegexError extends Error {
  override readonly name = 'RegexError';
}

const STEPS_MAX = 20_000;
const REPEAT_MAX = 255;
const CLASSES: Readonly<Record<string, RegExp>> = {
  alpha: /[A-Za-z]/,
  digit: /[0-9]/,
  alnum: /[A-Za-z0-9]/,
  upper: /[A-Z]/,
  lower: /[a-z]/,
  space: /[\s]/,
  blank: /[ \t]/,
  punct: /[!-/:-@[-`{-~]/,
  xdigit: /[0-9A-Fa-f]/,
  print: /[ -~]/,
};
const isWord = (c: number): boolean =>
  (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === 95;
const isSpace = (c: number): boolean => c === 32 || (c >= 9 && c <= 13);

class Reader {
  private pos = 0;
  groups = 0;
  private depth = 0;
  constructor(
    private readonly text: string,
    private readonly extended: boolean,
    private readonly fold: boolean,
  ) {}

  parse(): Node {
    const node = this.alternatives();
    if (this.pos < this.text.length) throw new RegexError('Unmatched ) or \\)');
    return node;
  }

  private at(s: string): boolean {
    return this.text.startsWith(s, this.pos);
  }
  /** `(` in one syntax is `\(` in the other. */
  private meta(s: string): boolean {
    if (!this.at(this.extended ? s : `\\${s}`)) return false;
    this.pos += this.extended ? s.length : s.length + 1;
    return true;
  }

  private alternatives(): Node {
    const items = [this.sequence()];
    while (this.meta('|')) items.push(this.sequence());
    return items.length === 1 ? items[0]! : { kind: 'alt', items };
  }

  private sequence(): Node {
    const items: Node[] = [];
    while (this.pos < this.text.length) {
      const bar = this.at(this.extended ? '|' : '\\|');
      const close = this.depth > 0 && this.at(this.extended ? ')' : '\\)');
      if (bar || close) break;
      const atom = this.atom(items.length === 0);
      items.push(this.repeats(atom, items.length === 0));
    }
    return { kind: 'seq', items };
  }

  private repeats(atom: Node, first: boolean): Node {
    let node = atom;
    for (;;) {
      if (this.at('*') && !(first && !this.extended && atom.kind === 'assert')) {
        this.pos += 1;
        node = { kind: 'repeat', node, min: 0, max: Number.POSITIVE_INFINITY };
      } else if (this.meta('+')) node = { kind: 'repeat', node, min: 1, max: Number.POSITIVE_INFINITY };
      else if (this.meta('?')) node = { kind: 'repeat', node, min: 0, max: 1 };
      else if (this.interval()) node = this.braces(node);
      else return node;
    }
  }

  /** A brace that no number follows is an ordinary character in the extended syntax. */
  private interval(): boolean {
    return !(this.extended && !/^\{\d/.test(this.text.slice(this.pos, this.pos + 2))) && this.meta('{');
  }

  private braces(node: Node): Node {
    const m = /^(\d{1,3})(?:(,)(\d{0,3}))?/.exec(this.text.slice(this.pos, this.pos + 8));
    if (m === null) throw new RegexError('Invalid preceding regular expression');
    this.pos += m[0].length;
    if (!this.meta('}')) throw new RegexError('Unmatched { or \\{');
    const min = Number(m[1]);
    const max = m[2] === undefined ? min : m[3] === '' ? Number.POSITIVE_INFINITY : Number(m[3]);
    if (min > REPEAT_MAX || (Number.isFinite(max) && (max > REPEAT_MAX || max < min)))
      throw new RegexError('Regular expression too big');
    return { kind: 'repeat', node, min, max };
  }

  private atom(first: boolean): Node {
    const c = this.text[this.pos]!;
    if (this.meta('(')) return this.group();
    if (c === '[') return this.bracket();
    if (c === '.') {
      this.pos += 1;
      return { kind: 'set', test: (x) => x !== 10 };
    }
    if (c === '^' && (this.extended || first)) return this.assertion('^', 1);
    if (c === '$' && (this.extended || this.endsHere(this.pos + 1))) return this.assertion('$', 1);
    if (c === '\\') return this.escape();
    this.pos += 1;
    return this.literal(c);
  }

  private endsHere(at: number): boolean {
    return at >= this.text.length || this.text.startsWith('\\|', at) || this.text.startsWith('\\)', at);
  }

  private assertion(what: '^' | '$' | '<' | '>' | 'b' | 'B', length: number): Node {
    this.pos += length;
    return { kind: 'assert', what };
  }

  private group(): Node {
    const index = ++this.groups;
    if (++this.depth > 40) throw new RegexError('Regular expression too big');
    const node = this.alternatives();
    this.depth -= 1;
    if (!this.meta(')')) throw new RegexError('Unmatched ( or \\(');
    return { kind: 'group', node, index };
  }

  private escape(): Node {
    const c = this.text[this.pos + 1];
    if (c === undefined) throw new RegexError('Trailing backslash');
    if (/[1-9]/.test(c)) throw new RegexError('back-references are not supported');
    if (c === '<' || c === '>' || c === 'b' || c === 'B') return this.assertion(c, 2);
    this.pos += 2;
    if (c === 'w') return { kind: 'set', test: isWord };
    if (c === 'W') return { kind: 'set', test: (x) => !isWord(x) };
    if (c === 's') return { kind: 'set', test: isSpace };
    if (c === 'S') return { kind: 'set', test: (x) => !isSpace(x) };
    return this.literal(c);
  }

  private literal(c: string): Node {
    const code = c.charCodeAt(0);
    if (!this.fold || c.toLowerCase() === c.toUpperCase()) return { kind: 'set', test: (x) => x === code };
    const [lower, upper] = [c.toLowerCase().charCodeAt(0), c.toUpperCase().charCodeAt(0)];
    return { kind: 'set', test: (x) => x === lower || x === upper };
  }

  private bracket(): Node {
    let at = this.pos + 1;
    const negated = this.text[at] === '^';
    if (negated) at += 1;
    const ranges: [number, number][] = [];
    const classes: RegExp[] = [];
    for (let first = true; ; first = false) {
      const c = this.text[at];
      if (c === undefined) throw new RegexError('Unmatched [, [^, [:, [., or [=');
      if (c === ']' && !first) break;
      const named = /^\[:([a-z]{1,8}):\]/.exec(this.text.slice(at, at + 12));
      if (named !== null) {
        const set = Object.hasOwn(CLASSES, named[1]!) ? CLASSES[named[1]!] : undefined;
        if (set === undefined) throw new RegexError('Invalid character class name');
        classes.push(set);
        at += named[0].length;
        continue;
      }
      const range = this.text[at + 1] === '-' && this.text[at + 2] !== ']' && this.text[at + 2] !== undefined;
      const to = range ? this.text[at + 2]! : c;
      if (to < c) throw new RegexError('Invalid range end');
      ranges.push([c.charCodeAt(0), to.charCodeAt(0)]);
      at += range ? 3 : 1;
    }
    this.pos = at + 1;
    const inSet = (x: number): boolean =>
      ranges.some(([lo, hi]) => x >= lo && x <= hi) || classes.some((k) => k.test(String.fromCharCode(x)));
    const test = (x: number): boolean => {
      if (!this.fold) return inSet(x) !== negated;
      const s = String.fromCharCode(x);
      const hit = inSet(s.toLowerCase().charCodeAt(0)) || inSet(s.toUpperCase().charCodeAt(0));
      return hit !== negated;
    };
    return { kind: 'set', test };
  }
}

function compile(node: Node, out: Step[]): void {
  if (out.length > STEPS_MAX) throw new RegexError('Regular expression too big');
  switch (node.kind) {
    case 'set':
      out.push({ op: 'set', test: node.test });
      return;
    case 'assert':
      out.push({ op: 'assert', what: node.what });
      return;
    case 'seq':
      for (const item of node.items) compile(item, out);
      return;
    case 'group':
      out.push({ op: 'save', slot: 2 * node.index });
      compile(node.node, out);
      out.push({ op: 'save', slot: 2 * node.index + 1 });
      return;
    case 'alt':
      compileAlternatives(node.items, out);
      return;
    case 'repeat':
      compileRepeat(node, out);
      return;
  }
}

function compileAlternatives(items: readonly Node[], out: Step[]): void {
  const jumps: { op: 'jump'; to: number }[] = [];
  items.forEach((item, i) => {
    const last = i === items.length - 1;
    const split = { op: 'split' as const, a: out.length + 1, b: 0 };
    if (!last) out.push(split);
    compile(item, out);
    if (last) return;
    const jump = { op: 'jump' as const, to: 0 };
    out.push(jump);
    jumps.push(jump);
    split.b = out.length;
  });
  for (const j of jumps) j.to = out.length;
}

function compileRepeat(node: Node & { kind: 'repeat' }, out: Step[]): void {
  for (let i = 0; i < node.min; i++) compile(node.node, out);
  if (!Number.isFinite(node.max)) {
    const split = { op: 'split' as const, a: out.length + 1, b: 0 };
    const start = out.length;
    out.push(split);
    compile(node.node, out);
    out.push({ op: 'jump', to: start });
    split.b = out.length;
    return;
  }
  const splits: { op: 'split'; a: number; b: number }[] = [];
  for (let i = node.min; i < node.max; i++) {
    const split = { op: 'split' as const, a: out.length + 1, b: 0 };
    out.push(split);
    splits.push(split);
    compile(node.node, out);
  }
  for (const s of splits) s.b = out.length;
}

/** Positions: 0 and 1 the whole match, then pairs for the groups; -1 where a group took no part. */
export type Match = readonly number[];

export class Regex {
  private readonly steps: Step[] = [];
  private readonly slots: number;

  /** @throws RegexError */
  constructor(pattern: string, options: { readonly extended?: boolean; readonly ignoreCase?: boolean } = {}) {
    const reader = new Reader(pattern, options.extended === true, options.ignoreCase === true);
    compile(reader.parse(), this.steps);
    this.steps.push({ op: 'match' });
    this.slots = 2 * (reader.groups + 1);
  }

  test(text: string): boolean {
    return this.exec(text, 0) !== undefined;
  }

  /** The leftmost match from `from` on; of several, the one that perl-style priority chooses. */
  exec(text: string, from: number): Match | undefined {
    let threads: { pc: number; saved: number[] }[] = [];
    let best: number[] | undefined;
    const seen = new Int32Array(this.steps.length).fill(-1);
    for (let at = from; at <= text.length; at++) {
      const here = threads;
      threads = [];
      const active: { pc: number; saved: number[] }[] = [];
      for (const t of here) this.follow(t.pc, t.saved, text, at, seen, active);
      if (best === undefined) {
        const saved = new Array<number>(this.slots).fill(-1);
        saved[0] = at;
        this.follow(0, saved, text, at, seen, active);
      }
      for (const t of active) {
        const step = this.steps[t.pc]!;
        if (step.op === 'match') {
          best = t.saved.slice();
          best[1] = at;
          break;
        }
        if (step.op === 'set' && at < text.length && step.test(text.charCodeAt(at)))
          threads.push({ pc: t.pc + 1, saved: t.saved });
      }
      if (best !== undefined && threads.length === 0) break;
    }
    return best;
  }

  private follow(
    pc: number,
    saved: number[],
    text: string,
    at: number,
    seen: Int32Array,
    out: { pc: number; saved: number[] }[],
  ): void {
    const todo = [{ pc, saved }];
    while (todo.length > 0) {
      const t = todo.pop()!;
      if (seen[t.pc] === at) continue;
      seen[t.pc] = at;
      const step = this.steps[t.pc]!;
      if (step.op === 'jump') todo.push({ pc: step.to, saved: t.saved });
      else if (step.op === 'split') todo.push({ pc: step.b, saved: t.saved }, { pc: step.a, saved: t.saved });
      else if (step.op === 'save') {
        const next = t.saved.slice();
        next[step.slot] = at;
        todo.push({ pc: t.pc + 1, saved: next });
      } else if (step.op === 'assert') {
        if (holds(step.what, text, at)) todo.push({ pc: t.pc + 1, saved: t.saved });
      } else out.push(t);
    }
  }
}

function holds(what: string, text: string, at: number): boolean {
  const before = at > 0 && isWord(text.charCodeAt(at - 1));
  const after = at < text.length && isWord(text.charCodeAt(at));
  switch (what) {
    case '^':
      return at === 0;
    case '$':
      return at === text.length;
    case '<':
      return !before && after;
    case '>':
      return before && !after;
    case 'b':
      return before !== after;
    default:
      return before === after;
  }
}
