/** What the tables in memory say now, read by the reference readers: no cache, no driver. */
import { bdfOf, type Sbdf } from '../base/sbdf.js';
import { VtdUnit } from '../iommu/hw/vtd/unit.js';
import type { Machine } from '../machine.js';
import type { IommuUnit } from '../machine_hw.js';
import {
  amdEntry,
  type TableEntry,
  type TableMemory,
  type Translation,
  vtdEntry,
  walkAmd,
  walkVtd,
} from './reference/tables.js';

export const memoryOf = (machine: Machine, unit: IommuUnit): TableMemory => ({
  read: (address) => machine.hw.ram.read32(address) >>> 0,
  register: (offset) => unit.read32(offset),
});

/** The entry of a requester id, which has its segment; undefined where nothing is translated for it. */
export function entryOf(machine: Machine, rid: Sbdf): TableEntry | undefined {
  const unit = machine.unitFor(rid);
  if (unit === undefined) return undefined;
  const memory = memoryOf(machine, unit);
  return unit instanceof VtdUnit ? vtdEntry(memory, bdfOf(rid)) : amdEntry(memory, bdfOf(rid));
}

/** What a request of `rid` to bus frame `dfn` would find in the tables. */
export function translationOf(machine: Machine, rid: Sbdf, dfn: number): Translation | undefined {
  const unit = machine.unitFor(rid);
  const entry = entryOf(machine, rid);
  return unit === undefined || entry === undefined ? undefined : walk(machine, unit, entry, dfn);
}

export function walk(
  machine: Machine,
  unit: IommuUnit,
  entry: TableEntry,
  dfn: number,
): Translation | undefined {
  const memory = memoryOf(machine, unit);
  return unit instanceof VtdUnit ? walkVtd(memory, entry, dfn) : walkAmd(memory, entry, dfn);
}
