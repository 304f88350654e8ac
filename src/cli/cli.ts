/** The command xpsim. Exit codes: 0, 1 the script failed, 2 usage, 3 unreadable input, 70 a bug of ours, 130 Ctrl-C. */
import os from 'node:os';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { HostCrash } from '../base/assert.js';
import { parseToken } from '../check/token.js';
import { releaseNames } from '../hypervisor/releases/index.js';
import { type BugOptions, runBug, takesTwoVcpus } from './bug.js';
import { type CheckOptions, parseShard, runCheck, runMerge } from './check.js';
import { type FuzzOptions, fuzzQemu } from './fuzz_qemu.js';
import { Interrupted, Interrupts } from './interrupts.js';
import { type ReplayOptions, runReplay } from './replay.js';
import { isToken, replayToken, type TokenOptions } from './replay_token.js';
import { EXIT, interactive, type RunOptions, runScript } from './run.js';

const common = (command: Command): Command =>
  command
    .option(
      '--host <path>',
      'folder of a host (lspci.txt, DMAR or IVRS, e820, host.json), or a dump of lspci alone',
    )
    .addOption(new Option('--xen <release>', 'release of Xen').choices([...releaseNames]).default('4.18'))
    .option('--fixed', 'repair what that release is known to get wrong')
    .option('--cmdline <text>', "Xen's command line, in place of the host's own")
    .option('--json', 'print one JSON record a command, in the form of the recordings')
    .option('--events <file>', 'write every event as a line of JSON')
    .option('--console <file>', 'write the console lines of Xen, dom0, QEMU and guests as lines of JSON');

function program(done: (code: number) => void): Command {
  const xpsim = new Command('xpsim')
    .description('A whole Xen host with PCI passthrough, simulated in one process')
    .exitOverride()
    .showHelpAfterError('(xpsim --help shows how)');
  common(xpsim.command('run').argument('<script>', 'commands as they are typed at the prompt of dom0'))
    .description('boot a host and run a script on it')
    .action(async (script: string, o: RunOptions) => done(await runScript(script, o)));
  common(xpsim.command('shell'))
    .description('boot a host and type')
    .action(async (o: RunOptions) => done(await interactive(o)));
  xpsim
    .command('replay')
    .argument('<what>', 'token of a failure (xp1.…), or folder of a recording: ops.json and qemu-cmdline.txt')
    .description('run a failure again, or the commands of a recording on its board, and say what is equal')
    .option('--host <path>', 'token: description of the machine that it is of')
    .option('--timeline <file>', 'token: write the run as Chrome trace JSON')
    .option('--topology <file>', 'functions of the board; default: topology.json in the folder or beside it')
    .option('--json', 'print our own records, in the form of the recording')
    .option('--diff', 'print each difference')
    .action(async (what: string, o: ReplayOptions & TokenOptions) => {
      const write = (t: string): void => void process.stdout.write(t);
      if (!isToken(what)) done(untilInterrupted(() => runReplay(what, o, write)));
      else if (parseToken(what).race === undefined) done(replayToken(what, o, write));
      else done((await loadExplorer()).replayRace(what, write));
    });
  checkCommand(xpsim, done);
  exploreCommand(xpsim, done);
  bugCommand(xpsim, done);
  fuzzCommand(xpsim, done);
  return xpsim;
}

function bugCommand(xpsim: Command, done: (code: number) => void): void {
  xpsim
    .command('bug')
    .argument('<id>', 'list, or an id such as XSA-449')
    .description('the museum of bugs: the shortest history on which one shows, as a story')
    .option('--find', 'search for a history instead of telling the one that is known')
    .option('--replay <token>', 'tell this history')
    .option('--explain', 'tell mechanism and fix only')
    .option('--seed <n>', 'seed of the search', countOf, 1)
    .action(async (id: string, o: BugOptions) => {
      const tell = takesTwoVcpus(id, o) ? (await loadExplorer()).runRaceBug : runBug;
      done(untilInterrupted(() => tell(id, o, (t) => void process.stdout.write(t))));
    });
}

function checkCommand(xpsim: Command, done: (code: number) => void): void {
  const check = xpsim
    .command('check')
    .description('random histories on random machines, or on your own, under all invariants of isolation')
    .addOption(new Option('--vendor <name>', 'vtd or amd; default: both').choices(['vtd', 'amd']))
    .addOption(new Option('--xen <release>', 'release of Xen').choices([...releaseNames]).default('4.18'))
    .option('--fixed', 'repair what that release is known to get wrong')
    .option('--host <path>', 'your own machine: folder of a host, or a dump of lspci alone')
    .option('--runs <n>', 'histories for each vendor', countOf, 300)
    .option('--commands <n>', 'commands of each', countOf, 60)
    .option('--seed <n>', 'seed', countOf, 1)
    .option(
      '--workers <n>',
      'threads; the answer does not depend on them',
      workersOf,
      os.availableParallelism(),
    )
    .option('--shard <i/n>', 'run the i-th of n parts', shardArgument)
    .option('--require <names>', 'what must have been reached, with commas between; usual: a good run')
    .option('--store <dir>', 'folder of failures, which are replayed first', '.xpsim/failures')
    .option('--no-store', 'keep no failures')
    .option('--timeline <file>', 'write the failing history as Chrome trace JSON')
    .option('--json', 'print the report as JSON, for xpsim check merge')
    .action(async (o: CheckOptions) => done(await runCheck(o)));
  check
    .command('merge')
    .argument('<files...>', 'reports of the shards of one run')
    .description('add up shards, and fail as the whole run would have failed')
    .option('--require <names>', 'what must have been reached')
    .option('--json', 'print the sum as JSON')
    .action((files: string[], _o: unknown, c: Command) => done(runMerge(files, c.optsWithGlobals())));
}

interface Explorer {
  explorePairs(o: object, write: (text: string) => void): number;
  replayRace(token: string, write: (text: string) => void): number;
  runRaceBug(id: string, o: BugOptions, print: (text: string) => void): number;
}

/** Schedules need the edition of generators, which lies beside this one. */
const loadExplorer = (): Promise<Explorer> =>
  import(new URL('../../co/cli/explore.js', import.meta.url).href) as Promise<Explorer>;

function exploreCommand(xpsim: Command, done: (code: number) => void): void {
  xpsim
    .command('explore')
    .description('hypercalls on two or more vCPUs, under every schedule that can make a difference')
    .addOption(new Option('--vendor <name>', 'vtd or amd; default: both').choices(['vtd', 'amd']))
    .addOption(new Option('--xen <release>', 'release of Xen').choices([...releaseNames]).default('4.18'))
    .option('--fixed', 'repair what that release is known to get wrong')
    .option('--pair <a,b>', 'this pair alone, such as "assign to PV,destroy PV"; up to four names')
    .addOption(
      new Option('--vcpus <n>', 'of three or four, sets of calls are drawn')
        .choices(['2', '3', '4'])
        .default('2'),
    )
    .option('--sets <n>', 'how many sets', countOf, 20)
    .option('--seed <n>', 'seed of the sets', countOf, 1)
    .option('--bound <n>', 'schedules of each, then as many by chance; 500 for three vCPUs and more', countOf)
    .option('--start <name>', 'where the device is at first: "with dom0" or "with PV"; default: both')
    .option('--shard <i/n>', 'every n-th pair, from the i-th on', shardArgument)
    .option('--schedule <s>', 'this schedule alone, as a violation printed it')
    .option('--json', 'one record a pair')
    .action(async (o: object) => {
      const { explorePairs } = await loadExplorer();
      done(untilInterrupted(() => explorePairs(o, (text) => void process.stdout.write(text))));
    });
}

/** What it has printed so far stands: every line is whole. */
function untilInterrupted(work: () => number): number {
  const interrupts = new Interrupts();
  try {
    return interrupts.during(work);
  } catch (e) {
    if (!(e instanceof Interrupted)) throw e;
    line('interrupted');
    return EXIT.interrupted;
  } finally {
    interrupts.stop();
  }
}

const noShard = (): InvalidArgumentError => new InvalidArgumentError('2/4 is the second of four parts');

function shardArgument(text: string): { index: number; of: number } {
  const shard = parseShard(text);
  if (shard === undefined) throw noShard();
  return shard;
}

function fuzzCommand(xpsim: Command, done: (code: number) => void): void {
  xpsim
    .command('fuzz-qemu')
    .description(
      'play random programs on a real QEMU and on the simulated remapping unit, and compare every reply',
    )
    .option('--programs <n>', 'how many', countOf, 100)
    .option('--seed <n>', 'seed of the first one', countOf, 1)
    .option('--ops <n>', 'steps of each', countOf, 200)
    .option('--qemu <path>', 'QEMU to compare with', 'qemu-system-x86_64')
    .addOption(new Option('--accel <name>', "QEMU's accelerator").choices(['tcg', 'qtest']).default('tcg'))
    .option('--as-qemu <quirks>', 'auto by the version of QEMU, on, 10.0, off, or names joined by +', 'auto')
    .option('--unit <properties>', 'of intel-iommu, as aw-bits=39,caching-mode=on', '')
    .option('--record <file>', "write programs and QEMU's answers instead of comparing")
    .action(async (o: FuzzOptions) => done(await fuzzQemu(o)));
}

const noCount = (): InvalidArgumentError => new InvalidArgumentError('a number of up to 9 digits is wanted');

const noThreads = (): InvalidArgumentError => new InvalidArgumentError('1 to 256 threads are possible');

/** A count or a seed. */
function countOf(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw noCount();
  return Number(text);
}

function workersOf(text: string): number {
  const n = countOf(text);
  if (n < 1 || n > 256) throw noThreads();
  return n;
}

const line = (text: string): void => void process.stderr.write(`xpsim: ${text.split('\n', 1)[0]}\n`);

function exitCodeOf(e: unknown): number {
  if (e instanceof CommanderError) return e.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (e instanceof Error && e.name === 'InputError') {
    line(e.message);
    return EXIT.input;
  }
  if (e instanceof HostCrash) {
    line(`Xen crashed: ${e.message}`);
    return EXIT.failed;
  }
  line(
    `this is a bug of xpsim: ${e instanceof Error ? e.message : String(e)}; please report it with the script and host`,
  );
  if (process.env.XPSIM_DEBUG !== undefined && e instanceof Error) process.stderr.write(`${e.stack}\n`);
  return EXIT.bug;
}

export async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.ok;
  try {
    await program((c) => {
      code = c;
    }).parseAsync([...argv]);
  } catch (e) {
    code = exitCodeOf(e);
  }
  return code;
}
