/** An invariant is a named question about a machine at rest, with the place it comes from. */
import type { World } from '../world.js';

export interface Violation {
  /** `INV-I1` */
  readonly id: string;
  /** One sentence with the numbers that prove it. */
  readonly what: string;
}

export interface Invariant {
  readonly id: string;
  /** What holds, in one line. */
  readonly title: string;
  readonly holds: (w: World) => Violation | undefined;
}
