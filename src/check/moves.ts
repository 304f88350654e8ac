/** Commands on the memory of a guest that take more than one step to book. */

import { P2M } from '../hypervisor/mm/p2m.js';
import { AmdIommuUnit } from '../iommu/hw/amd/unit.js';
import { VtdUnit } from '../iommu/hw/vtd/unit.js';
import { runAlone } from '../sim/co.js';
import type { WorldDomain, WorldState } from './world_state.js';

/** Moves `count` small pages within a guest's physical map, as one batch; what was at the target is freed. */
export function movePages(w: WorldState, dom: WorldDomain, from: number, to: number, count: number): number {
  const { machine } = w;
  // Xen does not flush the page at which a batch stops; it keeps its owner and loses its address, so nobody gets it.
  machine.hw.faults.disarm();
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
export function setReadOnly(w: WorldState, dom: WorldDomain, page: number, on: boolean): number | undefined {
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
