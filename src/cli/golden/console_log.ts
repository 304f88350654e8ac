/**
 * The whole console of a recorded host, `serial-full.log.gz`: also what came while the recorder looked away, and what
 * guests printed. Where the file is missing, or a record is not found in it, there is only what the records have.
 */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { InputError } from '../../base/assert.js';
import { LIMITS } from '../../base/limits.js';
import { readBytes } from '../files.js';
import type { GoldenRecord } from './recording.js';

const FILE = 'serial-full.log.gz';
/** Lines of Xen, and of guests, which Xen's ring has too; dom0's are not in the ring. */
const RING = /^\((?:XEN|d\d+)\)/;
const isXens = (line: string): boolean => line.startsWith('(XEN)');

/** What the console had from the first line of a record, or of one of its debug keys, up to the next one's. */
interface Piece {
  readonly lines: readonly string[];
  /** How many of Xen's lines the record has; the others came after it. */
  readonly own: number;
}

const NOTHING: Piece = { lines: [], own: 0 };
/** Lines that a search looks at in one log, all records together; real logs take some thousands. */
const LOOKS_MAX = 10_000_000;

export class ConsoleLog {
  private readonly pieces = new Map<string, Piece>();

  /** @throws InputError: the file cannot be read or unpacked */
  constructor(dir: string, records: readonly GoldenRecord[]) {
    const all = readLines(path.join(dir, FILE));
    const parts = records.flatMap((r, i) => [
      { name: `${i}`, log: r.xen_log },
      ...Object.entries(r.debug_keys ?? {}).map(([key, log]) => ({ name: `${i} ${key}`, log })),
    ]);
    const found: { name: string; own: number; at: number }[] = [];
    const looks = { left: LOOKS_MAX };
    let next = 0;
    for (const { name, log } of parts) {
      const own = log.filter(isXens);
      if (own.length === 0) continue;
      const at = all === undefined ? undefined : findRun(all, own, next, looks);
      if (at === undefined)
        this.pieces.set(name, { lines: log.filter((l) => RING.test(l)), own: own.length });
      else {
        found.push({ name, own: own.length, at: at.start });
        next = at.end;
      }
    }
    found.forEach(({ name, own, at }, i) => {
      this.pieces.set(name, { lines: all!.slice(at, found[i + 1]?.at), own });
    });
  }

  private piece(record: number, key?: string): Piece {
    return this.pieces.get(key === undefined ? `${record}` : `${record} ${key}`) ?? NOTHING;
  }

  /** Lines of a record, or of one of its debug keys, those of guests among and behind them. */
  shown(record: number, key?: string): string[] {
    const { lines, own } = this.piece(record, key);
    let left = own;
    return lines.filter((l) => !isXens(l) || left-- > 0);
  }

  /** Xen's lines that came between this record and the next one. */
  missed(record: number, keys: readonly string[]): string[] {
    return [undefined, ...keys].flatMap((key) => {
      const { lines, own } = this.piece(record, key);
      return lines.filter(isXens).slice(own);
    });
  }
}

function readLines(file: string): string[] | undefined {
  if (!fs.existsSync(file)) return undefined;
  let text: string;
  try {
    text = gunzipSync(readBytes(file), { maxOutputLength: LIMITS.inputBytesMax }).toString('latin1');
  } catch (e) {
    if (e instanceof InputError) throw e;
    throw new InputError(file, '', 'cannot be unpacked', 'remove it');
  }
  return text
    .replaceAll('\r', '')
    .split('\n')
    .filter((l) => RING.test(l));
}

/**
 * Where Xen's lines `run` follow each other, those of guests between them, at or after `from`; undefined also when so
 * many lines are alike that nobody looks any further.
 */
function findRun(
  all: readonly string[],
  run: readonly string[],
  from: number,
  looks: { left: number },
): { start: number; end: number } | undefined {
  for (let start = from; start < all.length && looks.left > 0; start++) {
    looks.left -= 1;
    if (all[start] !== run[0]) continue;
    let at = start;
    let n = 0;
    for (; at < all.length && n < run.length; at++) {
      looks.left -= 1;
      if (all[at] === run[n]) n += 1;
      else if (isXens(all[at]!)) break;
    }
    if (n === run.length) return { start, end: at };
  }
  return undefined;
}
