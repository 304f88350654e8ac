/** `xpsim bug`: the museum of bugs, each with the shortest history on which it shows. */
import { InputError } from '../base/assert.js';
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

export interface BugOptions {
  readonly find?: boolean;
  readonly replay?: string;
  readonly explain?: boolean;
  readonly seed?: number;
}
type Print = (text: string) => void;

const SEARCH_MS = 30_000;

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
    o.find === true ? find(bug, o.seed ?? 1, print) : parseToken(o.replay ?? witnesses[bug.id]!);
  return history === undefined ? 1 : story(bug, history, print);
}

function list(print: Print): number {
  const row = (b: Bug): void => print(`${b.id.padEnd(9)} ${b.year}  ${b.environment.vendor}  ${b.title}\n`);
  catalogue.forEach(row);
  print('\nOpen findings (SECURITY.md):\n');
  openFindings.forEach(row);
  print('\nWaiting:\n');
  for (const w of waiting) print(`${w.id.padEnd(9)} ${w.waitsFor}\n`);
  return 0;
}

function explain(bug: Bug, print: Print): number {
  print(`${bug.id} (${bug.year}): ${bug.title}\n`);
  print(`releases: ${bug.releases}\nsource: ${bug.source}\n\n${bug.mechanism}\n\nfix: ${bug.fix}\n`);
  return 0;
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

/** Commands, what Xen said and wrote, what went wrong, and what the fix changed. */
function story(bug: Bug, h: History, print: Print): number {
  const failed = violationOf(h, { seams: bug.seams, judges: bug.breaks });
  print(`${bug.id}: ${bug.title}\nmachine: ${h.machine.slots.join(', ')} (${h.machine.vendor})\n\n`);
  const world = new World(h.machine, { fixed: true, seams: bug.seams });
  const last = failed === undefined ? h.commands.length - 1 : failed.at;
  try {
    h.commands.slice(0, last + 1).forEach((c, i) => {
      world.apply(c);
      const { rc, events } = world.last!;
      print(`${String(i + 1).padStart(2)}. ${showCommand(c)}${rc === undefined ? '' : ` -> ${rc}`}\n`);
      for (const e of events) if (e.kind === 'console') print(`      ${e.text}\n`);
      const entries = events.filter(
        (e) => e.kind === 'entry' && (e.table === 'context' || e.table === 'dte'),
      );
      if (entries.length > 0) print(`      Xen wrote ${entries.length} entries\n`);
    });
  } catch (e) {
    print(`      ${e instanceof Error ? e.message : String(e)}\n`);
  }
  if (failed === undefined) {
    print('\nnothing is violated\n');
    return 1;
  }
  print(`\n${failed.violation.id}: ${failed.violation.what}\n`);
  const without = violationOf(h, { seams: {} });
  print(`without the bug: ${without === undefined ? 'nothing is violated' : without.violation.what}\n`);
  print(`\n${bug.mechanism}\nfix: ${bug.fix} (${bug.source})\n`);
  return 0;
}
