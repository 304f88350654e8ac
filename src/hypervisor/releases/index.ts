/** Releases by the name a user gives: `4.17`, `4.18` and `4.23`, or a release of which something special is known. */
import { xen4_17_0, xen4_17_7 } from './4.17.7.js';
import { xen4_18_0, xen4_18_3 } from './4.18.3.js';
import { xen4_23 } from './4.23.js';
import type { Release } from './release.js';

export { type Release, seamsOf } from './release.js';

const releases: ReadonlyMap<string, Release> = new Map([
  ['4.17', xen4_17_7],
  ['4.18', xen4_18_3],
  ['4.23', xen4_23],
  ...[xen4_17_0, xen4_17_7, xen4_18_0, xen4_18_3].map((r): [string, Release] => [r.name, r]),
]);

/** Names that findRelease() knows, for messages. */
export const releaseNames: readonly string[] = [...releases.keys()];
export const findRelease = (name: string): Release | undefined => releases.get(name);
