/** The simulated unit gives the answers of a real QEMU 7.2.22: programs and answers were recorded by `fuzz-qemu --record`. */
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import { compare, shrink } from '../../src/qtest/fuzz/compare.js';
import { boardArgs, levelsOf } from '../../src/qtest/fuzz/layout.js';
import { drawProgram, type Program } from '../../src/qtest/fuzz/ops.js';
import { Player } from '../../src/qtest/fuzz/player.js';
import { Reach } from '../../src/qtest/fuzz/reach.js';
import { simulatedSide } from '../../src/qtest/fuzz/sides.js';
import { short } from '../../src/qtest/fuzz/values.js';
import { ROOT } from '../support/built.js';

interface Recorded {
  readonly seed: number;
  readonly program: Program;
  readonly replies: readonly string[];
}
const FOLDER = path.join(ROOT, 'test/qtest/recorded');
const files = fs.readdirSync(FOLDER).filter((f) => f.endsWith('.jsonl.gz'));
/** Properties of the unit stand in the name, behind `@`. */
const unitOf = (file: string): string => /@(.*)\.jsonl\.gz$/.exec(file)?.[1] ?? '';
const read = (file: string): Recorded[] =>
  zlib
    .gunzipSync(fs.readFileSync(path.join(FOLDER, file)))
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Recorded);

test.each([
  ['', 'aw-bits=48', 4],
  ['caching-mode=on', 'aw-bits=48,caching-mode=on', 4],
  ['caching-mode=on,aw-bits=39', 'caching-mode=on,aw-bits=39', 3],
])('a unit with "%s" is asked for as "%s", whatever width QEMU prefers', (unit, asked, levels) => {
  expect(boardArgs(unit)).toContain(`intel-iommu,intremap=on,${asked}`);
  expect(levelsOf(unit)).toBe(levels);
});

test('a few hundred programs of 200 steps are recorded', () => {
  const all = files.flatMap(read);
  expect(all.length).toBeGreaterThanOrEqual(250);
  expect(all.every((r) => r.program.length === 200)).toBe(true);
});

const CHUNK = 50;
const chunks = files.flatMap((file) =>
  Array.from({ length: Math.ceil(read(file).length / CHUNK) }, (_, i) => [i * CHUNK, file] as const),
);
test.each(chunks)(
  'from program %i of %s on, every reply is ours too, and memory in the end',
  async (at0, file) => {
    const board = simulatedSide('on', unitOf(file));
    for (const { seed, program, replies } of read(file).slice(at0, at0 + CHUNK)) {
      const ours = (await new Player(board, undefined, levelsOf(unitOf(file))).play(program)).replies.map(
        short,
      );
      const at = ours.findIndex((r, i) => r !== replies[i]);
      if (at < 0 && ours.length === replies.length) continue;
      const step = JSON.stringify(program[at - 1]);
      expect.fail(`seed ${seed}, step ${at - 1} ${step}: ${ours[at]} instead of ${replies[at]}`);
    }
  },
);

test('the recordings reach every fault reason of legacy mode but the one that needs device TLBs', () => {
  const seen = new Set<string>();
  for (const { program, replies } of files.flatMap(read)) {
    program.forEach((op, i) => {
      const words = op[0] === 4 ? replies[i + 1]!.split(' ') : [];
      const record = words.at(-2) ?? '';
      if (record.length === 16 && record >= '8') seen.add(record.slice(6, 8));
    });
  }
  expect([...seen].sort()).toEqual([
    '01',
    '02',
    '03',
    '04',
    '05',
    '06',
    '07',
    '08',
    '09',
    '0a',
    '0b',
    '0c',
    '0e',
  ]);
});

test('the programs meet every fault reason of legacy translation, overflow and queue errors', async () => {
  const board = simulatedSide('on');
  const reach = new Reach();
  for (const { program } of read('qemu-7.2.22.jsonl.gz').slice(0, 100))
    await new Player(board, reach).play(program);
  // 13 is for devices with translations of their own, which QEMU's boards do not have.
  const reasons = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14].map((n) => `fault reason ${n}`);
  const missed = [...reasons, 'fault overflow', 'queue error'].filter((what) => !reach.counts.has(what));
  expect(missed).toEqual([]);
});

test('without the quirks the same programs have other answers: the comparison can fail', async () => {
  const board = simulatedSide('cf8-low-bits');
  let different = 0;
  for (const { program, replies } of read('qemu-7.2.22.jsonl.gz').slice(0, 20)) {
    const ours = (await new Player(board).play(program)).replies.map(short);
    if (ours.some((r, i) => r !== replies[i])) different++;
  }
  expect(different).toBeGreaterThan(15);
});

test('a difference shrinks to the steps that show it', async () => {
  const [a, b] = [simulatedSide('on'), simulatedSide('cf8-low-bits')];
  for (let seed = 1; ; seed++) {
    const found = await compare(a, b, drawProgram(seed, 60));
    if (found === undefined) continue;
    const least = await shrink(a, b, found);
    expect(least.program.length).toBeLessThanOrEqual(4);
    expect(await compare(a, b, least.program)).toBeDefined();
    for (let i = 0; i < least.program.length; i++) {
      const without = least.program.filter((_, j) => j !== i);
      expect(await compare(a, b, without)).toBeUndefined();
    }
    expect(least.script.some((line) => line.startsWith('readl 0xfed9001c'))).toBe(true);
    return;
  }
});

test('the same seed draws the same program, of as many steps as asked for', () => {
  expect(drawProgram(7, 50)).toEqual(drawProgram(7, 50));
  expect(drawProgram(7, 50)).not.toEqual(drawProgram(8, 50));
  expect(drawProgram(7, 50)).toHaveLength(50);
});
