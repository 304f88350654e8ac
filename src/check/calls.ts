// edition: co
/** Hypercalls that can happen at once, each on a vCPU, and the states of a small machine in which they are tried. */
import { Rng } from '../base/rng.js';
import { busOf, devfnOf, segOf } from '../base/sbdf.js';
import type { Co } from '../sim/co.js';
import { DOMID } from '../sim/frames.js';
import type { Command } from './commands.js';
import { type MachineSpec, plainMachine, type Vendor } from './machines.js';
import type { World } from './world.js';

/** A hypercall that can be one of a pair. Devices and domains by index, as in commands. */
export type Call =
  | { readonly op: 'assign' | 'deassign' | 'testAssign'; readonly dev: number; readonly dom: number }
  | { readonly op: 'quarantine' | 'release' | 'remove' | 'add'; readonly dev: number }
  | { readonly op: 'destroy' | 'kill' | 'logdirty'; readonly dom: number }
  | { readonly op: 'populate' | 'decrease' | 'move' | 'mmio' | 'exchange' | 'transfer'; readonly dom: number }
  | { readonly op: 'group'; readonly dev: number }
  /** `hwdomSetup`: boot goes through the devices once more, and pcidevs_lock comes and goes. */
  | { readonly op: 'faults' | 'hwdomSetup' };

/** Every hypercall of the kit, by a name for reports. Domain 0 is HVM and shares its tables, 1 is PV. */
export const kitCalls: Readonly<Record<string, Call>> = {
  'assign to HVM': { op: 'assign', dev: 0, dom: 0 },
  'assign to PV': { op: 'assign', dev: 0, dom: 1 },
  'deassign from PV': { op: 'deassign', dev: 0, dom: 1 },
  'test assign': { op: 'testAssign', dev: 0, dom: 0 },
  quarantine: { op: 'quarantine', dev: 0 },
  release: { op: 'release', dev: 0 },
  'remove device': { op: 'remove', dev: 0 },
  'add device': { op: 'add', dev: 0 },
  'device group': { op: 'group', dev: 0 },
  'destroy PV': { op: 'destroy', dom: 1 },
  'shut down PV': { op: 'kill', dom: 1 },
  'populate PV': { op: 'populate', dom: 1 },
  'decrease PV': { op: 'decrease', dom: 1 },
  'exchange PV': { op: 'exchange', dom: 1 },
  'transfer PV': { op: 'transfer', dom: 1 },
  'move HVM': { op: 'move', dom: 0 },
  'map MMIO HVM': { op: 'mmio', dom: 0 },
  'log dirty HVM': { op: 'logdirty', dom: 0 },
  'read faults': { op: 'faults' },
};

/** Pairs of names, each call with itself too. */
export const kitPairs = (): [string, string][] => {
  const names = Object.keys(kitCalls);
  return names.flatMap((a, i) => names.slice(i).map((b): [string, string] => [a, b]));
};

/** `n` names that were drawn from all, by the seed, as often as asked. */
export function drawnSets(n: number, count: number, seed: number): string[][] {
  const names = Object.keys(kitCalls);
  const rng = new Rng(seed);
  return Array.from({ length: count }, () =>
    Array.from({ length: n }, () => names[rng.below(names.length)]!),
  );
}

/** One device with a phantom function, and three guests. */
export const smallMachine = (vendor: Vendor): MachineSpec =>
  plainMachine(vendor, ['phantom1'], { dom0: 'strict' });

const third: Command = { op: 'create', kind: 'pv', share: false };
/** Where the device is when the calls begin. */
export const starts: Readonly<Record<string, readonly Command[]>> = {
  'with dom0': [third],
  'with PV': [third, { op: 'assign', dev: 0, dom: 1, flags: 0 }],
};

/** The hypercall itself. */
export function callOf(world: World, c: Call): Co<number> {
  const { hypercalls } = world.machine;
  const domid = 'dom' in c ? (world.domains[c.dom]?.domid ?? 77) : DOMID.IO;
  const at = 'dev' in c ? world.layout.devices[c.dev]!.sbdf : 0;
  const place = { seg: segOf(at), bus: busOf(at), devfn: devfnOf(at) };
  const device = { domid, dev: 0 as const, machineSbdf: at, flags: 0 };
  switch (c.op) {
    case 'assign':
    case 'quarantine':
      return hypercalls.domctl({ cmd: 'assign_device', ...device });
    case 'testAssign':
      return hypercalls.domctl({ cmd: 'test_assign_device', ...device });
    case 'deassign':
    case 'release':
      return hypercalls.domctl({ cmd: 'deassign_device', ...device });
    case 'remove':
      return hypercalls.physdevOp({ cmd: 'pci_device_remove', ...place });
    case 'add':
      return hypercalls.physdevOp({ cmd: 'pci_device_add', ...place, flags: 0 });
    case 'destroy':
      return hypercalls.domctl({ cmd: 'destroydomain', domid });
    case 'kill':
      return hypercalls.shutdown(domid, 3);
    case 'logdirty':
      return hypercalls.domctl({ cmd: 'shadow_op', domid, op: 'enable_logdirty' });
    case 'populate':
      return hypercalls.memoryOp({ cmd: 'populate_physmap', domid, gfns: [0x101], order: 0 });
    case 'decrease':
      return hypercalls.memoryOp({
        cmd: 'decrease_reservation',
        domid,
        gfns: [firstPage(world, c.dom)],
        order: 0,
      });
    case 'exchange': {
      const gfns = [firstPage(world, c.dom)];
      const extents = { gfns, order: 0, outGfns: gfns, outOrder: 0 };
      return hypercalls.memoryOp({ cmd: 'exchange', domid, ...extents });
    }
    case 'transfer': {
      const to = world.domains[c.dom + 1]?.domid ?? 77;
      const gfn = firstPage(world, c.dom);
      return hypercalls.memoryOp({ cmd: 'gnttab_transfer', domid, gfn, to, toGfn: 0x180 });
    }
    case 'move':
      return hypercalls.memoryOp({ cmd: 'add_to_physmap_range', domid, idx: 0x100, gpfn: 0x103, size: 1 });
    case 'mmio':
      return hypercalls.domctl({
        cmd: 'memory_mapping',
        domid,
        firstGfn: 0xd_0000,
        firstMfn: world.layout.mmioFirst,
        nrMfns: 1,
        add: true,
      });
    case 'group':
      return hypercalls.domctl({ cmd: 'get_device_group', domid: 0, machineSbdf: at, maxSdevs: 8 });
    case 'hwdomSetup':
      return setUpDom0(world);
    case 'faults':
      return readFaults(world);
  }
}

/** Guest frame of the first page that a domain was given. */
function firstPage(world: World, dom: number): number {
  const domain = world.domains[dom];
  const frame = [...(domain?.memory.keys() ?? [])][0] ?? 0x100;
  if (domain?.kind !== 'pv') return frame;
  for (const [gfn, mfn] of world.machine.xen.domains.get(domain.domid)?.pvGfns ?? [])
    if (mfn === frame) return gfn;
  return frame;
}

function* readFaults(world: World): Co<number> {
  yield* world.machine.serviceInterrupts();
  return 0;
}

function* setUpDom0(world: World): Co<number> {
  const { xen } = world.machine;
  yield* xen.ops!.hwdomInit(xen.hwdom);
  return 0;
}
