/** A machine under a random history: applies commands, keeps what the invariants need, counts what was reached. */
import { bdfOf, busOf, devfnOf, type Sbdf, segOf } from '../base/sbdf.js';
import type { CreateDomain, DomctlOp } from '../hypervisor/public/domctl.js';
import type { MemoryOp } from '../hypervisor/public/memory.js';
import type { Pdev } from '../iommu/driver/types.js';
import { Machine } from '../machine.js';
import { runAlone } from '../sim/co.js';
import type { StampedEvent } from '../sim/events.js';
import { DOMID } from '../sim/frames.js';
import { type Command, NOBODY } from './commands.js';
import { layOut, type MachineSpec, type TestDevice, type TestMachine } from './machines.js';

export interface WorldDomain {
  readonly domid: number;
  readonly kind: 'hvm' | 'pv' | 'noiommu';
  /** Bus frame to order, for what was populated. */
  readonly memory: Map<number, number>;
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
}

export interface WorldOptions {
  readonly release?: string;
  readonly fixed?: boolean;
}

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
const gfnOf = (page: number, order: number): number => (order === 9 ? (page + 8) * 512 : 0x100 + page);

export class World {
  readonly layout: TestMachine;
  readonly machine: Machine;
  readonly domains: WorldDomain[] = [];
  /** Frames that dead guests owned, newest last. */
  readonly freed: number[] = [];
  readonly counts = new Map<string, number>();
  /** Devices whose last move failed half-way: their phantom functions may be elsewhere. */
  readonly unsettled = new Set<Sbdf>();
  /** Devices that dom0 took away although the vendor's hook failed: Xen forgot them, their entries stand. */
  readonly lost = new Set<Sbdf>();
  last: Trace | undefined = undefined;
  private events: StampedEvent[] = [];

  constructor(spec: MachineSpec, o: WorldOptions = {}) {
    this.layout = layOut(spec);
    this.machine = Machine.boot(this.layout.host, {
      release: o.release ?? '4.18',
      fixed: o.fixed ?? true,
      cmdline: this.layout.cmdline,
    });
    for (const fn of this.layout.host.functions) this.physdev('pci_device_add', fn.sbdf);
    this.create('hvm', true);
    this.create('pv', false);
    this.machine.hw.events.attach((e) => this.events.push(e));
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  pdev(at: Sbdf): Pdev | undefined {
    return this.machine.xen.pdevs.get(at);
  }

  private pick<T>(list: readonly T[], i: number): T | undefined {
    return list.length === 0 ? undefined : list[i % list.length];
  }

  private physdev(cmd: 'pci_device_add' | 'pci_device_remove', at: Sbdf): number {
    const op = { cmd, seg: segOf(at), bus: busOf(at), devfn: devfnOf(at) };
    return runAlone(
      this.machine.hypercalls.physdevOp(cmd === 'pci_device_add' ? { ...op, cmd, flags: 0 } : { ...op, cmd }),
    );
  }
  private domctl(op: DomctlOp): number {
    return runAlone(this.machine.hypercalls.domctl(op));
  }
  private memory(op: MemoryOp): number {
    return runAlone(this.machine.hypercalls.memoryOp(op));
  }

  /** Applies one command and leaves its trace in `last`. */
  apply(c: Command): void {
    const target = 'dev' in c ? this.pick(this.layout.devices, c.dev) : undefined;
    const dom = 'dom' in c && c.dom !== NOBODY ? this.pick(this.domains, c.dom) : undefined;
    const ownersBefore = new Map<Sbdf, number | undefined>();
    for (const [at, p] of this.machine.xen.pdevs) ownersBefore.set(at, p.domain?.domid);
    this.events = [];
    const rc = this.run(c, target, dom);
    if (USES_FAULTS.has(c.op)) this.machine.hw.faults.disarm();
    if (rc !== undefined) this.count(`${c.op} ${rc}`);
    this.settle(c);
    const targetDomid = c.op === 'quarantine' || c.op === 'release' ? DOMID.IO : dom?.domid;
    this.last = { command: c, rc, events: this.events, ownersBefore, target, targetDomid };
  }

  /** A vendor call that failed after another one succeeded leaves a device half moved. */
  private settle(c: Command): void {
    const ops = this.events.filter((e) => e.kind === 'vendorOp');
    for (const { sbdf: at } of this.layout.devices) {
      const alone = !this.layout.devices.some((other) => other.sbdf !== at && other.sbdf >>> 3 === at >>> 3);
      const own = ops.filter((e) => e.sbdf === at || (alone && e.sbdf >>> 3 === at >>> 3));
      if (own.length === 0) continue;
      const failed = own.some((e) => e.rc !== 0);
      if (c.op === 'add' || c.op === 'remove') {
        if (failed) this.unsettled.add(at);
        if (c.op === 'remove' && failed) this.lost.add(at);
        if (c.op === 'add' && this.pdev(at)?.domain !== undefined) this.lost.delete(at);
      } else if (failed && (this.pdev(at)?.broken === true || own.at(-1)!.rc !== 0)) this.unsettled.add(at);
      else this.unsettled.delete(at);
    }
  }

  /** 0 or an errno; undefined where nothing was asked of Xen. */
  private run(c: Command, device: TestDevice | undefined, dom: WorldDomain | undefined): number | undefined {
    const at = device?.sbdf ?? 0;
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
      case 'populate':
        return dom === undefined ? undefined : this.populate(dom, c.gfn, c.order);
      case 'decrease':
        return dom === undefined ? undefined : this.decrease(dom, c.gfn);
      case 'sharing':
        return dom === undefined ? undefined : this.sharing(dom, c.what, c.on);
      case 'dma':
        this.dma(device, c.rid, this.addressOf(c.target, c.page, device), c.write);
        return undefined;
      case 'storm':
        this.storm(device, c.faults, c.gapMs);
        return undefined;
      case 'fail':
        this.machine.hw.faults.failNth(c.nth, c.site);
        return undefined;
      case 'failTwo':
        this.machine.hw.faults.failNth(c.nth, 'vendorOp', c.gap);
        return undefined;
      case 'maskall':
        this.maskall(at, c.on);
        return undefined;
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
    const dom: WorldDomain = { domid: op.domid, kind, memory: new Map() };
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

  private populate(dom: WorldDomain, page: number, order: 0 | 9): number {
    const gfn = gfnOf(page, order);
    const op: Extract<MemoryOp, { cmd: 'populate_physmap' }> = {
      cmd: 'populate_physmap',
      domid: dom.domid,
      gfns: [gfn],
      order,
    };
    if (dom.kind === 'hvm' && dom.memory.has(gfn)) return -17;
    const done = this.memory(op);
    const frame = dom.kind === 'hvm' ? gfn : op.mfns?.[0];
    if (done === 1 && frame !== undefined) dom.memory.set(frame, order);
    return Math.min(done, 0);
  }

  private decrease(dom: WorldDomain, page: number): number {
    const at = this.pick([...dom.memory.keys()], page);
    if (at === undefined) return -22;
    const order = dom.memory.get(at)!;
    const mfn = this.mfnOf(dom, at);
    const gfn = dom.kind === 'hvm' ? at : this.pvGfn(dom, at);
    const done = this.memory({ cmd: 'decrease_reservation', domid: dom.domid, gfns: [gfn], order });
    if (done === 1) {
      dom.memory.delete(at);
      if (mfn >= 0) this.freed.push(mfn);
    }
    return Math.min(done, 0);
  }

  private pvGfn(dom: WorldDomain, mfn: number): number {
    const d = this.machine.xen.domains.get(dom.domid);
    for (const [gfn, at] of d?.pvGfns ?? []) if (at === mfn) return gfn;
    return 0;
  }

  private sharing(dom: WorldDomain, what: 'paging' | 'sharing' | 'logdirty', on: boolean): number {
    const { domid } = dom;
    if (what === 'paging') return this.domctl({ cmd: 'vm_event_op', domid, ring: 'paging', enable: on });
    if (what === 'sharing') return this.domctl({ cmd: 'mem_sharing_op', domid, enable: on });
    return this.domctl({ cmd: 'shadow_op', domid, op: on ? 'enable_logdirty' : 'off' });
  }

  /** Machine frame behind a bus frame of the guest's own memory. */
  mfnOf(dom: WorldDomain, busFrame: number): number {
    if (dom.kind !== 'hvm') return busFrame;
    return this.machine.xen.domains.get(dom.domid)?.p2m?.lookup(busFrame).mfn ?? -1;
  }
  framesOf(dom: WorldDomain): number[] {
    return [...dom.memory.keys()].map((at) => this.mfnOf(dom, at)).filter((mfn) => mfn >= 0);
  }

  /** Requester ids a device may use by itself: its own and its phantom functions'. */
  ownRids(device: TestDevice): number[] {
    return [bdfOf(device.sbdf), ...this.machine.phantomRids(device.sbdf)];
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
    if (id !== bdfOf(device.sbdf))
      this.count(device.sharedRids.includes(id) ? 'dma by alias' : 'dma by phantom');
    const mfn = this.machine.translate(segOf(device.sbdf), id, frame, write);
    this.count(mfn < 0 ? 'dma fault' : 'dma lands');
  }

  private storm(device: TestDevice | undefined, faults: number, gapMs: number): void {
    for (let i = 0; i < faults; i++) {
      this.dma(device, 0, 0xf_ff00 + i, true);
      runAlone(this.machine.serviceInterrupts());
      this.machine.hw.clock.advance(gapMs * 1e6);
    }
  }

  /** The hardware's MSI-X MASKALL bit, as a device that was not reset leaves it. */
  private maskall(at: Sbdf, on: boolean): void {
    const pos = this.pdev(at)?.msix?.pos;
    if (pos === undefined) return;
    const pci = this.machine.hw.pci;
    const control = pci.configRead(at, pos + 2, 2);
    pci.configWrite(at, pos + 2, 2, on ? control | 0x4000 : control & ~0x4000);
  }
}
