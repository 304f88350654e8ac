import fs from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { applyMutant, type Mutant, parseMutants, readMutants } from '../../tools/mutant_rows.mjs';
import { ROOT } from '../support/built.js';
import { filesBelow, parse } from '../support/sources.js';

const ID = /\b(?:FT-[A-Z]\d{2}|INV-[A-Z]\d+|INV-IRQ-LIFE)\b/g;

/** Ids in the texts of a test file: titles, and the tables that titles are made of. */
function idsIn(text: string): Set<string> {
  const ids = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node))
      for (const [id] of node.text.matchAll(ID)) ids.add(id);
    ts.forEachChild(node, visit);
  };
  visit(parse('test.ts', text));
  return ids;
}

/** Test files by path, with the ids they claim. This folder and the tools' tests claim none. */
function claims(): Map<string, Set<string>> {
  const files = filesBelow('test', '.test.ts').filter((f) => !/^test\/(arch|tools)\//.test(f));
  return new Map(files.map((f) => [f, idsIn(fs.readFileSync(`${ROOT}/${f}`, 'utf8'))]));
}

/** What is wrong with a row, seen without running it. */
function flaw(row: Mutant): string | undefined {
  for (const file of [row.file, row.test])
    if (!fs.existsSync(`${ROOT}/${file}`)) return `${row.where}: there is no ${file}`;
  if (!row.file.startsWith('src/')) return `${row.where}: ${row.file} is not in src`;
  try {
    new RegExp(row.title);
    const text = fs.readFileSync(`${ROOT}/${row.file}`, 'utf8');
    return applyMutant(row, text) === text ? `${row.where}: the edit changes nothing` : undefined;
  } catch (error) {
    return String(error);
  }
}

describe('a witness for every claim', () => {
  test('each id in a test title has a row, and each row a test with its id', () => {
    const claimed = claims();
    const rows = readMutants();
    const witnessed = new Set(rows.map((r) => r.id));
    const all = [...claimed].flatMap(([file, ids]) => [...ids].map((id) => ({ file, id })));
    const without = all
      .filter(({ id }) => !witnessed.has(id))
      .map(({ file, id }) => `${file}: ${id} has no row`);
    const unclaimed = rows.filter((r) => claimed.get(r.test)?.has(r.id) !== true);
    expect([...without, ...unclaimed.map((r) => `${r.where}: ${r.test} has no ${r.id}`)]).toEqual([]);
  });

  test('each row applies to the source as it is', () => {
    expect(readMutants().flatMap((row) => flaw(row) ?? [])).toEqual([]);
  });
});

describe('the rows', () => {
  const row: Mutant = {
    id: 'FT-A01',
    file: 'src/a.ts',
    find: 'a < b',
    replace: 'a > b',
    test: 'test/a.test.ts',
    title: 'FT-A01',
    where: 'x.tsv:2',
  };

  test('are read with their place', () => {
    const { where: _, ...columns } = row;
    expect(parseMutants(`# remark\n${Object.values(columns).join('\t')}\n`, 'x.tsv')).toEqual([row]);
    expect(() => parseMutants('FT-A01\tsrc/a.ts\n', 'x.tsv')).toThrow('x.tsv:1: a row has six columns');
  });

  test('apply to exactly one place', () => {
    expect(applyMutant(row, 'if (a < b) {}')).toBe('if (a > b) {}');
    expect(() => applyMutant(row, 'if (b < a) {}')).toThrow('does not contain');
    expect(() => applyMutant(row, 'a < b; a < b')).toThrow('more than once');
  });

  test('claim what stands in texts, not in comments', () => {
    const text = "// FT-A01\ntest('FT-A02 x', () => {}); test.each([{ id: 'INV-I3' }])(`FT-A04 x`, f);";
    expect([...idsIn(text)]).toEqual(['FT-A02', 'INV-I3', 'FT-A04']);
  });
});
