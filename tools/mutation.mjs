// @ts-check
/**
 * A mutation score: random one-place edits of the pass-through code, and how many of them the tests notice.
 *
 *   npm run mutation -- --sample N --seed S    N edits (40), chosen by S (1)
 *   npm run mutation -- --from I               goes on with the I-th edit of the sample
 *   npm run mutation -- --only I,J,...         of the sample only the I-th, the J-th and so on
 *   npm run mutation -- --file PATH,PATH,...   every edit of the files whose path begins so, anywhere in src; with
 *                                              --sample that many of them
 *   npm run mutation -- --quick                with the quick tests alone, without recordings and bugs of the past
 *   npm run mutation -- --within SECONDS       at most so much of tests for an edit (all that reach it)
 *   npm run mutation -- --jobs N               N at a time (2)
 *
 * All edits are compiled into one source, and each test first runs by itself without any, which says what it reaches.
 * An edit then meets the tests that reach it, the quickest first, until one fails: a test that failed with an edit and
 * fails without it too ends the run. Exit: 0, 2 on wrong usage or when a test fails without any edit.
 */
import { fork } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { filesBelow, ROOT } from './files.mjs';
import { AREAS, isAt, placesFor, sample } from './mutation_edits.mjs';
import { compiled } from './mutation_suite.mjs';

/** @typedef {import('./mutation_worker.mjs').Job} Job */
/** @typedef {import('./mutation_worker.mjs').Verdict} Verdict */
/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/** The tests that take part: all that run the source in their own process and do not search for minutes. */
const TESTS =
  /^test\/(unit|conformance|machine|golden|bugs|snapshot)\/|^test\/qtest\/(?!recorded|standin)|^test\/corpus\/(dmar|ivrs)\./;
/** Of these, the quick ones that are about the areas. */
const QUICK =
  /^test\/(conformance|machine|qtest)\/|^test\/unit\/(hv_|vtd_(?!map)|amd_|ivrs|dmar|in_flight|hypervisor)|parts|_board/;
/** An edit that makes a loop endless is killed after this time without a word. */
const SILENT_MS = 60_000;

function chosen() {
  const text = /** @type {const} */ ({ type: 'string' });
  const quick = /** @type {const} */ ({ type: 'boolean', default: false });
  const options = {
    sample: text,
    seed: text,
    jobs: text,
    from: text,
    only: text,
    file: text,
    within: text,
    quick,
  };
  const { values } = parseArgs({ options });
  const {
    sample = values.file === undefined ? '40' : undefined,
    seed = '1',
    jobs = '2',
    from = '1',
    within = '100000',
  } = values;
  for (const one of [sample ?? '1', seed, jobs, from, within])
    if (!/^[1-9]\d{0,8}$/.test(one))
      throw new Error(`--sample, --seed, --jobs, --from and --within take numbers, not '${one}'`);
  if (values.only !== undefined && !/^[1-9]\d{0,8}(,[1-9]\d{0,8})*$/.test(values.only))
    throw new Error(`--only takes numbers with commas between, not '${values.only}'`);
  return {
    n: sample === undefined ? undefined : +sample,
    seed: +seed,
    jobs: +jobs,
    from: +from,
    within: +within,
    only: values.only?.split(',').map(Number),
    files: values.file ?? AREAS,
    quick: values.quick,
  };
}

/** A process that answers one job at a time, and is started anew after it had to be stopped. */
class Lane {
  /** @type {ChildProcess | undefined} */ child;

  /** @param {Job} job @returns {Promise<any>} undefined when it fell silent */
  ask(job) {
    const worker = path.join(ROOT, 'tools/mutation_worker.mjs');
    this.child ??= fork(worker, [places], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const { child } = this;
    return new Promise((done) => {
      /** @type {NodeJS.Timeout | undefined} */ let timer;
      const stop = (/** @type {unknown} */ answer) => {
        clearTimeout(timer);
        child.removeAllListeners();
        if (answer === undefined) this.close();
        done(answer);
      };
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(stop, SILENT_MS, undefined);
      };
      wait();
      child.on('message', (answer) => (answer === 'alive' ? wait() : stop(answer)));
      child.once('exit', () => stop(undefined));
      child.send(job);
    });
  }

  close() {
    this.child?.kill('SIGKILL');
    this.child = undefined;
  }
}

/** @param {string} message @returns {never} */
function give(message) {
  console.error(`mutation: ${message}`);
  process.exit(2);
}

/** @type {ReturnType<typeof chosen>} */ let choice;
try {
  choice = chosen();
} catch (error) {
  give(error instanceof Error ? error.message : String(error));
}
const { n, seed, jobs, from, only, within, files, quick } = choice;
const places = placesFor(files);
const { edits } = compiled(places);
const ids = [...edits.keys()].filter((i) => isAt(edits[i]?.file ?? '', files));
const asked = n === undefined ? ids : sample(ids, n, seed);
const tests = filesBelow('test', '.test.ts').filter((f) => TESTS.test(f) && (!quick || QUICK.test(f)));
const lanes = Array.from({ length: jobs }, () => new Lane());

/** Works through `items`, as many at a time as there are lanes. @template T @param {readonly T[]} items @param {(item: T, lane: Lane) => Promise<void>} work */
async function each(items, work) {
  const left = [...items];
  const one = async (/** @type {Lane} */ lane) => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item, lane);
  };
  await Promise.all(lanes.map(one));
}

const counts = { killed: 0, survived: 0 };
function report() {
  const tried = counts.killed + counts.survived;
  const score = ((100 * counts.killed) / Math.max(tried, 1)).toFixed(1);
  const of = n === undefined ? files : `seed ${seed}`;
  console.log(`${counts.killed} of ${tried} killed: ${score} % (${ids.length} edits possible, ${of})`);
}
process.on('exit', () => {
  for (const lane of lanes) lane.close();
});
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => {
  report();
  process.exit(143);
});

await each(tests, async (test, lane) => {
  const failed = await lane.ask({ learn: test });
  if (!Array.isArray(failed)) give(`${test}: ${failed?.error ?? 'does not end'}`);
  if (failed.length > 0) give(`fails by itself, without any edit: ${failed[0]}`);
});
const isAsked = (/** @type {{ number: number }} */ { number }) =>
  number >= from && (only === undefined || only.includes(number));
const numbered = asked.map((id, i) => ({ id, number: i + 1 })).filter(isAsked);
await each(numbered, async ({ id, number }, lane) => {
  /** @type {(Verdict & { error?: string }) | undefined} */
  const verdict = await lane.ask({ judge: id, tests, withinMs: within * 1000 });
  if (verdict?.error !== undefined) give(verdict.error);
  const outcome = verdict === undefined || verdict.killed ? 'killed' : 'survived';
  counts[outcome] += 1;
  const e = edits[id];
  const was = e?.was.replaceAll(/\s+/g, ' ').slice(0, 60);
  const by = verdict?.by ?? (verdict === undefined ? 'it does not end' : `${verdict.tests} tests`);
  console.log(`${number}  ${outcome}  ${e?.file}:${e?.line}  ${was}  ->  ${e?.text.slice(0, 60)}  (${by})`);
});
report();
process.exit(0);
