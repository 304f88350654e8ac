/**
 * Virtual functions in a dump: they were on when it was taken. A machine that is switched on has none; each comes back
 * when software enables it in its physical function, which keeps what the dump says of them.
 */
import { formatSbdf, type Sbdf } from '../base/sbdf.js';
import type { FunctionDescription } from './host_description.js';
import type { Detail } from './lspci_text.js';
import { findSriov } from './power_on.js';

export interface VirtualListing {
  readonly described: FunctionDescription;
  readonly regions: readonly Extract<Detail, { kind: 'region' }>[];
  readonly line: number;
  readonly address: string;
}

/** A virtual function has no ids of its own (PCIe 9.3.4.1.1, 9.3.4.1.2), but class and header like any other. */
export const isVirtual = (config: ArrayLike<number>): boolean =>
  config[0] === 0xff &&
  config[1] === 0xff &&
  config[2] === 0xff &&
  config[3] === 0xff &&
  (config[0x0e]! & 0x7f) === 0 &&
  config[0x0b] !== 0xff;

/**
 * Gives each physical function what was learned of its virtual ones: the sizes of their registers, name and driver.
 * Those that have their physical function's ids in spite of the specification are taken out of `functions`.
 */
export function foldVirtual(
  functions: Map<Sbdf, FunctionDescription>,
  listings: readonly VirtualListing[],
  notes: string[],
): void {
  const left = new Map(listings.map((v) => [v.described.sbdf, v]));
  for (const pf of [...functions.values()]) {
    const all = virtualOf(pf);
    const mine = all.flatMap((at) => left.get(at) ?? []);
    for (const at of all) {
      left.delete(at);
      functions.delete(at);
    }
    if (all.length === 0) continue;
    if (mine.length > 0) functions.set(pf.sbdf, withVirtual(pf, mine));
    const name = formatSbdf(pf.sbdf);
    const attribute = `/sys/bus/pci/devices/${name}/sriov_numvfs`;
    notes.push(
      `${name} had ${all.length} virtual functions; \`echo ${all.length} > ${attribute}\` enables them`,
    );
  }
  for (const { address, line } of left.values()) {
    notes.push(`line ${line}: ${address} is a virtual function without its physical one and is left out`);
  }
}

/** Where the virtual functions are that are on (PCIe 9.2.1.2). */
function virtualOf(pf: FunctionDescription): Sbdf[] {
  const at = findSriov(pf.config);
  if (at === 0 || (pf.config[at + 8]! & 1) === 0) return [];
  const word = (i: number): number => pf.config[at + i]! + pf.config[at + i + 1]! * 256;
  const count = Math.min(word(0x10), word(0x0e));
  const inSegment = (pf.sbdf % 0x1_0000) + word(0x14) + (count - 1) * word(0x16) < 0x1_0000;
  if (word(0x14) === 0 || !inSegment) return [];
  return Array.from({ length: count }, (_, i) => pf.sbdf + word(0x14) + i * word(0x16));
}

/** The registers of virtual functions are in the physical one: their listings tell sizes alone. */
function withVirtual(pf: FunctionDescription, mine: readonly VirtualListing[]): FunctionDescription {
  const barBytes = Array.from({ length: 13 }, (_, i) => pf.barBytes?.[i]);
  for (const { index, bytes } of mine.flatMap((v) => v.regions)) {
    if (index !== undefined && index < 6) barBytes[7 + index] ??= bytes;
  }
  const name = mine.find((v) => v.described.name !== undefined)?.described.name;
  const driver = mine.find((v) => v.described.driver !== undefined)?.described.driver;
  const virtual = { ...(name === undefined ? {} : { name }), ...(driver === undefined ? {} : { driver }) };
  return { ...pf, barBytes, virtual };
}
