// edition: co
/** Hypercalls at once that are known: of a token, and of bugs that take two vCPUs. */
import { InputError } from '../base/assert.js';
import { kitCalls } from '../check/calls.js';
import { showCommand } from '../check/commands.js';
import { type ExploreOptions, explorePair, type PairResult } from '../check/explore.js';
import type { MachineSpec } from '../check/machines.js';
import { searchRace } from '../check/race_search.js';
import { parseToken, type Replay, seamsOfBug } from '../check/token.js';
import { witnesses } from '../check/witnesses.js';
import type { Bug } from '../hypervisor/bugs/bug.js';
import { findBug } from '../hypervisor/bugs/catalogue.js';
import type { Seams } from '../hypervisor/seams.js';
import type { StampedEvent } from '../sim/events.js';
import { parseSchedule } from '../sim/schedule.js';
import { type BugOptions, machineText, SEARCH_MS, whatXenDid, wrap } from './bug.js';

type Print = (text: string) => void;

/** @throws InputError for a name that is not among `names` */
export function known(what: string, name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  throw new InputError(what, '', `${name.slice(0, 40)} is none`, `choose from: ${names.join(', ')}`);
}

const namesOf = ({ race }: Replay): string[] =>
  race!.calls.map((name) => known('token', name, Object.keys(kitCalls)));

/** The calls of a token under its schedule. */
function runRace(r: Replay, seams: Partial<Seams> | undefined, more: ExploreOptions = {}): PairResult {
  const calls = namesOf(r).map((name) => kitCalls[name]!);
  const { schedule } = r.race!;
  return explorePair(
    { machine: r.machine, before: r.commands, calls },
    {
      release: r.release,
      fixed: r.fixed,
      ...(seams === undefined ? {} : { seams }),
      ...(schedule === '-' ? {} : { schedule: parseSchedule(schedule) }),
      ...more,
    },
  );
}

/** A pair of a token again, under its schedule. 1 when it violates anything, else 0. @throws InputError */
export function replayRace(token: string, write: Print): number {
  const replay = parseToken(token);
  const { bug, commands, fixed, machine, race, release } = replay;
  const names = namesOf(replay);
  const profile = `${release}${fixed ? ' fixed' : ''}${bug === undefined ? '' : ` with ${bug}`}`;
  write(`Xen ${profile} on ${JSON.stringify(machine)}\n`);
  for (const c of commands) write(`  ${showCommand(c)}\n`);
  write(`at once: ${names.join(', ')}; schedule ${race!.schedule}\n`);
  const r = runRace(replay, seamsOfBug(bug));
  write(`answers: ${[...r.outcomes.keys()].join(' ')}\n`);
  const { violation } = r;
  write(violation === undefined ? 'holds: nothing is violated\n' : `${violation.id}: ${violation.what}\n`);
  return violation === undefined ? 0 : 1;
}

/** `bug ID` and `bug ID --find` for one that takes two vCPUs. @returns 0; 1 when nothing was found. @throws InputError */
export function runRaceBug(id: string, o: BugOptions, print: Print): number {
  const bug = findBug(id)!;
  const race = o.find === true ? find(bug, o.seed ?? 1, print) : parseToken(o.replay ?? witnesses[bug.id]!);
  if (race === undefined) return 1;
  if (race.race === undefined)
    throw new InputError('token', '', 'is of one vCPU', `${bug.id} takes two: use one that names its calls`);
  return story(bug, race, print);
}

function find(bug: Bug, seed: number, print: Print): Replay | undefined {
  const { calls, machine, vendor } = bug.environment;
  const end = Date.now() + SEARCH_MS;
  const found = searchRace({
    vendor,
    seams: bug.seams,
    bug: bug.id,
    machine: (machine ?? {}) as Partial<MachineSpec>,
    judges: bug.breaks,
    calls: calls!,
    seed,
    enough: () => Date.now() > end,
  });
  print(found === undefined ? 'not found\n' : `found after ${found.pairs} pairs\n${found.token}\n\n`);
  return found?.race;
}

/** What each vCPU does until another goes on, what went wrong, and what the fix changes. */
function story(bug: Bug, r: Replay, print: Print): number {
  print(wrap(`${bug.id}: ${bug.title}`));
  print(`${wrap(`machine: ${r.machine.vendor}, ${machineText(r.machine)}`)}\n`);
  for (const c of r.commands) print(`before: ${showCommand(c)}\n`);
  namesOf(r).forEach((name, cpu) => {
    print(`cpu${cpu}: ${name}\n`);
  });
  print('\n');
  const turns: { readonly cpu: number; at: string; readonly events: StampedEvent[] }[] = [];
  const heard: StampedEvent[] = [];
  const { outcomes, violation } = runRace(r, bug.seams, {
    sink: (e) => void heard.push(e),
    onYield: (cpu, at) => {
      const events = heard.splice(0).filter((e) => e.cpu === cpu);
      const last = turns.at(-1);
      if (last?.cpu !== cpu) turns.push({ cpu, at, events });
      else {
        last.at = at;
        last.events.push(...events);
      }
    },
  });
  for (const { at, cpu, events } of turns) {
    print(`cpu${cpu} runs until it stops at ${at}\n`);
    for (const line of whatXenDid(events)) print(wrap(line, 6));
  }
  print(`answers: ${[...outcomes.keys()].join(' ')}\n`);
  if (violation === undefined) {
    print('\nnothing is violated\n');
    return 1;
  }
  print(`\n${wrap(`${violation.id}: ${violation.what}`)}`);
  const without = explorePair(
    { machine: r.machine, before: r.commands, calls: namesOf(r).map((name) => kitCalls[name]!) },
    { release: r.release, fixed: r.fixed, interrupted: true },
  ).violation;
  print(wrap(`without the bug: ${without === undefined ? 'nothing is violated' : without.what}`));
  print(`\n${wrap(bug.mechanism)}${wrap(`fix: ${bug.fix} (${bug.source})`)}`);
  return 0;
}
