/** Guests come to life when Xen runs them: this watches for that, and gives each kernel its bus. */

import type { GuestChannels, GuestStore, GuestWatcher } from '../guest/environment.js';
import { GuestKernel } from '../guest/kernel.js';
import { Pcifront } from '../guest/pcifront.js';
import { guestProgram } from '../guest/program.js';
import { readBases } from '../guest/read_bases.js';
import { ShutdownHandler } from '../guest/shutdown.js';
import type { Hypercalls } from '../hypervisor/public/hypercalls.js';
import type { Co } from '../sim/co.js';
import type { Dom0Host, GuestKernels } from '../toolstack/host.js';
import { allocUnbound, bindProcessors } from '../toolstack/kernel/channels.js';
import type { XenstoreDaemon } from '../toolstack/xenstore/store.js';

/** xenstore with the rights of one domain. */
class StoreOf implements GuestStore {
  constructor(
    private readonly xs: XenstoreDaemon,
    private readonly domid: number,
  ) {}
  read(path: string): string | undefined {
    let value: string | undefined;
    this.xs.transactionAs(this.domid, (t) => {
      value = t.read(path);
      return 0;
    });
    return value;
  }
  write(path: string, value: string): number {
    return this.xs.transactionAs(this.domid, (t) => t.write(path, value));
  }
  ls(path: string): string[] | undefined {
    return this.xs.ls(path);
  }
  watch(path: string, token: string, watcher: GuestWatcher): void {
    this.xs.watch(path, token, watcher);
  }
  unwatch(path: string, token: string, watcher: GuestWatcher): void {
    this.xs.unwatch(path, token, watcher);
  }
}

class ChannelsOf implements GuestChannels {
  constructor(
    private readonly hv: Hypercalls,
    private readonly domid: number,
  ) {}
  *alloc(): Co<number> {
    return yield* allocUnbound(this.hv, this.domid, 0);
  }
  *close(port: number): Co<void> {
    yield* this.hv.eventChannelOp({ cmd: 'close', domid: this.domid, port });
  }
}

interface Alive {
  readonly kernel: GuestKernel;
  readonly front: Pcifront | undefined;
  /** Listens to control/shutdown: a PV guest, and one with the platform device. */
  shutdown: ShutdownHandler | undefined;
  /** It has memory that its devices reach. */
  bounced: boolean;
  readonly startedNs: number;
  /** An HVM guest's kernel runs. */
  up: boolean;
  /** Its kernel has sized the registers of its devices, which unmaps and maps them. */
  sized: boolean;
}

/** When a guest with firmware gets from one stage of its boot to the next. */
export interface HvmStages {
  /** Its firmware starts, as soon as Xen runs it. */
  begins(domid: number): boolean;
  /** Its kernel runs; `ranNs` after the firmware began. */
  kernelRuns(domid: number, ranNs: number): boolean;
  /** Its kernel has come to its devices, and answers when one is to go. */
  answers(domid: number, ranNs: number): boolean;
}

const AT_ONCE: HvmStages = { begins: () => true, kernelRuns: () => true, answers: () => true };
/** @linux arch/x86/include/asm/irq_vectors.h HYPERVISOR_CALLBACK_VECTOR */
const UPCALL_VECTOR = 0xf3;

export class Guests implements GuestKernels {
  private readonly alive = new Map<number, Alive>();
  /** Kernels of new guests do not start: they need longer than the command that makes them. */
  slow = false;
  /** Back ends answer no configuration cycle: guests find nothing new. */
  unanswered = false;
  /** How far guests with firmware are. */
  stages: HvmStages = AT_ONCE;
  /** xenconsoled keeps what guests print. */
  logged = false;
  constructor(
    private readonly dom0: Dom0Host,
    private readonly hv: Hypercalls,
    /** Programs by guest name. */
    private readonly programs: Readonly<Record<string, unknown>>,
  ) {}

  /** The guest of that name or id. */
  find(name: string): GuestKernel | undefined {
    for (const [domid, g] of this.alive)
      if (g.kernel.name === name || String(domid) === name) return g.kernel;
    return undefined;
  }

  *poll(): Co<boolean> {
    let changed = false;
    const infos = yield* this.hv.getDomainInfoList();
    for (const domid of [...this.alive.keys()]) {
      const info = infos.find((i) => i.domid === domid);
      if (info !== undefined && !info.flags.dying && !info.flags.shutdown) continue;
      const gone = this.alive.get(domid)!;
      gone.front?.stop();
      gone.shutdown?.stop();
      this.alive.delete(domid);
      changed = true;
    }
    for (const { domid, flags, nrOnlineVcpus } of infos) {
      if (domid === 0 || domid >= 0x7ff0 || flags.paused || flags.dying || flags.shutdown) continue;
      const there = this.alive.get(domid);
      if (there === undefined) {
        if (this.slow || (flags.hvm && !this.stages.begins(domid))) continue;
        if (!flags.hvm) yield* bindProcessors(this.hv, domid, nrOnlineVcpus);
        yield* this.start(domid, flags.hvm);
        changed = true;
      } else if (yield* this.attend(domid, there, nrOnlineVcpus)) changed = true;
    }
    return changed;
  }

  private *start(domid: number, hvm: boolean): Co<void> {
    const name = this.dom0.xs.read(`/local/domain/${domid}/name`) ?? `d${domid}`;
    const own = Object.hasOwn(this.programs, name) ? this.programs[name] : undefined;
    const kernel = new GuestKernel(
      domid,
      name,
      guestProgram(name, own),
      this.dom0.deviceModels.get(domid),
      hvm,
    );
    const store = new StoreOf(this.dom0.xs, domid);
    const front = hvm ? undefined : new Pcifront(store, new ChannelsOf(this.hv, domid), domid);
    const there: Alive = {
      kernel,
      front,
      shutdown: undefined,
      bounced: false,
      startedNs: this.dom0.clock.nowNs,
      up: false,
      sized: false,
    };
    this.alive.set(domid, there);
    front?.start();
    yield* kernel.boot();
    if (!hvm) this.listen(domid, there);
    if (this.logged) this.logConsole(name, kernel);
  }

  private listen(domid: number, g: Alive): void {
    const stop = (reason: number) => this.hv.shutdown(domid, reason);
    g.shutdown = new ShutdownHandler(new StoreOf(this.dom0.xs, domid), domid, stop);
    g.shutdown.start();
  }

  private logConsole(name: string, { log }: GuestKernel): void {
    const file = `/var/log/xen/console/guest-${name}.log`;
    const before = this.dom0.fs.readFile(file);
    const text = `[    0.000000] ${log[0] ?? ''}\n`;
    this.dom0.fs.install(file, (typeof before === 'string' ? before : '') + text);
  }

  /** Answers unplug requests, finds what was plugged in; true when something was done. */
  private *attend(domid: number, g: Alive, vcpus: number): Co<boolean> {
    let changed = false;
    if (g.front !== undefined) {
      if (g.front.connected && !g.bounced) {
        g.bounced = true;
        yield* this.exchangeBounceBuffer(domid);
      }
      g.kernel.pci = g.front.connected ? this.dom0.backends?.of(domid)?.config : undefined;
    } else {
      const dm = this.dom0.deviceModels.get(domid);
      const ranNs = this.dom0.clock.nowNs - g.startedNs;
      if (!g.up && this.stages.kernelRuns(domid, ranNs)) {
        g.up = true;
        for (let v = 0; v < vcpus; v++) yield* this.hv.setUpcallVector(domid, v, UPCALL_VECTOR);
        if (g.kernel.modules().has('xen_platform_pci')) this.listen(domid, g);
      }
      if (g.up && !g.sized && this.stages.answers(domid, ranNs)) {
        g.sized = true;
        for (const devfn of dm?.functions() ?? []) yield* readBases(dm!, devfn);
      }
      for (const devfn of g.sized ? (dm?.functions() ?? []) : []) {
        if (dm?.ejectRequested(devfn) !== true) continue;
        yield* dm.eject(devfn);
        changed = true;
      }
    }
    return (yield* g.kernel.scan(g.front !== undefined && this.unanswered)) || changed;
  }

  /**
   * A PV kernel with devices wants 4 MiB that they all reach, piece by piece, in place of what it has somewhere in its
   * upper half: one block of its allocator, aligned to its size. @linux arch/x86/xen/pci-swiotlb-xen.c pci_xen_swiotlb_init_late, swiotlb-xen.c xen_swiotlb_fixup
   */
  private *exchangeBounceBuffer(domid: number): Co<void> {
    const pages = (yield* this.hv.getDomainInfoList()).find((i) => i.domid === domid)?.totPages ?? 0;
    const first = Math.ceil((pages * 2) / (3 * BOUNCE.frames)) * BOUNCE.frames;
    if (first + BOUNCE.frames > pages) return;
    const order = BOUNCE.pieceOrder;
    for (let at = 0; at < BOUNCE.frames; at += 2 ** order) {
      const gfns = Array.from({ length: 2 ** order }, (_, i) => first + at + i);
      const rc = yield* this.hv.memoryOp({
        cmd: 'exchange',
        domid,
        gfns,
        order: 0,
        outGfns: [first + at],
        outOrder: order,
        addressBits: BOUNCE.addressBits,
      });
      if (rc !== 0) return;
    }
  }
}

/** In frames; pieces of 256 KiB. */
const BOUNCE = { frames: 1024, pieceOrder: 6, addressBits: 32 } as const;
