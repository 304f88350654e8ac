/**
 * Where QEMU and the specifications differ. By default the board keeps to the specifications; a quirk makes it answer
 * as QEMU does. docs/qtest.md has a row for each. Those of the remapping unit are carried out by the unit itself.
 */
import type { VtdQuirk } from '../iommu/hw/vtd/quirks.js';
import { VTD_QUIRKS } from '../iommu/hw/vtd/quirks.js';

/** Differences of the board around the unit. */
export const BOARD_QUIRKS = ['cf8-low-bits', 'failed-read-zeros'] as const;
export type BoardQuirk = (typeof BOARD_QUIRKS)[number];
export type Quirk = BoardQuirk | VtdQuirk;

export const QUIRKS: readonly Quirk[] = [...BOARD_QUIRKS, ...VTD_QUIRKS];

/** QEMU's own test library cannot find a device without this one, so it is on unless it is asked away. */
export const DEFAULT_QUIRKS: readonly Quirk[] = ['cf8-low-bits'];

/**
 * What an option `as-qemu=` names: `on` for all, `off` for none, or names joined by `+`. Undefined for a name that
 * does not exist.
 */
export function parseQuirks(text: string): ReadonlySet<Quirk> | undefined {
  if (text === 'on') return new Set(QUIRKS);
  if (text === 'off') return new Set();
  const names = text.split('+');
  return names.every(isQuirk) ? new Set<Quirk>(names.filter(isQuirk)) : undefined;
}

const isQuirk = (name: string): name is Quirk => (QUIRKS as readonly string[]).includes(name);
