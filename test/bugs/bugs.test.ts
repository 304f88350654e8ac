import { expect, test } from 'vitest';
import { searchBug } from '../../src/check/bug_search.js';
import { showCommand } from '../../src/check/commands.js';
import type { MachineSpec } from '../../src/check/machines.js';
import { catalogue } from '../../src/hypervisor/bugs/catalogue.js';

const wanted = process.env.XPSIM_BUGS;
const chosen = catalogue.filter((b) => wanted === undefined || wanted.split(',').includes(b.id));
test.each(chosen.map((b) => [b.id, b] as const))('%s', (_id, bug) => {
  const t = performance.now();
  const f = searchBug({
    vendor: bug.environment.vendor,
    seams: bug.seams,
    machine: bug.environment.machine as Partial<MachineSpec>,
    ops: bug.environment.ops,
    bug: bug.id,
    seed: Number(process.env.XPSIM_SEED ?? 1),
    runs: 2000,
    commands: 40,
    limitMs: 10_000,
  });
  const s = ((performance.now() - t) / 1000).toFixed(1);
  if (f === undefined) console.log(`@@ ${bug.id} NOT FOUND ${s}`);
  else
    console.log(
      `@@ ${bug.id} ${s}s ${f.histories}h ${f.history.commands.length}c ${f.violation.id} ${f.violation.what}\n  ${JSON.stringify(f.history.machine)}\n  ${f.history.commands.map(showCommand).join('\n  ')}`,
    );
  expect(f).toBeDefined();
});
