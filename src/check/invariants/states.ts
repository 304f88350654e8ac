/** Quarantine, domain ids, fault accounting, locks, aliases, and what the flags of a device must say. */
import { formatSbdf } from '../../base/sbdf.js';
import type { Pdev } from '../../iommu/driver/types.js';
import { DOMID } from '../../sim/frames.js';
import type { TestDevice } from '../machines.js';
import type { TableEntry } from '../reference/tables.js';
import { entryOf } from '../tables_now.js';
import type { Trace, World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { isSharedId } from './reach.js';
import { aliasesWentAlong, frameZeroStays, idsLeadBack, idsReturn } from './sharing.js';

const violation = (id: string, what: string): Violation => ({ id, what });
const hex = (n: number): string => n.toString(16);
const isGuest = (domid: number | undefined): boolean =>
  domid !== undefined && domid > 0 && domid < DOMID.FIRST_RESERVED;
const settled = (w: World): { device: TestDevice; p: Pdev }[] =>
  w.layout.devices.flatMap((device) => {
    const p = w.pdev(device.sbdf);
    return p?.domain === undefined || w.unsettled.has(device.sbdf) || w.lost.has(device.sbdf)
      ? []
      : [{ device, p }];
  });
const vendorOps = (t: Trace): Extract<Trace['events'][number], { kind: 'vendorOp' }>[] =>
  t.events.filter((e) => e.kind === 'vendorOp');

/** Ids of bridges have the entry of one of the devices behind, or none. */
function aliasesFollow(w: World): Violation | undefined {
  const shared = new Map<number, TestDevice[]>();
  for (const d of w.layout.devices) {
    for (const rid of d.sharedRids) shared.set(rid, [...(shared.get(rid) ?? []), d]);
  }
  for (const [rid, devices] of shared) {
    if (devices.some((d) => w.unsettled.has(d.sbdf) || w.lost.has(d.sbdf))) continue;
    const e = entryOf(w.machine, rid);
    if (e === undefined) continue;
    const own = w.layout.spec.vendor === 'amd' ? [] : devices.map((d) => entryOf(w.machine, d.sbdf));
    if (w.layout.spec.vendor === 'amd' || own.some((o) => o?.root === e.root && o.did === e.did)) continue;
    return violation('INV-I4', `requester ${hex(rid)} of a bridge has an entry that no device behind it has`);
  }
  return undefined;
}

/** Root and domain id of each entry belong together, at each moment of the command. */
function noMixture(w: World): Violation | undefined {
  const t = w.last;
  if (t === undefined || t.moments.length === 0 || w.layout.spec.fewIds) return undefined;
  const rootOf = new Map<string, number>();
  const didOf = new Map<string, number>();
  const learn = (unit: number, rid: number, e: TableEntry | undefined): Violation | undefined => {
    if (e === undefined || e.passThrough) return undefined;
    const root = rootOf.get(`${unit}/${e.did}`) ?? e.root;
    const did = didOf.get(`${unit}/${e.root}`) ?? e.did;
    if (root !== e.root || did !== e.did)
      return violation(
        'INV-I3',
        `requester ${hex(rid)} had root ${hex(e.root)} with domain id ${e.did} for a moment`,
      );
    rootOf.set(`${unit}/${e.did}`, e.root);
    didOf.set(`${unit}/${e.root}`, e.did);
    return undefined;
  };
  // A table that is freed and made anew within one command may have another's place.
  if (t.command.op === 'destroy' || t.command.op === 'remove' || t.command.op === 'add') return undefined;
  for (const m of t.entriesBefore) learn(m.unit, m.rid, m.entry);
  for (const m of t.moments) {
    const v = learn(m.unit, m.rid, m.entry);
    if (v !== undefined) return v;
  }
  return undefined;
}

function removedIsGone(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'remove' || t.target === undefined || t.rc === -19 || t.rc === -16) return undefined;
  const { xen } = w.machine;
  const listed = [...xen.domains.values(), xen.domIo, xen.domXen].some((d) =>
    d.pdevList.toArray().some((p) => p.sbdf === t.target!.sbdf),
  );
  return listed || xen.pdevs.has(t.target.sbdf)
    ? violation('INV-O11', `${formatSbdf(t.target.sbdf)} was removed, and Xen still knows it`)
    : undefined;
}

function hiddenStaysHidden(w: World): Violation | undefined {
  const { xen } = w.machine;
  for (const [seg, s] of xen.segs) {
    for (const bdf of s.roMap) {
      const owner = xen.pdevs.get(((seg << 16) | bdf) >>> 0)?.domain;
      if (owner !== undefined && owner !== xen.domXen)
        return violation('INV-O13', `${hex(bdf)} is read-only and not Xen's`);
    }
  }
  return undefined;
}

function quarantineFlag(w: World): Violation | undefined {
  const t = w.last;
  const { op } = t?.command ?? {};
  if (
    t?.target === undefined ||
    (op !== 'assign' && op !== 'deassign' && op !== 'quarantine' && op !== 'release')
  )
    return undefined;
  const p = w.pdev(t.target.sbdf);
  const before = t.devicesBefore.get(t.target.sbdf);
  if (p === undefined || before === undefined || t.rc !== 0) return undefined;
  const due =
    (op === 'assign' || op === 'quarantine') && t.targetDomid === DOMID.IO
      ? true
      : (op === 'deassign' || op === 'release') && p.domain === w.machine.xen.hwdom
        ? false
        : before.quarantine;
  return p.quarantine === due
    ? undefined
    : violation('INV-O14', `the quarantine flag of ${formatSbdf(p.sbdf)} is ${p.quarantine} after ${op}`);
}

function stridesAsAnnounced(w: World): Violation | undefined {
  for (const { device, p } of settled(w)) {
    if (p.phantomStride !== device.stride)
      return violation('INV-P6', `${formatSbdf(p.sbdf)} has stride ${p.phantomStride}, not ${device.stride}`);
  }
  return undefined;
}

function accounting(w: World): Violation | undefined {
  const wrong = w.last?.accounting;
  if (wrong === undefined) return undefined;
  const { target } = w.last!;
  const other = target !== undefined && !wrong.startsWith(formatSbdf(target.sbdf));
  return violation(other ? 'INV-P5' : 'INV-A1', wrong);
}

/** Faults change nothing but their count, and a move takes the count back. */
function faultsChangeNothingElse(w: World): Violation | undefined {
  const t = w.last;
  if (t === undefined) return undefined;
  if (t.command.op === 'storm') {
    for (const [at, before] of t.ownersBefore) {
      const p = w.pdev(at);
      if (p?.domain?.domid !== before || p?.broken !== t.devicesBefore.get(at)?.broken)
        return violation('INV-A2', `faults changed who owns ${formatSbdf(at)}`);
    }
  }
  const moved = ['assign', 'deassign', 'quarantine', 'release'].includes(t.command.op) && t.rc === 0;
  const p = t.target === undefined ? undefined : w.pdev(t.target.sbdf);
  const owned = t.target !== undefined && t.ownersBefore.get(t.target.sbdf) !== p?.domain?.domid;
  return moved && owned && p !== undefined && p.faultCount !== 0
    ? violation('INV-A2', `${formatSbdf(p.sbdf)} has moved with ${p.faultCount} faults`)
    : undefined;
}

/** Only the device whose id it was is charged. */
function otherDevicesAreNotCharged(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'storm' || t.target === undefined || t.target.conventional) return undefined;
  for (const { device, p } of settled(w)) {
    const before = t.devicesBefore.get(device.sbdf)?.faults ?? 0;
    if (device.sbdf >>> 3 !== t.target.sbdf >>> 3 && p.faultCount > before)
      return violation('INV-A3', `${formatSbdf(device.sbdf)} was charged for faults of another`);
  }
  return undefined;
}

function lineOfEachFault(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'storm') return undefined;
  const fault = w.layout.spec.vendor === 'vtd' ? VTD_LINE : AMD_LINE;
  for (const e of t.events) {
    if (e.kind !== 'console' || !FAULT_LINE.test(e.text)) continue;
    if (!fault.test(e.text)) return violation('INV-A4', `a fault is told as "${e.text}"`);
  }
  return undefined;
}
const FAULT_LINE = /fault addr|IO_PAGE_FAULT/;
const VTD_LINE =
  /\[VT-D\]DMAR:\[DMA (?:Read|Write)\] Request device \[\d{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\] fault addr [0-9a-f]+(?: on iommu:\d+)?$/;
const AMD_LINE =
  /AMD-Vi: IO_PAGE_FAULT: \d{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] d\d+ addr [0-9a-f]{16} flags (?:0|0x[0-9a-f]+)/;

function noIdZero(w: World): Violation | undefined {
  if (w.layout.spec.vendor !== 'vtd' || !w.layout.spec.cachingMode) return undefined;
  for (const rid of w.allRids()) {
    if (entryOf(w.machine, rid)?.did === 0)
      return violation('INV-D2', `requester ${hex(rid)} has domain id 0, which tags absent entries`);
  }
  return undefined;
}

/** The id of an entry is the one of its owner, as the unit writes it. */
function idOfOwner(w: World): Violation | undefined {
  if (w.layout.spec.fewIds) return undefined;
  const complement = w.layout.spec.vendor === 'vtd' && w.layout.spec.cachingMode;
  for (const { device, p } of settled(w)) {
    const rid = device.sbdf;
    const e = isSharedId(w, rid) ? undefined : entryOf(w.machine, rid);
    if (e === undefined) continue;
    const domid =
      p.domain === w.machine.xen.domIo
        ? p.arch.pseudoDomid
        : p.domain === w.machine.xen.domXen
          ? 0
          : p.domain!.domid;
    const due = complement ? 0xffff - domid : domid;
    if (e.did !== due)
      return violation('INV-D3', `${formatSbdf(device.sbdf)} has domain id ${e.did}, its owner has ${due}`);
  }
  return undefined;
}

function unitsOfDomains(w: World): Violation | undefined {
  if (w.layout.spec.vendor !== 'vtd') return undefined;
  for (const { device, p } of settled(w)) {
    const rid = device.sbdf;
    if (p.domain === w.machine.xen.domIo || p.domain === w.machine.xen.domXen) continue;
    if (entryOf(w.machine, rid) === undefined) continue;
    const unit = w.machine.units.indexOf(w.machine.unitFor(device.sbdf)!);
    if (!p.domain!.iommu.usesAny())
      return violation('INV-D4', `d${p.domain!.domid} has a device behind unit ${unit}, and counts none`);
  }
  return undefined;
}

/** Sixteen ids are enough for these machines: running out means that some leaked. */
function idsDoNotLeak(w: World): Violation | undefined {
  const t = w.last;
  if (t === undefined || !w.layout.spec.fewIds || w.layout.devices.length > 6) return undefined;
  const out = vendorOps(t).find((e) => e.rc === -16);
  return out === undefined
    ? undefined
    : violation('INV-D6', `unit has no domain id left for ${formatSbdf(out.sbdf)}`);
}

function pseudoIdStays(w: World): Violation | undefined {
  const t = w.last;
  if (t === undefined || t.command.op === 'add' || t.command.op === 'remove') return undefined;
  const ids = new Map<number, number>();
  // A device that was left half moved keeps its id all the same.
  for (const device of w.layout.devices) {
    const p = w.pdev(device.sbdf);
    if (p?.domain === undefined) continue;
    const before = t.devicesBefore.get(device.sbdf)?.pseudoDomid;
    const now = p.arch.pseudoDomid;
    if (before !== undefined && before !== DOMID.INVALID && before !== now)
      return violation(
        'INV-D7',
        `the pseudo id of ${formatSbdf(device.sbdf)} was ${hex(before)}, is ${hex(now)}`,
      );
    if (now === DOMID.INVALID) continue;
    const unit = w.machine.units.indexOf(w.machine.unitFor(device.sbdf)!);
    const other = ids.get(unit * 0x1_0000 + now);
    if (other !== undefined)
      return violation('INV-D7', `${formatSbdf(device.sbdf)} and ${formatSbdf(other)} have one pseudo id`);
    ids.set(unit * 0x1_0000 + now, device.sbdf);
  }
  return undefined;
}

function whereDeassignGoes(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'deassign' || t.rc !== 0 || t.target === undefined) return undefined;
  if (!isGuest(t.ownersBefore.get(t.target.sbdf))) return undefined;
  const { xen } = w.machine;
  const quarantined =
    xen.opts.quarantine !== 'none' || t.devicesBefore.get(t.target.sbdf)?.quarantine === true;
  const due = quarantined ? xen.domIo : xen.hwdom;
  return w.pdev(t.target.sbdf)?.domain === due
    ? undefined
    : violation('INV-Q1', `${formatSbdf(t.target.sbdf)} left its guest, not for ${xen.services.pd(due)}`);
}

function quarantineTables(w: World): Violation | undefined {
  const { xen } = w.machine;
  if (xen.domIo.iommu.pgtables.length > 0) return violation('INV-Q2', 'd[IO] has tables of its own');
  const leaves = new Map<number, number>();
  for (const p of xen.pdevs.values()) {
    if (p.arch.leafMfn === 0) continue;
    const other = leaves.get(p.arch.leafMfn);
    if (other !== undefined)
      return violation('INV-Q2', `${formatSbdf(p.sbdf)} and ${formatSbdf(other)} share a scratch page`);
    leaves.set(p.arch.leafMfn, p.sbdf);
    if (p.arch.rootMfn !== 0 && !p.arch.pgtables.includes(p.arch.leafMfn))
      return violation('INV-Q2', `the scratch page of ${formatSbdf(p.sbdf)} is not on its list`);
  }
  return undefined;
}

function leafIsClean(w: World): Violation | undefined {
  const t = w.last;
  const { xen, hw } = w.machine;
  if (t === undefined || xen.opts.quarantine !== 'scratch-page') return undefined;
  for (const { device, p } of settled(w)) {
    if (p.domain !== xen.domIo || t.ownersBefore.get(device.sbdf) === DOMID.IO) continue;
    const { leafMfn } = p.arch;
    if (leafMfn !== 0 && hw.ram.read32(leafMfn * 4096) !== 0)
      return violation(
        'INV-Q3',
        `the scratch page of ${formatSbdf(device.sbdf)} holds what was written before`,
      );
  }
  return undefined;
}

function basicHasNoTable(w: World): Violation | undefined {
  const { xen } = w.machine;
  if (xen.opts.quarantine !== 'basic') return undefined;
  for (const { device, p } of settled(w)) {
    if (p.domain !== xen.domIo || w.layout.reserved?.sbdfs.includes(device.sbdf) === true) continue;
    for (const rid of w.ownRids(device)) {
      if (!isSharedId(w, rid) && entryOf(w.machine, rid) !== undefined)
        return violation('INV-Q4', `requester ${hex(rid)} of a quarantined device still has an entry`);
    }
  }
  return undefined;
}

function initFailureStops(w: World): Violation | undefined {
  const t = w.last;
  if (t?.target === undefined || t.rc === undefined) return undefined;
  if (!['assign', 'deassign', 'quarantine'].includes(t.command.op)) return undefined;
  const first = vendorOps(t)[0];
  const moved = w.pdev(t.target.sbdf)?.domain?.domid !== t.ownersBefore.get(t.target.sbdf);
  return first?.op === 'quarantine_init' && first.rc !== 0 && (t.rc === 0 || moved)
    ? violation('INV-Q5', `${formatSbdf(t.target.sbdf)} moved though its quarantine could not be made`)
    : undefined;
}

/** Walks the events with the locks held by each CPU. */
function locksHeld(w: World, rule: 'INV-L1' | 'INV-L3'): Violation | undefined {
  const held = new Map<number, string[]>();
  for (const e of w.last?.events ?? []) {
    const mine = held.get(e.cpu) ?? [];
    held.set(e.cpu, mine);
    if (e.kind === 'lock') {
      if (e.action === 'acquire') mine.push(e.lock);
      else mine.splice(mine.lastIndexOf(e.lock), 1);
      continue;
    }
    if (e.kind !== 'entry') continue;
    const entry = e.table === 'context' || e.table === 'dte';
    if (rule === 'INV-L1' && entry && !mine.includes('pcidevs_lock'))
      return violation(rule, `the entry of ${hex(e.id)} was written without pcidevs_lock`);
    if (rule === 'INV-L3' && entry && !mine.some((l) => /iommu\d+\.lock$/.test(l)))
      return violation(rule, `the entry of ${hex(e.id)} was written without the lock of its unit`);
  }
  return undefined;
}

function noLockIsLeft(w: World): Violation | undefined {
  return w.last?.holdsLocks === true
    ? violation('INV-L4', `a lock is held after ${w.last.command.op}`)
    : undefined;
}

export const stateInvariants: readonly Invariant[] = [
  { id: 'INV-I3', title: 'root and domain id of an entry belong together at each moment', holds: noMixture },
  {
    id: 'INV-I4',
    title: 'the id of a bridge has the entry of a device behind it, or none',
    holds: (w) => aliasesFollow(w) ?? aliasesWentAlong(w),
  },
  { id: 'INV-O11', title: 'a removed device is known to nobody', holds: removedIsGone },
  { id: 'INV-O13', title: "read-only devices are Xen's", holds: hiddenStaysHidden },
  { id: 'INV-O14', title: 'the quarantine flag follows arrivals at d[IO] and dom0', holds: quarantineFlag },
  {
    id: 'INV-P5',
    title: 'a fault is charged to the device that owns the id',
    holds: only('INV-P5', accounting),
  },
  {
    id: 'INV-P6',
    title: 'strides are the announced ones, else those of the option',
    holds: stridesAsAnnounced,
  },
  { id: 'INV-L1', title: 'entries are written with pcidevs_lock held', holds: (w) => locksHeld(w, 'INV-L1') },
  {
    id: 'INV-L3',
    title: "entries are written with the unit's lock held",
    holds: (w) => locksHeld(w, 'INV-L3'),
  },
  { id: 'INV-L4', title: 'no lock is held after a hypercall, on no path', holds: noLockIsLeft },
  { id: 'INV-D2', title: 'in caching mode no entry has domain id 0', holds: noIdZero },
  {
    id: 'INV-D3',
    title: 'the domain id of an entry is that of the owner',
    holds: (w) => idOfOwner(w) ?? idsLeadBack(w),
  },
  { id: 'INV-D4', title: 'a domain counts the units its devices are behind', holds: unitsOfDomains },
  {
    id: 'INV-D6',
    title: 'domain ids return when nobody uses them',
    holds: (w) => idsDoNotLeak(w) ?? idsReturn(w),
  },
  { id: 'INV-D7', title: 'a pseudo id is for one device and for its life', holds: pseudoIdStays },
  {
    id: 'INV-Q1',
    title: 'devices leave a guest for quarantine, or for dom0 where there is none',
    holds: whereDeassignGoes,
  },
  {
    id: 'INV-Q2',
    title: 'each quarantined device has tables and a scratch page of its own',
    holds: quarantineTables,
  },
  {
    id: 'INV-Q3',
    title: 'a scratch page is empty when a device arrives',
    holds: (w) => leafIsClean(w) ?? frameZeroStays(w),
  },
  { id: 'INV-Q4', title: 'basic quarantine without reserved ranges has no entry', holds: basicHasNoTable },
  {
    id: 'INV-Q5',
    title: 'a device whose quarantine cannot be made stays where it is',
    holds: initFailureStops,
  },
  {
    id: 'INV-A1',
    title: 'faults are counted, halved and punished as the model says',
    holds: only('INV-A1', accounting),
  },
  { id: 'INV-A2', title: 'faults change no owner, and a move forgets them', holds: faultsChangeNothingElse },
  { id: 'INV-A3', title: 'devices in other slots are not charged', holds: otherDevicesAreNotCharged },
  { id: 'INV-A4', title: 'a fault is told in the format of the release', holds: lineOfEachFault },
];

function only(id: string, holds: Invariant['holds']): Invariant['holds'] {
  return (w) => {
    const v = holds(w);
    return v?.id === id ? v : undefined;
  };
}
