/** A request and its wait in one step: what nobody sees has the outcome of what is watched descriptor by descriptor. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { caps, QIE, REG, Rig, TE } from '../support/vtd_rig.js';

const RIDS = [0x0300, 0x0301, 0x0408];
const DFN = 0x1234;
const WAIT = 5;
const SW = 0x20;
const FN = 0x40;
const STATUS = 0x900;

const requests: readonly (readonly number[])[] = [
  ...RIDS.map((rid) => [0x31 | (1 << 16), rid]),
  [0x31 | (2 << 16), RIDS[0]!],
  [0x31 | (1 << 16), RIDS[0]! | (3 << 16)],
  [0x31, 1 << 18],
  [0x71 | (1 << 16), RIDS[0]!],
  [0x11],
  [0x12],
  [0x22 | (1 << 16)],
  [0x22 | (2 << 16)],
  [0xe2 | (1 << 16)],
  [0x22 | (1 << 16), 1],
  [0x122 | (1 << 16)],
  [0x32 | (1 << 16), 0, DFN * 4096],
  [3, RIDS[0]!],
  [4],
  [0],
  [WAIT | SW, 3, STATUS * 4096],
];
const waits: readonly (readonly number[])[] = [
  [WAIT | SW, 1, STATUS * 4096],
  [WAIT | SW | FN, 2, STATUS * 4096],
  [WAIT | SW, 3, STATUS * 4096 + 4],
  [WAIT | SW, 4, STATUS * 4096, 1],
  [WAIT | SW | 0x80, 5, STATUS * 4096],
  [WAIT | SW, 1, 0xffff_ffff, 0xffff_ffff],
  [WAIT],
  [0x11],
];
type Deed =
  | { readonly queue: readonly (readonly number[])[]; readonly often: number }
  | { readonly set: 'clear' | 'off' | 'on' | 'busy' | 'answers' | 'silent' | 'slow' | 'quick' | 'late' };

const pair = fc.record({
  queue: fc.tuple(
    fc.constantFrom(...requests),
    fc.oneof({ weight: 6, arbitrary: fc.constant(waits[0]!) }, fc.constantFrom(...waits)),
  ),
  often: fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.nat(130)),
});
const single = fc.record({ queue: fc.tuple(fc.constantFrom(...requests, ...waits)), often: fc.constant(1) });
const other = fc.record({
  set: fc.constantFrom('clear', 'off', 'on', 'busy', 'answers', 'silent', 'slow', 'quick', 'late' as const),
});
/** One in four is not what drivers do. */
const deed: fc.Arbitrary<Deed> = fc.oneof(
  { weight: 6, arbitrary: pair },
  { weight: 1, arbitrary: single },
  { weight: 1, arbitrary: other },
);

function set(rig: Rig, what: string): void {
  const { unit } = rig;
  if (what === 'clear') unit.write32(REG.FSTS, 0x50);
  else if (what === 'off') unit.write32(REG.GCMD, TE);
  else if (what === 'on') unit.write32(REG.GCMD, TE + QIE);
  else if (what === 'busy') unit.devicesBusy = true;
  else if (what === 'answers') unit.devicesAnswer();
  else if (what === 'silent') unit.onDeviceTlb = () => false;
  else if (what === 'late') rig.clock.advance(250);
  else unit.latencyNs = what === 'slow' ? 100 : 0;
}

/** Everything that the unit is, and memory, after each deed. */
function outcomes(deeds: readonly Deed[], watched: boolean): unknown[] {
  const rig = new Rig(caps([[2, 2, 2, 1]])).on().queue();
  rig.ram.hold(STATUS);
  if (watched) rig.events.attach(() => {});
  for (const rid of RIDS) rig.map(rig.device(rid, 1 + (rid & 1)), 4, DFN, 0x5555);
  const seen: unknown[] = [];
  for (const one of deeds) {
    for (const rid of RIDS) rig.unit.translate(rid, DFN, true);
    if ('set' in one) set(rig, one.set);
    else {
      for (let i = 0; i < one.often; i++) {
        for (const words of one.queue) rig.enqueue(...words);
        rig.ring();
      }
    }
    const { fetchedTo, lastType, draining, awaitsDevice } = rig.unit;
    seen.push({ one, regs: [...rig.unit.regs], fetchedTo, lastType, draining, awaitsDevice });
    seen.push(rig.unit.cachedContexts(), rig.unit.cachedTranslations(), rig.interrupts.slice());
    seen.push([0, 1].map((at) => rig.word(STATUS, at)));
  }
  return seen;
}

test('a unit that nobody watches is, after each move of the tail, what a watched one is', () => {
  fc.assert(
    fc.property(fc.array(deed, { minLength: 2, maxLength: 12 }), (deeds) => {
      expect(outcomes(deeds, false)).toEqual(outcomes(deeds, true));
    }),
    { seed: 1, numRuns: 200 },
  );
});

const INVALIDATE_ALL = [0x11];
/** A unit whose driver has used the queue once, as drivers do. */
function used(): Rig {
  const rig = new Rig(caps([[2, 2, 2, 1]])).on().queue();
  rig.ram.hold(STATUS);
  pairOf(rig, 1);
  return rig;
}
function pairOf(rig: Rig, data: number): void {
  rig.enqueue(...INVALIDATE_ALL);
  rig.enqueue(WAIT | SW, data, STATUS * 4096);
  rig.ring();
}

test('a first wait whose address is all ones is refused, as one with any other reserved bit', () => {
  const rig = new Rig().on().queue();
  rig.submit(...INVALIDATE_ALL);
  rig.enqueue(...INVALIDATE_ALL);
  rig.submit(WAIT | SW, 1, 0xffff_ffff, 0xffff_ffff);
  expect([rig.unit.read32(REG.FSTS), rig.unit.read32(REG.IQH)]).toEqual([0x10, 32]);
});

test('a request and its wait stay where they are once the queue is off again', () => {
  const rig = used();
  pairOf(rig, 2);
  rig.unit.write32(REG.GCMD, TE);
  rig.put(rig.queueFrame, 0, ...INVALIDATE_ALL, 0, 0, 0, WAIT | SW, 3, STATUS * 4096, 0);
  rig.unit.write32(REG.IQT, 32);
  expect([rig.word(STATUS, 0), rig.unit.read32(REG.IQH)]).toEqual([2, 0]);
  rig.unit.write32(REG.GCMD, TE + QIE);
  expect([rig.word(STATUS, 0), rig.unit.read32(REG.IQH)]).toEqual([3, 32]);
});

test('each wait behind a request to a busy device is done when that answers', () => {
  const rig = used();
  rig.unit.devicesBusy = true;
  rig.submit(3, RIDS[0]!);
  rig.submit(...INVALIDATE_ALL);
  pairOf(rig, 2);
  rig.unit.write32(REG.IQT, rig.unit.read32(REG.IQT));
  expect(rig.word(STATUS, 0)).toBe(1);
  rig.unit.devicesAnswer();
  expect(rig.word(STATUS, 0)).toBe(2);
});

test('a unit that is quick again ends first what it has in work', () => {
  const rig = used();
  pairOf(rig, 2);
  rig.unit.latencyNs = 100;
  rig.submit(...INVALIDATE_ALL);
  rig.unit.latencyNs = 0;
  rig.submit(WAIT | SW, 3, STATUS * 4096);
  expect(rig.word(STATUS, 0)).toBe(2);
  rig.clock.advance(100);
  expect(rig.word(STATUS, 0)).toBe(3);
});

test('the wait behind the last descriptor of the queue is the first one', () => {
  const rig = used();
  // What lies behind the queue in memory looks like a wait, too.
  rig.put(rig.frame(), 0, WAIT | SW, 9, STATUS * 4096, 0);
  rig.submit(...INVALIDATE_ALL);
  for (let i = 3; i < 255; i += 2) pairOf(rig, 2);
  pairOf(rig, 3);
  expect([rig.word(STATUS, 0), rig.unit.read32(REG.IQH)]).toEqual([3, 16]);
});
