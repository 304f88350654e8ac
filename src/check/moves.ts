/** Commands on the memory of a guest that take more than one step to book. */

import { P2M } from '../hypervisor/mm/p2m.js';
import type { MemoryOp } from '../hypervisor/public/memory.js';
import { AmdIommuUnit } from '../iommu/hw/amd/unit.js';
import { VtdUnit } from '../iommu/hw/vtd/unit.js';
import { runAlone } from '../sim/co.js';
import type { Command } from './commands.js';
import type { WorldDomain, WorldState } from './world_state.js';

/** Bus frame of the first small page of a guest. */
export const SMALL_PAGES = 0x100;

const NO_MEMORY = -12;

type OnMemory = Extract<Command, { op: 'move' | 'readOnly' | 'exchange' | 'transfer' | 'pod' | 'sharing' }>;

/** 0 or an errno; undefined where nothing was asked of Xen. */
export function changeMemory(w: WorldState, c: OnMemory, dom: WorldDomain): number | undefined {
  switch (c.op) {
    case 'move':
      return movePages(w, dom, SMALL_PAGES + c.from, SMALL_PAGES + c.to, c.count);
    case 'readOnly':
      return setReadOnly(w, dom, c.gfn, c.on);
    case 'exchange':
      return exchangePage(w, dom, c.page);
    case 'transfer':
      return transferPage(w, dom, w.domains[c.to % w.domains.length]!, c.page);
    case 'pod':
      return promise(w, dom, c.back === true);
    case 'sharing':
      return sharing(w, dom, c.what, c.on);
  }
}

/** Moves `count` small pages within a guest's physical map, as one batch; what was at the target is freed. */
function movePages(w: WorldState, dom: WorldDomain, from: number, to: number, count: number): number {
  const { machine } = w;
  const p2m = machine.xen.domains.get(dom.domid)?.p2m;
  if (p2m === undefined) return -13;
  const gfns = new Set<number>();
  for (let i = 0; i < count; i++) gfns.add(from + i).add(to + i);
  const before = [...gfns].map((gfn) => p2m.lookup(gfn).mfn).filter((mfn) => mfn >= 0);
  const rc = runAlone(
    machine.hypercalls.memoryOp({
      cmd: 'add_to_physmap_range',
      domid: dom.domid,
      idx: from,
      gpfn: to,
      size: count,
    }),
  );
  const now = new Set<number>();
  for (const gfn of gfns) {
    const e = p2m.lookup(gfn);
    if ((e.type === P2M.ramRw || e.type === P2M.ramRo) && e.mfn >= 0) {
      dom.memory.set(gfn, 0);
      now.add(e.mfn);
    } else dom.memory.delete(gfn);
  }
  w.freed.push(...before.filter((mfn) => !now.has(mfn)));
  return rc;
}

/** Takes the last small page out of a large one. What is left is booked as smaller and smaller blocks. */
export function takeLastPage(w: WorldState, dom: WorldDomain, at: number, order: number): number {
  const gfn = at + 2 ** order - 1;
  const mfn = w.mfnOf(dom, gfn);
  const done = runAlone(
    w.machine.hypercalls.memoryOp({
      cmd: 'decrease_reservation',
      domid: dom.domid,
      gfns: [gfn],
      order: 0,
    }),
  );
  if (done !== 1) return Math.min(done, 0);
  dom.memory.delete(at);
  let start = at;
  for (let o = order - 1; o >= 0; o--) {
    dom.memory.set(start, o);
    start += 2 ** o;
  }
  if (mfn >= 0) w.freed.push(mfn);
  return 0;
}

/** A page of a guest, large or small, becomes read-only, or what it was. @returns undefined where there is none */
function setReadOnly(w: WorldState, dom: WorldDomain, page: number, on: boolean): number | undefined {
  const all = [...dom.memory];
  if (dom.kind === 'pv' || all.length === 0) return undefined;
  const [gfn, order] = all[page % all.length]!;
  const op = { cmd: 'set_mem_type' as const, domid: dom.domid, gfn, nr: 2 ** order, readOnly: on };
  return runAlone(w.machine.hypercalls.memoryOp(op));
}

/**
 * AMD: units take no commands for a while. VT-d: devices do not answer when told to forget translations. Xen waits,
 * however long it takes.
 */
export function stall(w: WorldState, ms: number): undefined {
  for (const unit of w.machine.units) {
    if (unit instanceof AmdIommuUnit) {
      unit.stalled = true;
      w.machine.hw.clock.after(ms * 1e6, () => unit.resume());
    } else if (unit instanceof VtdUnit) {
      unit.devicesBusy = true;
      w.machine.hw.clock.after(ms * 1e6, () => unit.devicesAnswer());
    }
  }
}

/** A small page of a PV guest, as bus and machine frame. */
const smallPage = (dom: WorldDomain, page: number): number | undefined => {
  const small = [...dom.memory].flatMap(([at, order]) => (order === 0 ? [at] : []));
  return dom.kind === 'pv' && small.length > 0 ? small[page % small.length] : undefined;
};

/** @returns undefined where there is none */
function exchangePage(w: WorldState, dom: WorldDomain, page: number): number | undefined {
  const mfn = smallPage(dom, page);
  if (mfn === undefined) return undefined;
  const gfns = [w.pvGfn(dom, mfn)];
  const op: Extract<MemoryOp, { cmd: 'exchange' }> = {
    cmd: 'exchange',
    domid: dom.domid,
    gfns,
    order: 0,
    outGfns: gfns,
    outOrder: 0,
  };
  const rc = runAlone(w.machine.hypercalls.memoryOp(op));
  const got = op.mfns?.[0];
  // What comes back to the guest has no type any more: no device reaches it until the guest maps it anew.
  if (got === undefined) {
    if (rc === NO_MEMORY) dom.memory.delete(mfn);
    return rc;
  }
  dom.memory.delete(mfn);
  w.freed.push(mfn);
  if (rc === 0) dom.memory.set(got, 0);
  return rc;
}

/** @returns undefined where there is none, or nobody to take it */
function transferPage(w: WorldState, dom: WorldDomain, to: WorldDomain, page: number): number | undefined {
  const mfn = smallPage(dom, page);
  if (mfn === undefined || to === dom) return undefined;
  const { domid } = dom;
  const toGfn = TRANSFER_GFN + page;
  // What a guest with a map of its own had there it owns still, without seeing it.
  const op = { cmd: 'gnttab_transfer' as const, domid, gfn: w.pvGfn(dom, mfn), to: to.domid, toGfn };
  const rc = runAlone(w.machine.hypercalls.memoryOp(op));
  const owner = w.machine.hw.frames.owner(mfn);
  if (owner === domid) return rc;
  dom.memory.delete(mfn);
  if (rc === 0) to.memory.set(to.kind === 'pv' ? mfn : toGfn, 0);
  else if (owner !== to.domid) w.freed.push(mfn);
  return rc;
}
/** Where pages that come from others are put. */
const TRANSFER_GFN = 0x180;

/** Memory that comes when it is touched, or is given back before. Xen says how many pages, not why not. */
function promise(w: WorldState, { domid }: WorldDomain, back: boolean): 0 | undefined {
  const page = { domid, gfns: [0x9_0000], order: 0 };
  const done = runAlone(
    w.machine.hypercalls.memoryOp(
      back ? { cmd: 'decrease_reservation', ...page } : { cmd: 'populate_physmap', ...page, pod: true },
    ),
  );
  if (done !== 1) w.count(back ? 'nothing was promised' : 'populate on demand refused');
  return done === 1 ? 0 : undefined;
}

/** What keeps devices away. */
function sharing(
  w: WorldState,
  { domid }: WorldDomain,
  what: Extract<Command, { op: 'sharing' }>['what'],
  on: boolean,
): number | undefined {
  const { hypercalls, xen } = w.machine;
  // Xen lets a fork share what devices use, when told so: that is the caller's affair.
  if (what === 'fork' && (xen.domains.get(domid)?.pdevList.size ?? 0) > 0) return undefined;
  switch (what) {
    case 'paging':
      return runAlone(hypercalls.domctl({ cmd: 'vm_event_op', domid, ring: 'paging', enable: on }));
    case 'sharing':
    case 'fork':
      return runAlone(
        hypercalls.domctl({ cmd: 'mem_sharing_op', domid, enable: on, forkWithIommu: what === 'fork' }),
      );
    case 'logdirty':
      return runAlone(hypercalls.domctl({ cmd: 'shadow_op', domid, op: on ? 'enable_logdirty' : 'off' }));
  }
}
