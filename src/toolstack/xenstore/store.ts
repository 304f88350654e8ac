/**
 * xenstored: a transaction is an immer draft, and the patches of its commit fire the watches. Watches are only
 * queued; `settle` delivers them, because who reacts may have to call Xen. @xen tools/xenstored
 */
import { type Draft, type Patch, produceWithPatches } from 'immer';
import { assert } from '../../base/assert.js';
import { E, isErr, type Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { EventStream } from '../../sim/events.js';
import type { Faults } from '../../sim/faults.js';
import type { Xenstore, XenstoreView } from '../dom0.js';
import {
  allows,
  canonical,
  checkValue,
  components,
  emptyRoot,
  isPerm,
  lookup,
  nodeBytes,
  parentOf,
  XS_LIMITS,
  type XsNode,
} from './node.js';

/** Who watches: a driver of a kernel, never a closure. */
export interface XsWatcher {
  xsChanged(path: string, token: string): Co<void>;
}
interface Watch {
  readonly path: string;
  readonly token: string;
  readonly watcher: XsWatcher;
}

/** Deliveries in one `settle` before it is called a livelock of two drivers. */
const DELIVERIES_MAX = 200_000;

export class XenstoreDaemon implements Xenstore {
  root: XsNode = emptyRoot();
  /** By watched path. */
  private readonly watches = new Map<string, Watch[]>();
  private readonly pending: { watch: Watch; path: string }[] = [];
  /** Nodes owned by each guest, for the quota. */
  private readonly owned = new Map<number, number>();
  private settling = false;

  constructor(
    private readonly events: EventStream,
    readonly faults: Faults,
  ) {}

  read(path: string): string | undefined {
    const full = canonical(path, 0);
    return isErr(full) ? undefined : lookup(this.root, full)?.value;
  }
  ls(path: string): string[] | undefined {
    const full = canonical(path, 0);
    const node = isErr(full) ? undefined : lookup(this.root, full);
    return node === undefined ? undefined : [...node.children.keys()];
  }
  perms(path: string): readonly string[] | undefined {
    const full = canonical(path, 0);
    return isErr(full) ? undefined : lookup(this.root, full)?.perms;
  }
  write(path: string, value: string): Rc {
    return this.transaction((t) => t.write(path, value));
  }
  mkdir(path: string): Rc {
    return this.transaction((t) => t.mkdir(path));
  }
  rm(path: string): Rc {
    return this.transaction((t) => t.rm(path));
  }
  transaction(body: (t: XenstoreView) => Rc): Rc {
    return this.transactionAs(0, body);
  }
  /**
   * Also for what lies below and still has the rights it inherited: libxl gives a node its rights before it fills it,
   * and here the call may come after. xenstore-chmod goes through a transaction and reaches one node.
   */
  setPerms(path: string, perms: readonly string[]): Rc {
    return this.transactionAs(0, (t) => t.setPermsBelow(path, perms));
  }

  /** The store as domain `domid` sees it: its home, its rights, its quota. */
  transactionAs(domid: number, body: (t: DraftView) => Rc): Rc {
    let rc: Rc = 0;
    const owned = new Map(this.owned);
    const log: Change[] = [];
    const [next, patches] = produceWithPatches(this.root, (draft) => {
      rc = body(new DraftView(draft, domid, log, owned, this.faults));
    });
    // A transaction can fail as a whole, too, when it is to be committed.
    if (rc === 0 && log.length > 1 && this.faults.on && this.faults.take('xenstore')) rc = E.NOMEM;
    if (rc !== 0) {
      if (this.events.on) this.events.emit({ kind: 'xenstore', op: 'abort', path: '' });
      return rc;
    }
    this.root = next;
    this.owned.clear();
    for (const [id, n] of owned) this.owned.set(id, n);
    this.committed(log, patches);
    return 0;
  }

  /** Fires at once for its own path, as xenstored does. @xen tools/xenstored/watch.c do_watch */
  watch(path: string, token: string, watcher: XsWatcher): void {
    const full = path.startsWith('@') ? path : canonical(path, 0);
    assert(!isErr(full), `the watched path is valid (${path})`);
    const watch = { path: full, token, watcher };
    const there = this.watches.get(full);
    if (there === undefined) this.watches.set(full, [watch]);
    else there.push(watch);
    this.pending.push({ watch, path: full });
    if (this.events.on) this.events.emit({ kind: 'xenstore', op: 'watch', path: full });
  }

  unwatch(path: string, token: string, watcher: XsWatcher): void {
    const there = this.watches.get(path);
    const at = there?.findIndex((w) => w.token === token && w.watcher === watcher) ?? -1;
    if (there === undefined || at < 0) return;
    const [gone] = there.splice(at, 1);
    if (there.length === 0) this.watches.delete(path);
    for (let i = this.pending.length - 1; i >= 0; i--) {
      if (this.pending[i]!.watch === gone) this.pending.splice(i, 1);
    }
  }

  /** `@introduceDomain` and `@releaseDomain`. */
  fireSpecial(name: '@introduceDomain' | '@releaseDomain'): void {
    for (const watch of this.watches.get(name) ?? []) this.pending.push({ watch, path: name });
  }

  /** Delivers what is queued, and what that queues, until nothing is left. */
  *settle(): Co<void> {
    if (this.settling) return;
    this.settling = true;
    try {
      for (let n = 0; this.pending.length > 0; n++) {
        assert(n < DELIVERIES_MAX, 'xenstore comes to rest');
        const { watch, path } = this.pending.shift()!;
        yield* watch.watcher.xsChanged(path, watch.token);
      }
    } finally {
      this.settling = false;
    }
  }

  /** A transaction that changed nothing fires nothing: only paths that a patch touches count. */
  private committed(log: readonly Change[], patches: readonly Patch[]): void {
    const changed = new Set(patches.map(pathOfPatch));
    for (const c of log) {
      if (!underAny(changed, c.path)) continue;
      if (this.events.on) {
        const value = c.value === undefined ? {} : { value: c.value };
        this.events.emit({ kind: 'xenstore', op: c.op, path: c.path, ...value });
      }
      this.fire(c.path, c.op === 'rm');
    }
    if (this.events.on) this.events.emit({ kind: 'xenstore', op: 'commit', path: '' });
  }

  private fire(path: string, removed: boolean): void {
    for (let p = path; ; p = parentOf(p)) {
      for (const watch of this.watches.get(p) ?? []) this.pending.push({ watch, path });
      if (p === '/') break;
    }
    if (!removed) return;
    const prefix = `${path}/`;
    for (const [p, list] of this.watches) {
      if (p.startsWith(prefix)) for (const watch of list) this.pending.push({ watch, path: p });
    }
  }
}

interface Change {
  readonly op: 'write' | 'mkdir' | 'rm';
  readonly path: string;
  readonly value?: string;
}

/** `['children', 'local', 'children', 'domain', 'value']` is `/local/domain`. */
function pathOfPatch(patch: Patch): string {
  let path = '';
  for (let i = 0; i + 1 < patch.path.length && patch.path[i] === 'children'; i += 2) {
    path += `/${String(patch.path[i + 1])}`;
  }
  return path === '' ? '/' : path;
}

function underAny(changed: ReadonlySet<string>, path: string): boolean {
  for (let p = path; ; p = parentOf(p)) {
    if (changed.has(p)) return true;
    if (p === '/') return false;
  }
}

/** One transaction in the eyes of one domain. */
export class DraftView implements XenstoreView {
  constructor(
    private readonly root: Draft<XsNode>,
    private readonly domid: number,
    private readonly log: Change[],
    private readonly owned: Map<number, number>,
    private readonly faults: Faults,
  ) {}

  read(path: string): string | undefined {
    return this.readable(path)?.value;
  }
  ls(path: string): string[] | undefined {
    const node = this.readable(path);
    return node === undefined ? undefined : [...node.children.keys()];
  }

  write(path: string, value: string): Rc {
    const rc = checkValue(value);
    if (rc !== 0) return rc;
    if (this.faults.on && this.faults.take('xenstore')) return E.NOMEM;
    const node = this.make(path);
    if (typeof node === 'number') return node;
    node.node.value = value;
    node.node.generation += 1;
    if (this.overQuota(node.node)) return E.NOSPC;
    this.log.push({ op: 'write', path: node.path, value });
    return 0;
  }

  mkdir(path: string): Rc {
    if (this.faults.on && this.faults.take('xenstore')) return E.NOMEM;
    const full = canonical(path, this.domid);
    if (isErr(full)) return full;
    if (lookup(this.root, full) !== undefined) return 0;
    const node = this.make(full);
    if (typeof node === 'number') return node;
    this.log.push({ op: 'mkdir', path: full });
    return 0;
  }

  /** What is gone already is fine where its parent is there. @xen tools/xenstore/xenstored_core.c do_rm */
  rm(path: string): Rc {
    if (this.faults.on && this.faults.take('xenstore')) return E.NOMEM;
    const full = canonical(path, this.domid);
    if (isErr(full)) return full;
    if (full === '/') return E.INVAL;
    const parent = lookup(this.root, parentOf(full));
    const name = full.slice(full.lastIndexOf('/') + 1);
    const node = parent?.children.get(name);
    if (parent === undefined) return E.NOENT;
    if (node === undefined) return allows(parent, this.domid, 'write') ? 0 : E.ACCES;
    if (!allows(node, this.domid, 'write')) return E.ACCES;
    this.count(node, -1);
    parent.children.delete(name);
    this.log.push({ op: 'rm', path: full });
    return 0;
  }

  setPerms(path: string, perms: readonly string[]): Rc {
    const full = canonical(path, this.domid);
    if (isErr(full) || perms.length === 0 || !perms.every(isPerm)) return E.INVAL;
    if (this.faults.on && this.faults.take('xenstore')) return E.NOMEM;
    const node = lookup(this.root, full);
    if (node === undefined) return E.NOENT;
    if (!allows(node, this.domid, 'write')) return E.ACCES;
    this.own(ownerOf(node), -1);
    node.perms = [...perms];
    this.own(ownerOf(node), 1);
    node.generation += 1;
    this.log.push({ op: 'write', path: full, value: node.value });
    return 0;
  }

  setPermsBelow(path: string, perms: readonly string[]): Rc {
    const full = canonical(path, this.domid);
    const node = isErr(full) ? undefined : lookup(this.root, full);
    const inherited = node?.perms.join(',');
    const rc = this.setPerms(path, perms);
    if (rc !== 0 || node === undefined || isErr(full)) return rc;
    for (const [name, child] of node.children) {
      if (child.perms.join(',') === inherited)
        this.setPermsBelow(full === '/' ? `/${name}` : `${full}/${name}`, perms);
    }
    return 0;
  }

  private readable(path: string): Draft<XsNode> | undefined {
    const full = canonical(path, this.domid);
    const node = isErr(full) ? undefined : lookup(this.root, full);
    return node !== undefined && allows(node, this.domid, 'read') ? node : undefined;
  }

  /** The node, made with its missing parents: they take the rights of the nearest one that exists. */
  private make(path: string): { node: Draft<XsNode>; path: string } | Rc {
    const full = canonical(path, this.domid);
    if (isErr(full)) return full;
    let node = this.root;
    for (const name of components(full)) {
      let child = node.children.get(name);
      if (child === undefined) {
        if (!allows(node, this.domid, 'write')) return E.ACCES;
        const perms = this.domid === 0 ? [...node.perms] : [`n${this.domid}`, ...node.perms.slice(1)];
        node.children.set(name, { value: '', perms, children: new Map(), generation: 0 });
        child = node.children.get(name)!;
        if (this.own(ownerOf(child), 1) > XS_LIMITS.guestNodes && this.domid !== 0) return E.NOSPC;
      }
      node = child;
    }
    return allows(node, this.domid, 'write') ? { node, path: full } : E.ACCES;
  }

  private overQuota(node: Draft<XsNode>): boolean {
    return this.domid !== 0 && nodeBytes(node) > XS_LIMITS.guestNodeBytes;
  }
  private own(domid: number, by: number): number {
    if (domid === 0) return 0;
    const n = (this.owned.get(domid) ?? 0) + by;
    if (n === 0) this.owned.delete(domid);
    else this.owned.set(domid, n);
    return n;
  }
  private count(node: Draft<XsNode>, by: number): void {
    this.own(ownerOf(node), by);
    for (const child of node.children.values()) this.count(child, by);
  }
}

const ownerOf = (node: XsNode): number => Number((node.perms[0] ?? 'n0').slice(1));
