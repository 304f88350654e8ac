/** `[[ … ]]`: words are not split, patterns stand on the right. (bash, Conditional Constructs) */
import type { Co } from '../../sim/co.js';
import type { Condition, Word } from './ast.js';
import type { Expander } from './expand.js';
import { matchGlob } from './glob.js';
import type { ShellHost } from './program.js';
import { Regex } from './regex.js';
import type { Scope } from './scope.js';
import { compare, fileTest } from './test_command.js';

export class Conditions {
  constructor(
    private readonly shell: ShellHost,
    private readonly scope: Scope,
    private readonly expander: Expander,
  ) {}

  /** @throws RegexError */
  *holds(c: Condition): Co<boolean> {
    switch (c.op) {
      case 'and':
        return (yield* this.holds(c.left)) && (yield* this.holds(c.right));
      case 'or':
        return (yield* this.holds(c.left)) || (yield* this.holds(c.right));
      case 'not':
        return !(yield* this.holds(c.of));
      case 'unary':
        return this.unary(c.name, yield* this.expander.text(c.word));
      case 'binary':
        return yield* this.binary(c.name, c.left, c.right);
    }
  }

  private unary(name: string, text: string): boolean {
    if (name === '-v') return this.scope.elements(text).length > 0;
    return fileTest(this.shell.dom0.fs, name, text) ?? false;
  }

  private *binary(name: string, left: Word, right: Word): Co<boolean> {
    if (/^-(eq|ne|lt|le|gt|ge)$/.test(name)) {
      const [a, b] = [yield* this.expander.number(left), yield* this.expander.number(right)];
      return compare(String(a), name, String(b)) ?? false;
    }
    const text = yield* this.expander.text(left);
    if (name === '=~') return this.matches(text, yield* this.expander.pattern(right));
    if (name === '<') return text < (yield* this.expander.text(right));
    if (name === '>') return text > (yield* this.expander.text(right));
    const same = matchGlob(yield* this.expander.pattern(right), text);
    return name === '!=' ? !same : same;
  }

  /** What was quoted stands for itself. BASH_REMATCH has the whole match, then the groups. */
  private matches(
    text: string,
    pattern: readonly { readonly c: string; readonly quoted: boolean }[],
  ): boolean {
    const source = pattern.map(({ c, quoted }) => (quoted && /[\\^$.*+?()[\]{}|]/.test(c) ? `\\${c}` : c));
    const found = new Regex(source.join(''), { extended: true }).exec(text, 0);
    const groups: string[] = [];
    for (let i = 0; found !== undefined && i < found.length; i += 2)
      groups.push(found[i]! < 0 ? '' : text.slice(found[i], found[i + 1]));
    this.scope.setArray('BASH_REMATCH', groups);
    return found !== undefined;
  }
}
