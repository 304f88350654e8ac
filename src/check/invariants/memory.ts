/** Tables against what guests were given: the world's own list of pages is the reference. */
import { formatSbdf } from '../../base/sbdf.js';
import type { Domain } from '../../hypervisor/domain.js';
import { P2M } from '../../hypervisor/mm/p2m.js';
import { VtdUnit } from '../../iommu/hw/vtd/unit.js';
import type { IommuUnit } from '../../machine_hw.js';
import { DOMID } from '../../sim/frames.js';
import { mmioFrame, type TestDevice } from '../machines.js';
import { type TableEntry, tablesOnVtd } from '../reference/tables.js';
import { entryOf, memoryOf, translationOf, walk } from '../tables_now.js';
import type { World, WorldDomain } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { isSharedId } from './reach.js';

const violation = (id: string, what: string): Violation => ({ id, what });
const hex = (n: number): string => n.toString(16);

/** Devices whose own entry counts and is settled. */
const plain = (w: World): TestDevice[] =>
  w.layout.devices.filter((d) => !w.unsettled.has(d.sbdf) && !w.lost.has(d.sbdf) && !isSharedId(w, d.sbdf));

interface GuestDevice {
  readonly dom: WorldDomain;
  readonly d: Domain;
  readonly device: TestDevice;
}

/** Devices of guests that can still run. */
const guestsWithDevices = (w: World): GuestDevice[] =>
  w.once('guests with devices', () => {
    const found: GuestDevice[] = [];
    for (const device of plain(w)) {
      const owner = w.pdev(device.sbdf)?.domain;
      const dom = w.domains.find((x) => x.domid === owner?.domid);
      const d = dom === undefined ? undefined : w.machine.xen.domains.get(dom.domid);
      if (dom !== undefined && d !== undefined && !d.crashed && !d.isDying) found.push({ dom, d, device });
    }
    return found;
  });

/** Bus frames that guests are ever given, and the first frame of each. */
const everGiven = [0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 8 * 512, 11 * 512, 15 * 512];

function absentStaysAbsent(w: World): Violation | undefined {
  for (const { dom, device } of guestsWithDevices(w)) {
    if (dom.kind !== 'hvm') continue;
    for (const gfn of [...everGiven, 0xd_0000, 0xd_0003]) {
      if (dom.memory.has(gfn) || dom.mmio.has(gfn)) continue;
      const t = translationOf(w.machine, device.sbdf, gfn);
      if (t === undefined) continue;
      return violation(
        'INV-I8',
        `d${dom.domid} has nothing at ${hex(gfn)}, yet the table of ${formatSbdf(device.sbdf)} leads to ${hex(t.mfn)}`,
      );
    }
  }
  return undefined;
}

function readOnlyStays(w: World): Violation | undefined {
  for (const { dom, d, device } of guestsWithDevices(w)) {
    if (d.p2m === undefined || dom.kind !== 'hvm') continue;
    for (const [at, order] of dom.memory) {
      for (const frame of order === 0 ? [at] : [at, at + 2 ** order - 1]) {
        if (d.p2m.lookup(frame).writable) continue;
        if (translationOf(w.machine, device.sbdf, frame)?.write !== true) continue;
        return violation(
          'INV-I8',
          `page ${hex(frame)} of d${dom.domid} is read-only, and ${formatSbdf(device.sbdf)} can write to it`,
        );
      }
    }
  }
  return undefined;
}

function pagesAreMapped(w: World): Violation | undefined {
  for (const page of w.last?.blinks ?? [])
    return violation(
      'INV-F6',
      `requester ${hex(page.rid)} could not reach page ${hex(page.dfn)} for a moment, which nobody touched`,
    );
  for (const { dom, d, device } of guestsWithDevices(w)) {
    for (const [at, order] of dom.memory) {
      for (const frame of order === 0 ? [at] : [at, at + 2 ** order - 1]) {
        const t = translationOf(w.machine, device.sbdf, frame);
        const due = dom.kind === 'hvm' ? (d.p2m?.lookup(frame).mfn ?? -1) : frame;
        const writable = d.p2m?.lookup(frame).writable ?? true;
        if (t?.mfn === due && t.read && (t.write || !writable)) continue;
        const found = t === undefined ? 'nothing' : hex(t.mfn);
        return violation(
          'INV-F6',
          `page ${hex(frame)} of d${dom.domid} is ${hex(due)}, yet ${formatSbdf(device.sbdf)} finds ${found}`,
        );
      }
    }
  }
  return undefined;
}

function passThroughIsDom0s(w: World): Violation | undefined {
  const { hwdom, domXen } = w.machine.xen;
  for (const device of plain(w)) {
    const owner = w.pdev(device.sbdf)?.domain;
    if (owner === hwdom || owner === domXen) continue;
    for (const rid of w.ownRids(device)) {
      if (entryOf(w.machine, rid)?.passThrough === true)
        return violation('INV-I12', `requester ${hex(rid)} passes untranslated though it is not dom0's`);
    }
  }
  return undefined;
}

/** No cache holds for a domain id in use what the table of that id does not say. */
function cachesAgree(w: World): Violation | undefined {
  for (const device of plain(w)) {
    const e = entryOf(w.machine, device.sbdf);
    const unit = w.machine.unitFor(device.sbdf);
    if (e === undefined || unit === undefined) continue;
    const stale = staleFor(w, unit, e);
    if (stale !== undefined) return { ...stale, what: `${formatSbdf(device.sbdf)}: ${stale.what}` };
  }
  return undefined;
}

interface CachedLine {
  readonly did: number;
  readonly dfn: number;
  readonly mfn: number;
  readonly write: boolean;
}

const linesOf = (w: World, unit: IommuUnit): CachedLine[] =>
  w.once(`lines ${w.machine.units.indexOf(unit)}`, () =>
    unit.cachedTranslations().map((c) => ({ ...c, did: 'did' in c ? c.did : c.domid })),
  );

function staleFor(w: World, unit: IommuUnit, e: TableEntry): Violation | undefined {
  for (const line of linesOf(w, unit)) {
    if (line.did !== e.did) continue;
    const t = walk(w.machine, unit, e, line.dfn);
    if (t?.mfn === line.mfn && (!line.write || t.write)) continue;
    const now = t === undefined ? 'nothing' : hex(t.mfn);
    const moved = w.last?.moments.some((m) => m.entry?.did === e.did) === true;
    return violation(
      moved ? 'INV-D5' : 'INV-F5',
      `the IOTLB has ${hex(line.mfn)} at ${hex(line.dfn)} for domain id ${e.did}, whose table has ${now}`,
    );
  }
  return undefined;
}

function tablesAreXens(w: World): Violation | undefined {
  for (const { table, dfn, did } of w.last?.staleTables ?? [])
    return violation(
      'INV-F7',
      `table ${hex(table)} was freed while a cache had ${hex(dfn)} of domain id ${did}, read through it`,
    );
  const { frames } = w.machine.hw;
  for (const device of w.layout.devices) {
    const unit = w.machine.unitFor(device.sbdf);
    // Xen forgets a removed device although the vendor could not take its entry: that is a report of its own.
    if (unit === undefined || w.lost.has(device.sbdf) || w.unsettled.has(device.sbdf)) continue;
    for (const rid of w.ownRids(device)) {
      const e = entryOf(w.machine, rid);
      if (e === undefined || e.passThrough) continue;
      const visited =
        unit instanceof VtdUnit
          ? [0x100, 8 * 512, 0x3_f000].flatMap((dfn) => tablesOnVtd(memoryOf(w.machine, unit), e, dfn))
          : [e.root];
      for (const table of visited) {
        if (frames.owner(table) === DOMID.XEN) continue;
        return violation(
          'INV-F7',
          `requester ${hex(rid)} is translated by table ${hex(table)}, which is freed`,
        );
      }
    }
  }
  return undefined;
}

function sharedRootIsTheP2m(w: World): Violation | undefined {
  for (const { d, device } of guestsWithDevices(w)) {
    if (!d.iommu.hapPtShare || d.p2m === undefined) continue;
    const e = entryOf(w.machine, device.sbdf);
    if (e === undefined || e.levels !== 4) continue;
    if (e.root !== d.p2m.rootMfn)
      return violation(
        'INV-F9',
        `d${d.domid} shares its p2m, yet ${formatSbdf(device.sbdf)} has another root`,
      );
  }
  const t = w.last;
  if (t?.command.op !== 'populate' && t?.command.op !== 'decrease') return undefined;
  const d = w.machine.xen.domains.get(t.targetDomid ?? -1);
  if (d?.iommu.hapPtShare !== true) return undefined;
  return t.events.some((e) => e.kind === 'entry' && e.table === 'pte')
    ? violation('INV-F9', `an I/O table of d${d.domid} was written, which shares its p2m`)
    : undefined;
}

/** Which domain has which part of the reserved range mapped one to one. */
function identityMaps(w: World): Violation | undefined {
  const { reserved } = w.layout;
  if (reserved === undefined || w.last === undefined) return undefined;
  // d[IO] has no right to the range in this mode; a failure leads there and back.
  const throughNobody = w.last.targetDomid === DOMID.IO && w.machine.xen.opts.quarantine === 'none';
  for (const sbdf of throughNobody ? [] : w.last.gaps)
    return violation('INV-F11', `${formatSbdf(sbdf)} could not reach its reserved range for a moment`);
  for (const dom of w.domains) {
    const d = w.machine.xen.domains.get(dom.domid);
    if (d === undefined || d.crashed || d.isDying) continue;
    const wrong = identityOf(w, dom, d);
    if (wrong !== undefined) return violation('INV-F11', `d${dom.domid}: ${wrong}`);
  }
  return undefined;
}

function identityOf(w: World, dom: WorldDomain, d: Domain): string | undefined {
  const { start, end, sbdfs } = w.layout.reserved!;
  const record = d.iommu.identityMaps.find((m) => m.base === start);
  if (record !== undefined && record.count < 1) return 'a record without holders';
  const moved = d.pdevList.toArray().filter((p) => sbdfs.includes(p.sbdf) && !w.unsettled.has(p.sbdf));
  // IVMDs for a range of ids name phantom functions too, and each counts.
  const each = w.layout.spec.vendor === 'amd' && w.layout.spec.reservedByOption === true;
  const holders = moved.reduce((n, p) => n + 1 + (each ? w.machine.phantomRids(p.sbdf).length : 0), 0);
  if (holders > 0 && record === undefined) return 'a device has a reserved range that nobody recorded';
  const clean = w.unsettled.size === 0 && !w.strained.has(d.domid);
  if (clean && record !== undefined && record.count !== holders)
    return `${record.count} holders are counted, ${holders} are there`;
  if (d.p2m === undefined || dom.kind !== 'hvm') return undefined;
  for (const gfn of [start, start + 1, end]) {
    const e = d.p2m.lookup(gfn);
    const identity = e.type === P2M.mmioDirect && e.mfn === gfn;
    if (identity && record === undefined) return `${hex(gfn)} is mapped one to one for nobody`;
    if (!identity && record !== undefined) return `${hex(gfn)} of a reserved range is not mapped`;
  }
  return undefined;
}

/** A guest's or a quarantined device's reserved range stays in its reach. */
function reservedInReach(w: World): Violation | undefined {
  const { reserved } = w.layout;
  const { xen } = w.machine;
  if (reserved === undefined) return undefined;
  for (const device of plain(w)) {
    const p = w.pdev(device.sbdf);
    if (!reserved.sbdfs.includes(device.sbdf) || p?.domain === undefined) continue;
    const quarantined = p.domain === xen.domIo;
    if (quarantined && xen.opts.quarantine === 'none') continue;
    if (p.domain === xen.hwdom || p.domain === xen.domXen) continue;
    const d = xen.domains.get(p.domain.domid);
    if (!quarantined && (d === undefined || d.crashed || d.isDying)) continue;
    const t = translationOf(w.machine, device.sbdf, reserved.end);
    if (t?.mfn === reserved.end && t.write) continue;
    return violation(
      'INV-F11',
      `${formatSbdf(device.sbdf)} of ${xen.services.pd(p.domain)} does not reach its reserved range`,
    );
  }
  return undefined;
}

function queuesAreDone(w: World): Violation | undefined {
  for (const unit of w.machine.units) {
    const [head, tail] =
      unit instanceof VtdUnit
        ? [unit.read32(0x80), unit.read32(0x88)]
        : [unit.read32(0x2000), unit.read32(0x2008)];
    if (head !== tail)
      return violation('INV-F10', `the queue of a unit stands at ${hex(head)} of ${hex(tail)}`);
  }
  const waits = new Map<number, boolean>();
  for (const e of w.last?.events ?? []) {
    if (e.kind !== 'descriptor') continue;
    const vtd = w.machine.units[e.unit] instanceof VtdUnit;
    const isWait = vtd ? (e.words[0]! & 15) === 5 : e.words[1]! >>> 28 === 1;
    waits.set(e.unit, isWait);
  }
  for (const [unit, waited] of waits)
    if (!waited) return violation('INV-F10', `nobody waited for the last request to unit ${unit}`);
  return undefined;
}

function exclusions(w: World): Violation | undefined {
  for (const dom of w.domains) {
    const d = w.machine.xen.domains.get(dom.domid);
    if (d === undefined || d.pdevList.size === 0) continue;
    // Log-dirty mode of the physical map, which PV guests do not have.
    const tracked = d.logDirty && d.hap ? 'log-dirty mode' : undefined;
    const active = d.memSharing ? 'sharing' : d.pagingRing ? 'paging' : d.podEntries > 0 ? 'PoD' : tracked;
    if (active !== undefined) return violation('INV-M1', `d${dom.domid} has devices and ${active}`);
  }
  return undefined;
}

function iommuIsForLife(w: World): Violation | undefined {
  for (const dom of w.domains) {
    const d = w.machine.xen.domains.get(dom.domid);
    if (d !== undefined && d.iommuEnabled !== (dom.kind !== 'noiommu'))
      return violation('INV-M2', `d${dom.domid} was made ${dom.kind}, and use of the IOMMU changed`);
  }
  return undefined;
}

/** For PV guests nothing is mapped: newer Xen answers 0 before it looks at rights. */
function mmioNeedsTheRight(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'mmio' || t.rc !== 0 || !t.command.add) return undefined;
  const dom = w.domains.find((d) => d.domid === t.targetDomid);
  const mfn = mmioFrame(w.layout, t.command.dev);
  return dom?.kind !== 'hvm' || dom.allowed.has(mfn)
    ? undefined
    : violation('INV-M3', `d${dom.domid} mapped device memory ${hex(mfn)} without the right to it`);
}

const only = (id: string, holds: Invariant['holds']): Invariant['holds'] => {
  return (w) => {
    const v = holds(w);
    return v?.id === id ? v : undefined;
  };
};

export const memoryInvariants: readonly Invariant[] = [
  {
    id: 'INV-I8',
    title: 'a device has no page and no right that its guest does not have',
    holds: (w) => absentStaysAbsent(w) ?? readOnlyStays(w),
  },
  { id: 'INV-I12', title: 'only devices of dom0 pass untranslated', holds: passThroughIsDom0s },
  {
    id: 'INV-D5',
    title: 'a domain id that is used again has no old translation in a cache',
    holds: only('INV-D5', cachesAgree),
  },
  {
    id: 'INV-F5',
    title: 'no cache holds what the table of its domain id no longer says',
    holds: only('INV-F5', cachesAgree),
  },
  { id: 'INV-F6', title: "a device finds its guest's pages where the guest has them", holds: pagesAreMapped },
  { id: 'INV-F7', title: 'no entry and no cache leads to a table that is freed', holds: tablesAreXens },
  { id: 'INV-F9', title: 'shared tables are the p2m, and only it writes them', holds: sharedRootIsTheP2m },
  { id: 'INV-F10', title: 'every request to a unit is waited for', holds: queuesAreDone },
  {
    id: 'INV-F11',
    title: 'reserved ranges are mapped for exactly those who hold them, without a gap',
    holds: (w) => identityMaps(w) ?? reservedInReach(w),
  },
  { id: 'INV-M1', title: 'devices exclude sharing, paging, PoD and log-dirty mode', holds: exclusions },
  { id: 'INV-M2', title: 'whether a domain uses the IOMMU never changes', holds: iommuIsForLife },
  {
    id: 'INV-M3',
    title: 'device memory is mapped only to those with the right to it',
    holds: mmioNeedsTheRight,
  },
];
