/** Who owns which device, what failures leave behind, and in which order the vendor's hooks are called. */
import { formatSbdf, funcOf, type Sbdf } from '../../base/sbdf.js';
import { DOMID } from '../../sim/frames.js';
import { entryOf } from '../tables_now.js';
import type { Trace, World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { isSharedId } from './reach.js';

type VendorOp = Extract<Trace['events'][number], { kind: 'vendorOp' }>;

const vendorOps = (t: Trace): VendorOp[] => t.events.filter((e): e is VendorOp => e.kind === 'vendorOp');
const opsNamed = (t: Trace, op: string): VendorOp[] => vendorOps(t).filter((e) => e.op === op);

/** The assignment of the last command, if it was one of a known device. */
function assignment(w: World): (Trace & { target: { sbdf: Sbdf }; targetDomid: number }) | undefined {
  const t = w.last;
  if (t === undefined || t.target === undefined || t.targetDomid === undefined) return undefined;
  return t.command.op === 'assign' || t.command.op === 'quarantine' ? (t as never) : undefined;
}
function deassignment(w: World): (Trace & { target: { sbdf: Sbdf }; targetDomid: number }) | undefined {
  const t = w.last;
  if (t === undefined || t.target === undefined || t.targetDomid === undefined) return undefined;
  return t.command.op === 'deassign' || t.command.op === 'release' ? (t as never) : undefined;
}

const ownerNow = (w: World, at: Sbdf): number | undefined => w.pdev(at)?.domain?.domid;
const violation = (id: string, what: string): Violation => ({ id, what });

/** Whether a failed assignment got past the primary function. */
const failedOnPhantom = (t: Trace, at: Sbdf): boolean =>
  opsNamed(t, 'assign_device').some((e) => e.rc !== 0 && e.sbdf !== at);

function listsAgree(w: World): Violation | undefined {
  const { xen } = w.machine;
  const listed = new Map<Sbdf, number>();
  for (const d of [...xen.domains.values(), xen.domIo, xen.domXen]) {
    for (const p of d.pdevList.toArray()) {
      if (p.domain !== d)
        return violation('INV-O1', `${formatSbdf(p.sbdf)} is on the list of d${d.domid}, not its owner`);
      if (listed.has(p.sbdf)) return violation('INV-O1', `${formatSbdf(p.sbdf)} is on two lists`);
      listed.set(p.sbdf, d.domid);
    }
  }
  for (const p of xen.pdevs.values()) {
    if (p.domain !== undefined && !listed.has(p.sbdf))
      return violation('INV-O1', `${formatSbdf(p.sbdf)} has an owner that does not list it`);
  }
  return undefined;
}

function known(w: World): Violation | undefined {
  const { xen } = w.machine;
  for (const d of [...xen.domains.values(), xen.domIo, xen.domXen]) {
    for (const p of d.pdevList.toArray()) {
      if (xen.pdevs.get(p.sbdf) !== p)
        return violation('INV-O2', `${formatSbdf(p.sbdf)} is owned but not known`);
      if (xen.segs.get(p.seg)?.alldevs.get(p.sbdf & 0xffff) !== p)
        return violation('INV-O2', `${formatSbdf(p.sbdf)} is missing from its segment`);
    }
  }
  return undefined;
}

function ownersAreLive(w: World): Violation | undefined {
  const { xen } = w.machine;
  for (const p of xen.pdevs.values()) {
    const d = p.domain;
    if (d === undefined || d === xen.domIo || d === xen.domXen) continue;
    if (xen.domains.get(d.domid) !== d)
      return violation('INV-O3', `${formatSbdf(p.sbdf)} belongs to a domain that is gone`);
  }
  return undefined;
}

function successMoves(w: World): Violation | undefined {
  const a = assignment(w);
  if (a?.rc === 0 && ownerNow(w, a.target.sbdf) !== a.targetDomid)
    return violation(
      'INV-O4',
      `assign said 0, yet d${a.targetDomid} does not own ${formatSbdf(a.target.sbdf)}`,
    );
  const d = deassignment(w);
  if (d?.rc !== 0) return undefined;
  const now = ownerNow(w, d.target.sbdf);
  const home = d.targetDomid === DOMID.IO ? [0] : [0, DOMID.IO];
  if (now === undefined || !home.includes(now))
    return violation('INV-O4', `deassign said 0, yet d${now} owns ${formatSbdf(d.target.sbdf)}`);
  return undefined;
}

function exclusive(w: World): Violation | undefined {
  const a = assignment(w);
  if (a === undefined) return undefined;
  const before = a.ownersBefore.get(a.target.sbdf);
  const guest = before !== undefined && before !== 0 && before < DOMID.FIRST_RESERVED;
  if (!guest) return undefined;
  if (a.rc === 0)
    return violation('INV-O5', `${formatSbdf(a.target.sbdf)} was given away while d${before} owned it`);
  if (ownerNow(w, a.target.sbdf) !== before)
    return violation('INV-O5', `a refused assignment took ${formatSbdf(a.target.sbdf)} from d${before}`);
  return undefined;
}

function primaryFailureChangesNothing(w: World): Violation | undefined {
  const a = assignment(w);
  if (a === undefined || a.rc === 0 || a.rc === undefined || failedOnPhantom(a, a.target.sbdf))
    return undefined;
  const before = a.ownersBefore.get(a.target.sbdf);
  if (ownerNow(w, a.target.sbdf) !== before)
    return violation(
      'INV-O6',
      `assign failed with ${a.rc}, yet the owner of ${formatSbdf(a.target.sbdf)} changed`,
    );
  w.count('failed on the primary');
  const flags = a.devicesBefore.get(a.target.sbdf);
  const p = w.pdev(a.target.sbdf);
  if (
    p !== undefined &&
    flags !== undefined &&
    (p.broken !== flags.broken || p.quarantine !== flags.quarantine)
  )
    return violation('INV-O6', `assign failed with ${a.rc}, yet ${formatSbdf(p.sbdf)} is marked`);
  if (w.unsettled.has(a.target.sbdf)) return undefined;
  for (const { rid, entry } of a.entriesBefore) {
    if (rid !== a.target.sbdf || isSharedId(w, rid)) continue;
    const now = entryOf(w.machine, rid);
    if (now?.root !== entry?.root || now?.did !== entry?.did)
      return violation(
        'INV-O6',
        `assign failed with ${a.rc}, yet the entry of ${formatSbdf(a.target.sbdf)} changed`,
      );
  }
  return undefined;
}

function phantomFailureRollsBack(w: World): Violation | undefined {
  const a = assignment(w);
  if (a === undefined || a.rc === 0 || !failedOnPhantom(a, a.target.sbdf)) return undefined;
  const p = w.pdev(a.target.sbdf)!;
  if (p.broken) return undefined;
  w.count('roll-back');
  const now = p.domain?.domid;
  if (now !== 0 && now !== DOMID.IO)
    return violation('INV-O7', `after a roll-back ${formatSbdf(p.sbdf)} is with d${now}`);
  return undefined;
}

function doubleFailureBreaks(w: World): Violation | undefined {
  const a = assignment(w);
  if (a === undefined || a.rc === 0 || !failedOnPhantom(a, a.target.sbdf)) return undefined;
  const undo = opsNamed(a, 'reassign_device').filter((e) => e.rc !== 0);
  if (undo.length === 0) return undefined;
  w.count('double failure');
  const p = w.pdev(a.target.sbdf)!;
  if (!p.broken) return violation('INV-O8', `${formatSbdf(p.sbdf)} is not broken after its roll-back failed`);
  const d = w.machine.xen.domains.get(a.targetDomid);
  if (d !== undefined && d.domid !== 0 && !d.crashed)
    return violation('INV-O8', `d${d.domid} runs on with a device half assigned`);
  return undefined;
}

function brokenStaysAway(w: World): Violation | undefined {
  const a = assignment(w);
  if (a?.rc !== 0) return undefined;
  const p = w.pdev(a.target.sbdf)!;
  if (p.broken && a.targetDomid !== 0 && a.targetDomid !== DOMID.IO)
    return violation('INV-O9', `broken device ${formatSbdf(p.sbdf)} was given to d${a.targetDomid}`);
  return undefined;
}

function deassignFailureKeeps(w: World): Violation | undefined {
  const d = deassignment(w);
  if (d === undefined || d.rc === 0 || d.rc === undefined) return undefined;
  const before = d.ownersBefore.get(d.target.sbdf);
  if (ownerNow(w, d.target.sbdf) !== before)
    return violation(
      'INV-O10',
      `deassign failed with ${d.rc}, yet ${formatSbdf(d.target.sbdf)} changed hands`,
    );
  return undefined;
}

/** Functions in the order in which the vendor saw them, primary marked. */
function vendorOrder(w: World): Violation | undefined {
  const a = assignment(w);
  if (a !== undefined) {
    const order = opsNamed(a, 'assign_device').map((e) => e.sbdf);
    if (order.length > 0 && (order[0] !== a.target.sbdf || order.some((s, i) => i > 0 && s <= order[i - 1]!)))
      return violation('INV-P2', `assign went through ${order.map(formatSbdf).join(', ')}`);
  }
  const d = deassignment(w);
  if (d !== undefined) {
    const order = opsNamed(d, 'reassign_device').map((e) => e.sbdf);
    const primary = order.indexOf(d.target.sbdf);
    if (primary >= 0 && primary !== order.length - 1)
      return violation('INV-P2', `deassign went through ${order.map(formatSbdf).join(', ')}`);
  }
  return undefined;
}

function strides(w: World): Violation | undefined {
  for (const p of w.machine.xen.pdevs.values()) {
    if (p.phantomStride === 0) continue;
    if (![1, 2, 4].includes(p.phantomStride) || funcOf(p.devfn) >= p.phantomStride)
      return violation('INV-P3', `${formatSbdf(p.sbdf)} has stride ${p.phantomStride}`);
    for (const rid of w.machine.phantomRids(p.sbdf)) {
      if (w.machine.xen.pdevs.has(((p.seg << 16) | rid) >>> 0))
        return violation(
          'INV-P3',
          `phantom ${rid.toString(16)} of ${formatSbdf(p.sbdf)} is a device of its own`,
        );
    }
  }
  return undefined;
}

/** Ownership moved only in a vendor call for the primary function: a move needs a successful one. */
function primaryMovesOwner(w: World): Violation | undefined {
  const t = assignment(w) ?? deassignment(w);
  if (t === undefined) return undefined;
  const moved = ownerNow(w, t.target.sbdf) !== t.ownersBefore.get(t.target.sbdf);
  const primary = vendorOps(t).some((e) => e.sbdf === t.target.sbdf && e.rc === 0);
  if (moved && !primary)
    return violation(
      'INV-P4',
      `${formatSbdf(t.target.sbdf)} changed hands without a call for its primary function`,
    );
  return undefined;
}

export const ownershipInvariants: readonly Invariant[] = [
  { id: 'INV-O1', title: 'a device is on the list of its owner and on no other', holds: listsAgree },
  { id: 'INV-O2', title: 'a device with an owner is known once to its segment', holds: known },
  { id: 'INV-O3', title: 'owners are live domains, d[IO] or d[XEN]', holds: ownersAreLive },
  {
    id: 'INV-O4',
    title: 'a successful assign or deassign moves the device where it said',
    holds: successMoves,
  },
  { id: 'INV-O5', title: 'a device of a guest is not given to another', holds: exclusive },
  {
    id: 'INV-O6',
    title: 'a failure on the primary function changes nothing',
    holds: primaryFailureChangesNothing,
  },
  { id: 'INV-O7', title: 'a failure on a phantom function is rolled back', holds: phantomFailureRollsBack },
  {
    id: 'INV-O8',
    title: 'a failed roll-back breaks the device and crashes the guest',
    holds: doubleFailureBreaks,
  },
  { id: 'INV-O9', title: 'a broken device goes to no guest', holds: brokenStaysAway },
  { id: 'INV-O10', title: 'a failed deassign leaves the device with its owner', holds: deassignFailureKeeps },
  { id: 'INV-P2', title: 'assign takes the primary first, deassign last', holds: vendorOrder },
  { id: 'INV-P3', title: 'phantom functions never coincide with devices', holds: strides },
  { id: 'INV-P4', title: 'only the call for the primary function moves ownership', holds: primaryMovesOwner },
];
