/** Three hypercalls at once. */
import { expect, test } from 'vitest';
import { drawnSets, kitCalls, smallMachine, starts } from '../../src/check/calls.js';
import { explorePair } from '../../src/check/explore.js';
import { formatToken, parseToken } from '../../src/check/token.js';

const rotation = Number(process.env.XPSIM_ROTATION ?? 0);

const three = (vendor: 'vtd' | 'amd', start: string, names: readonly string[], o = {}) =>
  explorePair(
    { machine: smallMachine(vendor), before: starts[start]!, calls: names.map((name) => kitCalls[name]!) },
    o,
  );

test.each(['vtd', 'amd'] as const)(
  'INV-O5 %s: of three owners one gets the device, under every schedule',
  (vendor) => {
    const r = three(vendor, 'with dom0', ['assign to PV', 'assign to HVM', 'quarantine']);
    expect(r.violation).toBeUndefined();
    expect(r.complete).toBe(true);
    expect(r.schedules).toBeGreaterThan(6);
    // Quarantine before a guest is no obstacle to it; after it, -EBUSY.
    expect([...r.outcomes.keys()].sort()).toEqual(['-16/0/-16', '-16/0/0', '0/-16/-16', '0/-16/0']);
  },
);

test.each(['vtd', 'amd'] as const)(
  'INV-I6 %s: a frame that one guest loses and another gets, while its device leaves',
  (vendor) => {
    const r = three(vendor, 'with PV', ['deassign from PV', 'decrease PV', 'move HVM'], { bound: 60 });
    expect(r.violation).toBeUndefined();
    expect(r.schedules).toBeGreaterThan(60);
  },
);

const drawn = drawnSets(3, 6, rotation + 1).flatMap((names, i) => ({
  names,
  vendor: i % 2 === 0 ? ('vtd' as const) : ('amd' as const),
  start: Object.keys(starts)[(i >> 1) % 2]!,
}));
test.each(drawn)(
  'INV-I3 INV-L4 $vendor, $start: $names, as far as the bound goes',
  ({ vendor, start, names }) => {
    const r = three(vendor, start, names, { bound: 40 });
    expect(r.violation).toBeUndefined();
    expect(r.schedules).toBeGreaterThan(0);
  },
);

test.each(['vtd', 'amd'] as const)(
  'INV-I1 %s: a page of a PV guest that is taken back as soon as it is there',
  (vendor) => {
    const r = three(vendor, 'with PV', ['decrease PV', 'populate PV', 'decrease PV'], { bound: 60 });
    expect(r.violation).toBeUndefined();
  },
);

test('a bound ends a search that has more schedules, and says so', () => {
  const names = ['assign to PV', 'decrease PV', 'populate PV'];
  const r = three('vtd', 'with dom0', names, { bound: 20 });
  expect([r.complete, r.schedules + r.redundant]).toEqual([false, 40]);
  expect(three('vtd', 'with PV', names, { bound: 200 }).complete).toBe(true);
});

test('a token holds as many calls as there were', () => {
  const replay = {
    release: '4.18',
    fixed: true,
    machine: smallMachine('amd'),
    commands: starts['with PV']!,
    race: { calls: ['quarantine', 'release', 'assign to PV'], schedule: '0:3,2,1' },
  };
  expect(parseToken(formatToken(replay)).race).toEqual(replay.race);
  const alone = formatToken({ ...replay, race: { calls: ['quarantine'], schedule: '-' } });
  expect(() => parseToken(alone)).toThrow('is not a replay token');
});
