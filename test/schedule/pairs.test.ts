/**
 * Pairs of hypercalls of the kit, on two vCPUs, under every schedule. Each run does a part of them, and which part is
 * said by XPSIM_ROTATION (the number of a CI run); `xpsim explore` does all.
 */
import { expect, test } from 'vitest';
import { kitCalls, kitPairs, smallMachine, starts } from '../../src/check/calls.js';
import { explorePair } from '../../src/check/explore.js';

const PARTS = 12;
const rotation = Number(process.env.XPSIM_ROTATION ?? 0) % PARTS;

const all = (['vtd', 'amd'] as const).flatMap((vendor) =>
  Object.keys(starts).flatMap((start) => kitPairs().map(([a, z]) => ({ vendor, start, a, z }))),
);
const mine = all.filter((_, i) => i % PARTS === rotation);

test('there is a pair of each two calls, from each start, for both vendors', () => {
  const n = Object.keys(kitCalls).length;
  expect(all).toHaveLength(2 * 2 * ((n * (n + 1)) / 2));
});

test.each(mine)(
  'INV-I3 INV-L1 INV-L3 INV-L4 $vendor, $start: $a and $z under every schedule',
  ({ vendor, start, a, z }) => {
    const calls = [kitCalls[a]!, kitCalls[z]!] as const;
    const r = explorePair(
      { machine: smallMachine(vendor), before: starts[start]!, calls },
      { schedulesMax: 20_000 },
    );
    expect(r.violation).toBeUndefined();
    expect(r.schedules).toBeGreaterThan(0);
  },
);
