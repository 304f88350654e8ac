/**
 * `npm run bench [-- --json] [--only REGEX] [--rounds N] [--quick]`
 *
 * Each row runs in a process of its own, so that rows do not disturb one another's compiled code, and there takes turns
 * with its floor in C (benchmarks/floor/). Times are CPU time of all threads; a row is the median of its rounds, and
 * ratios are ratios of medians. Every row checks its own result. XPSIM_DIST names another build to measure.
 */
import '../bin/v8_flags.js';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildFloor, measure } from './harness.mjs';
import { rows } from './rows.mjs';
import { printHead, printRow } from './table.mjs';

const ROUNDS = 25;
const QUICK_ROUNDS = 3;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        only: { type: 'string', default: '' },
        rounds: { type: 'string' },
        /** A fraction of the work, for a quick look that everything runs and answers rightly. */
        quick: { type: 'boolean', default: false },
        /** What a process that measures one row is told by the one that started it. */
        row: { type: 'string' },
        floor: { type: 'string' },
      },
    });
    const rounds = Number(values.rounds ?? (values.quick ? QUICK_ROUNDS : ROUNDS));
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) throw new Error('--rounds takes 1 to 1000');
    return { ...values, rounds, only: new RegExp(values.only, 'i') };
  } catch (error) {
    console.error(`bench: ${error.message}`);
    console.error('usage: npm run bench -- [--json] [--only REGEX] [--rounds N] [--quick]');
    return process.exit(2);
  }
}

/** Both sides run on one processor, where that can be said: what else shares a core with it, both see. */
const PINNED = ['taskset', '-c', '0'];
const canPin = () => spawnSync(PINNED[0], [...PINNED.slice(1), 'true']).status === 0;

/** Runs one row in a process of its own; undefined when it failed. */
function inOwnProcess(row, o, floor, pin) {
  const args = [fileURLToPath(import.meta.url), '--row', row.name, '--rounds', String(o.rounds)];
  if (o.quick) args.push('--quick');
  if (floor !== undefined) args.push('--floor', floor.dir);
  const [program, ...rest] = [...pin, process.execPath, ...args];
  const { status, stdout } = spawnSync(program, rest, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return status === 0 ? JSON.parse(stdout) : undefined;
}

function runAll(o) {
  const chosen = rows.filter((r) => o.only.test(r.name));
  if (chosen.length === 0) {
    console.error(`bench: no row matches; there are ${rows.map((r) => `'${r.name}'`).join(', ')}`);
    return 2;
  }
  const floor = buildFloor();
  const pin = canPin() ? PINNED : [];
  let failed = 0;
  try {
    if (!o.json) printHead(floor !== undefined, o);
    for (const row of chosen) {
      const results = inOwnProcess(row, o, floor, pin);
      if (results === undefined) failed += 1;
      for (const result of results ?? []) {
        if (o.json) console.log(JSON.stringify(result));
        else printRow(result);
      }
    }
  } finally {
    floor?.remove();
  }
  if (failed > 0) console.error(`bench: ${failed} rows failed`);
  return failed > 0 ? 1 : 0;
}

const o = options();
if (o.row === undefined) process.exitCode = runAll(o);
else {
  const row = rows.find((r) => r.name === o.row);
  const results = await measure(row, o.floor, { rounds: o.rounds, quick: o.quick });
  console.log(JSON.stringify(results));
}
