/** A driver's seams: those that a release or a bug replaces, and the correct answers to the rest. */
import type { DriverSeams } from './types.js';

/** Made once for each set of replacements: it is frozen, and every boot uses it. */
export class CompletedSeams<T extends object> {
  private readonly made = new WeakMap<DriverSeams, T>();
  constructor(readonly correct: T) {}
  of(replaced: DriverSeams): T {
    let seams = this.made.get(replaced);
    if (seams === undefined) {
      seams = Object.freeze({ ...this.correct, ...replaced });
      this.made.set(replaced, seams);
    }
    return seams;
  }
}
