/** `xpsim bug`: the museum of bugs, each with the shortest history on which it shows. */
import { InputError } from '../base/assert.js';
import { formatSbdf } from '../base/sbdf.js';
import { searchBug, violationOf } from '../check/bug_search.js';
import { showCommand } from '../check/commands.js';
import type { History } from '../check/histories.js';
import type { MachineSpec } from '../check/machines.js';
import { parseToken } from '../check/token.js';
import { witnesses } from '../check/witnesses.js';
import { World } from '../check/world.js';
import type { Bug } from '../hypervisor/bugs/bug.js';
import { catalogue, findBug } from '../hypervisor/bugs/catalogue.js';
import { openFindings } from '../hypervisor/bugs/open.js';
import { waiting } from '../hypervisor/bugs/waiting.js';
import type { StampedEvent } from '../sim/events.js';

export interface BugOptions {
  readonly find?: boolean;
  readonly replay?: string;
  readonly explain?: boolean;
  readonly seed?: number;
}
type Print = (text: string) => void;

export const SEARCH_MS = 30_000;

/** It shows between two vCPUs only, and `o` asks for that: `runRaceBug` tells it. */
export const takesTwoVcpus = (id: string, o: BugOptions): boolean =>
  o.explain !== true && findBug(id)?.environment.calls !== undefined;

/** Runs `bug list` or `bug ID`. @returns 0; 1 when nothing was found. @throws InputError for an id nobody knows */
export function runBug(id: string, o: BugOptions, print: Print): number {
  if (id === 'list') return list(print);
  const bug = findBug(id);
  if (bug === undefined) {
    const why = waiting.find((w) => w.id.toLowerCase() === id.toLowerCase());
    if (why !== undefined)
      throw new InputError('bug', '', `${why.id} waits for ${why.waitsFor}`, 'see `bug list`');
    throw new InputError('bug', '', `${id.slice(0, 24)} is not in the catalogue`, 'see `bug list`');
  }
  if (o.explain === true) return explain(bug, print);
  const history =
    o.find === true ? find(bug, o.seed ?? 1, print) : ofOneVcpu(bug, o.replay ?? witnesses[bug.id]!);
  return history === undefined ? 1 : story(bug, history, print);
}

function ofOneVcpu(bug: Bug, token: string): History {
  const replay = parseToken(token);
  if (replay.race === undefined) return replay;
  throw new InputError('token', '', 'is of hypercalls at once', `${bug.id} takes one vCPU: use xpsim replay`);
}

function list(print: Print): number {
  const row = (b: Bug): void =>
    print(`${b.id.padEnd(9)} ${b.year}  ${b.environment.vendor}  ${wrap(b.title, 21).trimStart()}`);
  catalogue.forEach(row);
  print('\nOpen findings (SECURITY.md):\n');
  openFindings.forEach(row);
  print('\nWaiting:\n');
  for (const w of waiting) print(`${w.id.padEnd(9)} ${w.waitsFor}\n`);
  return 0;
}

function explain(bug: Bug, print: Print): number {
  print(wrap(`${bug.id} (${bug.year}): ${bug.title}`));
  print(wrap(`releases: ${bug.releases}`));
  print(wrap(`source: ${bug.source}`));
  print(wrap(`shown by: ${bug.breaks.join(', ')}`));
  print(`\n${wrap(bug.mechanism)}\n${wrap(`fix: ${bug.fix}`)}`);
  return 0;
}

const COLUMNS = 100;

/** Text in lines of 100 columns, each after `indent` blanks, and a newline. */
export function wrap(text: string, indent = 0): string {
  const blank = ' '.repeat(indent);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > COLUMNS) {
      lines.push(blank + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return `${[...lines, blank + line].join('\n')}\n`;
}

function find(bug: Bug, seed: number, print: Print): History | undefined {
  const { vendor, machine, ops } = bug.environment;
  const found = searchBug({
    vendor,
    seams: bug.seams,
    machine: (machine ?? {}) as Partial<MachineSpec>,
    ops,
    judges: bug.breaks,
    bug: bug.id,
    seed,
    runs: 5000,
    commands: 40,
    limitMs: SEARCH_MS,
  });
  print(found === undefined ? 'not found\n' : `found after ${found.histories} histories\n${found.token}\n\n`);
  return found?.history;
}

/** The slots of a machine and what is not plain about it. */
export function machineText(m: MachineSpec): string {
  const flags = Object.entries(m)
    .filter(([key, value]) => value === true || (key === 'reserved' && value !== -1))
    .map(([key, value]) => (value === true ? key : `${key}=${value}`));
  return [m.slots.join(' '), `quarantine=${m.quarantine}`, `dom0=${m.dom0}`, ...flags].join(', ');
}

const LINES_MAX = 8;

/** Entries of devices as they changed, and who was asked to flush; a few lines. */
export function whatXenDid(events: readonly StampedEvent[]): string[] {
  const lines: string[] = [];
  let pages = 0;
  for (const e of events) {
    if (e.kind !== 'entry' || e.table === 'root' || e.table === 'irte') continue;
    if (e.table === 'pte') pages += 1;
    else lines.push(`${e.table} of ${formatSbdf(e.id)}: ${words(e.before)} -> ${words(e.after)}`);
  }
  const more = lines.length - LINES_MAX;
  if (more > 0) lines.splice(LINES_MAX, more, `and ${more} more entries of devices`);
  if (pages > 0) lines.push(`${pages} page-table entries written`);
  const flushes = events.filter((e) => e.kind === 'descriptor').length;
  if (flushes > 0) lines.push(`${flushes} descriptors queued to the units`);
  return lines;
}

/** The words of an entry as 64-bit values, highest first. */
function words(entry: readonly number[]): string {
  const quads: string[] = [];
  for (let i = 0; i + 1 < Math.min(entry.length, 4); i += 2) {
    const [lo, hi] = [entry[i]! >>> 0, entry[i + 1]! >>> 0];
    quads.unshift(hi === 0 ? lo.toString(16) : hi.toString(16) + lo.toString(16).padStart(8, '0'));
  }
  return quads.join('_');
}

/** Commands, what Xen said and wrote, what went wrong, and what the fix changed. */
function story(bug: Bug, h: History, print: Print): number {
  const failed = violationOf(h, { seams: bug.seams, judges: bug.breaks });
  print(wrap(`${bug.id}: ${bug.title}`));
  print(`${wrap(`machine: ${h.machine.vendor}, ${machineText(h.machine)}`)}\n`);
  const world = new World(h.machine, { fixed: true, seams: bug.seams });
  const last = failed === undefined ? h.commands.length - 1 : failed.at;
  let begun = '';
  try {
    h.commands.slice(0, last + 1).forEach((c, i) => {
      begun = `${String(i + 1).padStart(2)}. ${showCommand(c)}`;
      world.apply(c);
      const { rc, events } = world.last!;
      print(`${begun}${rc === undefined ? '' : ` -> ${rc}`}\n`);
      for (const e of events) if (e.kind === 'console') print(wrap(e.text, 6));
      for (const line of whatXenDid(events)) print(wrap(line, 6));
    });
  } catch (e) {
    print(`${begun}\n${wrap(e instanceof Error ? e.message : String(e), 6)}`);
  }
  if (failed === undefined) {
    print('\nnothing is violated\n');
    return 1;
  }
  print(`\n${wrap(`${failed.violation.id}: ${failed.violation.what}`)}`);
  const without = violationOf(h, { seams: {} });
  print(wrap(`without the bug: ${without === undefined ? 'nothing is violated' : without.violation.what}`));
  print(`\n${wrap(bug.mechanism)}${wrap(`fix: ${bug.fix} (${bug.source})`)}`);
  return 0;
}
