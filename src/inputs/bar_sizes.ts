/** Sizes of base address registers that a dump does not tell: no larger than the way to the next one. */
import { type Bar, barsAt } from '../pci/bars.js';
import { ConfigSpace } from '../pci/config_space.js';
import { SRIOV_BAR_WORD } from '../pci/registers.js';
import type { FunctionDescription } from './host_description.js';
import { findSriov } from './power_on.js';

interface Placed {
  readonly at: number;
  readonly fn: number;
  readonly index: number;
  /** How many of them lie side by side: one for each virtual function. */
  readonly count: number;
  /** Known from the dump, else guessed from the alignment. */
  readonly bytes: number;
  readonly known: boolean;
}

const FIRST_VIRTUAL = 7;

/** Fills in what is undefined, so that no two ranges of a segment overlap. */
export function boundSizes(functions: readonly FunctionDescription[]): FunctionDescription[] {
  const spaces = new Map<string, Placed[]>();
  functions.forEach((f, fn) => {
    const space = new ConfigSpace(f.config, f.barBytes);
    const place = (bar: Bar, index: number, count: number): void => {
      const at = space.barAddress(bar);
      const known = f.barBytes?.[index] !== undefined;
      const key = `${f.sbdf >>> 16} ${bar.kind === 'io' ? 'io' : 'memory'}`;
      if (at === 0 || (bar.kind === 'rom' && (space.word(bar.word) & 1) === 0 && !known)) return;
      const list = spaces.get(key) ?? [];
      list.push({ at, fn, index, count, bytes: bar.bytes, known });
      spaces.set(key, list);
    };
    for (const bar of space.bars) place(bar, bar.index, 1);
    const sriov = findSriov(f.config);
    if (sriov === 0) return;
    const total = f.config[sriov + 0x0e]! + f.config[sriov + 0x0f]! * 256;
    const first = (sriov >>> 2) + SRIOV_BAR_WORD;
    for (const bar of barsAt(space.save(), first, 6, f.barBytes, FIRST_VIRTUAL))
      place(bar, FIRST_VIRTUAL + bar.index, Math.max(total, 1));
  });
  const sizes = functions.map((f) => [...(f.barBytes ?? new Array(FIRST_VIRTUAL).fill(undefined))]);
  for (const list of spaces.values()) {
    list.sort((a, b) => a.at - b.at);
    list.forEach((bar, i) => {
      if (!bar.known) sizes[bar.fn]![bar.index] = roomFor(bar, list[i + 1]);
    });
  }
  return functions.map((f, fn) => ({ ...f, barBytes: Array.from(sizes[fn]!) }));
}

/** Virtual functions have whole pages. */
const PAGE = 4096;

/** The guess, halved until it ends before the next range. Two registers at one address are left as they are. */
function roomFor(bar: Placed, next: Placed | undefined): number {
  let bytes = bar.bytes;
  if (next === undefined || next.at === bar.at) return bytes;
  const least = bar.index < FIRST_VIRTUAL ? 4 : PAGE;
  while (bytes > least && bar.at + bytes * bar.count > next.at) bytes /= 2;
  return bytes;
}
