/** Bugs that take two vCPUs: each shows on its stored schedule and not without it, and is found by a search. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { arbFault } from '../../src/check/commands.js';
import { arbSchedule, explorePair, kitCalls, smallMachine, starts } from '../../src/check/explore.js';
import type { MachineSpec } from '../../src/check/machines.js';
import { searchRace } from '../../src/check/race_search.js';
import { parseToken } from '../../src/check/token.js';
import { witnesses } from '../../src/check/witnesses.js';
import { replayRace, runRaceBug } from '../../src/cli/race.js';
import { catalogue } from '../../src/hypervisor/bugs/catalogue.js';
import { openFindings } from '../../src/hypervisor/bugs/open.js';
import { SEED } from '../support/seed.js';

const COMMANDS_MAX = 10;
const racing = [...catalogue, ...openFindings].filter((b) => b.environment.calls !== undefined);

const said = (run: (print: (text: string) => void) => number): { code: number; text: string } => {
  let text = '';
  const code = run((t) => (text += t));
  return { code, text };
};

describe.each(racing.map((b) => [b.id, b] as const))('%s', (id, bug) => {
  const token = witnesses[id]!;
  test(`${id} violates what it says under its schedule`, () => {
    const { code, text } = said((print) => replayRace(token, print));
    expect(code).toBe(1);
    expect(text).toContain(`with ${id} on`);
    expect(bug.breaks.some((invariant) => text.includes(`\n${invariant}: `))).toBe(true);
  });
  test(`${id} is told as a story of two vCPUs, and violates nothing without the bug`, () => {
    const { code, text } = said((print) => runRaceBug(id, {}, print));
    expect(code).toBe(0);
    expect(text).toMatch(/\ncpu0 runs until it stops at .*\n(?: .*\n)*cpu1 runs until/);
    expect(text).toContain('without the bug: nothing is violated');
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  });
  test(`${id} is found by a search, with at most ${COMMANDS_MAX} commands and calls`, () => {
    const { calls, machine, vendor } = bug.environment;
    const found = searchRace({
      vendor,
      seams: bug.seams,
      bug: id,
      machine: (machine ?? {}) as Partial<MachineSpec>,
      judges: bug.breaks,
      calls: calls!,
      seed: SEED + 1,
    });
    expect(found?.race.commands.length).toBeLessThanOrEqual(COMMANDS_MAX - found!.race.race!.calls.length);
    expect(parseToken(found!.token)).toEqual(found!.race);
  });
});

test('V13 takes two vCPUs', () => {
  expect(racing.map((b) => b.id)).toContain('V13');
  expect(() => runRaceBug('V13', { replay: witnesses['XSA-449']! }, () => {})).toThrow(/is of one vCPU/);
});

test('schedules can be drawn: one that shows V13 is found, and shrinks to one interruption', () => {
  const pair = {
    machine: smallMachine('vtd'),
    before: starts['with dom0']!,
    calls: [kitCalls['assign to PV']!, kitCalls['decrease PV']!],
  };
  const holds = (seams: object) => (picks: readonly number[]) =>
    explorePair(pair, { picks, seams }).violation === undefined;
  const drawn = (seams: object) => fc.check(fc.property(arbSchedule, holds(seams)), { numRuns: 60, seed: 1 });
  const flawed = drawn({ vtdCountsUnitFirst: () => false });
  expect(flawed.failed).toBe(true);
  const picks = flawed.counterexample![0];
  expect(picks.filter((who, i) => i > 0 && who !== picks[i - 1]).length).toBeLessThanOrEqual(2);
  expect(drawn({}).failed).toBe(false);
});

test('faults can be drawn', () => {
  const sites = new Set(fc.sample(arbFault, { numRuns: 100, seed: 1 }).map((c) => c.op));
  expect([...sites].sort()).toEqual(['fail', 'failFlush', 'failTwo']);
});
