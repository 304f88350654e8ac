/** A machine under a random history: applies commands, keeps what the invariants need, counts what was reached. */
import { E } from '../base/errno.js';
import { formatSbdf, type Sbdf } from '../base/sbdf.js';
import type { CreateDomain } from '../hypervisor/public/domctl.js';
import type { MemoryOp } from '../hypervisor/public/memory.js';
import type { Pdev } from '../iommu/driver/types.js';
import { Machine } from '../machine.js';
import { runAlone } from '../sim/co.js';
import { DOMID } from '../sim/frames.js';
import { type Command, NOBODY } from './commands.js';
import { countedSeams } from './coverage.js';
import { layOut, type MachineSpec, mmioFrame, type TestDevice } from './machines.js';
import { isMessageCommand } from './message_commands.js';
import { afterCommand, runMessage } from './messages.js';
import { changeMemory, SMALL_PAGES, stall, takeLastPage } from './moves.js';
import { layOutHost } from './own_machine.js';
import { chargedFor, countFault, FAULTS_MAX, type FaultAccount } from './reference/faults.js';
import { armFault, maskAll, runSpecial, switchVfsOn } from './special.js';
import { entryOf, translationOf } from './tables_now.js';
import { FRAME_ZERO_MARK, type WorldDomain, type WorldOptions, WorldState } from './world_state.js';

export type {
  DeviceBefore,
  Moment,
  StaleFree,
  Trace,
  WatchedPage,
  WorldDomain,
  WorldOptions,
} from './world_state.js';

/** Commands that may split or join pages. */
const MOVES_PAGES: ReadonlySet<Command['op']> = new Set([
  'populate',
  'decrease',
  'move',
  'exchange',
  'transfer',
]);

/** Commands after which an armed fault is taken back. */
const USES_FAULTS: ReadonlySet<Command['op']> = new Set([
  'create',
  'destroy',
  'assign',
  'deassign',
  'quarantine',
  'release',
  'bridge',
  'remove',
  'add',
]);

/** Bus frame of the `page`th small page, and of the `page`th superpage, of a guest. */
const gfnOf = (page: number, order: number): number => (order >= 9 ? (page + 8) * 512 : SMALL_PAGES + page);

/** Where guests see device memory. */
const MMIO_GFN = 0xd_0000;

export class World extends WorldState {
  private readonly detach: () => void;

  constructor(spec: MachineSpec, o: WorldOptions = {}) {
    const layout = o.host === undefined ? layOut(spec) : layOutHost(o.host, spec);
    const counted = new Map<string, number>();
    const machine = Machine.boot(layout.host, {
      release: o.release ?? '4.18',
      fixed: o.fixed ?? true,
      cmdline: layout.cmdline,
      ...(o.countSeams === true
        ? { seams: countedSeams(o, counted) }
        : o.seams === undefined
          ? {}
          : { seams: o.seams }),
    });
    super(layout, machine, counted);
    for (const fn of this.layout.host.functions) {
      this.physdev('pci_device_add', fn.sbdf);
      switchVfsOn(this, fn.sbdf);
    }
    this.create('hvm', true);
    this.create('pv', false);
    this.machine.hw.ram.write32(0, FRAME_ZERO_MARK);
    this.detach = this.machine.hw.events.attach((e) => this.listen(e));
    if (o.sink !== undefined) this.machine.hw.events.attach(o.sink);
  }

  /** From now on events are not heard, and invariants about the last command have nothing to say. */
  quiet(): void {
    this.detach();
    this.steps.end();
  }

  /** Applies one command and leaves its trace in `last`. */
  apply(c: Command): void {
    // What earlier commands wrote has left the CPU's cache by now.
    if (this.layout.spec.unsnooped === true) this.machine.hw.ram.evict();
    const target = 'dev' in c ? this.pick(this.layout.devices, c.dev) : undefined;
    const dom = 'dom' in c && c.dom !== NOBODY ? this.pick(this.domains, c.dom) : undefined;
    const ownersBefore = new Map<Sbdf, number | undefined>();
    for (const [at, p] of this.machine.xen.pdevs) ownersBefore.set(at, p.domain?.domid);
    this.lookAtDevices();
    this.accounting = undefined;
    const entriesBefore = this.allRids().map((rid) => ({
      unit: this.machine.units.indexOf(this.machine.unitFor(rid)!),
      rid,
      entry: entryOf(this.machine, rid),
    }));
    this.startCommand(c);
    this.moments = [];
    this.gaps = new Set();
    this.watched = this.reservedInReach();
    this.movesPages = MOVES_PAGES.has(c.op);
    this.pages = this.movesPages ? this.largePages() : [];
    this.blinks = new Set();
    this.staleFrees = [];
    this.staleTables = [];
    this.tableLines = this.movesPages ? this.linesWithTables() : [];
    this.events = [];
    const hits = this.machine.hw.faults.hit.length;
    const rc = this.run(c, target, dom);
    afterCommand(this, c);
    this.deviceTlbs.forgetDisabled(this.machine, this.layout.devices);
    this.watched = [];
    this.pages = [];
    for (const page of this.blinks) if (!this.isThere(page)) this.blinks.delete(page);
    // What cannot be reached in the end either is no gap: the owner has no right to it any more.
    const still = new Set(this.reservedInReach().map((d) => d.sbdf));
    for (const at of this.gaps) if (!still.has(at)) this.gaps.delete(at);
    const failures = this.machine.hw.faults.hit.length - hits;
    const holdsLocks = this.machine.hw.cpus.list.some((cpu) => cpu.holdsLocks);
    if (USES_FAULTS.has(c.op)) this.machine.hw.faults.disarm();
    if (rc !== undefined) this.count(`${c.op} ${rc}`);
    this.countMoves(ownersBefore);
    if (c.op === 'assign' && rc === 0 && target !== undefined) {
      if ((c.flags & 1) !== 0) this.relaxed.add(target.sbdf);
      else this.relaxed.delete(target.sbdf);
    }
    const targetDomid = c.op === 'quarantine' || c.op === 'release' ? DOMID.IO : dom?.domid;
    this.settle(c, rc, ownersBefore, targetDomid, failures > 0);
    this.last = {
      command: c,
      rc,
      events: this.events,
      ownersBefore,
      target,
      targetDomid,
      devicesBefore: this.devicesBefore,
      accounting: this.accounting,
      entriesBefore,
      moments: this.moments,
      gaps: this.gaps,
      blinks: this.blinks,
      staleFrees: this.staleFrees,
      staleTables: this.staleTables,
      failures,
      holdsLocks,
    };
  }

  /** Devices that reach their reserved range now. */
  private reservedInReach(): TestDevice[] {
    const { reserved } = this.layout;
    if (reserved === undefined) return [];
    return this.layout.devices.filter(
      (d) =>
        reserved.sbdfs.includes(d.sbdf) &&
        translationOf(this.machine, d.sbdf, reserved.start)?.mfn === reserved.start,
    );
  }

  private lookAtDevices(): void {
    for (const d of this.layout.devices) {
      if (this.pdev(d.sbdf) !== undefined) this.slots.set(d.sbdf, this.ownRids(d));
    }
    this.devicesBefore = new Map();
    for (const [at, p] of this.machine.xen.pdevs) {
      this.devicesBefore.set(at, {
        quarantine: p.quarantine,
        broken: p.broken,
        faults: p.faultCount,
        pseudoDomid: p.arch.pseudoDomid,
      });
    }
  }

  /** A vendor call that failed after another one succeeded leaves a device half moved. */
  private settle(
    c: Command,
    rc: number | undefined,
    ownersBefore: ReadonlyMap<Sbdf, number | undefined>,
    targetDomid: number | undefined,
    faulty: boolean,
  ): void {
    const ops = this.events.filter((e) => e.kind === 'vendorOp');
    for (const device of this.layout.devices) {
      const at = device.sbdf;
      const mine = this.ridsOf(device);
      const own = ops.filter((e) => mine.includes(e.sbdf));
      if (own.length === 0) continue;
      const failed = own.some((e) => e.rc !== 0);
      // A refusal that no fault had a part in has changed nothing.
      if (failed && own.length === 1 && c.op === 'assign' && !faulty) continue;
      const from = ownersBefore.get(at);
      if (failed && c.op !== 'assign' && from !== undefined)
        this.strained.add(from).add(this.devicesBefore.get(at)?.pseudoDomid ?? DOMID.INVALID);
      if (failed && own.length > 1 && targetDomid !== undefined) this.strained.add(targetDomid);
      if (c.op === 'add' || c.op === 'addVf' || c.op === 'remove') {
        if (failed) this.unsettled.add(at);
        if (c.op === 'remove' && failed) this.lost.add(at);
        // Adding what is known already maps nothing.
        const isNew = !this.devicesBefore.has(at) && this.pdev(at)?.domain !== undefined;
        if (c.op !== 'remove' && isNew) this.lost.delete(at);
      } else if (failed && rc !== 0 && (this.pdev(at)?.broken === true || own.at(-1)!.rc !== 0)) {
        this.unsettled.add(at);
        // An entry that was changed by somebody else is left alone, also by what undoes an error before.
        const tampered = this.machine.hw.faults.hit.at(-1) === 'cmpxchg' && own.at(-1)!.rc !== E.ILSEQ;
        if (tampered) this.lost.add(at);
      } else {
        this.unsettled.delete(at);
        this.lost.delete(at);
      }
    }
  }

  /** 0 or an errno; undefined where nothing was asked of Xen. */
  private run(c: Command, device: TestDevice | undefined, dom: WorldDomain | undefined): number | undefined {
    const at = device?.sbdf ?? 0;
    if (isMessageCommand(c)) return runMessage(this, c, device);
    switch (c.op) {
      case 'create':
        return this.create(c.kind, c.share);
      case 'destroy':
        return dom === undefined ? undefined : this.destroy(dom);
      case 'kill':
        if (dom === undefined) return undefined;
        return runAlone(this.machine.hypercalls.shutdown(dom.domid, 3));
      case 'assign':
        return this.device('assign_device', dom?.domid ?? 77, at, c.flags);
      case 'deassign':
        return this.device('deassign_device', dom?.domid ?? 77, at, c.flags);
      case 'testAssign':
        return this.device('test_assign_device', dom?.domid ?? DOMID.INVALID, at, 0);
      case 'quarantine':
        return this.device('assign_device', DOMID.IO, at, 1);
      case 'release':
        return this.device('deassign_device', DOMID.IO, at, 0);
      case 'bridge':
        return this.device('assign_device', dom?.domid ?? 0, 0, 0);
      case 'remove':
        return this.physdev('pci_device_remove', at);
      case 'add':
        return this.physdev('pci_device_add', at);
      case 'addVf':
      case 'ats':
      case 'launch':
      case 'reset':
        return runSpecial(this, c, device);
      case 'populate':
        return dom === undefined ? undefined : this.populate(dom, c.gfn, c.order);
      case 'decrease':
        return dom === undefined ? undefined : this.decrease(dom, c.gfn, c.part === true);
      case 'move':
      case 'readOnly':
      case 'exchange':
      case 'transfer':
      case 'pod':
      case 'sharing':
        return dom === undefined ? undefined : changeMemory(this, c, dom);
      case 'stall':
        return stall(this, c.ms);
      case 'undoReserved':
        return dom === undefined ? undefined : this.undoReserved(dom, c.page, c.replace);
      case 'mmio':
        return dom === undefined ? undefined : this.mmio(dom, c.dev, c.add, c.allow);
      case 'dma':
        this.dma(device, c.rid, this.addressOf(c.target, c.page, device), c.write);
        return undefined;
      case 'storm':
        this.storm(device, c.faults, c.gapMs);
        return undefined;
      case 'fail':
      case 'failFlush':
      case 'failTwo':
        return armFault(this, c);
      case 'maskall':
        return maskAll(this, at, c.on);
      case 'clock':
        this.machine.hw.clock.advance(c.ms * 1e6);
        return undefined;
    }
  }

  private device(
    cmd: 'assign_device' | 'deassign_device' | 'test_assign_device',
    domid: number,
    machineSbdf: Sbdf,
    flags: number,
  ): number {
    return this.domctl({ cmd, domid, dev: 0, machineSbdf, flags });
  }

  private create(kind: WorldDomain['kind'], share: boolean): number {
    if (this.domains.length >= 4) return -28;
    const op: CreateDomain = {
      cmd: 'createdomain',
      domid: 0,
      flags: { hvm: kind === 'hvm', hap: kind === 'hvm', iommu: kind !== 'noiommu' },
      iommuNoSharept: kind === 'hvm' && !share,
      maxVcpus: 1,
      handle: '',
    };
    const rc = this.domctl(op);
    if (rc !== 0) return rc;
    const dom: WorldDomain = {
      domid: op.domid,
      kind,
      memory: new Map(),
      mmio: new Map(),
      allowed: new Set(),
    };
    this.domains.push(dom);
    this.domctl({ cmd: 'max_mem', domid: op.domid, maxKb: 64 * 1024 });
    this.populate(dom, 0, 0);
    return 0;
  }

  private destroy(dom: WorldDomain): number {
    const frames = this.framesOf(dom);
    const rc = this.domctl({ cmd: 'destroydomain', domid: dom.domid });
    if (!this.machine.xen.domains.has(dom.domid)) {
      this.domains.splice(this.domains.indexOf(dom), 1);
      this.freed.push(...frames.slice(0, 8));
      this.freed.splice(0, Math.max(0, this.freed.length - 16));
    }
    return rc;
  }

  private populate(dom: WorldDomain, page: number, order: 0 | 9 | 10): number | undefined {
    if (order === 10 && dom.kind === 'hvm') return undefined;
    const gfn = gfnOf(page, order);
    const op: Extract<MemoryOp, { cmd: 'populate_physmap' }> = {
      cmd: 'populate_physmap',
      domid: dom.domid,
      gfns: [gfn],
      order,
    };
    // A page may take the place of another of its size, which the guest then owns without seeing it.
    if (dom.kind === 'hvm' && (dom.memory.get(gfn) ?? order) !== order) return -17;
    const done = this.memory(op);
    const frame = dom.kind === 'hvm' ? gfn : op.mfns?.[0];
    if (done === 1 && frame !== undefined) dom.memory.set(frame, order);
    return Math.min(done, 0);
  }

  private decrease(dom: WorldDomain, page: number, part: boolean): number {
    const at = this.pick([...dom.memory.keys()], page);
    if (at === undefined) return -22;
    const order = dom.memory.get(at)!;
    if (dom.kind !== 'pv' && order > 0 && (part || order !== 9)) return takeLastPage(this, dom, at, order);
    const mfn = this.mfnOf(dom, at);
    const gfn = dom.kind === 'hvm' ? at : this.pvGfn(dom, at);
    const done = this.memory({ cmd: 'decrease_reservation', domid: dom.domid, gfns: [gfn], order });
    if (done === 1) {
      dom.memory.delete(at);
      if (mfn >= 0) this.freed.push(mfn);
    }
    return Math.min(done, 0);
  }

  private undoReserved(dom: WorldDomain, page: number, replace: boolean): number | undefined {
    const { reserved } = this.layout;
    if (reserved === undefined || dom.kind !== 'hvm') return undefined;
    const gfns = [reserved.start + (page % (reserved.end - reserved.start + 1))];
    // Memory of one's own there is one's own affair: only what is mapped one to one is tried.
    if (this.mfnOf(dom, gfns[0]!) !== gfns[0]) return undefined;
    const cmd = replace ? ('populate_physmap' as const) : ('decrease_reservation' as const);
    return Math.min(this.memory({ cmd, domid: dom.domid, gfns, order: 0 }), 1);
  }

  private mmio(dom: WorldDomain, dev: number, add: boolean, allow: boolean): number {
    const mfn = mmioFrame(this.layout, dev);
    const gfn = MMIO_GFN + dev;
    const { domid } = dom;
    if (add) {
      const given = this.domctl({ cmd: 'iomem_permission', domid, firstMfn: mfn, nrMfns: 1, allow });
      if (given === 0 && allow) dom.allowed.add(mfn);
      else if (given === 0) dom.allowed.delete(mfn);
    }
    const rc = this.domctl({
      cmd: 'memory_mapping',
      domid,
      firstGfn: gfn,
      firstMfn: mfn,
      nrMfns: 1,
      add,
    });
    if (rc === 0 && dom.kind !== 'pv') {
      if (add) dom.mmio.set(gfn, mfn);
      else dom.mmio.delete(gfn);
    }
    return rc;
  }

  /** A bus frame worth trying. */
  private addressOf(
    target: Extract<Command, { op: 'dma' }>['target'],
    page: number,
    device: TestDevice | undefined,
  ): number {
    const owner = device === undefined ? undefined : this.pdev(device.sbdf)?.domain?.domid;
    const mine = this.domains.find((d) => d.domid === owner);
    const other = this.pick(
      this.domains.filter((d) => d !== mine),
      page,
    );
    const pages = (d: WorldDomain | undefined): number =>
      this.pick([...(d?.memory.keys() ?? [])], page) ?? 0x100;
    switch (target) {
      case 'own':
        return pages(mine);
      case 'guest':
        return pages(other);
      case 'dom0':
        return this.pick(this.machine.xen.hwdom.extents, page)!.mfn;
      case 'freed':
        return this.pick(this.freed, page) ?? 0x100;
      case 'reserved':
        return (this.layout.reserved?.start ?? 0x200) + page;
      case 'wild':
        return page * 0x1_0001;
    }
  }

  private dma(device: TestDevice | undefined, rid: number, frame: number, write: boolean): void {
    if (device === undefined) return;
    const rids = [...this.ownRids(device), ...device.sharedRids];
    const id = this.pick(rids, rid)!;
    if (id !== device.sbdf) this.count(device.sharedRids.includes(id) ? 'dma by alias' : 'dma by phantom');
    const mfn = this.reach(id, frame, write);
    this.count(mfn < 0 ? 'dma fault' : 'dma lands');
    // What lands on a scratch page must be gone when the next one is quarantined there.
    const leaf = this.pdev(device.sbdf)?.arch.leafMfn ?? 0;
    if (write && leaf !== 0 && mfn === leaf) this.machine.hw.ram.write32(mfn * 4096, 0xd1_71);
  }

  /** Faults one by one, each counted by the model too. */
  private storm(device: TestDevice | undefined, faults: number, gapMs: number): void {
    if (device === undefined) return;
    // What earlier requests left in the units' records is read first, so that each fault is seen alone.
    runAlone(this.machine.serviceInterrupts());
    this.lookAtDevices();
    // A device can forge the other functions of its slot, too.
    const slot = device.sbdf & ~7;
    const rids = device.conventional
      ? [device.sbdf]
      : [device.sbdf, ...[4, 7, 2, 1, 6, 3, 5].map((fn) => slot | fn)];
    const { clock } = this.machine.hw;
    const known = [...this.machine.xen.pdevs.values()];
    const model = new Map(known.map((p) => [p.sbdf, { time: p.faultTime, count: p.faultCount }]));
    for (let i = 0; i < faults; i++) {
      const rid = rids[i % rids.length]!;
      const from = this.events.length;
      this.reach(rid, 0xf_ff00 + i, true);
      const seen = this.events.slice(from).filter((e) => e.kind === 'fault').length;
      const charged = chargedFor(rid, (at) => this.pdev(at)?.phantomStride);
      const now = clock.nowNs;
      runAlone(this.machine.serviceInterrupts());
      const m = charged === undefined ? undefined : model.get(charged);
      for (let n = 0; m !== undefined && n < seen; n++) countFault(m, now);
      if (!device.conventional) this.compareAccounts(known, model);
      clock.advance(gapMs * 1e6);
    }
  }

  private compareAccounts(known: readonly Pdev[], model: ReadonlyMap<Sbdf, FaultAccount>): void {
    for (const p of known) {
      const m = model.get(p.sbdf)!;
      const master = (this.machine.hw.pci.configRead(p.sbdf, 4, 2) & 4) !== 0;
      const wrong =
        p.faultCount !== m.count
          ? `${p.faultCount} faults are counted, ${m.count} are due`
          : m.count >= FAULTS_MAX && master
            ? 'it is a bus master still'
            : undefined;
      if (wrong !== undefined) this.accounting ??= `${formatSbdf(p.sbdf)}: ${wrong}`;
    }
  }
}
