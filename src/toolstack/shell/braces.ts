/** `a{b,c}d` and `{1..4}`: one word becomes several, before anything else is expanded. (bash, Brace Expansion) */
import type { Part, Word } from './ast.js';

const WORDS_MAX = 10_000;
/** With more the word is left as it is. */
const BRACES_MAX = 100;
/** A character that may be a brace, or a piece that is what it is. */
type Item = string | Part;

export function expandBraces(word: Word): readonly Word[] {
  if (!word.some((p) => p.kind === 'text' && !p.quoted && p.text.includes('{'))) return [word];
  const items = word.flatMap((p): Item[] => (p.kind === 'text' && !p.quoted ? [...p.text] : [p]));
  if (items.filter((i) => i === '{').length > BRACES_MAX) return [word];
  return alternatives(items, 0).map(toWord);
}

function toWord(items: readonly Item[]): Word {
  const out: Part[] = [];
  let text = '';
  for (const item of items) {
    if (typeof item === 'string') text += item;
    else {
      if (text !== '') out.push({ kind: 'text', text, quoted: false });
      text = '';
      out.push(item);
    }
  }
  if (text !== '' || out.length === 0) out.push({ kind: 'text', text, quoted: false });
  return out;
}

function alternatives(items: readonly Item[], depth: number): (readonly Item[])[] {
  for (let open = items.indexOf('{'); open >= 0; open = items.indexOf('{', open + 1)) {
    const group = groupAt(items, open);
    if (group === undefined || depth > 16) continue;
    const rest = alternatives(items.slice(group.end + 1), depth + 1);
    const head = items.slice(0, open);
    const choices = group.choices.flatMap((c) => alternatives(c, depth + 1));
    if (choices.length * rest.length > WORDS_MAX) return [items];
    return choices.flatMap((c) => rest.map((r) => [...head, ...c, ...r]));
  }
  return [items];
}

/** What stands between an opening brace and its partner; undefined where that is no list and no range. */
function groupAt(
  items: readonly Item[],
  open: number,
): { readonly end: number; readonly choices: readonly (readonly Item[])[] } | undefined {
  const choices: Item[][] = [[]];
  let depth = 0;
  for (let i = open + 1; i < items.length; i++) {
    const item = items[i]!;
    if (item === '}' && depth-- === 0) {
      if (choices.length > 1) return { end: i, choices };
      const range = rangeOf(choices[0]!);
      return range === undefined ? undefined : { end: i, choices: range };
    }
    if (item === '{') depth += 1;
    if (item === ',' && depth === 0) choices.push([]);
    else choices[choices.length - 1]!.push(item);
  }
  return undefined;
}

function rangeOf(items: readonly Item[]): string[][] | undefined {
  if (!items.every((i) => typeof i === 'string')) return undefined;
  const m = /^(?:(-?\d{1,9})\.\.(-?\d{1,9})|([a-zA-Z])\.\.([a-zA-Z]))(?:\.\.(-?\d{1,9}))?$/.exec(
    items.join(''),
  );
  if (m === null) return undefined;
  const letters = m[3] !== undefined;
  const [from, to] = letters ? [m[3]!.charCodeAt(0), m[4]!.charCodeAt(0)] : [Number(m[1]), Number(m[2])];
  const step = Math.abs(Number(m[5] ?? 1)) || 1;
  if (Math.abs(to - from) / step > WORDS_MAX) return undefined;
  const padded = [m[1], m[2]].some((n) => n !== undefined && /^-?0\d/.test(n));
  const width = padded ? Math.max(m[1]!.length, m[2]!.length) : 0;
  const out: string[][] = [];
  for (let n = from; from <= to ? n <= to : n >= to; n += from <= to ? step : -step) {
    const digits = String(Math.abs(n)).padStart(n < 0 ? width - 1 : width, '0');
    out.push(letters ? [String.fromCharCode(n)] : [...`${n < 0 ? '-' : ''}${digits}`]);
  }
  return out;
}
