/** Sleeping in dom0's kernel: a timer that lies far off is late, since its wheel is coarse there. */
import type { Clock } from '../../sim/clock.js';
import { type Co, pause } from '../../sim/co.js';

/** @linux CONFIG_HZ of Debian's kernel */
const HZ = 250;
const JIFFY_NS = 1e9 / HZ;
/** The counter begins five minutes before it wraps around. @linux INITIAL_JIFFIES */
const INITIAL_JIFFIES = 2 ** 32 - 300 * HZ;
/** Buckets of a level; each level is eight times as coarse as the one before. @linux kernel/time/timer.c LVL_SIZE, LVL_CLK_SHIFT */
const BUCKETS = 64;
const COARSER = 8;
const LEVELS = 9;

/** @linux msleep, calc_wheel_index */
export function* msleep(clock: Clock, ms: number): Co<void> {
  const now = Math.floor(clock.nowNs / JIFFY_NS) + INITIAL_JIFFIES;
  // One more than asked for: the present jiffy may be nearly over.
  const expires = now + Math.ceil((ms * HZ) / 1000) + 1;
  let grain = 1;
  for (let level = 0; level + 1 < LEVELS; level++) {
    if (expires - now < (BUCKETS - 1) * grain) break;
    grain *= COARSER;
  }
  const bucket = Math.floor((expires + grain) / grain) * grain;
  const wakes = (grain === 1 ? expires : bucket) - INITIAL_JIFFIES;
  yield* pause(clock, Math.max(0, wakes * JIFFY_NS - clock.nowNs));
}
