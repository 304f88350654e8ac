/** The memory map of a machine, from the lines that Xen or Linux print at boot. */
import { InputError } from '../base/assert.js';
import { KnownBy } from '../base/same.js';
import type { E820Entry } from '../iommu/driver/types.js';
import { linesOf, textOf } from './text.js';

/** `(XEN)  [0000000000000000, 000000000009fbff] (usable)`: the end is the last byte. */
const XEN = /^(?:\(XEN\) )? *\[([0-9a-f]{16}), ([0-9a-f]{16})\] \(([\w ]+)\)$/i;
/** The same in Xen before 4.15: the end is the first byte behind. */
const OLD_XEN = /^(?:\(XEN\) )? *([0-9a-f]{16}) - ([0-9a-f]{16}) \(([\w ]+)\)$/i;
/** `BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable`, with or without a time stamp. */
const LINUX =
  /^(?:\[ *\d+\.\d+\] )?(?:BIOS-e820: )?\[mem 0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\] ([\w ()]+)$/i;

const ENTRIES_MAX = 1024;
/** x86 has 52 address bits. */
const ADDRESS_MAX = 2 ** 52;
const TYPES: readonly E820Entry['type'][] = ['usable', 'ACPI data', 'ACPI NVS', 'unusable'];

/**
 * The entries of the first map in the text, ascending. Other lines are passed over, so that a whole `xl dmesg` or
 * `dmesg` will do. What is neither usable, ACPI nor unusable counts as reserved.
 */
export function readE820(source: string, data: Uint8Array): E820Entry[] {
  const entries: (E820Entry & { readonly line: number })[] = [];
  const lines = linesOf(textOf(source, data));
  for (let i = 0; i < lines.length; i++) {
    const entry = parseLine(lines[i]!.trimEnd());
    if (entry !== undefined) entries.push({ ...check(source, entry, i + 1), line: i + 1 });
    else if (entries.length > 0) break;
    if (entries.length > ENTRIES_MAX) {
      throw new InputError(source, `line ${i + 1}`, `more than ${ENTRIES_MAX} ranges`, 'give one memory map');
    }
  }
  if (!entries.some((e) => e.type === 'usable')) {
    const remedy =
      'copy the lines under `Xen-e820 RAM map:` of `xl dmesg`, or the BIOS-e820 lines of `dmesg`';
    throw new InputError(source, '', 'no usable memory range in it', remedy);
  }
  entries.sort((a, b) => a.start - b.start);
  for (let i = 1; i < entries.length; i++) {
    if (entries[i]!.start < entries[i - 1]!.end) {
      const problem = 'this range overlaps another one';
      throw new InputError(
        source,
        `line ${entries[i]!.line}`,
        problem,
        'copy the map as the machine prints it',
      );
    }
  }
  return entries.map(({ start, end, type }) => ({ start, end, type }));
}

function parseLine(line: string): E820Entry | undefined {
  const old = OLD_XEN.exec(line);
  const m = old ?? XEN.exec(line) ?? LINUX.exec(line);
  if (m === null) return undefined;
  const type = TYPES.find((t) => t === m[3]) ?? 'reserved';
  const start = Number.parseInt(m[1]!, 16);
  return { start, end: Number.parseInt(m[2]!, 16) + (old === null ? 1 : 0), type };
}

function check(source: string, entry: E820Entry, line: number): E820Entry {
  if (entry.start < entry.end && entry.end <= ADDRESS_MAX) return entry;
  const problem = entry.end > ADDRESS_MAX ? 'an address above 52 bits' : 'the range ends before it starts';
  throw new InputError(source, `line ${line}`, problem, 'copy the map as the machine prints it');
}

/**
 * A usual map of a PC with `bytes` of memory: 2 GiB below 4 GiB and the rest above, ACPI tables at the end of low
 * memory. `bytes` is a multiple of 1 MiB and at least 128 MiB.
 */
export function defaultE820(bytes: number): E820Entry[] {
  const low = Math.min(bytes, 2 ** 31);
  const acpi = low - 2 ** 18;
  const map: E820Entry[] = [
    { start: 0, end: 0x9_fc00, type: 'usable' },
    { start: 0x9_fc00, end: 0xa_0000, type: 'reserved' },
    { start: 0xf_0000, end: 0x10_0000, type: 'reserved' },
    { start: 0x10_0000, end: acpi, type: 'usable' },
    { start: acpi, end: low, type: 'reserved' },
    { start: 0xb000_0000, end: 0xc000_0000, type: 'reserved' },
    { start: 0xfed1_c000, end: 0xfed2_0000, type: 'reserved' },
    { start: 0xfffc_0000, end: 2 ** 32, type: 'reserved' },
  ];
  if (bytes > low) map.push({ start: 2 ** 32, end: 2 ** 32 + bytes - low, type: 'usable' });
  return map;
}

/**
 * Frames behind which memory answers: the usable ranges, and what adjoins them. Firmware reserves parts of the memory
 * (ACPI tables, what an RMRR names); what it reserves elsewhere are registers.
 */
export const ramRanges = (e820: readonly E820Entry[]): readonly RamRange[] => known.of(e820);
interface RamRange {
  readonly start: number;
  readonly count: number;
}
const known = new KnownBy(findRam);

function findRam(e820: readonly E820Entry[]): readonly RamRange[] {
  const ranges: RamRange[] = [];
  let run: E820Entry[] = [];
  const close = (): void => {
    if (run.some((e) => e.type === 'usable')) {
      const start = Math.floor(run[0]!.start / 4096);
      const end = Math.floor(run[run.length - 1]!.end / 4096);
      if (end > start) ranges.push(Object.freeze({ start, count: end - start }));
    }
    run = [];
  };
  for (const e of e820) {
    // Memory stops at 4 GiB and begins again there, even where a map has no gap.
    if (run.length > 0 && (run[run.length - 1]!.end !== e.start || e.start === 2 ** 32)) close();
    run.push(e);
  }
  close();
  return ranges;
}
