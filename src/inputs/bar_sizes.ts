/** Sizes of base address registers that a dump does not tell: no larger than the way to the next one. */
import { barAddress } from '../pci/bars.js';
import { ConfigSpace } from '../pci/config_space.js';
import type { FunctionDescription } from './host_description.js';

interface Placed {
  readonly at: number;
  readonly fn: number;
  readonly index: number;
  /** Known from the dump, else guessed from the alignment. */
  readonly bytes: number;
  readonly known: boolean;
}

/** Fills in what is undefined, so that no two ranges of a segment overlap. */
export function boundSizes(functions: readonly FunctionDescription[]): FunctionDescription[] {
  const spaces = new Map<string, Placed[]>();
  functions.forEach((f, fn) => {
    const space = new ConfigSpace(f.config, f.barBytes);
    for (const bar of space.bars) {
      const at = barAddress(space.words, bar);
      const known = f.barBytes?.[bar.index] !== undefined;
      const key = `${f.sbdf >>> 16} ${bar.kind === 'io' ? 'io' : 'memory'}`;
      if (at === 0 || (bar.kind === 'rom' && (space.words[bar.word]! & 1) === 0 && !known)) continue;
      const list = spaces.get(key) ?? [];
      list.push({ at, fn, index: bar.index, bytes: bar.bytes, known });
      spaces.set(key, list);
    }
  });
  const sizes = functions.map((f) => [...(f.barBytes ?? new Array(7).fill(undefined))]);
  for (const list of spaces.values()) {
    list.sort((a, b) => a.at - b.at);
    list.forEach((bar, i) => {
      if (!bar.known) sizes[bar.fn]![bar.index] = roomFor(bar, list[i + 1]);
    });
  }
  return functions.map((f, fn) => ({ ...f, barBytes: sizes[fn]! }));
}

/** The guess, halved until it ends before the next range. Two registers at one address are left as they are. */
function roomFor(bar: Placed, next: Placed | undefined): number {
  let bytes = bar.bytes;
  if (next === undefined || next.at === bar.at) return bytes;
  while (bytes > 4 && bar.at + bytes > next.at) bytes /= 2;
  return bytes;
}
