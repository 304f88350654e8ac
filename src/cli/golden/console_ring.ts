/**
 * The ring that `xl dmesg` reads has more than is compared: what Xen says at boot of processors and the like, and what
 * guests print. That is taken from the recording, so that what the ring keeps, and what `tail` shows of it, is the same.
 */
import type { Console } from '../../hypervisor/console.js';
import { BOOT_KINDS } from './exclusions.js';

export const isBootKind = (line: string): boolean => BOOT_KINDS.some((kind) => kind.test(line));
/** Guests' lines begin with `(d1)`. */
export const isXens = (line: string): boolean => !/^\(d\d+\) /.test(line);

/** Our lines in the places of their lines that are `ours` to make, the other ones of theirs between them. */
export function withRecorded(
  theirs: readonly string[],
  our: readonly string[],
  ours: (line: string) => boolean,
): string[] {
  const left = [...our];
  const lines = theirs.flatMap((line) => (ours(line) ? left.splice(0, 1) : [line]));
  return [...lines, ...left];
}

/** The ring after boot: `our` lines of it, with the recorded ones between them. */
export function fillBoot(console: Console, theirs: readonly string[], our: readonly string[]): void {
  put(console, withRecorded(theirs, our.filter(isBootKind), isBootKind));
}

/** The last lines of the ring, `our` ones, with those of guests between them. */
export function fillGuests(console: Console, theirs: readonly string[], our: readonly string[]): void {
  if (theirs.every(isXens)) return;
  const kept = console.lines();
  const before = kept.slice(0, Math.max(0, kept.length - our.length));
  put(console, [...before, ...withRecorded(theirs, our, isXens)]);
}

function put(console: Console, lines: readonly string[]): void {
  console.clear();
  for (const line of lines) console.append(line);
}
