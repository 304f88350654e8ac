import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../support/built.js';
import { histories, load, play } from '../support/history.js';
import { HOSTS } from '../support/hosts.js';

describe('the two editions of the built package', () => {
  beforeAll(() => ensureBuilt(), 240_000);

  test('are what they say they are', async () => {
    expect([(await load('co')).EDITION, (await load('sync')).EDITION]).toEqual(['co', 'sync']);
  });

  test.each(['intel', 'amd'] as const)(
    'tell the same story of every history, event by event: %s',
    async (vendor) => {
      const [co, sync] = [await load('co'), await load('sync')];
      let events = 0;
      const kinds = new Set<string>();
      fc.assert(
        fc.property(histories, (steps) => {
          const told = play(co, HOSTS[vendor](), steps);
          expect(play(sync, HOSTS[vendor](), steps)).toEqual(told);
          events += told.events.length;
          for (const e of told.events) kinds.add((JSON.parse(e) as { kind: string }).kind);
        }),
        { numRuns: 100 },
      );
      // Histories that do nothing would agree as well.
      expect(events).toBeGreaterThan(10_000);
      for (const kind of ['hypercall', 'lock', 'entry', 'dma', 'fault', 'alloc', 'console'])
        expect(kinds).toContain(kind);
    },
  );
});
