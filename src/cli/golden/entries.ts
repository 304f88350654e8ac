/** Context entries and DTEs as lines: what is compared of them, and the tables they name. */
import type { NormalLine } from './normal_lines.js';

/** A context entry's fields, a DTE's four words, or nothing. */
type Entry =
  | {
      readonly P: number;
      readonly FPD: number;
      readonly TT: number;
      readonly SLPTPTR: string;
      readonly AW: number;
      readonly AVAIL: number;
      readonly DID: number;
    }
  | readonly string[]
  | null
  | undefined;

export function entryLine(bdf: string, e: Entry): NormalLine {
  if (e === null || e === undefined) return { key: `${bdf} absent`, names: [], text: `${bdf} absent` };
  return isDte(e) ? dteLine(bdf, e) : contextLine(bdf, e);
}

const isDte = (e: NonNullable<Entry>): e is readonly string[] => Array.isArray(e);

function contextLine(bdf: string, e: Exclude<Entry, readonly string[] | null | undefined>): NormalLine {
  const key = `${bdf} P=${e.P} FPD=${e.FPD} TT=${e.TT} AW=${e.AW} AVAIL=${e.AVAIL} DID=${e.DID}`;
  return { key, names: [e.SLPTPTR], text: `${key} root=${e.SLPTPTR}` };
}

/** Page table root: bits 51:12 of the first word; interrupt table: bits 51:6 of the third. */
const ROOT = 0xf_ffff_ffff_f000n;
const INTERRUPTS = 0xf_ffff_ffff_ffc0n;

function dteLine(bdf: string, words: readonly string[]): NormalLine {
  const q = words.map((w) => BigInt(w));
  const names: string[] = [];
  const without = (word: bigint, mask: bigint): string => {
    const address = word & mask;
    if (address !== 0n) names.push(`0x${address.toString(16)}`);
    const rest = (word & ~mask).toString(16).padStart(16, '0');
    return address === 0n ? rest : `${rest}+table`;
  };
  const key = `${bdf} ${without(q[0]!, ROOT)} ${q[1]!.toString(16)} ${without(q[2]!, INTERRUPTS)} ${q[3]!.toString(16)}`;
  return { key, names, text: `${bdf} ${words.join(' ')}` };
}
