/**
 * The museum of bugs: each security advisory on pass-through as seams that put the mistake back. `src` outside this
 * directory does not know that it exists; the properties of check/ find the bugs without a test made for any of them.
 * Ids that begin with NX are mistakes that were repaired without an advisory.
 */
import { amdBugs } from './amd.js';
import type { Bug } from './bug.js';
import { genericBugs } from './generic.js';
import { interruptBugs } from './interrupts.js';
import { openFindings } from './open.js';
import { vtdBugs } from './vtd.js';

export const catalogue: readonly Bug[] = [...genericBugs, ...vtdBugs, ...amdBugs, ...interruptBugs];

export const findBug = (id: string): Bug | undefined =>
  [...catalogue, ...openFindings].find((bug) => bug.id.toLowerCase() === id.toLowerCase());
