/** What the hypervisor itself gets wrong in every release up to the newest. */
import type { Seams } from '../seams.js';

export const everyFlaw: Partial<Seams> = Object.freeze<Partial<Seams>>({
  cleaningAsksAgain: () => false,
  removalUnmapsMessages: () => false,
  batchFlushesWhereItStopped: () => false,
  groupIsTakenBackWhole: () => false,
});
