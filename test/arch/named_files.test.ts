import fs from 'node:fs';
import { expect, test } from 'vitest';
import { ROOT } from '../support/built.js';
import { filesBelow } from '../support/sources.js';

/** Paths in backquotes that begin with a folder of the repository, or with `./`. */
const NAMED = /`((?:src|test|docs|tools|examples|benchmarks|fixtures|bin)\/[\w./-]+)`/g;
/** Links to files beside the page. */
const LINKED = /\]\((?!https?:|#)([\w./-]+)(?:#[\w-]*)?\)/g;

function missing(page: string): string[] {
  const text = fs.readFileSync(`${ROOT}/${page}`, 'utf8');
  const folder = page.includes('/') ? page.slice(0, page.lastIndexOf('/') + 1) : '';
  const files = [
    ...[...text.matchAll(NAMED)].map((m) => m[1]!),
    ...[...text.matchAll(LINKED)].map((m) => folder + m[1]!),
  ];
  return files.filter((f) => !fs.existsSync(`${ROOT}/${f}`)).map((f) => `${page}: there is no ${f}`);
}

test('files that README and docs name are there', () => {
  const pages = ['README.md', 'CHANGELOG.md', ...filesBelow('docs', '.md')].filter((p) =>
    fs.existsSync(`${ROOT}/${p}`),
  );
  expect(pages.length).toBeGreaterThan(3);
  expect(pages.flatMap(missing)).toEqual([]);
});

test('the ten files to read are ten, in order, and there', () => {
  const list = fs.readFileSync(`${ROOT}/README.md`, 'utf8').matchAll(/^(\d+)\. `(src\/[\w./-]+)`/gm);
  const named = [...list].map((m) => ({ n: Number(m[1]), file: m[2]! }));
  expect(named.map((x) => x.n)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(named.filter((x) => !fs.existsSync(`${ROOT}/${x.file}`))).toEqual([]);
});
