/**
 * Paired measurement: the C floor and the simulator take turns in one run, each timed by its own CPU time, and a row
 * is the ratio of their medians. Absolute nanoseconds drift with the machine; the ratios do not.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FLOOR = fileURLToPath(new URL('./floor/', import.meta.url));
const PROGRAMS = ['translate', 'assign', 'pagetable'];

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {[program: string, row: string, operations: number]} [floor] the C twin, and how often it runs
 * @property {number} operations how often the simulator runs in one round
 * @property {() => (n: number) => number} prepare builds the machine; the result does n operations and returns a checksum
 * @property {number} [expect] the checksum that `operations` must give; else the floor's own, or none
 * @property {(checksum: number, floorChecksum: number | undefined) => void} check throws when what ran was wrong
 */

const median = (xs) => [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)];

/** Builds the C programs; undefined where there is no compiler. */
export function buildFloor() {
  const cc = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);
  if (cc === undefined) return undefined;
  const dir = mkdtempSync(join(tmpdir(), 'xpsim-floor-'));
  for (const p of PROGRAMS) execFileSync(cc, ['-O2', '-o', join(dir, p), join(FLOOR, `${p}.c`)]);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** One run of a floor row: nanoseconds per operation and its checksum. */
function runFloor(dir, [program, row, operations]) {
  const out = execFileSync(join(dir, program), [row, String(operations)], { encoding: 'utf8' });
  const [, ns, checksum] = out.trim().split('\t');
  return { ns: Number(ns), checksum: Number(checksum) };
}

/** CPU nanoseconds of this process so far, all threads. */
function cpuNs() {
  const u = process.cpuUsage();
  return (u.user + u.system) * 1000;
}

/** @param {Row} row */
export function measure(row, floor, rounds) {
  const run = row.prepare();
  run(Math.max(1, Math.ceil(row.operations / 2))); // let the compiler see it
  run(Math.max(1, Math.ceil(row.operations / 2)));
  const ours = [];
  const theirs = [];
  for (let i = 0; i < rounds; i++) {
    let checked;
    if (floor !== undefined && row.floor !== undefined) {
      checked = runFloor(floor.dir, row.floor);
      theirs.push(checked.ns);
    }
    const start = cpuNs();
    const checksum = run(row.operations);
    ours.push((cpuNs() - start) / row.operations);
    row.check(checksum, checked?.checksum);
  }
  const ns = median(ours);
  const floorNs = theirs.length === 0 ? null : median(theirs);
  return { name: row.name, ns, floor_ns: floorNs, ratio: floorNs === null ? null : ns / floorNs };
}
