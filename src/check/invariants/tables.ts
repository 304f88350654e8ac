/** What the tables in memory say, read by the reference readers, and the order of changes and flushes. */
import { formatSbdf } from '../../base/sbdf.js';
import { VtdUnit } from '../../iommu/hw/vtd/unit.js';
import type { IommuUnit } from '../../machine_hw.js';
import type { TableEntry } from '../reference/tables.js';
import { entryOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';
import { isSharedId } from './reach.js';

/** On AMD the entry that counts is the one of the alias. */
const countsFor = (w: World, rid: number): boolean => !isSharedId(w, rid);

function phantomsFollow(w: World): Violation | undefined {
  for (const device of w.layout.devices) {
    if (w.unsettled.has(device.sbdf) || w.pdev(device.sbdf) === undefined) continue;
    const primary = entryOf(w.machine, device.sbdf);
    const owner = w.pdev(device.sbdf)?.domain;
    for (const rid of w.ownRids(device).slice(1)) {
      const phantom = entryOf(w.machine, rid);
      // An error while the device was added leaves a phantom function without entry: it faults, which is safe.
      if (phantom === undefined && owner === w.machine.xen.hwdom) continue;
      if (phantom?.root === primary?.root && phantom?.did === primary?.did) continue;
      return {
        id: 'INV-P1',
        what: `phantom ${rid.toString(16)} of ${formatSbdf(device.sbdf)} has ${show(phantom)}, its device ${show(primary)}`,
      };
    }
  }
  return undefined;
}

const show = (e: TableEntry | undefined): string =>
  e === undefined ? 'no entry' : `root ${e.root.toString(16)} and domain id ${e.did}`;

function domainIdsAreUnique(w: World): Violation | undefined {
  const owners = new Map<string, string>();
  for (const device of w.layout.devices) {
    const p = w.pdev(device.sbdf);
    if (p?.domain === undefined || w.unsettled.has(device.sbdf)) continue;
    const rid = device.sbdf;
    const e = countsFor(w, rid) ? entryOf(w.machine, rid) : undefined;
    if (e === undefined) continue;
    const unit = w.machine.unitFor(device.sbdf)!;
    const quarantined = p.domain === w.machine.xen.domIo;
    const holder = quarantined ? formatSbdf(device.sbdf) : `d${p.domain.domid}`;
    const key = `${w.machine.units.indexOf(unit)}/${e.did}`;
    const other = owners.get(key);
    if (other !== undefined && other !== holder)
      return { id: 'INV-D1', what: `domain id ${e.did} stands for ${other} and for ${holder}` };
    owners.set(key, holder);
  }
  return undefined;
}

const QI = { context: 1, iotlb: 2 };
const CMD = { devtab: 2, pages: 3 };
/** `cc 3 100`: context cache of domain id 3 and requester 100; `iotlb 3`; `dte 100`; `pages 3`. */
type Step = string;

/** What is owed, and the entry whose change it is owed for. */
interface Owed {
  readonly due: Step;
  readonly unit: number;
  readonly rid: number;
}

/** Invalidations the unit saw, page-selective ones left out: those belong to page tables. */
function flushesSeen(unit: IommuUnit, words: readonly number[]): Step | undefined {
  const at = (i: number): number => words[i]! >>> 0;
  if (unit instanceof VtdUnit) {
    const type = at(0) & 15;
    const did = at(0) >>> 16;
    if (type === QI.context) return `cc ${did} ${at(1) & 0xffff}`;
    return type === QI.iotlb && ((at(0) >>> 4) & 3) === 2 ? `iotlb ${did}` : undefined;
  }
  const op = at(1) >>> 28;
  if (op === CMD.devtab) return `dte ${at(0) & 0xffff}`;
  return op === CMD.pages ? `pages ${at(1) & 0xffff}` : undefined;
}

/** What a change of an entry must be followed by. */
function flushesOwed(
  w: World,
  unit: IommuUnit,
  rid: number,
  before: readonly number[],
  after: readonly number[],
): Step[] {
  const lo = before[0]!;
  const did = before[2]!;
  if (unit instanceof VtdUnit) {
    if ((lo & 1) === 1) return [`cc ${(did >>> 8) & 0xffff} ${rid}`, `iotlb ${(did >>> 8) & 0xffff}`];
    return w.layout.spec.cachingMode ? [`cc 0 ${rid}`, 'iotlb 0'] : [];
  }
  // Interrupt fields may change alone: then no page was translated differently.
  const moved = before[0] !== after[0] || before[1] !== after[1] || (did & 0xffff) !== (after[2]! & 0xffff);
  return moved && (lo & 3) === 3 ? [`dte ${rid}`, `pages ${did & 0xffff}`] : [`dte ${rid}`];
}

/** Walks the events of the last command: every entry changed, then exactly the flushes it owes, in order. */
function flushOrder(w: World, vendor: 'vtd' | 'amd', wasPresent: boolean): Violation | undefined {
  if (w.layout.spec.vendor !== vendor || w.last === undefined) return undefined;
  const table = vendor === 'vtd' ? 'context' : 'dte';
  const owed: Owed[] = [];
  const entry = ({ rid, unit }: Owed): string => {
    const of = w.machine.hw.idOn(unit, rid);
    return `the entry of requester ${of.toString(16)} was replaced on unit ${unit}: ${w.steps.of(of)}`;
  };
  let relevant = false;
  for (const e of w.last.events) {
    if (e.kind === 'entry' && e.table === table) {
      const present = (e.before[0]! & (vendor === 'vtd' ? 1 : 3)) === (vendor === 'vtd' ? 1 : 3);
      const absentAfter = vendor === 'vtd' && (e.after[0]! & 1) === 0;
      if (!present && absentAfter) continue; // the rest of an entry that is gone already
      relevant ||= present === wasPresent;
      for (const due of flushesOwed(w, w.machine.units[e.unit]!, e.id, e.before, e.after))
        owed.push({ due, unit: e.unit, rid: e.id });
    } else if (e.kind === 'descriptor' && owed.length > 0) {
      const seen = flushesSeen(w.machine.units[e.unit]!, e.words);
      if (seen === undefined) continue;
      const next = owed.shift()!;
      if (seen !== next.due && relevant)
        return {
          id: flushId(vendor, wasPresent),
          what: `flushed "${seen}" where "${next.due}" was due, since ${entry(next)}`,
        };
    }
  }
  if (owed.length > 0 && relevant)
    return {
      id: flushId(vendor, wasPresent),
      what: `returned without the flush "${owed[0]!.due}", though ${entry(owed[0]!)}`,
    };
  return undefined;
}
const flushId = (vendor: 'vtd' | 'amd', wasPresent: boolean): string =>
  vendor === 'amd' ? 'INV-F3' : wasPresent ? 'INV-F1' : 'INV-F2';

/** Without caching mode an entry that was absent needs no context flush: one is work for nothing. */
function noIdleFlush(w: World): Violation | undefined {
  if (w.layout.spec.vendor !== 'vtd' || w.last === undefined) return undefined;
  const changes = w.last.events.filter((e) => e.kind === 'entry' && e.table === 'context');
  const fresh = changes.length > 0 && changes.every((e) => e.kind === 'entry' && (e.before[0]! & 1) === 0);
  if (!fresh) return undefined;
  if (w.layout.spec.cachingMode) return flushOrder(w, 'vtd', false);
  const flush = w.last.events.find((e) => e.kind === 'descriptor' && (e.words[0]! & 15) === QI.context);
  return flush === undefined
    ? undefined
    : { id: 'INV-F2', what: 'the context cache was flushed for an absent entry' };
}

export const tableInvariants: readonly Invariant[] = [
  { id: 'INV-P1', title: 'phantom functions have the entry of their device', holds: phantomsFollow },
  { id: 'INV-D1', title: 'a hardware domain id stands for one domain on a unit', holds: domainIdsAreUnique },
  {
    id: 'INV-F1',
    title: 'a changed context entry is flushed: context cache, then IOTLB, of the old domain id',
    holds: (w) => flushOrder(w, 'vtd', true),
  },
  { id: 'INV-F2', title: 'an entry that was absent is flushed only in caching mode', holds: noIdleFlush },
  {
    id: 'INV-F3',
    title: 'AMD: the DTE is flushed, then the pages of the domain it translated for',
    holds: (w) => flushOrder(w, 'amd', true),
  },
];
