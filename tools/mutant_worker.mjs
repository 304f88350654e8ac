// @ts-check
/**
 * One warm vitest, in a process of its own so that an endless loop can be ended from outside. Each message is a job;
 * the answer is what the tests said.
 */
import path from 'node:path';
import { createVitest } from 'vitest/node';
import { ROOT } from './files.mjs';

/**
 * @typedef {object} Job
 * @property {'sync' | 'co'} project edition
 * @property {readonly string[]} tests test files, run together
 * @property {string} [title] regular expression of the titles to run; all when not given
 * @property {{ file: string, text: string }} [mutant] a source file as it shall read
 */
/** `unloaded`, without a name: a test file that could not be read. @typedef {{ file: string, name: string, status: string }} TestResult */

/** @type {import('vitest/node').Vitest | undefined} */ let vitest;
/** The file that reads otherwise than on disk, since the last job. @type {string | undefined} */ let changed;

async function start() {
  vitest = await createVitest('test', {
    watch: false,
    maxWorkers: 1,
    fileParallelism: false,
    silent: true,
    reporters: [{}],
  });
  return vitest;
}

/** @param {Job} job @returns {Promise<TestResult[]>} */
async function run(job) {
  const v = vitest ?? (await start());
  if (changed !== undefined) v.invalidateFile(path.join(ROOT, changed));
  changed = job.mutant?.file;
  if (changed !== undefined) v.invalidateFile(path.join(ROOT, changed));
  if (job.mutant === undefined) delete process.env.XPSIM_MUTANT;
  else process.env.XPSIM_MUTANT = JSON.stringify(job.mutant);
  if (job.title === undefined) v.resetGlobalTestNamePattern();
  else v.setGlobalTestNamePattern(new RegExp(job.title));
  const project = v.getProjectByName(job.project);
  /** @type {TestResult[]} */ const results = [];
  const specs = job.tests.map((file) => project.createSpecification(path.join(ROOT, file)));
  const { testModules } = await v.runTestSpecifications(specs, true);
  for (const module of testModules) {
    const at = specs.findIndex((spec) => spec.moduleId === module.moduleId);
    const file = job.tests[at];
    if (file === undefined || module.project !== project) continue;
    if (module.errors().length > 0) results.push({ file, name: '', status: 'unloaded' });
    for (const t of module.children.allTests())
      results.push({ file, name: t.fullName.replaceAll(' > ', ' '), status: t.result().state });
  }
  return results;
}

process.on('message', async (/** @type {Job} */ job) => {
  process.send?.(await run(job));
});
process.on('disconnect', () => process.exit());
