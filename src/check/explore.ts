// edition: co
/**
 * Two hypercalls at once, one per vCPU, under every schedule or many. Between any two steps of Xen each device of the
 * machine tries DMA from all its requester ids; at rest the invariants are asked.
 */

import { Rng } from '../base/rng.js';
import { bdfOf, busOf, devfnOf, formatSbdf, segOf } from '../base/sbdf.js';
import type { Co } from '../sim/co.js';
import { DOMID } from '../sim/frames.js';
import {
  type Choose,
  forEverySchedule,
  formatSchedule,
  run,
  type Schedule,
  type Task,
} from '../sim/schedule.js';
import { restoreSnapshot, type Snapshot, takeSnapshot } from '../sim/snapshot.js';
import type { Command } from './commands.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { freeLockMeansRest } from './invariants/locks.js';
import { ownershipInvariants } from './invariants/ownership.js';
import { reachInvariants } from './invariants/reach.js';
import { stateInvariants } from './invariants/states.js';
import type { MachineSpec } from './machines.js';
import { World, type WorldOptions } from './world.js';

/** A hypercall that can be one of a pair. Devices and domains by index, as in commands. */
export type Call =
  | { readonly op: 'assign' | 'deassign'; readonly dev: number; readonly dom: number }
  | { readonly op: 'quarantine' | 'release' | 'remove' | 'add'; readonly dev: number }
  | { readonly op: 'destroy'; readonly dom: number }
  | { readonly op: 'populate' | 'decrease'; readonly dom: number }
  | { readonly op: 'group'; readonly dev: number }
  /** Boot goes through the devices once more: pcidevs_lock comes and goes. */
  | { readonly op: 'faults' | 'hwdomSetup' };

export interface Pair {
  readonly machine: MachineSpec;
  /** What happens before, on one vCPU. */
  readonly before: readonly Command[];
  readonly calls: readonly [Call, Call];
}

export interface PairResult {
  /** Schedules that ran, each to its end. */
  readonly schedules: number;
  /** How often the two calls answered what: `0/-16`. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly violation?: Violation & { readonly schedule: string };
}

export interface ExploreOptions extends WorldOptions {
  /** More schedules than this are an error; a million when not given. */
  readonly schedulesMax?: number;
  /** In place of every schedule: this many by random priorities with `depth` - 1 changes (PCT). */
  readonly pct?: { readonly runs: number; readonly depth: number; readonly seed: number };
}

/** Invariants about a machine at rest that do not ask what the last command was. */
const atRest: readonly Invariant[] = [...reachInvariants, ...ownershipInvariants, ...stateInvariants].filter(
  (i) =>
    ['INV-I1', 'INV-I2', 'INV-I5', 'INV-I6', 'INV-O1', 'INV-O2', 'INV-O3', 'INV-P3', 'INV-D3'].includes(i.id),
);

class Explorer {
  readonly world: World;
  private readonly start: Snapshot;
  private readonly outcomes = new Map<string, number>();
  private answers: [number | undefined, number | undefined] = [undefined, undefined];
  private violation: Violation | undefined = undefined;
  /** Who owned each device since pcidevs_lock was last free. */
  private readonly owners = new Map<number, Set<number | undefined>>();

  constructor(
    private readonly pair: Pair,
    o: WorldOptions,
  ) {
    this.world = new World(pair.machine, o);
    for (const c of pair.before) this.world.apply(c);
    this.start = takeSnapshot(this.world, { constants: [this.world.layout.host] });
  }

  /** One run from the same start. */
  once(choose: Choose): Violation | undefined {
    restoreSnapshot(this.start);
    const { cpus } = this.world.machine.hw;
    this.answers = [undefined, undefined];
    this.violation = undefined;
    this.owners.clear();
    const tasks: Task[] = this.pair.calls.map((c, i) => ({ cpu: cpus.list[i]!, co: this.task(c, i) }));
    let schedule: Schedule = [];
    try {
      schedule = run(cpus, tasks, choose, { onYield: () => this.adversary() });
    } catch (e) {
      return { id: 'ASSERT', what: e instanceof Error ? e.message : String(e) };
    }
    const outcome = this.answers.map(String).join('/');
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    this.violation ??= this.rest();
    return this.violation === undefined
      ? undefined
      : { ...this.violation, what: `${this.violation.what} (schedule ${formatSchedule(schedule)})` };
  }

  result(schedules: number): PairResult {
    return { schedules, outcomes: this.outcomes };
  }

  private *task(c: Call, i: number): Co<void> {
    this.answers[i as 0 | 1] = yield* this.call(c);
  }

  private call(c: Call): Co<number> {
    const { world } = this;
    const { hypercalls } = world.machine;
    const domid = 'dom' in c ? (world.domains[c.dom]?.domid ?? 77) : DOMID.IO;
    const at = 'dev' in c ? world.layout.devices[c.dev]!.sbdf : 0;
    const place = { seg: segOf(at), bus: busOf(at), devfn: devfnOf(at) };
    const device = { domid, dev: 0, machineSbdf: at, flags: 0 };
    switch (c.op) {
      case 'assign':
      case 'quarantine':
        return hypercalls.domctl({ cmd: 'assign_device', ...device });
      case 'deassign':
      case 'release':
        return hypercalls.domctl({ cmd: 'deassign_device', ...device });
      case 'remove':
        return hypercalls.physdevOp({ cmd: 'pci_device_remove', ...place });
      case 'add':
        return hypercalls.physdevOp({ cmd: 'pci_device_add', ...place, flags: 0 });
      case 'destroy':
        return hypercalls.domctl({ cmd: 'destroydomain', domid });
      case 'populate':
        return hypercalls.memoryOp({ cmd: 'populate_physmap', domid, gfns: [0x101], order: 0 });
      case 'decrease':
        return hypercalls.memoryOp({ cmd: 'decrease_reservation', domid, gfns: [0x100], order: 0 });
      case 'group':
        return hypercalls.domctl({ cmd: 'get_device_group', domid: 0, machineSbdf: at, maxSdevs: 8 });
      case 'hwdomSetup':
        return this.hwdomSetup();
      case 'faults':
        return this.faults();
    }
  }

  private *hwdomSetup(): Co<number> {
    const { xen } = this.world.machine;
    yield* xen.ops!.hwdomInit(xen.hwdom);
    return 0;
  }

  private *faults(): Co<number> {
    yield* this.world.machine.serviceInterrupts();
    return 0;
  }

  /**
   * No device reaches a domain but its owner; while somebody has pcidevs_lock, whoever owned it since that was taken
   * and whom the calls are about (INV-I3).
   */
  private adversary(): void {
    const { world } = this;
    const { xen, hw } = world.machine;
    const settled = xen.pcidevsLock.owner === undefined;
    this.violation ??= freeLockMeansRest(world);
    const named = this.pair.calls.map((c) => ('dom' in c ? world.domains[c.dom]?.domid : undefined));
    for (const device of world.layout.devices) {
      const owner = world.pdev(device.sbdf)?.domain?.domid;
      const known = settled ? undefined : this.owners.get(device.sbdf);
      const owners = known?.add(owner) ?? new Set([owner]);
      this.owners.set(device.sbdf, owners);
      if (owners.has(0) && !xen.opts.hwdomStrict) continue;
      for (const rid of world.ownRids(device)) {
        for (const { domid, frames } of this.targets()) {
          if (owners.has(domid) || (!settled && named.includes(domid))) continue;
          for (const frame of frames) {
            const mfn = world.machine.translate(segOf(device.sbdf), rid, frame, false);
            if (mfn < 0 || hw.frames.owner(mfn) !== domid) continue;
            this.violation ??= {
              id: 'INV-I3',
              what: `${formatSbdf(device.sbdf)} as ${bdfOf(rid).toString(16)} reached d${domid} in the middle of the calls`,
            };
          }
        }
      }
    }
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

  private rest(): Violation | undefined {
    const { world } = this;
    world.last = undefined;
    world.memo.clear();
    for (let i = world.domains.length - 1; i >= 0; i--)
      if (!world.machine.xen.domains.has(world.domains[i]!.domid)) world.domains.splice(i, 1);
    const held = world.machine.hw.cpus.list.reduce((n, cpu) => n + cpu.held.length, 0);
    if (held > 0) return { id: 'INV-L4', what: `${held} locks are held at rest` };
    for (const judge of atRest) {
      const v = judge.holds(world);
      if (v !== undefined) return v;
    }
    return undefined;
  }
}

/** The first violation is kept; its text has the schedule that replays it. */
export function explorePair(pair: Pair, o: ExploreOptions = {}): PairResult {
  const explorer = new Explorer(pair, o);
  let schedules = 0;
  let found: Violation | undefined;
  const body = (choose: Choose): void => {
    schedules += 1;
    const v = explorer.once(choose);
    found ??= v;
  };
  if (o.pct === undefined) forEverySchedule((pick) => body(pick), o.schedulesMax);
  else for (let i = 0; i < o.pct.runs; i++) body(pct(o.pct.seed + i, o.pct.depth));
  const r = explorer.result(schedules);
  if (found === undefined) return r;
  const schedule = /\(schedule ([^)]*)\)/.exec(found.what)?.[1] ?? '-';
  return { ...r, violation: { ...found, schedule } };
}

/** Steps among which priorities change; runs of two hypercalls are shorter. */
const PCT_STEPS = 400;

/** Random priorities, lowered at `depth` - 1 random steps (Burckhardt et al., ASPLOS 2010). */
export function pct(seed: number, depth: number): Choose {
  const rng = new Rng(seed);
  const priority = new Map<number, number>();
  const changes = new Set(Array.from({ length: depth - 1 }, () => rng.below(PCT_STEPS)));
  let step = 0;
  return (_n, ready) => {
    let best = 0;
    for (const t of ready) {
      if (!priority.has(t.cpu.id)) priority.set(t.cpu.id, depth + rng.below(1000));
    }
    ready.forEach((t, i) => {
      if (priority.get(t.cpu.id)! > priority.get(ready[best]!.cpu.id)!) best = i;
    });
    if (changes.has(step)) priority.set(ready[best]!.cpu.id, depth - changes.size);
    step += 1;
    return best;
  };
}
