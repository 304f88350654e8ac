import { describe, expect, test } from 'vitest';
import { XenBug } from '../../../src/base/assert.js';
import { Clock } from '../../../src/sim/clock.js';

describe('the clock', () => {
  test('runs due alarms in order of time, then of age', () => {
    const clock = new Clock();
    const rang: string[] = [];
    const ring = (name: string) => () => void rang.push(`${name}@${clock.nowNs}`);
    clock.after(20, ring('late'));
    clock.after(10, ring('first'));
    clock.after(10, ring('second'));
    clock.after(31, ring('never'));
    clock.advance(30);
    expect(rang).toEqual(['first@10', 'second@10', 'late@20']);
    expect(clock.nowNs).toBe(30);
  });

  test('runs an alarm set by an alarm within the same step', () => {
    const clock = new Clock();
    const rang: number[] = [];
    clock.after(10, () => void clock.after(5, () => void rang.push(clock.nowNs)));
    clock.advance(15);
    expect(rang).toEqual([15]);
  });

  test('forgets a cancelled alarm, and does not mind a second cancel', () => {
    const clock = new Clock();
    let rang = 0;
    const alarm = clock.after(10, () => void rang++);
    clock.cancel(alarm);
    clock.cancel(alarm);
    clock.advance(20);
    expect(rang).toBe(0);
  });

  test('takes no alarm in the past', () => {
    expect(() => new Clock().after(-1, () => {})).toThrow(XenBug);
  });
});
