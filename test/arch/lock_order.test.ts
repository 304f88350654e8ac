import fs from 'node:fs';
import { expect, test } from 'vitest';
import { RANK } from '../../src/sim/lock_ranks.js';
import { ROOT } from '../support/built.js';

/** Remarks beside the ranks in the source, by name. */
function remarks(): Map<string, string> {
  const text = fs.readFileSync(`${ROOT}/src/sim/lock_ranks.ts`, 'utf8');
  return new Map([...text.matchAll(/^ {2}(\w+): \d+, *\/\/ *(.*)$/gm)].map((m) => [m[1]!, m[2]!]));
}

test('docs/lock_order.md says what src/sim/lock_ranks.ts says', async () => {
  const remarkOf = remarks();
  const rows = Object.entries(RANK).sort(([, a], [, b]) => a - b);
  const page = [
    '# Lock order',
    '',
    'A CPU takes locks in rising rank, outermost first; `hold` asserts it. `pcidevs` may be taken again by the CPU',
    'that has it. This page is printed from `src/sim/lock_ranks.ts` by `npx vitest run test/arch/lock_order.test.ts --update`.',
    '',
    '| rank | lock | remark |',
    '|---|---|---|',
    ...rows.map(([name, rank]) => `| ${rank} | ${name} | ${remarkOf.get(name) ?? ''} |`),
    '',
  ].join('\n');
  await expect(page).toMatchFileSnapshot('../../docs/lock_order.md');
});

test('no two locks have the same rank', () => {
  const ranks = Object.values(RANK) as number[];
  expect(new Set(ranks).size).toBe(ranks.length);
});
