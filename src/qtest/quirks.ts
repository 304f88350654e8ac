/**
 * Where QEMU and the specifications differ. By default the board keeps to the specifications; a quirk makes it answer
 * as QEMU does. docs/qtest.md has a row for each. Those of the remapping unit are carried out by the unit itself.
 */
import type { VtdQuirk } from '../iommu/hw/vtd/quirks.js';
import { VTD_QUIRKS } from '../iommu/hw/vtd/quirks.js';

/** Differences of the board around the unit. */
export const BOARD_QUIRKS = ['cf8-low-bits', 'failed-read-zeros', 'root-table-flush-unsaid'] as const;
export type BoardQuirk = (typeof BOARD_QUIRKS)[number];
export type Quirk = BoardQuirk | VtdQuirk;

export const QUIRKS: readonly Quirk[] = [...BOARD_QUIRKS, ...VTD_QUIRKS];

/**
 * On unless they are asked away: QEMU's own test library finds no device without the first, and its posted tests of
 * invalidation queue descriptors of 128 bits in scalable mode.
 */
export const DEFAULT_QUIRKS: readonly Quirk[] = ['cf8-low-bits', 'narrow-queue-in-scalable-mode'];

/** What QEMU 10 has mended of what QEMU 7.2 does. */
const MENDED: readonly Quirk[] = ['lax-interrupt-entry-descriptors', 'transient-mapping'];
/** A version of QEMU that differs from the oldest one, as `as-qemu=` names it. */
const NEWER = '10.0';
const NEWER_MAJOR = 10;
/** `as-qemu=` for a QEMU of this major version. */
export const asQemuOf = (major: number): string => (major >= NEWER_MAJOR ? NEWER : 'on');

/**
 * What an option `as-qemu=` names: `on` for all, `10.0` for those of QEMU 10, `off` for none, or names joined by `+`.
 * Undefined for a name that does not exist.
 */
export function parseQuirks(text: string): ReadonlySet<Quirk> | undefined {
  if (text === 'on') return new Set(QUIRKS);
  if (text === NEWER) return new Set(QUIRKS.filter((q) => !MENDED.includes(q)));
  if (text === 'off') return new Set();
  const names = text.split('+');
  return names.every(isQuirk) ? new Set<Quirk>(names.filter(isQuirk)) : undefined;
}

const isQuirk = (name: string): name is Quirk => (QUIRKS as readonly string[]).includes(name);
