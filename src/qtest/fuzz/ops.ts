/** The steps of a fuzz program as plain rows of numbers, and how they are drawn. */
import * as fc from 'fast-check';

/** First number of each row. */
export const OP = {
  PTE: 1,
  CONTEXT: 2,
  ROOT: 3,
  DMA: 4,
  REG_WRITE: 5,
  REG_READ: 6,
  QUEUE: 7,
  GCMD: 8,
  CLEAR: 9,
  TAIL: 10,
  RESET: 11,
} as const;

export type Op = readonly number[];
export type Program = readonly Op[];

const upTo = (n: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: n });

/** Zero most of the time. */
const seldom = (n: number, one = 8): fc.Arbitrary<number> =>
  fc.oneof({ arbitrary: fc.constant(0), weight: one - 1 }, { arbitrary: upTo(n), weight: 1 });

const row = (code: number, ...columns: fc.Arbitrary<number>[]): fc.Arbitrary<Op> =>
  fc.tuple(fc.constant(code), ...columns);

const often = (value: number, others: fc.Arbitrary<number>, weight = 6): fc.Arbitrary<number> =>
  fc.oneof({ arbitrary: fc.constant(value), weight }, { arbitrary: others, weight: 1 });

/** [domain, level - 1, slot, permissions, target, odd bits] */
const pte = row(OP.PTE, upTo(1), upTo(3), upTo(7), often(3, upTo(3), 3), seldom(5, 3), seldom(15, 4));
/** [device, present, FPD, TT, AW, root, odd bits, how it is invalidated] */
const context = row(
  OP.CONTEXT,
  ...[
    upTo(1),
    often(1, upTo(1)),
    seldom(1, 4),
    seldom(3, 4),
    often(2, upTo(7), 4),
    seldom(2, 5),
    seldom(7, 6),
  ],
  upTo(3),
);
/** [present, odd bits, where to] */
const root = row(OP.ROOT, often(1, upTo(1), 2), seldom(5, 3), seldom(1, 4));
/** [device, write, indices of levels 4 to 1, offset, length, high address bits, clear what was recorded before] */
const dma = row(
  OP.DMA,
  ...[upTo(1), upTo(1), seldom(1, 6), seldom(1, 4), upTo(3), upTo(3), upTo(15), upTo(15), seldom(4, 10)],
  often(1, upTo(1), 2),
);
/** [register, a value, another one] */
const regWrite = row(OP.REG_WRITE, upTo(15), upTo(0xffff), upTo(0xffff));
const regRead = row(OP.REG_READ, upTo(31));
/** [type, granularity, domain, page, mask, odd bits, ring] */
const queue = row(
  OP.QUEUE,
  ...[upTo(7), upTo(3), upTo(3), upTo(31), seldom(20, 3), seldom(9, 8), often(1, upTo(1))],
);
/** [bit, on] */
const gcmd = row(OP.GCMD, upTo(4), often(1, upTo(1), 2));
const clear = row(OP.CLEAR, upTo(2));
const tail = row(OP.TAIL, upTo(0x3ff));
const reset = row(OP.RESET);

const op: fc.Arbitrary<Op> = fc.oneof(
  { arbitrary: pte, weight: 130 },
  { arbitrary: context, weight: 30 },
  { arbitrary: root, weight: 5 },
  { arbitrary: dma, weight: 120 },
  { arbitrary: regWrite, weight: 30 },
  { arbitrary: regRead, weight: 25 },
  { arbitrary: queue, weight: 70 },
  { arbitrary: gcmd, weight: 20 },
  { arbitrary: clear, weight: 60 },
  { arbitrary: tail, weight: 5 },
  { arbitrary: reset, weight: 1 },
);

/** A program of exactly `length` steps; the same for the same seed. */
export function drawProgram(seed: number, length: number): Program {
  return fc.sample(fc.array(op, { minLength: length, maxLength: length, size: 'max' }), {
    seed,
    numRuns: 1,
  })[0]!;
}
