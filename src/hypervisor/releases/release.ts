import { type Seams, withSeams } from '../seams.js';

/** A release of Xen as a set of replaced seams. */
export interface Release {
  /** `4.18.3`, as the user names it and `xl info` prints it. */
  readonly name: string;
  readonly major: number;
  readonly minor: number;
  /** `.3` */
  readonly extra: string;
  /** How this release works where the newest works otherwise. */
  readonly behaviour: Partial<Seams>;
  /** What this release gets wrong. `--fixed` leaves these out, which puts the correct decision back. */
  readonly flaws: Partial<Seams>;
}

/** Made once for each release. */
const made = { fixed: new WeakMap<Release, Seams>(), asReleased: new WeakMap<Release, Seams>() };

export function seamsOf(release: Release, fixed: boolean): Seams {
  const known = fixed ? made.fixed : made.asReleased;
  let seams = known.get(release);
  if (seams === undefined) {
    seams = fixed ? withSeams(release.behaviour) : withSeams(release.behaviour, release.flaws);
    known.set(release, seams);
  }
  return seams;
}
