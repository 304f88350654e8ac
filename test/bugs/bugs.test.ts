/** Each bug of the museum shows on its stored history and not without it; some are searched for anew, by the day's seed. */
import { describe, expect, test } from 'vitest';
import { searchBug, violationOf } from '../../src/check/bug_search.js';
import type { MachineSpec } from '../../src/check/machines.js';
import { parseToken } from '../../src/check/token.js';
import { witnesses } from '../../src/check/witnesses.js';
import { runBug } from '../../src/cli/bug.js';
import { catalogue, findBug } from '../../src/hypervisor/bugs/catalogue.js';
import { openFindings } from '../../src/hypervisor/bugs/open.js';
import { waiting } from '../../src/hypervisor/bugs/waiting.js';
import { SEED } from '../support/seed.js';

const known = [...catalogue, ...openFindings];
/** Those that take two vCPUs are in test/schedule. */
const all = known.filter((b) => b.environment.calls === undefined);
const COMMANDS_MAX = 10;
const SEARCHED = 6;
const HISTORIES_MAX = 3000;

describe.each(all.map((b) => [b.id, b] as const))('%s', (id, bug) => {
  test(`${id} violates what it says on its history`, () => {
    const h = parseToken(witnesses[id]!);
    expect(h.bug).toBe(id);
    expect(h.commands.length).toBeLessThanOrEqual(COMMANDS_MAX);
    expect([...bug.breaks, 'ASSERT']).toContain(
      violationOf(h, { seams: bug.seams, judges: bug.breaks })?.violation.id,
    );
  });
  test(`${id} switched off violates nothing there`, () => {
    expect(violationOf(parseToken(witnesses[id]!), { seams: {} })).toBeUndefined();
  });
});

// XSA-222 needs a fault between two commands and takes longer than a search may here.
const searched = all.filter((b) => b.id !== 'XSA-222');
const turn = Array.from({ length: SEARCHED }, (_, i) => searched[(SEED + i * 7) % searched.length]!);
test.each([...new Set(turn)].map((b) => [b.id, b] as const))('%s is found by a search', (_id, bug) => {
  const { vendor, machine, ops } = bug.environment;
  const o = {
    vendor,
    seams: bug.seams,
    ops,
    judges: bug.breaks,
    runs: HISTORIES_MAX,
    commands: 40,
  };
  const found = searchBug({ ...o, machine: (machine ?? {}) as Partial<MachineSpec>, seed: 1 });
  expect(found?.history.commands.length).toBeLessThanOrEqual(COMMANDS_MAX);
});

test('ids are there once, and nothing that waits is there already', () => {
  const ids = [...known, ...waiting].map((b) => b.id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(Object.keys(witnesses).sort()).toEqual(known.map((b) => b.id).sort());
  expect(findBug('xsa-449')?.year).toBe(2024);
});

test.each([
  [
    'XSA-449',
    /0000:01:00\.0, owned by d1, as requester 104 read frame [0-9a-f]+ .*, a free frame: its entry \(root [0-9a-f]+, domain id 0\) leads there; its entry was last written by Xen before the first command/,
  ],
  [
    'NX-01',
    /0000:01:00\.0, owned by d\[XEN\], read frame [0-9a-f]+ .*, memory of d1: its entry \(.*domain id 1\) leads there; its entry was last written by command 1 \(assign .*, assign_device of 0000:01:00\.0\)/,
  ],
  [
    'XSA-78',
    /0000:01:01\.0, owned by d2, read frame [0-9a-f]+ .*: the IOTLB of unit 0, domain id 2, has it still, the tables do not; .* page tables by command 3 \(decrease/,
  ],
  [
    'XSA-442',
    /without the flush "pages 0", though the entry of requester 100 was replaced on unit 0: .*command 1 \(assign/,
  ],
])('%s: a violation names requester, frame, owner, the entry or cache, and the step of Xen', (id, text) => {
  const bug = findBug(id)!;
  expect(
    violationOf(parseToken(witnesses[id]!), { seams: bug.seams, judges: bug.breaks })?.violation.what,
  ).toMatch(text);
});

test('a bug is told as a story: commands, the wrong landing, and the fix', () => {
  let text = '';
  expect(runBug('XSA-449', {}, (t) => (text += t))).toBe(0);
  expect(text).toMatch(/assign dev=0 dom=0 flags=0 -> 0\n/);
  expect(text).toContain('without the bug: nothing is violated');
  expect(text).toContain('cb4ecb3cc1');
  expect(runBug('list', {}, (t) => (text += t))).toBe(0);
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(() => runBug('XSA-399', {}, () => {})).toThrow(/waits for RCU/);
  expect(() => runBug('XSA-0', {}, () => {})).toThrow(/not in the catalogue/);
});
