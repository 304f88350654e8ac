import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { ROOT } from '../support/built.js';

test('docs/conformance.md lists the clauses that the tests of the silicon show, each with its sections', () => {
  const args = ['tools/conformance.mjs', '--check'];
  const run = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  expect([run.stderr, run.status]).toEqual(['', 0]);
}, 60_000);
