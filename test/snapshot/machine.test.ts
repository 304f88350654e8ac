import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as xen from '../../src/index.js';
import { restoreSnapshot, takeSnapshot } from '../../src/sim/snapshot.js';
import { dump } from '../support/graph.js';
import { bootListening, go, histories } from '../support/history.js';
import { HOSTS } from '../support/hosts.js';

test.each(['intel', 'amd'] as const)('a restored machine does what it did the first time: %s', (vendor) => {
  const host = HOSTS[vendor]();
  const { machine, events } = bootListening(xen, host);
  const booted = takeSnapshot(machine, { constants: [host] });
  let said = 0;
  fc.assert(
    fc.property(histories, histories, (before, after) => {
      restoreSnapshot(booted);
      const tell = (steps: typeof after): unknown => {
        events.length = 0;
        const answers = go(xen, machine, steps);
        said += events.length;
        return { answers, events: [...events], console: machine.hypercalls.readConsole(false) };
      };
      const first = tell(before);
      const between = takeSnapshot(machine, { constants: [host] });
      const second = tell(after);
      restoreSnapshot(between);
      expect(tell(after)).toEqual(second);
      restoreSnapshot(booted);
      expect(tell(before)).toEqual(first);
    }),
    { numRuns: 60 },
  );
  expect(said).toBeGreaterThan(10_000);
});

/** As text, without what the machine was made from. */
const all = (machine: xen.Machine): string => dump({ xen: machine.xen, hw: machine.hw });

test.each(['intel', 'amd'] as const)(
  'of a restored machine every object, list and word is what it was, whichever snapshot was the last: %s',
  (vendor) => {
    const { machine } = bootListening(xen, HOSTS[vendor]());
    const booted = machine.snapshot();
    const atBoot = all(machine);
    fc.assert(
      fc.property(histories, histories, histories, (before, astray, after) => {
        restoreSnapshot(booted);
        go(xen, machine, before);
        const between = machine.snapshot();
        const then = all(machine);
        for (const back of [between, booted, booted, between, between, booted]) {
          go(xen, machine, back === between ? after : astray);
          restoreSnapshot(back);
          // Not toBe: the difference of two texts of megabytes is never done.
          expect(all(machine) === (back === between ? then : atBoot)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
  },
);
