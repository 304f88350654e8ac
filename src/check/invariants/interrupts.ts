/** Interrupts of devices: whose they are, who may raise them, and that none outlives its device or its domain. */
import { bdfOf, formatSbdf, type Sbdf } from '../../base/sbdf.js';
import type { IrqDesc, MsiEntry } from '../../hypervisor/irq/desc.js';
import { VtdUnit } from '../../iommu/hw/vtd/unit.js';
import type { TestDevice } from '../machines.js';
import { type RemappedInterrupt, vtdInterrupt } from '../reference/interrupts.js';
import { memoryOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';

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

function entriesAcceptTheirDevice(w: World): Violation | undefined {
  if (!remaps(w)) return undefined;
  for (const key of w.irtes) {
    const unit = w.machine.units[Math.floor(key / 0x1_0000)];
    if (!(unit instanceof VtdUnit)) continue;
    const index = key % 0x1_0000;
    const irte = vtdInterrupt(memoryOf(w.machine, unit), index);
    if (irte === undefined) continue;
    const entry = messagesOf(w).find(
      (e) => e.remapIndex === index && w.machine.unitFor(e.pdev.sbdf) === unit,
    );
    const wrong = entry === undefined ? 'belongs to no device' : wrongWith(w, irte, entry);
    if (wrong !== undefined) return isolation(`interrupt entry ${index} ${wrong}`);
  }
  return undefined;
}

function wrongWith(w: World, irte: RemappedInterrupt, entry: MsiEntry): string | undefined {
  const vector = w.machine.xen.irqs.descs.get(entry.irq)?.vector;
  const name = formatSbdf(entry.pdev.sbdf);
  if (irte.vector !== vector) return `of ${name} raises vector ${hex(irte.vector)}, not its own`;
  if (irte.deliveryMode > 1) return `of ${name} delivers in mode ${irte.deliveryMode}: no interrupt at all`;
  const device = deviceAt(w, entry.pdev.sbdf);
  const mine = device === undefined ? [] : idsOf(w, device);
  for (const other of w.layout.devices) {
    if (other === device) continue;
    for (const rid of w.ridsOf(other))
      if (!mine.includes(rid) && irte.accepts(rid)) return `of ${name} accepts requester ${hex(rid)}`;
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
    const slot = bdfOf(device.sbdf) & ~7;
    for (let fn = 0; fn < 8 && irte !== undefined; fn++) {
      if (irte.accepts(slot | fn) === own.includes(slot | fn)) continue;
      return {
        id: 'INV-P7',
        what: `interrupts of ${formatSbdf(device.sbdf)} ${irte.accepts(slot | fn) ? 'accept' : 'refuse'} function ${fn}`,
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
    if (remaps(w) && entry.remapIndex < 0) return life(`${name} has no remapping entry`);
    if (holdersOf(w, desc) !== 1) return life(`${name} is mapped to ${holdersOf(w, desc)} domains`);
  }
  return undefined;
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
    holds: (w) => mappedToTheOwner(w) ?? raisedItsOwn(w) ?? entriesAcceptTheirDevice(w),
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
