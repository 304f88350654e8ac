// @ts-check
/** The files of the repository. Imports nothing that has to be installed. */
import fs from 'node:fs';
import path from 'node:path';

export const ROOT = path.resolve(import.meta.dirname, '..');

/**
 * Every file below `folder` (relative to the repository) that ends in `ending`, sorted.
 * @param {string} folder @param {string} ending
 */
export function filesBelow(folder, ending, root = ROOT) {
  const at = path.join(root, folder);
  if (!fs.existsSync(at)) return [];
  return fs
    .readdirSync(at, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => path.posix.join(folder, name.split(path.sep).join('/')))
    .sort();
}
