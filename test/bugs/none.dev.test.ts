import { test } from 'vitest';
import { searchBug } from '../../src/check/bug_search.js';
import { showCommand } from '../../src/check/commands.js';

for (const vendor of ['vtd', 'amd'] as const)
  for (const seed of (process.env.XPSIM_SEEDS ?? '1,2,3').split(',').map(Number))
    test(`${vendor} ${seed}`, () => {
      const f = searchBug({
        vendor,
        seams: {},
        machine: JSON.parse(process.env.XPSIM_MACHINE ?? '{}'),
        seed,
        runs: 700,
        commands: 40,
        limitMs: 15_000,
      });
      if (f === undefined) console.log(`@@ ${vendor} ${seed} clean`);
      else
        console.log(
          `@@ ${vendor} ${seed} ${f.histories}h ${f.history.commands.length}c ${f.violation.id} ${f.violation.what}\n  ${JSON.stringify(f.history.machine)}\n  ${f.history.commands.map(showCommand).join('\n  ')}`,
        );
    });
