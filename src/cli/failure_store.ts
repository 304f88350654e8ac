/** Failures that runs have found, one file each in a folder: they are replayed before anything new is tried. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { InputError } from '../base/assert.js';
import type { BlockFailure } from '../check/blocks.js';
import { readBytes } from './files.js';

export interface Stored {
  readonly file: string;
  readonly token: string;
}

const TOKEN_LINE = /^replay: (xp1\.\S+)$/m;
/** Files that are looked at. */
const FILES_MAX = 1000;

/** What the folder holds; one that does not exist is empty. @throws InputError for a file without a token */
export function readStore(folder: string): Stored[] {
  if (!fs.existsSync(folder)) return [];
  const names = fs.readdirSync(folder).filter((n) => n.endsWith('.txt'));
  return names
    .sort()
    .slice(0, FILES_MAX)
    .map((name) => {
      const file = path.join(folder, name);
      const token = TOKEN_LINE.exec(Buffer.from(readBytes(file)).toString('utf8'))?.[1];
      if (token !== undefined) return { file, token };
      throw new InputError(file, '', 'has no line "replay: xp1.…"', 'delete it, or name another --store');
    });
}

/** Keeps a failure under a name of its own. Returns the file. */
export function keepFailure(folder: string, f: BlockFailure): string {
  const digest = createHash('sha256').update(f.token).digest('hex').slice(0, 8);
  const file = path.join(folder, `${f.vendor}-${f.id}-${digest}.txt`);
  try {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(file, `${f.report}\n`);
  } catch (e) {
    const code = (e as { code?: string }).code ?? '';
    throw new InputError(file, '', `cannot be written (${code})`, 'name another --store, or give --no-store');
  }
  return file;
}

/** A failure that no longer fails has done its work. */
export const forget = (s: Stored): void => fs.rmSync(s.file, { force: true });
