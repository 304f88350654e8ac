// @ts-check
/**
 * Builds the package: dist/co (generators, for schedules) and dist/sync (erased), JavaScript and declarations.
 *
 *   node tools/build.mjs            builds what is out of date; what `npm ci` runs
 *   node tools/build.mjs --check    builds all, and type-checks both editions as they are shipped
 *
 * Exit: 0, or 1 with one line per refused form or type error.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { filesBelow, ROOT } from './files.mjs';

/** @typedef {import('./erase.mjs').Edition} Edition */

const DIST = path.join(ROOT, 'dist');
const STAMP = path.join(DIST, '.stamp');

/** A digest of everything the result depends on. */
function digestOfInputs() {
  const hash = createHash('sha256');
  const files = [
    ...filesBelow('src', '.ts'),
    ...filesBelow('tools', '.mjs'),
    'package-lock.json',
    'tsconfig.json',
  ];
  for (const file of files) {
    const full = path.join(ROOT, file);
    if (!fs.existsSync(full)) continue;
    hash.update(`${file}\0`).update(fs.readFileSync(full)).update('\0');
  }
  return hash.digest('hex');
}

const isFresh = (/** @type {string} */ digest) => {
  try {
    return fs.readFileSync(STAMP, 'utf8') === digest;
  } catch {
    return false;
  }
};

async function main() {
  const check = process.argv.includes('--check');
  const digest = digestOfInputs();
  if (!check && isFresh(digest)) return;
  if (!fs.existsSync(path.join(ROOT, 'node_modules/typescript'))) {
    console.warn('build: typescript is not installed, so dist is left as it is; `npm ci` installs it');
    return;
  }
  const { buildEditions } = await import('./compile.mjs');
  const errors = await buildEditions(DIST, check);
  if (errors.length > 0) {
    for (const line of errors) console.error(line);
    console.error(`build: ${errors.length} errors`);
    process.exitCode = 1;
    return;
  }
  fs.writeFileSync(STAMP, digest);
}

await main();
