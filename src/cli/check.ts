/** `xpsim check`: random histories under all invariants, in blocks; and the merging of shards. */
import { InputError } from '../base/assert.js';
import {
  BLOCK,
  type Block,
  type BlockResult,
  blocksOf,
  mergeReports,
  type Plan,
  type Report,
  reportOf,
  shardOf,
} from '../check/blocks.js';
import { coverageLines, requireCoverage, usualCoverage } from '../check/coverage.js';
import type { Vendor } from '../check/machines.js';
import { layOutHost } from '../check/own_machine.js';
import { nameInToken, parseToken } from '../check/token.js';
import type { HostDescription } from '../inputs/host_description.js';
import { runPool } from './check_pool.js';
import { readReport } from './check_report.js';
import { forget, keepFailure, readStore } from './failure_store.js';
import { readHostPath } from './files.js';
import { replayToken } from './replay_token.js';
import { EXIT } from './run.js';

export interface CheckOptions {
  readonly vendor?: Vendor;
  readonly xen: string;
  readonly fixed?: boolean;
  readonly runs: number;
  readonly commands: number;
  readonly seed: number;
  readonly host?: string;
  readonly shard?: { readonly index: number; readonly of: number };
  /** Threads; 1: this one. */
  readonly workers: number;
  readonly json?: boolean;
  readonly timeline?: string;
  readonly require?: string;
  /** Folder of failures; false with --no-store. */
  readonly store: string | false;
}

const out = (text: string): void => void process.stdout.write(text);
const say = (text: string): void => void process.stderr.write(text);

export async function runCheck(o: CheckOptions): Promise<number> {
  const host = o.host === undefined ? undefined : readHostPath(o.host).host;
  const plan = planOf(o, host);
  const blocks = blocksOf(plan);
  const mine = o.shard === undefined ? blocks : shardOf(blocks, o.shard.index, o.shard.of);
  if (o.store !== false) {
    const known = replayStore(o.store, o, plan, host);
    if (known !== undefined) return known;
  }
  const { interrupted, results } = await runBlocks(plan, mine, host, o.workers);
  const report = reportOf(plan, host?.name, results);
  const code = finish(report, o, results.length === mine.length);
  if (!interrupted || code === EXIT.failed) return code;
  say(`xpsim: interrupted; ${report.histories} histories ran\n`);
  return EXIT.interrupted;
}

function planOf(o: CheckOptions, host: HostDescription | undefined): Plan {
  const own: Vendor | undefined = host === undefined ? undefined : host.ivrs === undefined ? 'vtd' : 'amd';
  if (host !== undefined && host.ivrs === undefined && host.dmar === undefined)
    throw new InputError(host.name, '', 'has no IOMMU', 'add its DMAR or IVRS table to the folder');
  const vendor = o.vendor ?? own;
  const plan: Plan = {
    vendors: vendor === undefined ? ['vtd', 'amd'] : [vendor],
    release: o.xen,
    fixed: o.fixed ?? false,
    runs: o.runs,
    commands: o.commands,
    seed: o.seed,
  };
  if (host === undefined) return plan;
  if (vendor !== own)
    throw new InputError(host.name, '', `is a machine of ${own}`, `leave --vendor ${vendor} out`);
  layOutHost(host, { slots: ['endpoint'], quarantine: 'basic', dom0: 'strict' } as never);
  return plan;
}

/** Stored failures of the same release, profile, vendors and machine come first: one that still fails ends the run. */
function replayStore(
  folder: string,
  o: CheckOptions,
  plan: Plan,
  own: HostDescription | undefined,
): number | undefined {
  for (const stored of readStore(folder)) {
    const { fixed, host, machine, release } = parseToken(stored.token);
    const other =
      release !== plan.release ||
      fixed !== plan.fixed ||
      (own === undefined && !plan.vendors.includes(machine.vendor)) ||
      host !== (own === undefined ? undefined : nameInToken(own.name));
    if (other) continue;
    const lines: string[] = [];
    const code = replayToken(stored.token, o, (text) => void lines.push(text));
    if (code === EXIT.ok) {
      forget(stored);
      say(`xpsim: ${stored.file} holds now, and is forgotten\n`);
      continue;
    }
    out(`${lines.join('')}replay: ${stored.token}\n`);
    say(`xpsim: ${stored.file} still fails; delete it to go on without it\n`);
    return EXIT.failed;
  }
  return undefined;
}

async function runBlocks(
  plan: Plan,
  blocks: readonly Block[],
  host: HostDescription | undefined,
  workers: number,
): Promise<{ results: BlockResult[]; interrupted: boolean }> {
  let interrupted = false;
  const stop = (): void => {
    if (interrupted) process.exit(EXIT.interrupted);
    interrupted = true;
  };
  process.on('SIGINT', stop);
  say(`xpsim: ${blocks.length} blocks of up to ${BLOCK} histories\n`);
  const progress = new Progress(blocks.length);
  try {
    const results = await runPool(
      { plan, host },
      blocks,
      workers,
      () => interrupted,
      (r) => progress.tell(r),
    );
    return { results, interrupted };
  } finally {
    progress.end();
    process.off('SIGINT', stop);
  }
}

/** A line that is written over while a run goes on; only for people who watch. */
class Progress {
  private done = 0;
  private commands = 0;
  private readonly start = Date.now();
  private readonly shown = process.stderr.isTTY === true;
  constructor(private readonly all: number) {}
  tell(r: BlockResult): void {
    this.done += 1;
    this.commands += r.commands;
    if (!this.shown) return;
    const rate = Math.round(this.commands / Math.max(0.001, (Date.now() - this.start) / 1000));
    say(`\r\x1b[K${this.done} of ${this.all} blocks, ${this.commands} commands, ${rate}/s`);
  }
  end(): void {
    if (this.shown && this.done > 0) say('\r\x1b[K');
  }
}

/** Prints a report and says how it ended. */
function finish(
  report: Report,
  o: Pick<CheckOptions, 'json' | 'require' | 'store' | 'timeline'>,
  whole: boolean,
): number {
  const missing = whole ? missingOf(report, o.require) : [];
  const [failure] = report.failures;
  if (o.json === true) out(`${JSON.stringify({ ...report, missing })}\n`);
  else printReport(report, missing);
  if (failure !== undefined && typeof o.store === 'string')
    say(`xpsim: kept in ${keepFailure(o.store, failure)}\n`);
  if (failure !== undefined && o.timeline !== undefined) replayToken(failure.token, o, () => {});
  return failure === undefined && missing.length === 0 ? EXIT.ok : EXIT.failed;
}

function missingOf(report: Report, wanted: string | undefined): string[] {
  if (wanted === undefined) return [];
  const names = wanted
    .split(',')
    .flatMap((name) =>
      name.trim() === 'usual' ? report.plan.vendors.flatMap((v) => usualCoverage[v]) : [name.trim()],
    );
  return requireCoverage(new Map(report.counts), [...new Set(names)]);
}

function printReport(r: Report, missing: readonly string[]): void {
  const { plan } = r;
  const where = r.host ?? plan.vendors.join(' and ');
  out(
    `Xen ${plan.release}${plan.fixed ? ' fixed' : ''} on ${where}, seed ${plan.seed}: ${r.histories} histories, ${r.commands} commands, ${r.failures.length === 0 ? 'no violation' : 'violated'}\n`,
  );
  for (const line of coverageLines(new Map(r.counts))) out(`${line}\n`);
  for (const f of r.failures.slice(0, 1)) out(`${f.vendor}, block ${f.block}:\n${f.report}\n`);
  for (const what of missing) out(`never reached: ${what}\n`);
}

export function runMerge(
  files: readonly string[],
  o: { readonly json?: boolean; readonly require?: string },
): number {
  const report = mergeReports(files.map(readReport));
  const due = blocksOf(report.plan).length;
  const absent = due - report.blocks.length;
  if (absent > 0 && report.failures.length === 0)
    say(`xpsim: ${absent} of ${due} blocks are in none of the files\n`);
  const code = finish(report, { ...o, store: false }, true);
  return absent > 0 ? EXIT.failed : code;
}

/** `2/4` is the second of four shards. */
export function parseShard(text: string): { index: number; of: number } | undefined {
  const m = /^(\d{1,4})\/(\d{1,4})$/.exec(text);
  if (m === null) return undefined;
  const [index, of] = [Number(m[1]), Number(m[2])];
  return index >= 1 && index <= of ? { index, of } : undefined;
}
