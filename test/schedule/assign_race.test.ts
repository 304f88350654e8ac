import { describe, expect, test } from 'vitest';
import { type Call, explorePair, type Pair, smallMachine } from '../../src/check/explore.js';

const third = { op: 'create', kind: 'pv', share: false } as const;
const given = { op: 'assign', dev: 0, dom: 0, flags: 0 } as const;

const race = (vendor: 'vtd' | 'amd', before: Pair['before'], a: Call, b: Call) =>
  explorePair({ machine: smallMachine(vendor), before: [third, ...before], calls: [a, b] });

describe.each(['vtd', 'amd'] as const)('INV-I3 INV-O5 INV-L4 INV-L7 under every schedule: %s', (vendor) => {
  test('of two assignments of one device exactly one wins', () => {
    const r = race(vendor, [], { op: 'assign', dev: 0, dom: 0 }, { op: 'assign', dev: 0, dom: 1 });
    expect(r.violation).toBeUndefined();
    expect(r.schedules).toBeGreaterThan(1);
    expect([...r.outcomes.keys()].sort()).toEqual(['-16/0', '0/-16']);
  });

  test('an assignment meets the end of its domain: it loses, or its device leaves with it', () => {
    const r = race(vendor, [], { op: 'assign', dev: 0, dom: 0 }, { op: 'destroy', dom: 0 });
    expect(r.violation).toBeUndefined();
    expect([...r.outcomes.keys()].sort()).toEqual(['-22/0', '-3/0', '0/0']);
  });

  test('an assignment and a deassignment of one device come one after the other', () => {
    const r = race(vendor, [given], { op: 'assign', dev: 0, dom: 1 }, { op: 'deassign', dev: 0, dom: 0 });
    expect(r.violation).toBeUndefined();
    expect([...r.outcomes.keys()].sort()).toEqual(['-16/0', '0/0']);
  });

  test('a device that is assigned while dom0 removes it is gone, and reaches nothing', () => {
    const r = race(vendor, [], { op: 'assign', dev: 0, dom: 0 }, { op: 'remove', dev: 0 });
    expect(r.violation).toBeUndefined();
    expect([...r.outcomes.keys()].sort()).toEqual(['-19/0', '0/0']);
  });

  test('the set-up of devices at boot meets their coming and going: a device without owner gets one', () => {
    const orphan = [
      { op: 'remove', dev: 0 },
      { op: 'fail', site: 'vendorOp', nth: 1 },
      { op: 'add', dev: 0 },
    ] as const;
    for (const other of ['add', 'remove', 'quarantine'] as const) {
      const pair = {
        machine: smallMachine(vendor),
        before: [third, ...orphan],
        calls: [{ op: 'hwdomSetup' }, { op: other, dev: 0 }] as [Call, Call],
      };
      const r = explorePair(pair, { pct: { runs: 100, depth: 3, seed: 1 } });
      expect(r.violation).toBeUndefined();
      expect(r.schedules).toBeGreaterThan(1);
    }
  });

  test('memory comes and goes while a device is assigned', () => {
    for (const op of ['populate', 'decrease'] as const) {
      const calls: [Call, Call] = [
        { op: 'assign', dev: 0, dom: 1 },
        { op, dom: 1 },
      ];
      const pair = { machine: smallMachine(vendor), before: [third], calls };
      const r = explorePair(pair, { pct: { runs: 150, depth: 3, seed: 1 } });
      expect(r.violation).toBeUndefined();
      expect(r.schedules).toBe(150);
    }
  });
});
