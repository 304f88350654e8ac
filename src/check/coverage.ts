/** What runs have come by: commands with their answers, moves of devices, decisions of Xen; and what a run must have. */
import { errnoName } from '../base/errno.js';
import { findRelease, seamsOf } from '../hypervisor/releases/index.js';
import { correct, type Seams } from '../hypervisor/seams.js';
import { commandOps } from './commands.js';
import type { Vendor } from './machines.js';
import type { WorldOptions } from './world_state.js';

/** How often what was reached: `assign -16`, `roll-back`, `move dom0 -> quarantine`, `seam quarantinesLeaving`. */
export type Counts = ReadonlyMap<string, number>;

export function addCounts(to: Map<string, number>, from: Iterable<readonly [string, number]>): void {
  for (const [what, n] of from) to.set(what, (to.get(what) ?? 0) + n);
}

/** Those of `wanted` that were never reached. An empty list is what a run must end with. */
export const requireCoverage = (counts: Counts, wanted: readonly string[]): string[] =>
  wanted.filter((what) => (counts.get(what) ?? 0) === 0);

/** The decisions of a world, each counted under `seam NAME`. */
export function countedSeams(o: WorldOptions, counts: Map<string, number>): Seams {
  const release = findRelease(o.release ?? '4.18');
  const seams = release === undefined ? correct : seamsOf(release, o.fixed ?? true);
  return countSeams({ ...seams, ...o.seams }, (what) => counts.set(what, (counts.get(what) ?? 0) + 1));
}

/** Each decision counts how often it was asked for. */
function countSeams(seams: Seams, count: (what: string) => void): Seams {
  const counted: Record<string, unknown> = {};
  for (const [name, seam] of Object.entries(seams)) {
    if (typeof seam !== 'function') {
      counted[name] = seam;
      continue;
    }
    const what = `seam ${name}`;
    counted[name] = (...args: unknown[]): unknown => {
      count(what);
      return (seam as (...a: unknown[]) => unknown)(...args);
    };
  }
  return Object.freeze(counted) as unknown as Seams;
}

const assign = [0, -3, -5, -9, -16, -18, -19, -22, -84, -95].map((rc) => `assign ${rc}`);
const deassign = [0, -3, -5, -19, -22, -95].map((rc) => `deassign ${rc}`);
const moves = ['dom0 -> guest', 'guest -> quarantine', 'dom0 -> quarantine', 'quarantine -> dom0'];
const usual = [
  ...assign,
  ...deassign,
  ...moves.map((m) => `move ${m}`),
  'quarantine -12',
  'roll-back',
  'double failure',
  'failed on the primary',
  'dma by alias',
  'dma by phantom',
  'dma lands',
  'dma fault',
];

/** What 300 histories of 60 commands come by on any seed: each errno, roll-backs, double failures, every kind of DMA. */
export const usualCoverage: Readonly<Record<Vendor, readonly string[]>> = {
  vtd: [...usual, 'bridge -1'],
  amd: usual,
};

/** Commands with how often they were answered what, then everything else, one line each. */
export function coverageLines(counts: Counts): string[] {
  const answers = new Map<string, string[]>();
  const rest: string[] = [];
  const ops: ReadonlySet<string> = new Set(commandOps);
  for (const [what, n] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const m = /^(\w+) (-?\d+)$/.exec(what);
    if (m === null || !ops.has(m[1]!)) rest.push(`  ${what}: ${n}`);
    else answers.set(m[1]!, [...(answers.get(m[1]!) ?? []), `${answerName(Number(m[2]))} ${n}`]);
  }
  return [...[...answers].map(([op, list]) => `  ${op.padEnd(12)} ${list.join(', ')}`), ...rest];
}
const answerName = (rc: number): string => (rc >= 0 ? 'ok' : errnoName(rc).slice(1));
