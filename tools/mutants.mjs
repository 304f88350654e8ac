// @ts-check
/**
 * Breaks src on purpose, one line at a time, and looks whether the named test notices: rows of test/mutants.tsv.
 *
 *   npm run mutants                          all of them
 *   npm run mutants -- --only FT-A04,INV-I3  these ids (or beginnings of ids)
 *   npm run mutants -- --tenth N             every tenth row, beginning with N modulo 10
 *   npm run mutants -- --jobs N              N at a time (2)
 *   npm run mutants -- --rows FILE           rows of this file instead
 *
 * An edit is made while the file is loaded, never on disk, so nothing has to be put back.
 * Exit: 0 when all are killed, 1 when one survives, does not apply, or its test fails without it, 2 on wrong usage.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from './files.mjs';
import { MutantPool } from './mutant_pool.mjs';
import { applyMutant, parseMutants, readMutants } from './mutant_rows.mjs';

/** @typedef {import('./mutant_rows.mjs').Mutant} Mutant */
/** @typedef {import('./mutant_worker.mjs').Job} Job */
/** @typedef {import('./mutant_worker.mjs').TestResult} TestResult */
/** @typedef {{ outcome: string, killed: boolean }} Verdict */
/** @typedef {import('./mutant_pool.mjs').Run} Run */

/** A mutant that makes a loop endless is killed after this time. */
const TIMEOUT_MS = 90_000;
/** The tests as they are take longer: whole files. */
const BEFORE_MS = 600_000;

/** The tests that a row names. @param {Mutant} row @param {readonly TestResult[]} results */
function named(row, results) {
  const title = new RegExp(row.title);
  return results.filter((r) => r.file === row.test && title.test(r.name) && /passed|failed/.test(r.status));
}

/** The edition that a test file runs on. @param {string} test @returns {'co' | 'sync'} */
const projectOf = (test) => (test.startsWith('test/schedule/') ? 'co' : 'sync');

/**
 * What every named test says of the source as it is.
 * @param {readonly Mutant[]} rows @param {MutantPool} pool @returns {Promise<TestResult[]>}
 */
async function unmodified(rows, pool) {
  /** @type {Map<string, Set<string>>} */ const titles = new Map();
  for (const row of rows) titles.set(row.test, (titles.get(row.test) ?? new Set()).add(row.title));
  /** @type {TestResult[]} */ const results = [];
  await pool.each([...titles], async ([test, wanted], run) => {
    const title = [...wanted].map((t) => `(?:${t})`).join('|');
    results.push(...((await run({ project: projectOf(test), tests: [test], title }, BEFORE_MS)) ?? []));
  });
  return results;
}

/** @param {Mutant} row @param {readonly TestResult[]} before @param {Run} run @returns {Promise<Verdict>} */
async function judge(row, before, run) {
  let text;
  try {
    text = applyMutant(row, fs.readFileSync(path.join(ROOT, row.file), 'utf8'));
  } catch (error) {
    return { outcome: `does not apply: ${error instanceof Error ? error.message : error}`, killed: false };
  }
  const sound = named(row, before);
  if (sound.length === 0) return { outcome: 'no such test', killed: false };
  if (sound.some((t) => t.status !== 'passed'))
    return { outcome: 'the test fails without it', killed: false };
  const mutant = { file: row.file, text };
  const job = { project: projectOf(row.test), tests: [row.test], title: row.title, mutant };
  const results = await run(job, TIMEOUT_MS);
  if (results === undefined) return { outcome: 'killed (hangs)', killed: true };
  const hit = named(row, results);
  if (hit.length === 0) return { outcome: 'does not load', killed: false };
  const failed = hit.filter((t) => t.status === 'failed').length;
  return failed > 0 ? { outcome: 'killed', killed: true } : { outcome: 'SURVIVED', killed: false };
}

/** @returns {{ rows: Mutant[], jobs: number }} */
function chosen() {
  const options = /** @type {const} */ ({
    only: { type: 'string' },
    tenth: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    rows: { type: 'string' },
  });
  const { values } = parseArgs({ options });
  let rows = values.rows ? parseMutants(fs.readFileSync(values.rows, 'utf8'), values.rows) : readMutants();
  const ids = values.only?.split(',');
  if (ids !== undefined) rows = rows.filter((r) => ids.some((id) => r.id.startsWith(id)));
  if (values.tenth !== undefined) {
    if (!/^\d{1,15}$/.test(values.tenth)) throw new Error(`--tenth takes a number, not '${values.tenth}'`);
    const tenth = Number(values.tenth) % 10;
    rows = rows.filter((_row, i) => i % 10 === tenth);
  }
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > 64)
    throw new Error(`--jobs takes a number, not '${values.jobs}'`);
  return { rows, jobs };
}

/** @param {readonly Mutant[]} rows @param {MutantPool} pool */
async function run(rows, pool) {
  const before = await unmodified(rows, pool);
  const counts = { killed: 0, survived: 0 };
  const width = Math.max(0, ...rows.map((r) => r.id.length));
  const byFile = [...rows].sort((a, b) => (a.test < b.test ? -1 : a.test > b.test ? 1 : 0));
  await pool.each(byFile, async (row, runJob) => {
    const { outcome, killed } = await judge(row, before, runJob);
    counts[killed ? 'killed' : 'survived'] += 1;
    console.log(`${row.id.padEnd(width)}  ${row.file}  ${outcome}${killed ? '' : `  (${row.where})`}`);
  });
  console.log(`${counts.killed} killed, ${counts.survived} survived`);
  return counts.survived === 0 ? 0 : 1;
}

/** @type {{ rows: Mutant[], jobs: number }} */
let choice;
try {
  choice = chosen();
} catch (error) {
  console.error(`mutants: ${error instanceof Error ? error.message : error}`);
  process.exit(2);
}
const pool = new MutantPool(choice.jobs);
process.on('exit', () => pool.close());
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
process.exitCode = await run(choice.rows, pool);
pool.close();
