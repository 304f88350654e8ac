import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as xen from '../../src/index.js';
import { restoreSnapshot, takeSnapshot } from '../../src/sim/snapshot.js';
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
