// @ts-check
/**
 * Puts the modules of one edition together: an entry of the package is one file, what several share is another. V8
 * takes a constant or a function of the same file for what it is, where one of another module costs a load and a check
 * at each use; and a command that reads some files starts faster than one that reads hundreds.
 */
import path from 'node:path';
import { rolldown } from 'rolldown';
import { withConstants } from './constants.mjs';

/** @typedef {import('./erase.mjs').Edition} Edition */

/** What the package exports, its commands start, or loads by name: modules of the edition, without `.js`. */
const ENTRIES = {
  sync: ['index', 'check/index', 'cli/main', 'cli/qtest_main', 'cli/check_worker'],
  co: ['index', 'check/index', 'check/explore', 'cli/explore'],
};

/** Folders of what drives a machine. The machine itself is one file. */
const TOOLS = /^(?:check|cli|qtest)\b/;

/**
 * @param {ReadonlyMap<string, string>} modules text by absolute path, as compiled to `outDir`
 * @param {string} outDir @param {Edition} edition
 * @returns {Promise<Map<string, string>>} text by absolute path
 */
export async function bundle(modules, outDir, edition) {
  const build = await rolldown({
    input: Object.fromEntries(ENTRIES[edition].map((name) => [name, path.join(outDir, `${name}.js`)])),
    platform: 'node',
    // Everything that is not ours is a package or part of Node.
    external: (id) => !id.startsWith('.') && !path.isAbsolute(id),
    plugins: [
      {
        name: 'compiled-modules',
        resolveId: (id, importer) => (importer === undefined ? id : importedBy(importer, id)),
        load: (id) => modules.get(id),
      },
    ],
  });
  const { output } = await build.generate({
    format: 'esm',
    chunkFileNames: 'shared/[name].js',
    codeSplitting: { groups: [{ name: 'machine', test: (id) => !TOOLS.test(path.relative(outDir, id)) }] },
  });
  await build.close();
  return new Map(
    output.flatMap((o) =>
      o.type === 'chunk' ? [[path.join(outDir, o.fileName), withConstants(o.code)]] : [],
    ),
  );
}

/** @param {string} importer @param {string} id */
const importedBy = (importer, id) =>
  id.startsWith('.') ? path.resolve(path.dirname(importer), id) : { id, external: true };
