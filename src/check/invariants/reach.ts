/**
 * Where DMA gets to: every requester id of every device tries pages of every domain, freed pages and reserved ranges,
 * through the unit's caches and tables, and the owner of the frame it reaches is judged by who owns the device.
 */
import { formatSbdf } from '../../base/sbdf.js';
import type { Pdev } from '../../iommu/driver/types.js';
import type { IommuUnit } from '../../machine_hw.js';
import { DOMID } from '../../sim/frames.js';
import { letBy, stillCached } from '../blame.js';
import type { TestDevice } from '../machines.js';
import { entryOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { rangeOfOneGuest } from './sharing.js';

/** Bus frames to try: a few of everybody's. */
export function framesToTry(w: World): number[] {
  const frames: number[] = [];
  for (const d of w.domains) {
    for (const at of d.memory.keys()) frames.push(at, w.mfnOf(d, at));
    for (const [gfn, mfn] of d.mmio) frames.push(gfn, mfn);
  }
  for (const x of w.machine.xen.hwdom.extents.slice(0, 2)) frames.push(x.mfn);
  frames.push(...w.freed.slice(-4));
  if (w.layout.reserved !== undefined)
    frames.push(w.layout.reserved.start, w.layout.reserved.end, w.layout.reserved.end + 1);
  frames.push(0x2_0000, 0x40_0000_0);
  return [...new Set(frames.filter((f) => f >= 0))];
}

type Verdict = { readonly ok: true } | { readonly ok: false; readonly id: string; readonly why: string };
const fine: Verdict = { ok: true };
const bad = (id: string, why: string): Verdict => ({ ok: false, id, why });

/** May the owner of `p` let it reach `mfn` at bus frame `dfn`? */
function judge(w: World, p: Pdev | undefined, device: TestDevice, dfn: number, mfn: number): Verdict {
  const { xen, hw } = w.machine;
  const frameOwner = hw.frames.owner(mfn);
  const owner = p?.domain;
  if (owner === undefined) return bad('INV-I2', 'a device that Xen does not know');
  const reserved = w.layout.reserved;
  const isReserved = reserved !== undefined && mfn >= reserved.start && mfn <= reserved.end && dfn === mfn;
  if (isReserved && reserved.sbdfs.includes(device.sbdf)) return fine;
  if (owner === xen.hwdom || owner === xen.domXen) {
    if (!xen.opts.hwdomStrict) return fine;
    return frameOwner === 0 || isReserved || !isGuest(frameOwner)
      ? fine
      : bad('INV-I2', `memory of d${frameOwner}`);
  }
  if (owner === xen.domIo) {
    if (xen.opts.quarantine === 'scratch-page' && mfn === p!.arch.leafMfn) return fine;
    return bad('INV-I5', 'quarantined');
  }
  if (frameOwner === owner.domid) return fine;
  if (isReserved && guestHolds(owner, mfn)) return fine;
  if (w.domains.some((d) => d.domid === owner.domid && d.mmio.get(dfn) === mfn)) return fine;
  const whose = frameOwner === DOMID.INVALID ? 'a free frame' : `memory of d${frameOwner}`;
  return bad(w.freed.includes(mfn) ? 'INV-I6' : 'INV-I1', whose);
}

const isGuest = (domid: number): boolean => domid > 0 && domid < DOMID.FIRST_RESERVED;
const guestHolds = (owner: NonNullable<Pdev['domain']>, mfn: number): boolean =>
  owner.iommu.identityMaps.some((m) => mfn >= m.base && mfn <= m.end);

/** The first wrong landing of each kind, by invariant. */
export const reachViolation = (w: World, id: string): Violation | undefined =>
  w.once('reach', () => reachViolations(w)).get(id);

/** Tries all devices. */
function reachViolations(w: World): Map<string, Violation> {
  const found = new Map<string, Violation>();
  const frames = framesToTry(w);
  for (const device of w.layout.devices) {
    if (w.lost.has(device.sbdf)) continue;
    const p = w.pdev(device.sbdf);
    for (const rid of w.ownRids(device)) {
      if (isSharedId(w, rid)) continue;
      if (rid !== device.sbdf && w.unsettled.has(device.sbdf)) continue;
      for (const dfn of frames) {
        for (const write of [false, true]) {
          const mfn = w.reach(rid, dfn, write);
          if (mfn < 0) continue;
          const v = judge(w, p, device, dfn, mfn);
          if (v.ok || found.has(v.id)) continue;
          const who = `${formatSbdf(device.sbdf)}, owned by ${w.machine.xen.services.pd(p?.domain)}`;
          const by = rid === device.sbdf ? '' : ` as requester ${rid.toString(16)}`;
          const why = `${letBy(w.machine, rid, dfn, mfn)}; ${w.steps.of(rid)}`;
          found.set(v.id, {
            id: v.id,
            what: `${who},${by} ${write ? 'wrote to' : 'read'} frame ${mfn.toString(16)} (bus frame ${dfn.toString(16)}), ${v.why}: ${why}`,
          });
        }
      }
    }
  }
  return found;
}

/** Ids that several devices behind a bridge have in common belong to whoever was mapped last: judged by INV-I4. */
export const isSharedId = (w: World, rid: number): boolean =>
  w.layout.devices.some((d) => d.sharedRids.includes(rid)) ||
  (w.layout.spec.vendor === 'amd' &&
    w.layout.devices.some((d) => d.conventional && d.sharedRids.length > 0 && d.sbdf === rid));

/** No IOTLB may still hold a frame that has just been handed to somebody. Looked at when frames are allocated. */
function staleAtAllocation(w: World): Violation | undefined {
  const { xen } = w.machine;
  for (const { unit, did, mfn } of w.last?.staleFrees ?? []) {
    if (mayHold(w, unit, did, DOMID.INVALID)) continue;
    return {
      id: 'INV-I7',
      what: `frame ${mfn.toString(16)} was freed while ${stillCached(w, unit, did)}`,
    };
  }
  for (const e of w.last?.events ?? []) {
    if (e.kind !== 'alloc' || e.free) continue;
    if (xen.hwdom.domid === e.owner) continue;
    for (const unit of w.machine.units) {
      for (const c of unit.cachedTranslations()) {
        const frames = 'frames' in c ? c.frames : 1;
        const did = 'did' in c ? c.did : c.domid;
        const overlaps = c.mfn < e.mfn + 2 ** e.order && e.mfn < c.mfn + frames;
        if (!overlaps || mayHold(w, unit, did, e.owner)) continue;
        return {
          id: 'INV-I7',
          what: `frame ${e.mfn.toString(16)} went to d${e.owner} while ${stillCached(w, unit, did)}`,
        };
      }
    }
  }
  return undefined;
}

/** Dom0 has all memory mapped while it is relaxed; a domain's own frames are its own. */
function mayHold(w: World, unit: IommuUnit, did: number, owner: number): boolean {
  const { xen } = w.machine;
  const { cachingMode, vendor, fewIds } = w.layout.spec;
  if (isOfLost(w, unit, did)) return true;
  if (fewIds) return holdersOf(w, unit, did).every((domid) => domid === 0 || domid === owner);
  const domid = cachingMode && vendor === 'vtd' ? ~did & 0xffff : did;
  if (domid === 0) return true;
  return domid === owner || (domid >= 0x8000 && xen.opts.quarantine === 'scratch-page');
}

/** The id stands in the entry of a device that Xen has forgotten although its entry could not be taken. */
function isOfLost(w: World, unit: IommuUnit, did: number): boolean {
  for (const at of w.lost) {
    const device = w.layout.devices.find((d) => d.sbdf === at);
    if (device === undefined || w.machine.unitFor(at) !== unit) continue;
    if (w.ridsOf(device).some((rid) => entryOf(w.machine, rid)?.did === did)) return true;
  }
  return false;
}

/** Where ids are dealt out: the domains whose devices behind the unit carry this one now. */
function holdersOf(w: World, unit: IommuUnit, did: number): number[] {
  return w.layout.devices.flatMap((d) => {
    const domid = w.pdev(d.sbdf)?.domain?.domid;
    const e = w.machine.unitFor(d.sbdf) === unit ? entryOf(w.machine, d.sbdf) : undefined;
    return domid === undefined || domid === DOMID.IO || e?.did !== did ? [] : [domid];
  });
}

/** What is on its way is drained before its page is anybody else's, and before the device changes hands. */
function lateRequest(w: World): Violation | undefined {
  const { frames } = w.machine.hw;
  for (const r of w.inFlight.all()) {
    const device = w.layout.devices.find((d) => w.ridsOf(d).includes(r.rid));
    if (device === undefined || w.lost.has(device.sbdf) || w.unsettled.has(device.sbdf)) continue;
    if (w.strained.has(r.owner)) continue;
    const now = frames.owner(r.mfn);
    const mine = w.pdev(device.sbdf)?.domain?.domid === r.owner;
    if (mine && (now === r.owner || w.freed.includes(r.mfn))) continue;
    const why = mine ? `which is d${now}'s by now` : `which the device has left`;
    const what = `a request of ${formatSbdf(device.sbdf)} as ${r.rid.toString(16)} to frame ${r.mfn.toString(16)} of d${r.owner}`;
    return { id: 'INV-I6', what: `${what}, ${why}, has not arrived yet: ${w.steps.of(r.rid)}` };
  }
  return undefined;
}

/** A page goes back with a request on its way there. */
function freedUnderRequest(w: World): Violation | undefined {
  const r = w.freedUnder.find((one) => !w.strained.has(one.owner));
  return r === undefined
    ? undefined
    : {
        id: 'INV-I7',
        what: `frame ${r.mfn.toString(16)} of d${r.owner} was freed with a request of ${r.rid.toString(16)} on its way: ${w.steps.of(r.rid)}`,
      };
}

/** With scratch pages, whatever a quarantined device asks for leads to its own page. */
function scratchPageIsThere(w: World): Violation | undefined {
  const { xen } = w.machine;
  if (xen.opts.quarantine !== 'scratch-page') return undefined;
  for (const device of w.layout.devices) {
    const p = w.pdev(device.sbdf);
    const rid = device.sbdf;
    if (p?.domain !== xen.domIo || w.unsettled.has(device.sbdf) || w.lost.has(device.sbdf)) continue;
    if (isSharedId(w, rid)) continue;
    const mfn = w.reach(rid, 0x123, true);
    if (mfn !== p.arch.leafMfn)
      return { id: 'INV-I5', what: `quarantined ${formatSbdf(device.sbdf)} does not reach its scratch page` };
  }
  return undefined;
}

export const reachInvariants: readonly Invariant[] = [
  {
    id: 'INV-I1',
    title: "a guest's device reaches only the guest's memory and its own reserved ranges",
    holds: (w) => reachViolation(w, 'INV-I1') ?? rangeOfOneGuest(w),
  },
  {
    id: 'INV-I2',
    title: 'a device of somebody else reaches no memory of a guest',
    holds: (w) => reachViolation(w, 'INV-I2'),
  },
  {
    id: 'INV-I5',
    title: 'a quarantined device reaches nothing but its own scratch page and reserved ranges',
    holds: (w) => reachViolation(w, 'INV-I5') ?? scratchPageIsThere(w),
  },
  {
    id: 'INV-I6',
    title: 'no device reaches frames of a guest that is gone',
    holds: (w) => reachViolation(w, 'INV-I6') ?? lateRequest(w),
  },
  {
    id: 'INV-I7',
    title: 'frames are handed out only when no cache can still produce them',
    holds: (w) => staleAtAllocation(w) ?? freedUnderRequest(w),
  },
];
