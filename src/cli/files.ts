/** Reads what a user names on the command line, within bounds. */
import fs from 'node:fs';
import path from 'node:path';
import { InputError } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import { HOST_FILES, type HostInput, readHost, readHostFile } from '../inputs/host.js';

/** @throws InputError: no such file, a folder, too big, unreadable */
export function readBytes(name: string): Uint8Array {
  try {
    const s = fs.statSync(name);
    if (s.isDirectory()) throw new InputError(name, '', 'is a folder', 'name a file');
    if (s.size > LIMITS.inputBytesMax) throw tooBig(name);
    return s.isFile() ? fs.readFileSync(name) : readStream(name);
  } catch (e) {
    throw e instanceof InputError ? e : unreadable(name, e);
  }
}

const tooBig = (name: string): InputError =>
  new InputError(name, '', `is bigger than ${LIMITS.inputBytesMax / 2 ** 20} MiB`, 'give a smaller file');

/** A pipe or a device, of which nobody knows the size before its end. */
function readStream(name: string): Uint8Array {
  const fd = fs.openSync(name, 'r');
  try {
    const pieces: Uint8Array[] = [];
    let total = 0;
    for (;;) {
      const piece = new Uint8Array(PIECE);
      const n = fs.readSync(fd, piece);
      if (n === 0) return Buffer.concat(pieces);
      total += n;
      if (total > LIMITS.inputBytesMax) throw tooBig(name);
      pieces.push(piece.subarray(0, n));
    }
  } finally {
    fs.closeSync(fd);
  }
}

const PIECE = 1 << 20;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'permission denied',
  ENOTDIR: 'a part of the path is no folder',
};

function unreadable(name: string, e: unknown): InputError {
  const code = (e as { code?: string }).code ?? '';
  const reason = Object.hasOwn(REASONS, code) ? REASONS[code]! : `cannot be read (${code || String(e)})`;
  return new InputError(name, '', reason, 'check the path');
}

/** A folder with lspci.txt and what else is known of the machine, or a dump alone. */
export function readHostPath(name: string): HostInput {
  let isFolder: boolean;
  try {
    isFolder = fs.statSync(name).isDirectory();
  } catch (e) {
    throw unreadable(name, e);
  }
  if (!isFolder) return readHostFile(name, readBytes(name));
  const files = new Map<string, Uint8Array>();
  for (const file of HOST_FILES) {
    const at = path.join(name, file);
    if (fs.existsSync(at)) files.set(file, readBytes(at));
  }
  return readHost(name, files);
}

/** A folder that may be entered but not listed has nothing beside the script. */
function namesIn(dir: string): string[] {
  try {
    return fs.readdirSync(dir).sort();
  } catch {
    return [];
  }
}

/** Guest configurations that lie beside a script: dom0 finds them in /root. */
export function configurationsBeside(script: string): Record<string, string> {
  const files: Record<string, string> = {};
  const dir = path.dirname(path.resolve(script));
  for (const name of namesIn(dir)) {
    const at = path.join(dir, name);
    if (/^[\w.-]{1,64}\.cfg$/.test(name) && fs.statSync(at, { throwIfNoEntry: false })?.isFile() === true)
      files[`/root/${name}`] = Buffer.from(readBytes(at)).toString('latin1');
  }
  return files;
}
