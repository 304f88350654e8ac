/**
 * The tree of xenstored as immutable data: a state is one root, a change makes a new root (immer keeps the rest
 * shared). Children keep the order in which they were made, as the C xenstored does. @xen tools/xenstored/core.c
 */
import { type Draft, enableMapSet, enablePatches } from 'immer';
import { E, type Rc } from '../../base/errno.js';

enableMapSet();
enablePatches();

export interface XsNode {
  readonly value: string;
  /** Owner first: `n0`, `r3`, `w3`, `b3`. */
  readonly perms: readonly string[];
  readonly children: ReadonlyMap<string, XsNode>;
  /** Counts writes, so that writing the same value again is a change too: its watches fire. */
  readonly generation: number;
}

export const XS_LIMITS = {
  /** @xen XENSTORE_PAYLOAD_MAX */
  payloadBytes: 4096,
  /** @xen XENSTORE_ABS_PATH_MAX */
  pathBytes: 3072,
  /** Quota of a guest's node: value, permissions and child names. @xen hard_quotas[ACC_NODESZ] */
  guestNodeBytes: 2048,
  /** Nodes one guest may own. @xen hard_quotas[ACC_NODES] */
  guestNodes: 1000,
  /** Depth at which nobody looks any further; the path limit allows no more than this. */
  depth: 1536,
} as const;

export const emptyRoot = (): XsNode => ({ value: '', perms: ['n0'], children: new Map(), generation: 0 });

/**
 * The absolute form of a path, or -EINVAL: a relative one lies under the caller's home.
 * @xen tools/xenstored/core.c canonicalize, is_valid_nodename
 */
export function canonical(path: string, domid: number): string | typeof E.INVAL {
  if (path.length === 0 || path.length >= XS_LIMITS.pathBytes || !/^[-A-Za-z0-9/_@]*$/.test(path))
    return E.INVAL;
  const full = path.startsWith('/') ? path : `/local/domain/${domid}/${path}`;
  if (full === '/') return full;
  return full.endsWith('/') || full.includes('//') ? E.INVAL : full;
}

export const components = (path: string): string[] => (path === '/' ? [] : path.slice(1).split('/'));

export const parentOf = (path: string): string => {
  const at = path.lastIndexOf('/');
  return at <= 0 ? '/' : path.slice(0, at);
};

export function lookup<N extends XsNode | Draft<XsNode>>(root: N, path: string): N | undefined {
  let node: N = root;
  for (const name of components(path)) {
    const child = node.children.get(name);
    if (child === undefined) return undefined;
    node = child as N;
  }
  return node;
}

const domidOf = (perm: string): number => Number(perm.slice(1));

/** What `domid` may do with a node; dom0 may do everything. @xen tools/xenstored/core.c perm_for_conn */
export function allows(node: XsNode, domid: number, want: 'read' | 'write'): boolean {
  const owner = node.perms[0];
  if (domid === 0 || (owner !== undefined && domidOf(owner) === domid)) return true;
  const own = node.perms.slice(1).find((p) => domidOf(p) === domid);
  const kind = (own ?? owner ?? 'n')[0];
  return kind === 'b' || kind === (want === 'read' ? 'r' : 'w');
}

/** `n0`, `r12`, `w1`, `b7`. */
export const isPerm = (text: string): boolean => /^[nrwb]\d{1,5}$/.test(text);

/** Size of a node as the quota counts it. */
export const nodeBytes = (node: XsNode): number => {
  let bytes = node.value.length + node.perms.length * 8;
  for (const name of node.children.keys()) bytes += name.length + 1;
  return bytes;
};

export const checkValue = (value: string): Rc => (value.length > XS_LIMITS.payloadBytes ? E.TOOBIG : 0);
