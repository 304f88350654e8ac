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
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from './files.mjs';
import { applyMutant, parseMutants, readMutants } from './mutant_rows.mjs';

/** @typedef {import('./mutant_rows.mjs').Mutant} Mutant */
/** What vitest says of one test. @typedef {{ file: string, name: string, status: string }} TestResult */
/** @typedef {{ outcome: string, killed: boolean }} Verdict */

/** A mutant that makes a loop endless is killed after this time. */
const TIMEOUT_MS = 90_000;
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'mutants-'));
/** @type {Set<import('node:child_process').ChildProcess>} */
const children = new Set();

/**
 * Runs vitest and returns what it says of each test; undefined when it had to be stopped.
 * @param {readonly string[]} args @param {Mutant} [mutant] @returns {Promise<TestResult[] | undefined>}
 */
async function vitest(args, mutant) {
  const file = path.join(temporary, `${Math.random().toString(36).slice(2)}.json`);
  const env = { ...process.env, ...(mutant ? { XPSIM_MUTANT: JSON.stringify(mutant) } : {}) };
  const all = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=json', `--outputFile=${file}`, ...args];
  const child = spawn(process.execPath, all, {
    cwd: ROOT,
    env,
    stdio: 'ignore',
    timeout: mutant ? TIMEOUT_MS : 0,
  });
  children.add(child);
  const signal = await new Promise((done) => child.on('close', (_code, by) => done(by)));
  children.delete(child);
  if (signal !== null || !fs.existsSync(file)) return undefined;
  const { testResults } = JSON.parse(fs.readFileSync(file, 'utf8'));
  fs.rmSync(file);
  return testResults.flatMap(
    (/** @type {{ name: string, assertionResults: { fullName: string, status: string }[] }} */ r) =>
      r.assertionResults.map((t) => ({
        file: path.relative(ROOT, r.name),
        name: t.fullName,
        status: t.status,
      })),
  );
}

/** The tests that a row names. @param {Mutant} row @param {readonly TestResult[]} results */
function named(row, results) {
  const title = new RegExp(row.title);
  return results.filter((r) => r.file === row.test && title.test(r.name) && r.status !== 'skipped');
}

/** The edition that a test file runs on. @param {string} test */
const projectOf = (test) => (test.startsWith('test/schedule/') ? 'co' : 'sync');

/** What every named test says of the source as it is. @param {readonly Mutant[]} rows @returns {Promise<TestResult[]>} */
async function unmodified(rows) {
  const files = [...new Set(rows.map((r) => r.test))];
  const results = [];
  for (const project of ['sync', 'co']) {
    const own = files.filter((f) => projectOf(f) === project);
    if (own.length > 0) results.push(...((await vitest(['--project', project, ...own])) ?? []));
  }
  return results;
}

/** @param {Mutant} row @param {readonly TestResult[]} before @returns {Promise<Verdict>} */
async function judge(row, before) {
  try {
    applyMutant(row, fs.readFileSync(path.join(ROOT, row.file), 'utf8'));
  } catch (error) {
    return { outcome: `does not apply: ${error instanceof Error ? error.message : error}`, killed: false };
  }
  const sound = named(row, before);
  if (sound.length === 0) return { outcome: 'no such test', killed: false };
  if (sound.some((t) => t.status !== 'passed'))
    return { outcome: 'the test fails without it', killed: false };
  const results = await vitest(
    ['--project', projectOf(row.test), '--maxWorkers=1', row.test, '-t', row.title],
    row,
  );
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

/** @param {readonly Mutant[]} rows @param {number} jobs */
async function run(rows, jobs) {
  const before = await unmodified(rows);
  const counts = { killed: 0, survived: 0 };
  const width = Math.max(0, ...rows.map((r) => r.id.length));
  let next = 0;
  const worker = async () => {
    for (let row = rows[next++]; row !== undefined; row = rows[next++]) {
      const { outcome, killed } = await judge(row, before);
      counts[killed ? 'killed' : 'survived'] += 1;
      console.log(`${row.id.padEnd(width)}  ${row.file}  ${outcome}${killed ? '' : `  (${row.where})`}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  console.log(`${counts.killed} killed, ${counts.survived} survived`);
  return counts.survived === 0 ? 0 : 1;
}

function leave() {
  for (const child of children) child.kill();
  fs.rmSync(temporary, { recursive: true, force: true });
}

process.on('exit', leave);
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
/** @type {{ rows: Mutant[], jobs: number }} */ let choice;
try {
  choice = chosen();
} catch (error) {
  console.error(`mutants: ${error instanceof Error ? error.message : error}`);
  process.exit(2);
}
process.exitCode = await run(choice.rows, choice.jobs);
