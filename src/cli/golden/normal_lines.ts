/** A field's text as the lines that are compared: runs spelled out, what the rules leave out counted. */
import { type LineField, RULES, type Rule } from './exclusions.js';

export interface NormalLine {
  /** What must be equal. */
  readonly key: string;
  /** Addresses in it, equal up to renaming. */
  readonly names: readonly string[];
  /** As it was. */
  readonly text: string;
  /** The rule by which the other side may have it in another record. */
  readonly anytime?: Rule;
}

export interface NormalLines {
  readonly lines: readonly NormalLine[];
  /** Lines by the rule that took them out or changed them. */
  readonly byRule: ReadonlyMap<Rule, number>;
}

const RUN = /^(.*\S) {3}x(\d{1,5})$/;
const RUN_MAX = 100_000;

/** Equal lines in a row are recorded as one line and a count. */
function spellOut(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const m = RUN.exec(line);
    const n = Number(m?.[2] ?? 0);
    return m === null || n < 1 || n > RUN_MAX ? [line] : new Array<string>(n).fill(m[1]!);
  });
}

/** `xen`: the command line of Xen. */
export function normalLines(
  field: LineField,
  text: readonly string[],
  boot: boolean,
  xen: string,
): NormalLines {
  const rules = RULES.filter(
    (r) =>
      r.fields.includes(field) && !(boot && r.afterBoot === true) && (r.xen === undefined || r.xen.test(xen)),
  );
  const split = text.flatMap((t) => t.split('\n'));
  const all = field === 'trace' ? spellOut(split) : split;
  const byRule = new Map<Rule, number>();
  const count = (rule: Rule, n: number): void => void byRule.set(rule, (byRule.get(rule) ?? 0) + n);
  let kept = all;
  for (const rule of rules) {
    if (rule.effect !== 'out' && rule.effect !== 'hide') continue;
    const before = kept.length;
    kept = withoutForms(kept, rule.forms);
    if (kept.length < before) count(rule, before - kept.length);
  }
  const parts = rules.filter((r) => r.effect === 'vary' || r.effect === 'rename');
  const late = rules.filter((r) => r.effect === 'anytime');
  const lines = kept.map((line) => {
    const rule = late.find((r) => r.forms.some((f) => f.test(line)));
    const normal = normalise(line, parts, count);
    return rule === undefined ? normal : { ...normal, anytime: rule };
  });
  return { lines, byRule };
}

/** With groups in it. */
const LOOKBEHIND = /\(\?<!(?:[^()]|\([^()]*\))*\)/;

/** Lines that no form matches; a form with `\n` in it takes several lines. Forms apply in their order. */
function withoutForms(lines: readonly string[], forms: readonly RegExp[]): string[] {
  let left = [...lines];
  for (const form of forms) {
    const height = form.source.replace(LOOKBEHIND, '').split('\\n').length;
    const kept: string[] = [];
    for (let i = 0; i < left.length; i++) {
      if (matchesAt(form, left, i, height)) i += height - 1;
      else kept.push(left[i]!);
    }
    left = kept;
  }
  return left;
}

/** A form with the flag `m` also sees the line before. */
function matchesAt(form: RegExp, lines: readonly string[], at: number, height: number): boolean {
  if (!form.multiline || at === 0) return form.test(lines.slice(at, at + height).join('\n'));
  const found = form.exec(lines.slice(at - 1, at + height).join('\n'));
  return found !== null && found.index === lines[at - 1]!.length + 1;
}

function normalise(line: string, rules: readonly Rule[], count: (rule: Rule, n: number) => void): NormalLine {
  let key = line;
  const names: string[] = [];
  for (const rule of rules) {
    for (const form of rule.forms) {
      const replaced = replaceGroups(key, form, rule.effect === 'rename' ? names : undefined);
      if (replaced === key) continue;
      key = replaced;
      count(rule, 1);
      break;
    }
  }
  return { key, names, text: line };
}

/** The line with each group's text replaced by a mark, but for the group `of`: the names in it are names of that. */
function replaceGroups(line: string, form: RegExp, names: string[] | undefined): string {
  const m = new RegExp(form.source, `${form.flags}d`).exec(line);
  if (m === null) return line;
  let out = '';
  let from = 0;
  const of = m.indices!.groups?.of;
  for (const span of m.indices!.slice(1)) {
    if (span === undefined || span[0] === of?.[0]) continue;
    out += `${line.slice(from, span[0])}…`;
    names?.push(line.slice(span[0], span[1]) + (of === undefined ? '' : ` of ${line.slice(...of)}`));
    from = span[1];
  }
  return out + line.slice(from);
}
