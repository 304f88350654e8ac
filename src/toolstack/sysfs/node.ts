/** What a path can name: made anew at each look-up for /sys and /proc, kept in memory for ordinary files. */
import type { Errno, Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';

export interface VDir {
  readonly kind: 'dir';
  /** Names as readdir gives them, without `.` and `..`. */
  names(): string[];
  child(name: string): VNode | undefined;
}
export interface VLink {
  readonly kind: 'link';
  readonly target: string;
}
export interface VFile {
  readonly kind: 'file';
  /** Permission bits. */
  readonly mode: number;
  /** What `ls -l` and `stat` say: a page for an attribute. */
  size(): number;
  read(): string | Errno;
  /** One write(2); bytes taken or an errno. */
  write(text: string): Co<Rc>;
  pread?(offset: number, bytes: number): Uint8Array | Errno;
  pwrite?(offset: number, data: Uint8Array): Co<Rc>;
}
export type VNode = VDir | VLink | VFile;

/** A directory whose content is known when it is looked at. Names with an undefined node are left out. */
export class FixedDir implements VDir {
  readonly kind = 'dir';
  private readonly entries: Map<string, VNode>;
  constructor(entries: Iterable<readonly [string, VNode | undefined]>) {
    this.entries = new Map();
    for (const [name, node] of entries) if (node !== undefined) this.entries.set(name, node);
  }
  names(): string[] {
    return kernfsOrder([...this.entries.keys()]);
  }
  child(name: string): VNode | undefined {
    return this.entries.get(name);
  }
}

export const link = (target: string): VLink => ({ kind: 'link', target });

/** sysfs lists a directory in the order of a hash of the names. @linux fs/kernfs/dir.c kernfs_name_hash */
export function kernfsOrder(names: readonly string[]): string[] {
  const keyed = names.map((name) => ({ name, hash: kernfsHash(name) }));
  keyed.sort((a, b) => a.hash - b.hash || (a.name < b.name ? -1 : 1));
  return keyed.map((k) => k.name);
}

const GOLDEN_RATIO_64 = 0x61c8_8646_80b5_83ebn;

export function kernfsHash(name: string): number {
  let h = 0n;
  for (let i = 0; i < name.length; i++) {
    const c = BigInt(name.charCodeAt(i) & 0xff);
    h = BigInt.asUintN(64, (h + (c << 4n) + (c >> 4n)) * 11n);
  }
  const hash = Number(BigInt.asUintN(64, h * GOLDEN_RATIO_64) >> 32n) & 0x7fff_ffff;
  return hash < 2 ? hash + 2 : Math.min(hash, 0x7fff_fffe);
}
