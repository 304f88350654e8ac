/** Interrupts of devices: whose they are, who may raise them, and that none outlives its device or its domain. */
import { bdfOf, formatSbdf, type Sbdf } from '../../base/sbdf.js';
import type { IrqDesc, MsiEntry } from '../../hypervisor/irq/desc.js';
import { VtdUnit } from '../../iommu/hw/vtd/unit.js';
import type { IommuUnit } from '../../machine_hw.js';
import type { TestDevice } from '../machines.js';
import { amdInterrupt, type RemappedInterrupt, vtdInterrupt } from '../reference/interrupts.js';
import { memoryOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';

/** Entries of one device's table. */
const AMD_ENTRIES = 2048;

const isolation = (what: string): Violation => ({ id: 'INV-I10', what });
const life = (what: string): Violation => ({ id: 'INV-IRQ-LIFE', what });
const hex = (n: number): string => n.toString(16);

/** All messages that devices have now. */
const messagesOf = (w: World): MsiEntry[] =>
  w.once('messages', () => [...w.machine.xen.irqs.msis.values()].flat().flatMap((e) => e.group));

const remaps = (w: World): boolean =>
  w.machine.xen.opts.intremap !== 'off' && w.machine.xen.ops?.updateIreFromMsi !== undefined;

/** A device that Xen does not know may have been given away half-way. */
const deviceAt = (w: World, at: Sbdf): TestDevice | undefined => w.layout.devices.find((d) => d.sbdf === at);

/** Behind one bridge nobody can tell devices apart. */
const sibling = (a: TestDevice, b: TestDevice): boolean =>
  a.sharedRids.some((rid) => b.sharedRids.includes(rid));

/** Ids under which a device is seen, or a sibling that is taken for it. */
const idsOf = (w: World, device: TestDevice): number[] => [
  ...device.sharedRids,
  ...w.layout.devices.flatMap((d) => (d === device || sibling(d, device) ? w.ridsOf(d) : [])),
];

function mappedToTheOwner(w: World): Violation | undefined {
  const m = w.mapped;
  if (m === undefined || w.last?.rc !== 0 || m.owner === m.domid) return undefined;
  return isolation(
    `d${m.domid} was given an interrupt of ${formatSbdf(w.last.target!.sbdf)}, which belongs to ${m.owner === undefined ? 'nobody' : `d${m.owner}`}`,
  );
}

function raisedItsOwn(w: World): Violation | undefined {
  const r = w.raised;
  if (r === undefined || !remaps(w)) return undefined;
  const entry = w.machine.xen.irqs.descs.get(r.irq)?.msi;
  const device = entry === undefined ? undefined : deviceAt(w, entry.pdev.sbdf);
  if (device !== undefined && idsOf(w, device).includes(r.rid)) return undefined;
  const whose = entry === undefined ? 'no device has' : `is of ${formatSbdf(entry.pdev.sbdf)}`;
  return isolation(`requester ${hex(r.rid)} raised interrupt ${r.irq}, which ${whose}`);
}

interface Numbered {
  readonly index: number;
  readonly irte: RemappedInterrupt;
}

/** What requester `rid` can raise through entries that Xen has written, however it came by the message. */
function raisable(w: World, rid: number): Numbered[] {
  const unit = w.machine.unitFor(rid);
  if (unit === undefined || w.irtes.size === 0) return [];
  const written = w.once(`irtes of ${w.machine.units.indexOf(unit)}`, () => writtenOn(w, unit));
  if (unit instanceof VtdUnit) {
    const present = w.once(`present of ${w.machine.units.indexOf(unit)}`, () => read(w, rid, written));
    return present.filter(({ irte }) => irte.accepts(bdfOf(rid)));
  }
  return read(w, rid, written);
}

const read = (w: World, rid: number, indices: readonly number[]): Numbered[] =>
  indices.flatMap((index) => {
    const irte = entryFor(w, rid, index);
    return irte === undefined ? [] : [{ index, irte }];
  });

/** Indices of entries; on AMD units of any table. */
function writtenOn(w: World, unit: IommuUnit): number[] {
  const number = w.machine.units.indexOf(unit);
  const indices = new Set<number>();
  for (const key of w.irtes) {
    if (Math.floor(key / 2 ** 32) === number)
      indices.add(unit instanceof VtdUnit ? key % 2 ** 32 : key % AMD_ENTRIES);
  }
  return [...indices];
}

function entryFor(w: World, rid: number, index: number): RemappedInterrupt | undefined {
  const unit = w.machine.unitFor(rid);
  if (unit === undefined) return undefined;
  const memory = memoryOf(w.machine, unit);
  return unit instanceof VtdUnit ? vtdInterrupt(memory, index) : amdInterrupt(memory, bdfOf(rid), index);
}

function entriesAreTheirs(w: World): Violation | undefined {
  if (!remaps(w)) return undefined;
  const { irqs } = w.machine.xen;
  for (const device of w.layout.devices) {
    for (const rid of [...w.ridsOf(device), ...device.sharedRids]) {
      for (const { index, irte } of raisable(w, rid)) {
        const through = `requester ${hex(rid)} can raise vector ${hex(irte.vector)} through interrupt entry ${index}`;
        if (irte.deliveryMode > 1) return isolation(`${through}, in mode ${irte.deliveryMode}`);
        const msi = irqs.descs.get(irqs.byVector.get(irte.vector) ?? -1)?.msi;
        const owner = msi === undefined ? undefined : deviceAt(w, msi.pdev.sbdf);
        if (owner !== undefined && (owner === device || sibling(owner, device))) continue;
        const whose = msi === undefined ? "nobody's" : `of ${formatSbdf(msi.pdev.sbdf)}`;
        return isolation(`${through}, which is ${whose}`);
      }
    }
  }
  return undefined;
}

function phantomsAndNoMore(w: World): Violation | undefined {
  if (!remaps(w)) return undefined;
  for (const entry of messagesOf(w)) {
    const device = deviceAt(w, entry.pdev.sbdf);
    const unit = w.machine.unitFor(entry.pdev.sbdf);
    if (device === undefined || device.conventional || !(unit instanceof VtdUnit)) continue;
    const irte = entry.remapIndex < 0 ? undefined : vtdInterrupt(memoryOf(w.machine, unit), entry.remapIndex);
    const own = w.ridsOf(device);
    const slot = device.sbdf & ~7;
    for (let fn = 0; fn < 8 && irte !== undefined; fn++) {
      if (irte.accepts(bdfOf(slot | fn)) === own.includes(slot | fn)) continue;
      return {
        id: 'INV-P7',
        what: `interrupts of ${formatSbdf(device.sbdf)} ${irte.accepts(bdfOf(slot | fn)) ? 'accept' : 'refuse'} function ${fn}`,
      };
    }
  }
  return undefined;
}

/** One descriptor, one vector, one remapping entry and one domain for each message. */
function messagesAreWhole(w: World): Violation | undefined {
  const { irqs } = w.machine.xen;
  for (const entry of messagesOf(w)) {
    const desc = irqs.descs.get(entry.irq);
    const name = `interrupt ${entry.irq} of ${formatSbdf(entry.pdev.sbdf)}`;
    if (desc?.msi !== entry) return life(`${name} has no descriptor of its own`);
    if (irqs.byVector.get(desc.vector) !== entry.irq) return life(`${name} has no vector of its own`);
    if (remaps(w) && !hasItsEntry(w, entry, desc.vector)) return life(`${name} has no remapping entry`);
    if (holdersOf(w, desc) !== 1) return life(`${name} is mapped to ${holdersOf(w, desc)} domains`);
  }
  return undefined;
}

function hasItsEntry(w: World, entry: MsiEntry, vector: number): boolean {
  const device = deviceAt(w, entry.pdev.sbdf);
  if (device === undefined || entry.remapIndex < 0) return entry.remapIndex >= 0;
  const seen = idsOf(w, device).flatMap((rid) => entryFor(w, rid, entry.remapIndex) ?? []);
  // AMD: a device that is set aside has its interrupts aborted, whatever its table says.
  if (seen.length === 0) return w.layout.spec.vendor === 'amd';
  return seen.some((irte) => irte.vector === vector);
}

const holdersOf = (w: World, desc: IrqDesc): number => {
  let n = 0;
  for (const d of w.machine.xen.domains.values())
    for (const pirq of d.pirqs.values()) if (pirq.irq === desc.irq) n += 1;
  return n;
};

function noneOutlivesItsDevice(w: World): Violation | undefined {
  const { irqs, domains } = w.machine.xen;
  for (const d of domains.values()) {
    for (const pirq of d.pirqs.values()) {
      const desc = irqs.descs.get(pirq.irq);
      const whole = desc?.msi !== undefined && messagesOf(w).includes(desc.msi);
      if (pirq.msi && !whole)
        return life(`pirq ${pirq.pirq} of d${d.domid} stands for interrupt ${pirq.irq}, which is gone`);
    }
  }
  for (const desc of irqs.descs.values()) {
    if (desc.creator >= 0 && desc.msi === undefined)
      return life(`interrupt ${desc.irq} was made and is nobody's`);
  }
  for (const { d } of irqs.inFlight)
    if (!d.dpci) return life(`an interrupt is in flight to d${d.domid}, which was cleaned`);
  return undefined;
}

export const interruptInvariants: readonly Invariant[] = [
  {
    id: 'INV-I10',
    title: 'a device raises its own interrupts, and its owner has them',
    holds: (w) => mappedToTheOwner(w) ?? raisedItsOwn(w) ?? entriesAreTheirs(w),
  },
  {
    id: 'INV-P7',
    title:
      'interrupts are accepted from a device and its phantom functions, and from no other function of the slot',
    holds: phantomsAndNoMore,
  },
  {
    id: 'INV-IRQ-LIFE',
    title:
      'an interrupt has one vector, one entry and one domain, and none outlives its device or its domain',
    holds: (w) => messagesAreWhole(w) ?? noneOutlivesItsDevice(w),
  },
];
