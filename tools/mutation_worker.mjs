// @ts-check
/**
 * A process of a mutation run: first learns what each test reaches, then says of edits which test notices them. It is
 * asked and answers by messages, and says now and then that it is alive, so that an endless loop can be ended.
 */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './files.mjs';
import { BUILD, hash, Suite, TEXTS } from './mutation_suite.mjs';

/**
 * A test as it runs without an edit: by itself, from its own number; or from the first of its file on, when it needs
 * those before it. `asked`: how often for edits; `reached`: which, a bit each, base64.
 * @typedef {{ file: string, from: number, at: number, name: string, ms: number, asked: number, reached: string }} Known
 */
/** `loading`: edits that are asked for while src is evaluated. @typedef {{ cases: Known[], loading: string, failed: string[] }} Baseline */
/** `by`: the test that failed. @typedef {{ killed: boolean, by?: string, tests: number, ms: number }} Verdict */
/** @typedef {{ learn: string } | { judge: number, tests: readonly string[], withinMs: number }} Job */

const places = process.argv[2] ?? '';
const suite = new Suite(places);
/** How much longer a test may take with an edit, in questions. */
const LONGER = 100;
const QUESTIONS = 1_000_000;
const ALIVE_MS = 500;

let saidAt = 0;
function alive() {
  if (Date.now() - saidAt < ALIVE_MS) return;
  saidAt = Date.now();
  process.send?.('alive');
}

/** @param {Uint8Array} flags */
function packed(flags) {
  const bits = Buffer.alloc(Math.ceil(flags.length / 8));
  for (const [i, flag] of flags.entries()) if (flag) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7));
  return bits.toString('base64');
}
/** @param {Buffer} bits @param {number} i */
const has = (bits, i) => ((bits[i >> 3] ?? 0) & (1 << (i & 7))) !== 0;

const isShared = (/** @type {string} */ file) =>
  !file.endsWith('.test.ts') && !/^tools\/(?!mutation_|compile|edition|erase|fixed)/.test(file);
const shared = [...TEXTS].filter(([file]) => isShared(file)).map(([, text]) => text);
/** Changes when the test file, a file it may import, or a tool does. @param {string} test */
const baselineFile = (test) =>
  path.join(ROOT, BUILD, `${hash(places, ...shared, test, TEXTS.get(test) ?? '')}.json`);

/** Runs the tests of a file that are numbered so, after reading it anew. @param {string} file @param {number} from @param {number} at */
async function play(file, from, at) {
  const cases = suite.casesOf(file).slice(from, at + 1);
  for (const one of cases) await suite.run(one);
  return cases.at(-1)?.name ?? '';
}

/** @param {string} file @param {number} from @param {number} at @returns {Promise<Known | string>} */
async function measured(file, from, at) {
  const reached = new Uint8Array(suite.edits.length);
  suite.reached = reached;
  suite.asked = 0;
  const since = performance.now();
  try {
    const name = await play(file, from, at);
    const ms = performance.now() - since;
    return { file, from, at, name, ms, asked: suite.asked, reached: packed(reached) };
  } catch (error) {
    return `${file}, its test ${at + 1}: ${error instanceof Error ? error.message : error}`;
  }
}

/** Runs each test of a file by itself, as the source is. @param {string} file @returns {Promise<Baseline>} */
async function learn(file) {
  const kept = baselineFile(file);
  if (fs.existsSync(kept)) return JSON.parse(fs.readFileSync(kept, 'utf8'));
  suite.edit = -1;
  suite.askedMax = Number.POSITIVE_INFINITY;
  /** @type {Known[]} */ const cases = [];
  /** @type {string[]} */ const failed = [];
  const n = suite.casesOf(file).length;
  for (let at = 0; at < n; at++) {
    const alone = await measured(file, at, at);
    const known = typeof alone === 'string' ? await measured(file, 0, at) : alone;
    if (typeof known === 'string') failed.push(known);
    else cases.push(known);
    alive();
  }
  suite.reached = undefined;
  const baseline = { cases, loading: packed(suite.whileLoading), failed };
  fs.writeFileSync(kept, JSON.stringify(baseline));
  return baseline;
}

/** All tests, with the bits of what they reach; and what is reached while src is evaluated. */
class Tests {
  /** @type {{ known: Known, bits: Buffer }[]} */ all = [];
  /** @type {Buffer[]} */ loading = [];
  /** Tests that noticed an edit of a source file before, which will be asked first. @type {Map<string, Set<Known>>} */ good =
    new Map();

  /** @param {readonly string[]} files */
  constructor(files) {
    for (const file of files) {
      /** @type {Baseline} */ const { cases, loading } = JSON.parse(
        fs.readFileSync(baselineFile(file), 'utf8'),
      );
      this.loading.push(Buffer.from(loading, 'base64'));
      for (const known of cases) this.all.push({ known, bits: Buffer.from(known.reached, 'base64') });
    }
  }

  /** Whether the edit changes what is made when a module is evaluated. @param {number} id */
  whileLoading(id) {
    return this.loading.some((bits) => has(bits, id));
  }

  /** The tests that may notice an edit, the most promising first. @param {number} id @returns {Known[]} */
  that(id) {
    const file = suite.edits[id]?.file ?? '';
    const good = this.good.get(file);
    const cost = (/** @type {Known} */ k) => (good?.has(k) ? k.ms / 10 : k.ms);
    const some = this.all.filter(({ bits }) => has(bits, id)).map(({ known }) => known);
    if (!this.whileLoading(id)) return some.sort((a, b) => cost(a) - cost(b));
    const [first = 0, last = 0] = ends(file);
    const near = this.all.filter(({ bits }) => {
      for (let i = first; i < last; i++) if (has(bits, i)) return true;
      return false;
    });
    const nearby = new Set(near.map(({ known }) => known));
    const rest = this.all.map(({ known }) => known).filter((k) => !nearby.has(k));
    return [...nearby, ...rest].sort((a, b) => +nearby.has(b) - +nearby.has(a) || cost(a) - cost(b));
  }

  /** @param {number} id @param {Known} known */
  noticed(id, known) {
    const file = suite.edits[id]?.file ?? '';
    this.good.set(file, (this.good.get(file) ?? new Set()).add(known));
  }
}

/** The edits of a file, from and up to. @param {string} file */
function ends(file) {
  const first = suite.edits.findIndex((e) => e.file === file);
  return [first, suite.edits.findLastIndex((e) => e.file === file) + 1];
}

/** Whether a test fails with an edit in force. @param {Known} known @param {number} id */
async function fails(known, id) {
  suite.edit = id;
  suite.asked = 0;
  suite.askedMax = LONGER * known.asked + QUESTIONS;
  try {
    if ((await play(known.file, known.from, known.at)) !== known.name) return true;
    return suite.asked > suite.askedMax;
  } catch {
    return true;
  } finally {
    suite.edit = -1;
    suite.askedMax = Number.POSITIVE_INFINITY;
  }
}

/** @type {Tests | undefined} */ let tests;

/** @param {number} id @param {readonly string[]} files @param {number} withinMs of tests @returns {Promise<Verdict>} */
async function judge(id, files, withinMs) {
  tests ??= new Tests(files);
  const { modules } = suite;
  const alone = tests.whileLoading(id);
  if (alone) suite.modules = new Map();
  let [asked, ms] = [0, 0];
  try {
    for (const known of tests.that(id)) {
      if (ms > withinMs) break;
      asked += 1;
      ms += known.ms;
      alive();
      if (!(await fails(known, id))) continue;
      suite.modules = alone ? new Map() : modules;
      if (await fails(known, -1)) throw new Error(`${known.file}: '${known.name}' fails without any edit`);
      tests.noticed(id, known);
      return { killed: true, by: `${known.file}: ${known.name}`, tests: asked, ms };
    }
  } finally {
    suite.modules = modules;
  }
  return { killed: false, tests: asked, ms };
}

process.on('message', async (/** @type {Job} */ job) => {
  try {
    process.send?.(
      'learn' in job ? (await learn(job.learn)).failed : await judge(job.judge, job.tests, job.withinMs),
    );
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.message : String(error) });
  }
});
process.on('disconnect', () => process.exit());
