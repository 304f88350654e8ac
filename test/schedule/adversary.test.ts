/** Devices that do their worst between the steps of Xen: what they are found at, and how it is told. */
import { describe, expect, test } from 'vitest';
import { type Call, explorePair, smallMachine } from '../../src/check/explore.js';
import type { MachineSpec } from '../../src/check/machines.js';
import type { Seams } from '../../src/hypervisor/seams.js';

const third = { op: 'create', kind: 'pv', share: false } as const;
const toPv = { op: 'assign', dev: 0, dom: 1, flags: 0 } as const;
const toHvm = { op: 'assign', dev: 0, dom: 0, flags: 0 } as const;
const keeps = { op: 'ats', dev: 0, page: 0 } as const;
const withAts: Partial<MachineSpec> = { slots: ['endpoint'], ats: true };

interface Case {
  readonly vendor: 'vtd' | 'amd';
  readonly machine?: Partial<MachineSpec>;
  readonly before: Parameters<typeof explorePair>[0]['before'];
  readonly calls: readonly Call[];
  readonly seams?: Partial<Seams>;
  readonly schedules?: number;
}
const explore = ({ vendor, machine, before, calls, seams, schedules }: Case) =>
  explorePair(
    { machine: { ...smallMachine(vendor), ...machine }, before: [third, ...before], calls },
    {
      ...(seams === undefined ? {} : { seams }),
      ...(schedules === undefined ? {} : { pct: { runs: schedules, depth: 3, seed: 1 } }),
    },
  );

describe('INV-I7 a page leaves a guest while its first device arrives', () => {
  const race: Case = {
    vendor: 'vtd',
    before: [],
    calls: [
      { op: 'assign', dev: 0, dom: 1 },
      { op: 'decrease', dom: 1 },
    ],
    schedules: 300,
  };
  test('V13: the unit is not told of the page where the guest is not yet counted among its users', () => {
    const v = explore({ ...race, seams: { vtdCountsUnitFirst: () => false } }).violation;
    expect(v?.id).toBe('INV-I7');
    expect(v?.what).toMatch(
      /requester 100 to frame [0-9a-f]+ of d2 .* left at cpu0 \(assign\) .* when cpu1 \(decrease\) .* freed the frame/,
    );
  });
  test('no request is on its way to a page that is freed, where it is counted first', () => {
    expect(explore(race).violation).toBeUndefined();
    expect(explore({ ...race, vendor: 'amd' }).violation).toBeUndefined();
  });
});

describe.each(['vtd', 'amd'] as const)('devices with ATS: %s', (vendor) => {
  const changes: Case = {
    vendor,
    machine: { ...withAts, quarantine: 'scratch-page' },
    before: [toPv, keeps],
    calls: [
      { op: 'deassign', dev: 0, dom: 1 },
      { op: 'populate', dom: 0 },
    ],
  };
  const flaw: Partial<Seams> =
    vendor === 'vtd' ? { vtdMoveFlushesDevice: () => false } : { amdMoveFlushesDevice: () => false };

  test('INV-F4 a translation that outlives its guest is used, and told with frame, owner and last steps', () => {
    const v = explore({ ...changes, seams: flaw }).violation;
    expect(v?.id).toBe('INV-F4');
    expect(v?.what).toMatch(
      /^0000:01:00.0 wrote to frame [0-9a-f]+ of d2 by a translation that it kept of bus frame [0-9a-f]+: its entry was last written by cpu0 \(deassign\)/,
    );
  });

  test('INV-F4 none does under any schedule', () => {
    const r = explore(changes);
    expect(r.violation).toBeUndefined();
    expect(r.schedules).toBeGreaterThan(1);
    const gone = [
      { op: 'destroy', dom: 1 },
      { op: 'decrease', dom: 1 },
    ] as const;
    expect(explore({ ...changes, calls: gone, schedules: 100 }).violation).toBeUndefined();
  });

  test('INV-I3 a request that says it is translated does not pass where Xen did not switch ATS on', () => {
    const { violation } = explore({
      vendor,
      before: [toHvm],
      calls: [
        { op: 'deassign', dev: 0, dom: 0 },
        { op: 'testAssign', dev: 0, dom: 1 },
      ],
    });
    expect(violation).toBeUndefined();
  });

  test('INV-I6 what is on its way has arrived before a device changes hands, or a guest is gone', () => {
    for (const op of ['deassign', 'destroy'] as const) {
      const leaves: Call = op === 'destroy' ? { op, dom: 1 } : { op, dev: 0, dom: 1 };
      const r = explore({ vendor, before: [toPv], calls: [leaves, { op: 'group', dev: 0 }] });
      expect(r.violation).toBeUndefined();
    }
  });
});

test.each(['vtd', 'amd'] as const)(
  'INV-I6 INV-I7 a page that two calls take at once is nobody else’s before either has flushed: %s',
  (vendor) => {
    const takes = ['decrease', 'exchange', 'transfer'] as const;
    for (const [i, a] of takes.entries())
      for (const z of takes.slice(i)) {
        const calls: Call[] = [a, z].map((op) => ({ op, dom: 1 }));
        const r = explore({ vendor, before: [toPv], calls });
        expect([a, z, r.violation]).toEqual([a, z, undefined]);
        expect(r.complete).toBe(true);
      }
  },
);
