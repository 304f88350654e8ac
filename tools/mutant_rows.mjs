// @ts-check
/** The rows of test/mutants.tsv: one-line edits of src, each with the test that must notice it. */
import fs from 'node:fs';
import path from 'node:path';
import { filesBelow, ROOT } from './files.mjs';

/**
 * @typedef {object} Mutant
 * @property {string} id feature row or invariant that the edit breaks
 * @property {string} file source file
 * @property {string} find part of one line, which occurs once in the file
 * @property {string} replace what stands there instead
 * @property {string} test test file
 * @property {string} title regular expression of the titles that must then fail
 * @property {string} where file and line of the row
 */

/** @returns {Mutant[]} rows of test/mutants.tsv, then of test/mutants/*.tsv */
export function readMutants(root = ROOT) {
  const files = [...(fs.existsSync(path.join(root, 'test/mutants.tsv')) ? ['test/mutants.tsv'] : [])];
  files.push(...filesBelow('test/mutants', '.tsv', root));
  return files.flatMap((f) => parseMutants(fs.readFileSync(path.join(root, f), 'utf8'), f));
}

/** @param {string} text @param {string} name @returns {Mutant[]} */
export function parseMutants(text, name) {
  /** @type {Mutant[]} */ const rows = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const [id, file, find, replace, test, title, ...rest] = line.split('\t');
    const where = `${name}:${i + 1}`;
    if (!id || !file || !find || replace === undefined || !test || !title || rest.length > 0)
      throw new Error(`${where}: a row has six columns separated by tabs`);
    rows.push({ id, file, find, replace, test, title, where });
  }
  return rows;
}

/** @param {Mutant} mutant @param {string} text of its source file */
export function applyMutant(mutant, text) {
  const at = text.indexOf(mutant.find);
  if (at < 0) throw new Error(`${mutant.where}: ${mutant.file} does not contain: ${mutant.find}`);
  if (text.indexOf(mutant.find, at + 1) >= 0)
    throw new Error(`${mutant.where}: ${mutant.file} contains more than once: ${mutant.find}`);
  return text.slice(0, at) + mutant.replace + text.slice(at + mutant.find.length);
}
