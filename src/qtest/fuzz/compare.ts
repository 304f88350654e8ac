/** Plays programs on two sides and reduces a difference to the shortest program that shows it. */
import * as fc from 'fast-check';
import type { Op, Program } from './ops.js';
import { Player, type Side } from './player.js';
import type { Reach } from './reach.js';

export interface Mismatch {
  readonly program: Program;
  /** Step whose replies differ; -1 while setting up, the program's length for memory in the end. */
  readonly step: number;
  readonly expected: string;
  readonly got: string;
  /** Every command up to there, as a qtest script. */
  readonly script: readonly string[];
}

/** The first difference; `reference` is whose answers are expected, and what `reach` counts. */
export async function compare(
  reference: Side,
  other: Side,
  program: Program,
  reach?: Reach,
  levels = 4,
): Promise<Mismatch | undefined> {
  const want = await new Player(reference, reach, levels).play(program);
  const got = await new Player(other, undefined, levels).play(program);
  const at = want.replies.findIndex((r, i) => r !== got.replies[i]);
  if (at < 0) return undefined;
  return {
    program,
    step: at - 1,
    expected: want.replies[at]!,
    got: got.replies[at] ?? '',
    script: want.script,
  };
}

/** The same difference in as few steps as dropping steps leads to. */
export async function shrink(reference: Side, other: Side, found: Mismatch, levels = 4): Promise<Mismatch> {
  let least = found;
  const property = fc.asyncProperty(fc.subarray<Op>([...found.program]), async (part) => {
    const m = await compare(reference, other, part, undefined, levels);
    if (m !== undefined && m.program.length <= least.program.length) least = m;
    return m === undefined;
  });
  await fc.check(property, { examples: [[[...found.program]]], numRuns: 1 });
  return least;
}
