/** What every release up to the newest gets wrong about interrupts of devices. */
import type { Seams } from '../seams.js';

export const irqFlaws: Partial<Seams> = Object.freeze<Partial<Seams>>({
  cleaningAsksAgain: () => false,
  removalUnmapsMessages: () => false,
});
