/** xpsim fuzz-qemu: the same random programs on a real QEMU and on the simulated board, reply by reply. */
import fs from 'node:fs';
import zlib from 'node:zlib';
import { InputError } from '../base/assert.js';
import { compare, type Mismatch, shrink } from '../qtest/fuzz/compare.js';
import { levelsOf } from '../qtest/fuzz/layout.js';
import { drawProgram } from '../qtest/fuzz/ops.js';
import { Player } from '../qtest/fuzz/player.js';
import { Reach } from '../qtest/fuzz/reach.js';
import { simulatedSide } from '../qtest/fuzz/sides.js';
import { short } from '../qtest/fuzz/values.js';
import { asQemuOf, parseQuirks, QUIRKS } from '../qtest/quirks.js';
import { QemuProcess } from './fuzz_qemu_process.js';

export interface FuzzOptions {
  readonly programs: number;
  readonly seed: number;
  readonly qemu: string;
  readonly ops: number;
  readonly accel: string;
  /** `auto`: by the version of the QEMU. */
  readonly asQemu: string;
  /** Properties of the unit, as behind `-device intel-iommu,`. */
  readonly unit: string;
  /** File to write programs and QEMU's answers to, instead of comparing. */
  readonly record?: string;
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Mismatches that are reduced and printed; later ones are only counted. */
const SHOWN_MAX = 5;

/** 0: all replies were equal. 1: some differed. */
export async function fuzzQemu(o: FuzzOptions): Promise<number> {
  if (o.asQemu !== 'auto' && parseQuirks(o.asQemu) === undefined)
    throw new InputError('--as-qemu', '', `${o.asQemu} names no quirk`, `there are ${QUIRKS.join(', ')}`);
  const qemu = await QemuProcess.start(o.qemu, o.accel, o.unit);
  try {
    return o.record === undefined ? await run(qemu, o) : await record(qemu, o, o.record);
  } finally {
    await qemu.stop();
  }
}

async function run(qemu: QemuProcess, o: FuzzOptions): Promise<number> {
  const asQemu = o.asQemu === 'auto' ? asQemuOf(qemu.major) : o.asQemu;
  const board = simulatedSide(asQemu, o.unit);
  const reach = new Reach();
  const levels = levelsOf(o.unit);
  let different = 0;
  for (let i = 0; i < o.programs; i++) {
    const seed = o.seed + i;
    const found = await compare(qemu, board, drawProgram(seed, o.ops), reach, levels);
    if (found === undefined) continue;
    different++;
    if (different <= SHOWN_MAX) show(seed, await shrink(qemu, board, found, levels));
  }
  for (const line of reach.lines()) say(line);
  say(`# QEMU ${qemu.major}, as-qemu=${asQemu}`);
  say(`${o.programs} programs of ${o.ops} steps from seed ${o.seed}: ${different} differ`);
  return different === 0 ? 0 : 1;
}

function show(seed: number, m: Mismatch): void {
  say(`# seed ${seed}: ${m.program.length} steps, replies of step ${m.step} differ`);
  say(`# steps ${JSON.stringify(m.program)}`);
  say(`# QEMU      ${m.expected}`);
  say(`# simulator ${m.got}`);
  for (const line of m.script) say(line);
}

/** One line of JSON a program: its steps, and QEMU's replies. */
async function record(qemu: QemuProcess, o: FuzzOptions, file: string): Promise<number> {
  const lines: string[] = [];
  for (let i = 0; i < o.programs; i++) {
    const seed = o.seed + i;
    const program = drawProgram(seed, o.ops);
    const { replies } = await new Player(qemu, undefined, levelsOf(o.unit)).play(program);
    lines.push(JSON.stringify({ seed, program, replies: replies.map(short) }));
  }
  fs.writeFileSync(file, zlib.gzipSync(`${lines.join('\n')}\n`, { level: 9 }));
  return 0;
}
