// edition: co
/**
 * What devices try between any two steps of Xen. Each asks for pages of everybody from every requester id it can forge:
 * its own, its phantom functions', those it shares behind a bridge. It says of requests that they are translated, though
 * nobody let it. With ATS it asks for translations, keeps them, and uses them when it should not. Of what it may reach it
 * leaves a request on its way each time, and lets it arrive after Xen is done.
 */
import { bdfOf, formatSbdf, segOf } from '../base/sbdf.js';
import type { StampedEvent } from '../sim/events.js';
import { OWNER_FREE, OWNER_NONE } from '../sim/frames.js';
import { letBy } from './blame.js';
import type { Call } from './calls.js';
import { atsEnabled } from './device_tlb.js';
import { InFlight, type Request } from './in_flight.js';
import type { Violation } from './invariants/invariant.js';
import type { TestDevice } from './machines.js';
import { entryOf, translationOf } from './tables_now.js';
import type { World } from './world.js';

/** Whom a device may reach now: who owns it, and while pcidevs_lock is held, who did and who is about to. */
interface Rights {
  readonly owners: ReadonlySet<number | undefined>;
  /** Domains of the calls at hand. */
  readonly named: readonly (number | undefined)[];
  /** Nobody has pcidevs_lock: its owner alone. */
  readonly settled: boolean;
}

const may = (r: Rights, domid: number): boolean =>
  r.owners.has(domid) || (!r.settled && r.named.includes(domid));

const hex = (n: number): string => n.toString(16);

export class Adversary {
  /** Who owned each device since pcidevs_lock was last free. */
  private readonly owners = new Map<number, Set<number | undefined>>();
  private readonly inFlight: InFlight;
  /** Where each vCPU gave up last, and its call. */
  private readonly at = new Map<number, string>();
  /** Which steps touched an entry, page tables, or told a unit to forget, last. */
  private readonly steps = new Map<string, string>();
  private violation: Violation | undefined = undefined;

  constructor(
    private readonly world: World,
    private readonly calls: readonly Call[],
  ) {
    this.inFlight = new InFlight(world.layout.spec.vendor);
  }

  /** A new run, from the start. */
  clear(): void {
    this.owners.clear();
    this.inFlight.clear();
    this.at.clear();
    this.steps.clear();
    this.violation = undefined;
  }

  hear(e: StampedEvent): void {
    this.inFlight.hear(e);
    if (e.kind === 'alloc' && e.free) this.freed(e);
    if (e.kind === 'descriptor') {
      const { ats, vendor } = this.world.layout.spec;
      if (ats === true) this.world.deviceTlbs.hear(this.world.machine, e.unit, e.words, vendor);
      this.steps.set('told', this.step(e.cpu));
    } else if (e.kind === 'entry' && e.table !== 'irte' && e.table !== 'root') {
      const which = e.table === 'pte' ? 'pte' : `entry ${this.world.machine.hw.idOn(e.unit, e.id)}`;
      this.steps.set(which, this.step(e.cpu));
    }
  }

  /** `cpu0 (assign), after it had stopped at pcidevs_lock` */
  private step(cpu: number): string {
    const where = this.at.get(cpu);
    const call = this.calls[cpu]?.op ?? 'start';
    return `cpu${cpu} (${call})${where === undefined ? '' : ` after it had stopped at ${where}`}`;
  }

  /** A frame goes back to the heap: nothing may be on its way there. */
  private freed(e: Extract<StampedEvent, { kind: 'alloc' }>): void {
    for (const r of this.inFlight.to(e.mfn, 2 ** e.order)) {
      this.violation ??= {
        id: 'INV-I7',
        what: `${this.late(r)} when ${this.step(e.cpu)} freed the frame`,
      };
    }
  }

  /** Devices look on after a vCPU has given up. */
  look(cpu: number, stoppedAt: string): Violation | undefined {
    this.at.set(cpu, stoppedAt);
    for (const device of this.world.layout.devices) this.violation ??= this.attack(device);
    return this.violation;
  }

  /** Xen is done: what is on its way, or kept, is looked at once more. */
  rest(): Violation | undefined {
    for (const device of this.world.layout.devices) this.violation ??= this.attack(device);
    return this.violation;
  }

  private rightsOf(device: TestDevice): Rights {
    const { world } = this;
    const { xen } = world.machine;
    const settled = xen.pcidevsLock.owner === undefined;
    // A device that is released goes to dom0, its phantom functions first.
    const named = this.calls.map((c) =>
      'dom' in c ? world.domains[c.dom]?.domid : c.op === 'release' ? xen.hwdom.domid : undefined,
    );
    const owner = world.pdev(device.sbdf)?.domain?.domid;
    const known = settled ? undefined : this.owners.get(device.sbdf);
    const owners = known?.add(owner) ?? new Set([owner]);
    this.owners.set(device.sbdf, owners);
    return { owners, named, settled };
  }

  /**
   * No device reaches a domain but its owner; while somebody has pcidevs_lock, whoever owned it since that was taken and
   * whom the calls are about (INV-I3).
   */
  private attack(device: TestDevice): Violation | undefined {
    const { world } = this;
    const rights = this.rightsOf(device);
    if (rights.owners.has(0) && !world.machine.xen.opts.hwdomStrict) return undefined;
    const remapper = world.machine.hw.root.remapperFor(segOf(device.sbdf), bdfOf(device.sbdf));
    const keeps = world.layout.spec.ats === true && atsEnabled(world.machine, device);
    for (const rid of [...world.ownRids(device), ...device.sharedRids]) {
      for (const { domid, frames } of this.targets()) {
        for (const frame of frames) {
          const mfn = world.reach(rid, frame, false);
          if (mfn >= 0 && world.machine.hw.frames.owner(mfn) === domid) {
            if (!may(rights, domid)) return this.story(device, rid, frame, mfn, domid);
            this.launch(rid, frame, mfn, domid);
          }
          if (keeps || may(rights, domid)) continue;
          const forged = domid === 0 ? frame : (translationOf(world.machine, rid, frame)?.mfn ?? frame);
          if ((remapper?.translated?.(bdfOf(rid), forged, false) ?? -1) >= 0)
            return this.forged(device, rid, forged, domid);
        }
      }
    }
    return this.arrivals(device, rights) ?? (keeps ? this.useKept(device, rights) : undefined);
  }

  /** Pages of each guest and of dom0, as their devices name them. */
  private targets(): { domid: number; frames: Iterable<number> }[] {
    const { world } = this;
    const { hwdom } = world.machine.xen;
    return [
      { domid: hwdom.domid, frames: hwdom.extents.slice(0, 1).map((x) => x.mfn) },
      ...world.domains.map((d) => ({ domid: d.domid, frames: d.memory.keys() })),
    ];
  }

  /** A request leaves; where a cache alone lets it pass, what will drain it cannot be told from the tables. */
  private launch(rid: number, dfn: number, mfn: number, owner: number): void {
    if (this.inFlight.has(rid, dfn, mfn)) return;
    const { machine } = this.world;
    const entry = entryOf(machine, rid);
    const unit = machine.units.indexOf(machine.unitFor(rid)!);
    if (entry === undefined || unit < 0 || translationOf(machine, rid, dfn)?.mfn !== mfn) return;
    const since = [...this.at].map(([cpu]) => this.step(cpu)).join(', ');
    const { did } = entry;
    for (const write of [true, false])
      this.inFlight.launch({ unit, rid, dfn, mfn, did, owner, write, since });
  }

  /** What is on its way arrives now. */
  private arrivals(device: TestDevice, rights: Rights): Violation | undefined {
    const { machine } = this.world;
    const mine = [...this.world.ridsOf(device), ...device.sharedRids];
    for (const r of this.inFlight.all()) {
      if (!mine.includes(r.rid)) continue;
      const now = machine.hw.frames.owner(r.mfn);
      if (now !== r.owner && now !== OWNER_FREE && now !== OWNER_NONE)
        return { id: 'INV-I6', what: `${this.late(r)}, which is d${now}'s by now` };
      if (!may(rights, r.owner))
        return { id: 'INV-I6', what: `${this.late(r)} though the device has left that domain` };
    }
    return undefined;
  }

  /** Pages are asked for; what was kept of earlier answers is used. */
  private useKept(device: TestDevice, rights: Rights): Violation | undefined {
    const { world } = this;
    const { machine } = world;
    const rid = device.sbdf;
    const remapper = machine.hw.root.remapperFor(segOf(rid), bdfOf(rid));
    for (const [dfn, mfn] of world.deviceTlbs.kept.get(rid) ?? []) {
      const owner = machine.hw.frames.owner(mfn);
      if (owner === OWNER_FREE || owner === OWNER_NONE || may(rights, owner)) continue;
      if (mfn === world.pdev(device.sbdf)?.arch.leafMfn) continue;
      if ((remapper?.translated?.(bdfOf(rid), mfn, true) ?? -1) < 0) continue;
      const what = `${formatSbdf(device.sbdf)} wrote to frame ${hex(mfn)} of d${owner} by a translation that it kept of bus frame ${hex(dfn)}`;
      return { id: 'INV-F4', what: `${what}: ${this.blame(rid)}` };
    }
    for (const { domid, frames } of this.targets())
      if (may(rights, domid)) for (const dfn of frames) world.deviceTlbs.ask(machine, device, dfn);
    return undefined;
  }

  private late({ rid, mfn, dfn, owner, write, since }: Request): string {
    const what = write ? 'write' : 'read';
    return `a ${what} of requester ${hex(rid)} to frame ${hex(mfn)} of d${owner} (bus frame ${hex(dfn)}), which left at ${since}, was on its way still`;
  }

  private forged(device: TestDevice, rid: number, mfn: number, domid: number): Violation {
    const what = `${formatSbdf(device.sbdf)} as requester ${hex(rid)} reached frame ${hex(mfn)} of d${domid} by a request that says it is translated, though ATS is off`;
    return { id: 'INV-I3', what: `${what}: ${this.blame(rid)}` };
  }

  /** Who reached what, by which entry or cache, and which step of Xen left it so. */
  private story(device: TestDevice, rid: number, frame: number, mfn: number, domid: number): Violation {
    const by = letBy(this.world.machine, rid, frame, mfn);
    const who = `${formatSbdf(device.sbdf)} as requester ${hex(rid)}`;
    const what = `frame ${hex(mfn)} of d${domid} (bus frame ${hex(frame)})`;
    return { id: 'INV-I3', what: `${who} reached ${what}: ${by}; ${this.blame(rid)}` };
  }

  private blame(rid: number): string {
    const said = [
      ['its entry was last written by', this.steps.get(`entry ${rid}`)],
      ['page tables by', this.steps.get('pte')],
      ['units were last told to forget by', this.steps.get('told')],
    ].flatMap(([what, step]) => (step === undefined ? [] : [`${what} ${step}`]));
    return said.length === 0 ? 'nothing was changed since the start' : said.join(', ');
  }
}
