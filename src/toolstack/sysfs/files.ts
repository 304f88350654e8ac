/** dom0's file tree: ordinary files in memory, /sys and /proc made on the way. */
import { E, type Errno, isErr, type Rc } from '../../base/errno.js';
import { LIMITS } from '../../base/limits.js';
import type { Clock } from '../../sim/clock.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { Faults } from '../../sim/faults.js';
import type { FileKind, Vfs } from '../dom0.js';
import { EFBIG, EISDIR, ELOOP, ENAMETOOLONG, ENOTDIR, EROFS } from '../kernel/errno.js';
import type { VDir, VFile, VNode } from './node.js';
import type { Sysfs } from './tree.js';

export class MemoryFile implements VFile {
  readonly kind = 'file';
  readonly mode = 0o644;
  constructor(public text: string) {}
  size(): number {
    return this.text.length;
  }
  read(): string {
    return this.text;
  }
  *write(text: string): Co<Rc> {
    if (text.length > LIMITS.inputBytesMax) return EFBIG;
    this.text = text;
    return text.length;
  }
}

export class MemoryDir implements VDir {
  readonly kind = 'dir';
  readonly entries = new Map<string, MemoryDir | MemoryFile>();
  names(): string[] {
    return [...this.entries.keys()];
  }
  child(name: string): VNode | undefined {
    return this.entries.get(name);
  }
}

/** By timeout(1). */
export class ProcessKilled extends Error {}

interface Found {
  /** Without links. */
  readonly path: string;
  readonly node: VNode;
}
/** Disks of dom0, three partitions each: what guests are given in `disk=`. They hold nothing. */
const DISKS = ['sda', 'sdb', 'sdc', 'sdd'];
const LINKS_MAX = 40;
const PATH_MAX = 4096;

/** The current directory stays what it is: commands are given whole paths or paths below /root. */
export class Dom0Files implements Vfs {
  private readonly root = new MemoryDir();
  cwd = '/root';
  /** Who is in the kernel at this time is killed once he leaves it. */
  deadlineNs = Number.POSITIVE_INFINITY;

  constructor(
    private readonly sysfs: Sysfs,
    private readonly events: EventStream,
    private readonly faults: Faults,
    private readonly clock: Clock,
  ) {
    for (const dir of [
      '/root',
      '/etc/xen',
      '/tmp',
      '/dev',
      '/var/log/xen/console',
      '/var/run/xen',
      '/var/lib/xen',
      '/usr/lib',
      '/boot',
    ])
      this.mkdirs(dir);
    for (const disk of DISKS) for (const part of ['', '1', '2', '3']) this.install(`/dev/${disk}${part}`, '');
  }

  /** Puts an ordinary file where it belongs, with the directories that lead to it. */
  install(path: string, text: string): void {
    const at = path.lastIndexOf('/');
    this.mkdirs(path.slice(0, at)).entries.set(path.slice(at + 1), new MemoryFile(text));
  }
  mkdirs(path: string): MemoryDir {
    let dir = this.root;
    for (const name of path.split('/').filter((n) => n !== '')) {
      let next = dir.entries.get(name);
      if (!(next instanceof MemoryDir)) {
        next = new MemoryDir();
        dir.entries.set(name, next);
      }
      dir = next;
    }
    return dir;
  }

  private top(name: string): VNode | undefined {
    if (name === 'sys') return this.sysfs.sys();
    if (name === 'proc') return this.sysfs.procDir();
    return this.root.child(name);
  }

  /** @posix path resolution: -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG. */
  private walk(path: string, follow: boolean): Found | Errno {
    if (path === '') return E.NOENT;
    if (path.length > PATH_MAX) return ENAMETOOLONG as Errno;
    const todo = (path.startsWith('/') ? path : `${this.cwd}/${path}`).split('/').reverse();
    const trail: Found[] = [{ path: '/', node: this.root }];
    for (let links = 0; todo.length > 0; ) {
      const name = todo.pop()!;
      const here = trail[trail.length - 1]!;
      if (here.node.kind !== 'dir') return ENOTDIR as Errno;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const node = trail.length === 1 ? this.top(name) : here.node.child(name);
      if (node === undefined) return E.NOENT;
      if (node.kind === 'link' && (follow || todo.length > 0)) {
        if (++links > LINKS_MAX) return ELOOP as Errno;
        if (node.target.startsWith('/')) trail.length = 1;
        todo.push(...node.target.split('/').reverse());
        continue;
      }
      trail.push({ path: here.path === '/' ? `/${name}` : `${here.path}/${name}`, node });
    }
    return trail[trail.length - 1]!;
  }

  stat(path: string, follow = true): { kind: FileKind; mode: number; size: number; target?: string } | Errno {
    const f = this.walk(path, follow);
    if (isErr(f)) return f;
    const { node } = f;
    if (node.kind === 'dir') return { kind: 'dir', mode: 0o755, size: isKernelPath(f.path) ? 0 : 4096 };
    if (node.kind === 'link') return { kind: 'link', mode: 0o777, size: 0, target: node.target };
    return { kind: 'file', mode: node.mode, size: node.size() };
  }

  readFile(path: string): string | Errno {
    const f = this.walk(path, true);
    if (isErr(f)) return f;
    if (f.node.kind !== 'file') return EISDIR as Errno;
    if ((f.node.mode & 0o444) === 0) return E.ACCES;
    const kernel = isKernelPath(f.path);
    if (kernel && this.events.on) this.events.emit({ kind: 'sysfs', op: 'read', path: f.path });
    if (kernel && this.faults.on && this.faults.take('sysfs')) return E.IO;
    return f.node.read();
  }

  *writeFile(path: string, text: string): Co<Rc> {
    const f = this.walk(path, true);
    if (isErr(f)) return f === E.NOENT ? this.create(path, text) : f;
    if (f.node.kind !== 'file') return EISDIR;
    if ((f.node.mode & 0o222) === 0) return E.ACCES;
    const kernel = isKernelPath(f.path);
    if (kernel && this.events.on) this.events.emit({ kind: 'sysfs', op: 'write', path: f.path, value: text });
    if (kernel && this.faults.on && this.faults.take('sysfs')) return E.IO;
    // Nothing to write is no write(2) at all, so no attribute hears of it; and one write is one page at most.
    if (kernel && text === '') return 0;
    const rc = yield* f.node.write(kernel ? text.slice(0, 4096) : text);
    if (this.clock.nowNs > this.deadlineNs) throw new ProcessKilled();
    return rc;
  }

  private create(path: string, text: string): Rc {
    const dir = this.parentDir(path);
    if (isErr(dir)) return dir;
    if (text.length > LIMITS.inputBytesMax) return EFBIG;
    dir.dir.entries.set(dir.name, new MemoryFile(text));
    return text.length;
  }

  private parentDir(path: string): { dir: MemoryDir; name: string } | Errno {
    const at = path.lastIndexOf('/');
    const name = path.slice(at + 1);
    if (name === '' || name === '.' || name === '..') return EISDIR as Errno;
    const f = this.walk(at < 0 ? '.' : path.slice(0, at + 1), true);
    if (isErr(f)) return f;
    // Nothing can be made in /sys and /proc.
    if (f.node instanceof MemoryDir) return { dir: f.node, name };
    return f.node.kind === 'dir' ? E.ACCES : (ENOTDIR as Errno);
  }

  append(path: string, text: string): Rc {
    const f = this.walk(path, true);
    if (isErr(f)) return f === E.NOENT ? this.create(path, text) : f;
    if (!(f.node instanceof MemoryFile)) return f.node.kind === 'dir' ? EISDIR : E.ACCES;
    if (f.node.text.length + text.length > LIMITS.inputBytesMax) return EFBIG;
    f.node.text += text;
    return text.length;
  }

  remove(path: string): Rc {
    const f = this.walk(path, false);
    if (isErr(f)) return f;
    if (!(f.node instanceof MemoryFile)) return f.node.kind === 'dir' ? EISDIR : EROFS;
    const dir = this.parentDir(f.path);
    if (isErr(dir)) return dir;
    dir.dir.entries.delete(dir.name);
    return 0;
  }

  mkdir(path: string): Rc {
    if (!isErr(this.walk(path, true))) return E.EXIST;
    const dir = this.parentDir(path.replace(/\/+$/, ''));
    if (isErr(dir)) return dir;
    dir.dir.entries.set(dir.name, new MemoryDir());
    return 0;
  }

  lstat(path: string): FileKind | Errno {
    const f = this.walk(path, false);
    return isErr(f) ? f : f.node.kind;
  }
  exists(path: string): boolean {
    return !isErr(this.walk(path, true));
  }
  readlink(path: string): string | Errno {
    const f = this.walk(path, false);
    if (isErr(f)) return f;
    return f.node.kind === 'link' ? f.node.target : E.INVAL;
  }
  realpath(path: string): string | Errno {
    const f = this.walk(path, true);
    return isErr(f) ? f : f.path;
  }
  readdir(path: string): string[] | Errno {
    const f = this.walk(path, true);
    if (isErr(f)) return f;
    if (f.node.kind !== 'dir') return ENOTDIR as Errno;
    return f.path === '/' ? [...f.node.names(), 'proc', 'sys'] : f.node.names();
  }

  pread(path: string, offset: number, bytes: number): Uint8Array | Errno {
    const f = this.walk(path, true);
    if (isErr(f)) return f;
    if (f.node.kind !== 'file') return EISDIR as Errno;
    if (f.node.pread !== undefined) return f.node.pread(offset, bytes);
    const text = f.node.read();
    return isErr(text)
      ? text
      : Uint8Array.from(text.slice(offset, offset + bytes), (c) => c.charCodeAt(0) & 0xff);
  }
  *pwrite(path: string, offset: number, data: Uint8Array): Co<Rc> {
    const f = this.walk(path, true);
    if (isErr(f)) return f;
    if (f.node.kind !== 'file') return EISDIR;
    return f.node.pwrite === undefined ? E.INVAL : yield* f.node.pwrite(offset, data);
  }
}

const isKernelPath = (path: string): boolean => path.startsWith('/sys/') || path.startsWith('/proc/');
