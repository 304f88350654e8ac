/** IVRS tables for the tests of AMD-Vi. */
import { IVMD_TYPE, type Ivhd, type IvhdEntry, type Ivmd, parseIvrs } from '../../src/iommu/format/ivrs.js';
import { QEMU_FEATURES } from '../../src/iommu/hw/amd/unit.js';

export const UNIT_BASE = 0xfeb8_0000;
export const UNIT_BDF = 0x0002;

const select = (id: number): IvhdEntry => ({ type: 2, id, data: 0 });
export const range = (first: number, last: number): IvhdEntry[] => [
  { type: 3, id: first, data: 0 },
  { type: 4, id: last, data: 0 },
];
export const aliasRange = (first: number, last: number, alias: number): IvhdEntry[] => [
  { type: 67, id: first, data: 0, byte4: 0, usedId: alias, byte7: 0 },
  { type: 4, id: last, data: 0 },
];
export const sbIoapic: IvhdEntry = { type: 72, id: 0, data: 0, byte4: 0, usedId: 0xa0, byte7: 1 };
export const ivhd = (entries: readonly IvhdEntry[], change: Partial<Ivhd> = {}): Ivhd => ({
  kind: 'ivhd',
  type: 0x11,
  flags: 0xb0,
  deviceId: UNIT_BDF,
  capOffset: 0x40,
  base: UNIT_BASE,
  segment: 0,
  info: 0,
  attr: 0,
  efr: [QEMU_FEATURES[0], QEMU_FEATURES[1]],
  efr2: [0, 0],
  entries: [...entries],
  ...change,
});

export const ivmd = (change: Partial<Ivmd>): Ivmd => ({
  kind: 'ivmd',
  type: IVMD_TYPE.ONE,
  flags: 7,
  deviceId: 0x200,
  auxData: 0,
  reserved: [0, 0],
  start: 0x7000_0000,
  length: 0x1000,
  rest: new Uint8Array(0),
  ...change,
});

export const DEFAULT_ENTRIES: readonly IvhdEntry[] = [
  select(0),
  ...range(0x100, 0x3ff),
  select(0x800),
  ...aliasRange(0x900, 0x9ff, 0x900),
  sbIoapic,
];

/** One IVHD for each unit, where the table has some that can be read. */
export function unitsOf(table: Uint8Array): Ivhd[] {
  try {
    const all = parseIvrs(table).blocks.filter((b): b is Ivhd => b.kind === 'ivhd');
    return all.filter((b, i) => all.findIndex((o) => o.deviceId === b.deviceId) === i);
  } catch {
    return [];
  }
}
