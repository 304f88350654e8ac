import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../support/built.js';

function mutants(rows: readonly string[][], ...args: string[]): { status: number | null; out: string } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'rows-'));
  try {
    const file = path.join(folder, 'rows.tsv');
    fs.writeFileSync(file, rows.map((r) => `${r.join('\t')}\n`).join(''));
    const all = ['tools/mutants.mjs', '--rows', file, ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, all, { cwd: ROOT, encoding: 'utf8' });
    return { status, out: stdout + stderr };
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

const clock = 'src/sim/clock.ts';
const unit = 'test/unit/sim/clock.test.ts';
const title = 'runs due alarms in order of time, then of age';
const killed = ['A', clock, 'this.nowNs = alarm.atNs;', '', unit, title];
const survivor = ['B', clock, 'private seq = 0;', 'private seq = 1;', unit, title];
const lost = ['C', clock, 'no such text', 'x', unit, title];
const nameless = ['D', clock, 'this.nowNs = alarm.atNs;', '', unit, 'no such title'];
const broken = ['E', clock, 'this.nowNs = alarm.atNs;', 'this.nowNs = ;', unit, title];

test('a mutant is killed only when the named test fails because of it', () => {
  const { status, out } = mutants([killed, survivor, lost, nameless, broken]);
  expect(out).toMatch(/^A {2}src\/sim\/clock\.ts {2}killed$/m);
  expect(out).toMatch(/^B .*SURVIVED/m);
  expect(out).toMatch(/^C .*does not apply: .*rows\.tsv:3: .*does not contain/m);
  expect(out).toMatch(/^D .*no such test/m);
  expect(out).toMatch(/^E .*does not load/m);
  expect(out).toMatch(/^1 killed, 4 survived$/m);
  expect(status).toBe(1);
}, 240_000);

test('the tenth is every tenth row, and usage is checked', () => {
  const rows = Array.from({ length: 11 }, (_, i) => [`R${i}`, ...lost.slice(1)]);
  const { out } = mutants(rows, '--tenth', '123450');
  expect([...out.matchAll(/^R\d+/gm)].map(String)).toEqual(['R0', 'R10']);
  expect(mutants(rows, '--tenth', 'x').status).toBe(2);
  expect(mutants([['A', 'B']]).status).toBe(2);
}, 240_000);
