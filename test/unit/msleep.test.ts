/** dom0's kernel sleeps as long as the recorded one: expected values are recording 03's own, records 57 and 59. */
import { expect, test } from 'vitest';
import { Clock } from '../../src/sim/clock.js';
import { runAlone } from '../../src/sim/co.js';
import { msleep } from '../../src/toolstack/kernel/msleep.js';

const slept = (ms: number, fromNs: number): number => {
  const clock = new Clock();
  clock.advance(fromNs);
  runAlone(msleep(clock, ms));
  return (clock.nowNs - fromNs) / 1e6;
};

test('the longer a sleep, the coarser its end', () => {
  for (const from of [0, 1.23e9, 357.592e9, 500.66e9]) {
    // 375.817 to 393.171 s, 427.987 to 393.171 s, 363.964 to 367.345 s.
    expect(slept(16_384, from)).toBeGreaterThanOrEqual(16_384);
    expect(slept(16_384, from)).toBeLessThan(16_384 + 2 * 2048 + 8);
    expect(slept(8192, from)).toBeLessThan(8192 + 2 * 256 + 8);
    expect(slept(100, from)).toBeGreaterThanOrEqual(100);
    expect(slept(100, from)).toBeLessThanOrEqual(108);
  }
  // What is in step with the wheel stays in step: 393.171 to 427.987 s.
  const clock = new Clock();
  runAlone(msleep(clock, 16_384));
  const from = clock.nowNs;
  runAlone(msleep(clock, 32_768));
  expect((clock.nowNs - from) / 1e6).toBe(34_816);
});
