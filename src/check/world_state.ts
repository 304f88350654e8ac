import { bdfOf, busOf, devfnOf, type Sbdf, sbdfOf, segOf } from '../base/sbdf.js';
import type { DomctlOp } from '../hypervisor/public/domctl.js';
import type { MemoryOp } from '../hypervisor/public/memory.js';
import { PCI_DEV_FLAG, type PhysdevOp } from '../hypervisor/public/physdev.js';
import type { Seams } from '../hypervisor/seams.js';
import type { HostDescription } from '../inputs/host_description.js';
import type { Pdev } from '../iommu/driver/types.js';
import type { Machine } from '../machine.js';
import type { IommuUnit } from '../machine_hw.js';
import { runAlone } from '../sim/co.js';
import type { Sink, StampedEvent } from '../sim/events.js';
import { DOMID } from '../sim/frames.js';
import { LastSteps } from './blame.js';
import type { Command } from './commands.js';
import { DeviceTlbs } from './device_tlb.js';
import { InFlight, type Request } from './in_flight.js';
import type { TestDevice, TestMachine } from './machines.js';
import type { Message } from './message_commands.js';
import { type TableEntry, tablesOnVtd } from './reference/tables.js';
import { entryOf, memoryOf, translationOf } from './tables_now.js';

export interface WorldDomain {
  readonly domid: number;
  readonly kind: 'hvm' | 'pv' | 'noiommu';
  /** Bus frame to order, for what was populated. */
  readonly memory: Map<number, number>;
  /** Device memory: guest frame to machine frame, and frames it has the right to. */
  readonly mmio: Map<number, number>;
  readonly allowed: Set<number>;
}

/** The state of an entry in the middle of a command. */
export interface Moment {
  readonly unit: number;
  readonly rid: number;
  readonly entry: TableEntry | undefined;
}

/** What the last command did, for invariants about it. */
export interface Trace {
  readonly command: Command;
  /** 0 or an errno, where the command was a hypercall. */
  readonly rc: number | undefined;
  readonly events: readonly StampedEvent[];
  /** Owner of each device before, by sbdf. */
  readonly ownersBefore: ReadonlyMap<Sbdf, number | undefined>;
  readonly target: TestDevice | undefined;
  readonly targetDomid: number | undefined;
  /** Flags of each device before. */
  readonly devicesBefore: ReadonlyMap<Sbdf, DeviceBefore>;
  /** Entries of requester ids before the command, and each time one changed. */
  readonly entriesBefore: readonly Moment[];
  readonly moments: readonly Moment[];
  /** Devices whose reserved range was out of reach at a moment, though not before. */
  readonly gaps: ReadonlySet<Sbdf>;
  /** Pages that were out of reach at a moment, though neither before nor after. */
  readonly blinks: ReadonlySet<WatchedPage>;
  /** Frames that went back while a cache had them. */
  readonly staleFrees: readonly StaleFree[];
  /** Tables that went back while a cache had what was read through them. */
  readonly staleTables: readonly TableLine[];
  /** Sites that were made to fail. */
  readonly failures: number;
  readonly holdsLocks: boolean;
  /** What was wrong with the counting of faults, if anything. */
  readonly accounting: string | undefined;
}

export interface DeviceBefore {
  readonly quarantine: boolean;
  readonly broken: boolean;
  readonly faults: number;
  readonly pseudoDomid: number;
}

/** Stands in machine frame 0, which no device has a right to. */
export const FRAME_ZERO_MARK = 0x0f_ace0;

export interface WatchedPage {
  readonly rid: number;
  readonly dfn: number;
  readonly mfn: number;
}
export interface StaleFree {
  readonly unit: IommuUnit;
  readonly did: number;
  readonly mfn: number;
}

/** A cached translation of a guest's device, and a table that it was read through. */
export interface TableLine {
  readonly unit: IommuUnit;
  readonly did: number;
  readonly dfn: number;
  readonly table: number;
}

export interface WorldOptions {
  /** A machine that somebody owns, in place of a random one. */
  readonly host?: HostDescription;
  readonly release?: string;
  readonly fixed?: boolean;
  /** Single decisions replaced: a historical bug. */
  readonly seams?: Partial<Seams>;
  /** Counts the decisions of Xen too. */
  readonly countSeams?: boolean;
  /** Hears every event after the machine stands. */
  readonly sink?: Sink;
}

function holderName(domid: number | undefined): string {
  if (domid === undefined) return 'nobody';
  if (domid === 0) return 'dom0';
  if (domid === DOMID.IO) return 'quarantine';
  return domid < DOMID.FIRST_RESERVED ? 'guest' : 'hidden';
}

export abstract class WorldState {
  readonly domains: WorldDomain[] = [];
  /** Frames that dead guests owned, newest last. */
  readonly freed: number[] = [];
  /** Devices whose last move failed half-way: their phantom functions may be elsewhere. */
  readonly unsettled = new Set<Sbdf>();
  /** Devices that dom0 took away although the vendor's hook failed: Xen forgot them, their entries stand. */
  readonly lost = new Set<Sbdf>();
  /** Domains from which a device could not be taken cleanly: what they keep they have until they die. */
  readonly strained = new Set<number>();
  /** Devices that were given away although they share a reserved range, at the caller's risk. */
  readonly relaxed = new Set<Sbdf>();
  last: Trace | undefined = undefined;
  /** What devices with ATS keep of translations. */
  readonly deviceTlbs = new DeviceTlbs();
  /** Requests that have left and not arrived, and frames that went back while one was on its way there. */
  readonly inFlight: InFlight;
  readonly freedUnder: Request[] = [];
  /** Messages that devices were given, the oldest first: any of them may be sent by any. */
  readonly messages: Message[] = [];
  /** Interrupt remapping entries that were written: unit times 2^32, and their index. */
  readonly irtes = new Set<number>();
  /** Who was given an interrupt of a device of whom by the last command, and which interrupt somebody raised. */
  mapped: { readonly domid: number; readonly owner: number | undefined } | undefined = undefined;
  raised: { readonly rid: number; readonly irq: number } | undefined = undefined;
  /** Which step of Xen wrote what last. */
  readonly steps = new LastSteps();
  /** Results that several invariants share, for the time of one command. */
  readonly memo = new Map<string, unknown>();
  /** Requester ids of each device, also while Xen does not know it. */
  protected readonly slots = new Map<Sbdf, readonly number[]>();
  protected devicesBefore = new Map<Sbdf, DeviceBefore>();
  protected accounting: string | undefined = undefined;
  protected events: StampedEvent[] = [];
  protected moments: Moment[] = [];
  protected gaps = new Set<Sbdf>();
  protected watched: readonly TestDevice[] = [];
  protected pages: readonly WatchedPage[] = [];
  protected blinks = new Set<WatchedPage>();
  protected staleFrees: StaleFree[] = [];
  protected movesPages = false;
  protected tableLines: readonly TableLine[] = [];
  protected staleTables: TableLine[] = [];

  protected constructor(
    readonly layout: TestMachine,
    readonly machine: Machine,
    readonly counts: Map<string, number>,
  ) {
    this.inFlight = new InFlight(layout.spec.vendor);
  }

  protected startCommand(c: Command): void {
    this.steps.begin(c);
    this.memo.clear();
    this.mapped = undefined;
    this.raised = undefined;
  }

  /** Keeps events, and looks at the tables each time an entry has changed. */
  protected listen(e: StampedEvent): void {
    this.events.push(e);
    this.steps.hear(this.machine, e);
    this.inFlight.hear(e);
    if (e.kind === 'alloc' && e.free) this.freedUnder.push(...this.inFlight.to(e.mfn, 2 ** e.order));
    if (e.kind === 'alloc' && e.free && this.movesPages && e.owner < DOMID.FIRST_RESERVED)
      this.freedAtOnce(e.mfn, e.order);
    if (e.kind === 'descriptor' && this.layout.spec.ats === true)
      this.deviceTlbs.hear(this.machine, e.unit, e.words, this.layout.spec.vendor);
    if (e.kind === 'alloc' && e.free && this.tableLines.length > 0) this.tableFreed(e.mfn);
    if (e.kind === 'entry' && e.table === 'irte') this.irtes.add(e.unit * 2 ** 32 + e.id);
    if (e.kind !== 'entry' || e.table === 'root' || e.table === 'irte') return;
    if (e.table !== 'pte') {
      const rid = this.machine.hw.idOn(e.unit, e.id);
      this.moments.push({ unit: e.unit, rid, entry: entryOf(this.machine, rid) });
    }
    const { reserved } = this.layout;
    for (const device of this.watched) {
      if (translationOf(this.machine, device.sbdf, reserved!.start)?.mfn !== reserved!.start)
        this.gaps.add(device.sbdf);
    }
    if (e.table === 'pte') for (const page of this.pages) if (!this.isThere(page)) this.blinks.add(page);
  }

  protected isThere(page: WatchedPage): boolean {
    return translationOf(this.machine, page.rid, page.dfn)?.mfn === page.mfn;
  }

  /** The first pages of large ones that devices of guests reach now. */
  protected largePages(): WatchedPage[] {
    return this.layout.devices.flatMap((device) => {
      const dom = this.domains.find((d) => d.domid === this.pdev(device.sbdf)?.domain?.domid);
      const rid = device.sbdf;
      return [...(dom?.memory ?? [])].flatMap(([dfn, order]) => {
        const mfn = order === 0 ? undefined : translationOf(this.machine, rid, dfn)?.mfn;
        return mfn === undefined ? [] : [{ rid, dfn, mfn }];
      });
    });
  }

  /** A frame goes back while a cache still has it for a guest. */
  protected freedAtOnce(mfn: number, order: number): void {
    for (const unit of this.machine.units) {
      for (const c of unit.cachedTranslations()) {
        const frames = 'frames' in c ? c.frames : 1;
        if (c.mfn < mfn + 2 ** order && mfn < c.mfn + frames)
          this.staleFrees.push({ unit, did: 'did' in c ? c.did : c.domid, mfn });
      }
    }
  }

  /** VT-d: what units have cached, with the tables below the root that it was read through. */
  protected linesWithTables(): TableLine[] {
    if (this.layout.spec.vendor !== 'vtd') return [];
    const entries = this.allRids().map((rid) => ({
      unit: this.machine.unitFor(rid),
      e: entryOf(this.machine, rid),
    }));
    return this.machine.units.flatMap((unit) =>
      unit.cachedTranslations().flatMap((c) => {
        const did = 'did' in c ? c.did : c.domid;
        const e = entries.find((x) => x.unit === unit && x.e?.did === did && !x.e.passThrough)?.e;
        const tables = e === undefined ? [] : tablesOnVtd(memoryOf(this.machine, unit), e, c.dfn);
        return tables.filter((t) => t !== e!.root).map((table) => ({ unit, did, dfn: c.dfn, table }));
      }),
    );
  }

  private tableFreed(mfn: number): void {
    for (const line of this.tableLines) {
      if (line.table !== mfn) continue;
      const has = line.unit
        .cachedTranslations()
        .some((c) => c.dfn === line.dfn && ('did' in c ? c.did : c.domid) === line.did);
      if (has) this.staleTables.push(line);
    }
  }

  /** Every id that a device of the machine may use. */
  allRids(): number[] {
    const rids = new Set<number>();
    for (const d of this.layout.devices) for (const rid of this.ownRids(d)) rids.add(rid);
    return [...rids];
  }

  /** The same for the time of a command: `make` is asked once. */
  once<T>(key: string, make: () => T): T {
    if (!this.memo.has(key)) this.memo.set(key, make());
    return this.memo.get(key) as T;
  }

  /** Devices that changed hands: `move dom0 -> guest`. */
  protected countMoves(before: ReadonlyMap<Sbdf, number | undefined>): void {
    for (const [at, domid] of before) {
      const now = this.pdev(at)?.domain?.domid;
      if (now === domid) continue;
      this.count(`move ${holderName(domid)} -> ${holderName(now)}`);
      if (segOf(at) > 0) this.count('move on another segment');
      if (this.pdev(at)?.isVirtfn === true) this.count('move of a virtual function');
      if (this.pdev(at)?.isExtfn === true) this.count('move of an extended function');
    }
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  pdev(at: Sbdf): Pdev | undefined {
    return this.machine.xen.pdevs.get(at);
  }

  protected pick<T>(list: readonly T[], i: number): T | undefined {
    return list.length === 0 ? undefined : list[i % list.length];
  }

  protected physdev(cmd: 'pci_device_add' | 'pci_device_remove', at: Sbdf): number {
    const op = { seg: segOf(at), bus: busOf(at), devfn: devfnOf(at) };
    const { hypercalls } = this.machine;
    return runAlone(
      cmd === 'pci_device_remove'
        ? hypercalls.physdevOp({ ...op, cmd })
        : hypercalls.physdevOp({ ...op, cmd, ...this.announcement(at) }),
    );
  }

  /** What dom0's kernel says of a function. @linux drivers/xen/pci.c xen_add_device */
  announcement(at: Sbdf): Pick<Extract<PhysdevOp, { cmd: 'pci_device_add' }>, 'flags' | 'physfn'> {
    const device = this.layout.devices.find((d) => d.sbdf === at);
    if (device?.physfn === undefined) return { flags: device?.extended === true ? PCI_DEV_FLAG.EXTFN : 0 };
    const physfn = { bus: busOf(device.physfn), devfn: devfnOf(device.physfn) };
    return { flags: PCI_DEV_FLAG.VIRTFN, physfn };
  }
  protected domctl(op: DomctlOp): number {
    return runAlone(this.machine.hypercalls.domctl(op));
  }
  protected memory(op: MemoryOp): number {
    return runAlone(this.machine.hypercalls.memoryOp(op));
  }

  /** Machine frame behind a bus frame of the guest's own memory. */
  mfnOf(dom: WorldDomain, busFrame: number): number {
    if (dom.kind !== 'hvm') return busFrame;
    return this.machine.xen.domains.get(dom.domid)?.p2m?.lookup(busFrame).mfn ?? -1;
  }
  framesOf(dom: WorldDomain): number[] {
    return [...dom.memory.keys()].map((at) => this.mfnOf(dom, at)).filter((mfn) => mfn >= 0);
  }

  /** Frame that a requester id reaches now, -1 when it is stopped. */
  reach(rid: Sbdf, dfn: number, write: boolean): number {
    return this.machine.translate(segOf(rid), bdfOf(rid), dfn, write);
  }

  /** Requester ids a device may use by itself, each with its segment: its own and its phantom functions'. */
  ownRids(device: TestDevice): number[] {
    const at = device.sbdf;
    return [at, ...this.machine.phantomRids(at).map((rid) => sbdfOf(segOf(at), rid))];
  }

  /** The same, also while Xen does not know the device. */
  ridsOf(device: TestDevice): readonly number[] {
    return this.slots.get(device.sbdf) ?? this.ownRids(device);
  }

  pvGfn(dom: WorldDomain, mfn: number): number {
    const d = this.machine.xen.domains.get(dom.domid);
    for (const [gfn, at] of d?.pvGfns ?? []) if (at === mfn) return gfn;
    return 0;
  }
}
