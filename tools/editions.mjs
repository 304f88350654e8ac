// @ts-check
/** Which source files belong to which edition, and what they read there. */
import fs from 'node:fs';
import path from 'node:path';
import { isCoOnlyText, lower, Refusal } from './erase.mjs';
import { filesBelow, ROOT } from './files.mjs';
import { withFixedFields } from './fixed_fields.mjs';

/** @typedef {import('./erase.mjs').Edition} Edition */

/** The file that differs, and what stands in for it in the synchronous edition. */
export const CO_FILE = 'src/sim/co.ts';
export const CO_SYNC_FILE = 'src/sim/co.sync.ts';

/** Source files by path, as written. @returns {Map<string, string>} */
export const readSources = (root = ROOT) =>
  new Map(filesBelow('src', '.ts', root).map((f) => [f, fs.readFileSync(path.join(root, f), 'utf8')]));

/**
 * The files of one edition by path, ready for the compiler. Throws one Refusal that lists every refused form.
 * @param {Map<string, string>} sources @param {Edition} edition @returns {Map<string, string>}
 */
export function editionOf(sources, edition) {
  const isCoOnly = (/** @type {string} */ file) => isCoOnlyText(sources.get(file) ?? '');
  /** @type {Map<string, string>} */ const out = new Map();
  /** @type {string[]} */ const refused = [];
  for (const [file, text] of sources) {
    if (file === CO_SYNC_FILE || (edition === 'sync' && isCoOnlyText(text))) continue;
    if (edition === 'sync' && file === CO_FILE) {
      out.set(file, sources.get(CO_SYNC_FILE) ?? '');
      continue;
    }
    try {
      out.set(file, withFixedFields(file, lower(file, text, edition, { isCoOnly, coldAsserts: true })));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refused.push(...error.lines);
    }
  }
  if (refused.length > 0) throw new Refusal(refused);
  return out;
}
