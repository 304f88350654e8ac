// @ts-check
/** Vite plugin: loads src (and tests that declare Co functions) in one edition; XPSIM_MUTANT puts another text in a file's place. */
import fs from 'node:fs';
import path from 'node:path';
import { CO_FILE, CO_SYNC_FILE } from './editions.mjs';
import { isCoOnlyText, lower } from './erase.mjs';
import { ROOT } from './files.mjs';
import { withFixedFields } from './fixed_fields.mjs';

/** @typedef {import('./erase.mjs').Edition} Edition */

/** @param {string} id a module id of vite @returns {string | undefined} its path in the repository */
function repositoryPath(id) {
  const file = path
    .relative(ROOT, id.split('?')[0] ?? id)
    .split(path.sep)
    .join('/');
  return /^(src|test|benchmarks)\/.*\.ts$/.test(file) ? file : undefined;
}

const isCoOnly = (/** @type {string} */ file) => {
  const full = path.join(ROOT, file);
  return fs.existsSync(full) && isCoOnlyText(fs.readFileSync(full, 'utf8'));
};

/** What stands in the place of a file while tests look for a mutant, which changes from run to run. @param {string} file */
function mutated(file) {
  if (!process.env.XPSIM_MUTANT) return undefined;
  const mutant = JSON.parse(process.env.XPSIM_MUTANT);
  return mutant.file === file ? mutant.text : undefined;
}

/** @param {Edition} edition @returns {import('vite').Plugin} */
export function edition(edition) {
  return {
    name: `edition-${edition}`,
    enforce: 'pre',
    async resolveId(source, importer, options) {
      if (edition !== 'sync' || !/(^|\/)co\.(js|ts)$/.test(source)) return null;
      const found = await this.resolve(source, importer, { ...options, skipSelf: true });
      return found?.id === path.join(ROOT, CO_FILE) ? path.join(ROOT, CO_SYNC_FILE) : found;
    },
    transform(code, id) {
      const file = repositoryPath(id);
      if (file === undefined) return null;
      const text = mutated(file) ?? code;
      if (file === CO_SYNC_FILE || file === CO_FILE) return { code: text, map: null };
      if (!file.startsWith('src/') && !/\bCo<|^\s*using\s/m.test(text)) return null;
      if (edition === 'sync' && isCoOnlyText(text))
        throw new Error(`${file} is in the edition co only: test it under test/schedule`);
      return { code: withFixedFields(file, lower(file, text, edition, { isCoOnly })), map: null };
    },
  };
}
