/**
 * A large run cut into blocks of histories, each with a seed of its own: shards take every n-th block, workers the next
 * one, and the sum is the same whoever ran which. Everything here is plain data, fit for files and messages.
 */
import fc from 'fast-check';
import { InputError } from '../base/assert.js';
import { findRelease, releaseNames } from '../hypervisor/releases/index.js';
import type { HostDescription } from '../inputs/host_description.js';
import { shorten, violationOf } from './bug_search.js';
import { addCounts } from './coverage.js';
import { arbHistory, checkHistories, failureOf, type History, type HistoryOptions } from './histories.js';

import type { Vendor } from './machines.js';

/** Histories of one block: about a second of work. */
export const BLOCK = 20;
/** Histories tried to make a failure short. */
const ATTEMPTS = 3000;

export interface Plan {
  readonly vendors: readonly Vendor[];
  readonly release: string;
  readonly fixed: boolean;
  /** Histories for each vendor. */
  readonly runs: number;
  readonly commands: number;
  readonly seed: number;
}

export interface Block {
  /** Its place among all blocks of the plan. */
  readonly index: number;
  readonly vendor: Vendor;
  readonly runs: number;
  readonly seed: number;
}

export interface BlockFailure {
  readonly block: number;
  readonly vendor: Vendor;
  readonly id: string;
  readonly report: string;
  readonly token: string;
}

export interface BlockResult {
  readonly block: number;
  readonly histories: number;
  readonly commands: number;
  readonly counts: readonly (readonly [string, number])[];
  readonly failure?: BlockFailure;
}

/** Spreads neighbouring numbers. */
function mix(n: number): number {
  let h = Math.imul(n ^ (n >>> 16), 0x45d9f3b);
  h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
  return (h ^ (h >>> 16)) & 0x7fff_ffff;
}

/** @throws InputError for a release that is not modelled */
export function blocksOf(plan: Plan): Block[] {
  if (findRelease(plan.release) === undefined)
    throw new InputError(
      'release',
      '',
      `${plan.release} is not modelled`,
      `choose one of ${releaseNames.join(', ')}`,
    );
  const blocks: Block[] = [];
  for (const vendor of plan.vendors) {
    for (let done = 0; done < plan.runs; done += BLOCK) {
      const index = blocks.length;
      blocks.push({
        index,
        vendor,
        runs: Math.min(BLOCK, plan.runs - done),
        seed: mix(plan.seed * 65_599 + index),
      });
    }
  }
  return blocks;
}

/** The blocks of shard `index` (from 1) of `of`. */
export const shardOf = (blocks: readonly Block[], index: number, of: number): Block[] =>
  blocks.filter((b) => b.index % of === index - 1);

export function runBlock(plan: Plan, block: Block, host?: HostDescription): BlockResult {
  const o: HistoryOptions = {
    vendor: block.vendor,
    release: plan.release,
    fixed: plan.fixed,
    runs: block.runs,
    commands: plan.commands,
    seed: block.seed,
    shrink: false,
    swarm: true,
    countSeams: true,
    ...(host === undefined ? {} : { host }),
  };
  const twice = differsWhenRunTwice(o);
  const { counts, histories, commandsRun, failing } = checkHistories(o);
  const base = { block: block.index, histories, commands: commandsRun, counts: [...counts] };
  const h = twice ?? failing;
  if (h === undefined) return base;
  const fails = (x: History): ReturnType<typeof violationOf> => violationOf(x, o);
  const first = fails(h);
  const short =
    first === undefined || twice !== undefined ? h : shorten(h, fails, new Set(['first']), ATTEMPTS);
  const violation =
    twice !== undefined
      ? { id: 'DETERMINISM', what: 'the same history told two different stories' }
      : (fails(short)?.violation ?? { id: 'none', what: 'the failure did not come back' });
  const { report, token } = failureOf(short, violation, o);
  return { ...base, failure: { block: block.index, vendor: block.vendor, id: violation.id, report, token } };
}

/** The first history of the block, if running it again tells another story: every answer, event and violation. */
function differsWhenRunTwice(o: HistoryOptions): History | undefined {
  const [h] = fc.sample(arbHistory(o), { numRuns: 1, seed: o.seed });
  if (h === undefined) return undefined;
  const once = storyOf(h, o);
  return storyOf(h, o) === once ? undefined : h;
}

function storyOf(h: History, o: HistoryOptions): number {
  let hash = 0x811c_9dc5;
  const tell = (text: string): void => {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193);
  };
  const onCommand = (w: { last: unknown }): void => tell(JSON.stringify((w.last as { rc?: number }).rc ?? 0));
  const v = violationOf(h, { ...o, sink: (e) => tell(JSON.stringify(e)), onCommand });
  tell(JSON.stringify(v ?? ''));
  return hash;
}

/** What some blocks of a plan came to. It is written as JSON, and shards of one plan are merged. */
export interface Report {
  readonly plan: Plan;
  /** Description of the machine, where it was not random. */
  readonly host?: string | undefined;
  readonly blocks: readonly number[];
  readonly histories: number;
  readonly commands: number;
  readonly counts: readonly (readonly [string, number])[];
  readonly failures: readonly BlockFailure[];
}

export function reportOf(plan: Plan, host: string | undefined, results: readonly BlockResult[]): Report {
  const counts = new Map<string, number>();
  for (const r of results) addCounts(counts, r.counts);
  return {
    plan,
    host,
    blocks: results.map((r) => r.block).sort((a, b) => a - b),
    histories: results.reduce((n, r) => n + r.histories, 0),
    commands: results.reduce((n, r) => n + r.commands, 0),
    counts: [...counts].sort(([a], [b]) => (a < b ? -1 : 1)),
    failures: results.flatMap((r) => r.failure ?? []).sort((a, b) => a.block - b.block),
  };
}

/** The sum of shards. @throws InputError when they are of different plans, or one block is in two of them */
export function mergeReports(reports: readonly (Report & { readonly source: string })[]): Report {
  const first = reports[0]!;
  const counts = new Map<string, number>();
  const seen = new Map<number, string>();
  for (const r of reports) {
    if (JSON.stringify([r.plan, r.host]) !== JSON.stringify([first.plan, first.host]))
      throw new InputError(
        r.source,
        '',
        `is of another run than ${first.source}`,
        'merge the shards of one run',
      );
    for (const b of r.blocks) {
      const other = seen.get(b);
      if (other !== undefined)
        throw new InputError(r.source, '', `block ${b} is in ${other} too`, 'name each shard once');
      seen.set(b, r.source);
    }
    addCounts(counts, r.counts);
  }
  const failures = reports.flatMap((r) => r.failures).sort((a, b) => a.block - b.block);
  return {
    plan: first.plan,
    host: first.host,
    blocks: [...seen.keys()].sort((a, b) => a - b),
    histories: reports.reduce((n, r) => n + r.histories, 0),
    commands: reports.reduce((n, r) => n + r.commands, 0),
    counts: [...counts].sort(([a], [b]) => (a < b ? -1 : 1)),
    failures,
  };
}
