/** What a replay found, per field and per rule. */
import { FIELDS, type Field, type FieldResult } from './compare.js';
import { RULES, type Rule } from './exclusions.js';

export interface FieldTotal {
  /** Records whose field is equal, of those that have one. */
  recordsEqual: number;
  records: number;
  equal: number;
  compared: number;
}

/** Sums over the records of a recording. */
export class Totals {
  readonly fields = new Map<Field, FieldTotal>();
  readonly byRule = new Map<Rule, number>();

  add(results: readonly FieldResult[]): void {
    const inRecord = new Map<Field, boolean>();
    for (const r of results) {
      const total = this.of(r.field);
      total.equal += r.equal;
      total.compared += r.compared;
      if (r.compared > 0) inRecord.set(r.field, (inRecord.get(r.field) ?? true) && r.equal === r.compared);
      for (const [rule, n] of r.byRule) this.byRule.set(rule, (this.byRule.get(rule) ?? 0) + n);
    }
    for (const [field, same] of inRecord) {
      this.of(field).records += 1;
      if (same) this.of(field).recordsEqual += 1;
    }
  }

  private of(field: Field): FieldTotal {
    let total = this.fields.get(field);
    if (total === undefined) {
      total = { recordsEqual: 0, records: 0, equal: 0, compared: 0 };
      this.fields.set(field, total);
    }
    return total;
  }

  get allEqual(): boolean {
    return [...this.fields.values()].every((t) => t.equal === t.compared);
  }

  /** Lines that are of the compared kinds, hidden ones included, and how many of them are hidden. */
  get hidden(): { readonly lines: number; readonly of: number } {
    let of = 0;
    for (const t of this.fields.values()) of += t.compared;
    let lines = 0;
    for (const [rule, n] of this.byRule) if (rule.effect === 'hide') lines += n;
    return { lines, of: of + lines };
  }
}

const WIDTHS = [10, 16, 16] as const;

export function reportLines(name: string, records: number, totals: Totals): string[] {
  const row = (...cells: readonly string[]): string =>
    cells.map((c, i) => (i === 0 ? c.padEnd(WIDTHS[0]) : c.padStart(WIDTHS[i]!))).join('  ');
  const lines = [`${name}: ${records} records`, `  ${row('field', 'records', 'lines')}`];
  for (const field of FIELDS) {
    const t = totals.fields.get(field);
    if (t === undefined) continue;
    lines.push(`  ${row(field, `${t.recordsEqual}/${t.records}`, `${t.equal}/${t.compared}`)}`);
  }
  const word = {
    out: 'out of scope',
    hide: 'hidden',
    vary: 'in part',
    rename: 'up to renaming',
    anytime: 'in another record',
  } as const;
  for (const rule of RULES) {
    const n = totals.byRule.get(rule);
    if (n !== undefined) lines.push(`  ${`${n}`.padStart(8)} lines ${word[rule.effect]} by ${rule.id}`);
  }
  const { lines: hidden, of } = totals.hidden;
  const share = of === 0 ? 0 : (100 * hidden) / of;
  lines.push(`  hidden: ${hidden} of ${of} lines, ${share.toFixed(2)} %`);
  return lines;
}
