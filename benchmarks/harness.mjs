/**
 * Paired measurement: the C floor and the simulator take turns in one run, each timed by its own CPU time, and a row
 * is the ratio of their medians. Absolute nanoseconds drift with the machine; the ratios do not.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const FLOOR = fileURLToPath(new URL('./floor/', import.meta.url));
const PROGRAMS = ['translate', 'assign', 'pagetable'];
/** How much less work `--quick` does. */
const QUICK = 50;
/** CPU time for which each variant runs before it is measured. */
const WARM_NS = 1e9;
/** CPU time of the floor in a round, about what the simulator takes: whatever else the machine does, both see of it. */
const FLOOR_NS = 60e6;

/**
 * @typedef {object} Variant one thing that is measured; a row has one, or several that are compared with the first
 * @property {(n: number) => number} run does n operations and returns a checksum
 * @property {(checksum: number, floorChecksum: number | undefined, n: number) => void} check throws when it was wrong
 * @property {() => number} [operations] how many the last run did, where that is not n
 * @property {() => number} [took] CPU nanoseconds of the last run that count, where that is not all of it
 *
 * @typedef {object} Row
 * @property {string} name
 * @property {number} operations how often the simulator runs in one round
 * @property {[program: string, row: string]} [floor] the C twin
 * @property {number} [floorParts] operations of this row that are one of the floor's
 * @property {readonly string[]} [sizes] names of the variants of a row that scales, the smallest first
 * @property {boolean} [long] seconds a round: three rounds will do, and no floor for a quick look
 * @property {(lib: object) => Variant | Variant[] | Promise<Variant>} prepare
 */

const median = (xs) => [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)];

/** Builds the C programs; undefined where there is no compiler. */
export function buildFloor() {
  const cc = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);
  if (cc === undefined) return undefined;
  const dir = mkdtempSync(join(tmpdir(), 'xpsim-floor-'));
  for (const p of PROGRAMS) execFileSync(cc, ['-O2', '-o', join(dir, p), join(FLOOR, `${p}.c`)]);
  if (spawnSync('spin', ['-V']).status === 0) buildSpin(cc, dir);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** The checker that Spin generates, without its reductions. */
function buildSpin(cc, dir) {
  execFileSync('spin', ['-a', '-o1', '-o2', '-o3', join(FLOOR, 'protocol.pml')], {
    cwd: dir,
    stdio: 'ignore',
  });
  const options = ['-O2', '-w', '-DSAFETY', '-DNOREDUCE', `-I${dir}`];
  execFileSync(cc, [...options, '-o', join(dir, 'spin'), join(FLOOR, 'spin.c')]);
}

/** One run of a floor row: nanoseconds per operation and its checksum. */
function runFloorOnce(dir, [program, row], operations) {
  const out = execFileSync(join(dir, program), [row, String(operations)], { encoding: 'utf8' });
  const [, ns, checksum] = out.trim().split('\t');
  return { ns: Number(ns), checksum: Number(checksum) };
}

/** Runs of `operations` each, for `leastNs` of CPU time: their mean, and the checksum of one. */
function runFloor(dir, floor, operations, leastNs) {
  let total = 0;
  let runs = 0;
  let last;
  do {
    last = runFloorOnce(dir, floor, operations);
    total += last.ns;
    runs += 1;
  } while (last.ns > 0 && total * operations < leastNs);
  return { ns: total / runs, checksum: last.checksum };
}

/** CPU nanoseconds of this process so far, all threads. */
export function cpuNs() {
  const u = process.cpuUsage();
  return (u.user + u.system) * 1000;
}

/** The package as it is shipped: the synchronous edition, or one entry of it. */
export const load = (entry = 'index.js') =>
  import(
    process.env.XPSIM_DIST === undefined
      ? new URL(`../dist/sync/${entry}`, import.meta.url).href
      : pathToFileURL(join(process.env.XPSIM_DIST, entry)).href
  );

const hasFloor = (row, dir) =>
  dir !== undefined && row.floor !== undefined && existsSync(join(dir, row.floor[0]));

/** Runs until everything is compiled, however little a round does. */
function warmUp(variant, n, long) {
  const start = cpuNs();
  let runs = 0;
  do {
    variant.check(variant.run(n), undefined, n);
    runs += 1;
  } while (!long && (runs < 3 || cpuNs() - start < WARM_NS));
}

/** @param {Row} row @param {string | undefined} floorDir @returns {Promise<object[]>} one result a variant */
export async function measure(row, floorDir, { rounds: asked, quick }) {
  const n = Math.max(1, Math.ceil(row.operations / (quick ? QUICK : 1)));
  const variants = [await row.prepare(await load())].flat();
  for (const v of variants) warmUp(v, n, row.long ?? false);
  const rounds = row.long ? Math.min(3, asked) : asked;
  const withFloor = hasFloor(row, floorDir) && !(row.long && quick);
  const theirs = [];
  const ours = variants.map(() => []);
  for (let i = 0; i < rounds; i++) {
    const floor = withFloor ? runFloor(floorDir, row.floor, n, FLOOR_NS / (quick ? QUICK : 1)) : undefined;
    if (floor !== undefined) theirs.push(floor.ns / (row.floorParts ?? 1));
    for (let v = 0; v < variants.length; v++) {
      const start = cpuNs();
      const checksum = variants[v].run(n);
      const all = cpuNs() - start;
      const took = variants[v].took?.() ?? all;
      ours[v].push(took / (variants[v].operations?.() ?? n));
      variants[v].check(checksum, floor?.checksum, n);
    }
  }
  const medians = ours.map(median);
  const floorNs = withFloor ? median(theirs) : null;
  if (row.sizes === undefined) {
    return [
      {
        name: row.name,
        ns: medians[0],
        floor_ns: floorNs,
        ratio: floorNs === null ? null : medians[0] / floorNs,
      },
    ];
  }
  return medians.map((ns, v) => ({
    name: `${row.name.replace(/ by \w+$/, '')}, ${row.sizes[v]}`,
    ns,
    floor_ns: floorNs,
    ratio: ns / medians[0],
    base: `to ${row.sizes[0]}`,
  }));
}
