/**
 * Which kinds of steps each hypercall has that can fail, and that none of them leaves anything behind. The table names
 * every hypercall there is: one that is added has to say here what can fail below it.
 */
import { describe, expect, test } from 'vitest';
import { busOf, devfnOf } from '../../src/base/sbdf.js';
import { violationOf } from '../../src/check/bug_search.js';
import type { Command } from '../../src/check/commands.js';
import { type Attempt, failEachStep } from '../../src/check/fail_nth.js';
import { mmioFrame, plainMachine, type Vendor } from '../../src/check/machines.js';
import { parseToken } from '../../src/check/token.js';
import { witnesses } from '../../src/check/witnesses.js';
import type { World } from '../../src/check/world.js';
import type { DomctlOp } from '../../src/hypervisor/public/domctl.js';
import type { EvtchnOp } from '../../src/hypervisor/public/event_channel.js';
import type { MemoryOp } from '../../src/hypervisor/public/memory.js';
import type { PhysdevOp } from '../../src/hypervisor/public/physdev.js';
import type { Seams } from '../../src/hypervisor/seams.js';
import { runAlone } from '../../src/sim/co.js';

type Name = (DomctlOp | MemoryOp | PhysdevOp | EvtchnOp)['cmd'];
interface Case {
  readonly before?: readonly Command[];
  readonly attempt: Attempt;
  /** Kinds of steps that can fail: on both vendors, or on VT-d and on AMD. */
  readonly fails: string | readonly [vtd: string, amd: string];
}

/** Domain 0 is HVM and shares its tables, 1 is PV, 2 is HVM and has tables of its own. */
const HVM = 0;
const PV = 1;
const separate: Command = { op: 'create', kind: 'hvm', share: false };
const assign = (dom: number): Command => ({ op: 'assign', dev: 0, dom, flags: 0 });
const given = (dom: number): Command[] => [separate, assign(dom)];
const group: Command = { op: 'mapMsi', dev: 0, dom: 0, owner: true, kind: 'multi', nr: 4, again: 0 };
const single: Command = { ...group, kind: 'msi', nr: 1 };
const bound: Command = { op: 'bindMsi', which: 0, on: true };

const domid = (w: World, dom: number): number => w.domains[dom]!.domid;
const domctl = (op: (w: World) => DomctlOp): Attempt => {
  return (w) => runAlone(w.machine.hypercalls.domctl(op(w)));
};
const memory = (op: (w: World) => MemoryOp): Attempt => {
  return (w) => runAlone(w.machine.hypercalls.memoryOp(op(w)));
};
const physdev = (op: (w: World) => PhysdevOp): Attempt => {
  return (w) => runAlone(w.machine.hypercalls.physdevOp(op(w)));
};
const evtchn = (op: (w: World) => EvtchnOp): Attempt => {
  return (w) => runAlone(w.machine.hypercalls.eventChannelOp(op(w)));
};
const place = (w: World): { seg: number; bus: number; devfn: number } => {
  const { sbdf } = w.layout.devices[0]!;
  return { seg: 0, bus: busOf(sbdf), devfn: devfnOf(sbdf) };
};
const onHvm = (op: Omit<DomctlOp, 'domid'>): Attempt =>
  domctl((w) => ({ ...op, domid: domid(w, HVM) }) as DomctlOp);
/** Twice as much of a right, with a hole between: the first is granted, then the second, then the first taken back. */
const rights = (op: (w: World, at: number, allow: boolean) => DomctlOp): Attempt => {
  return (w) => {
    const call = (at: number, allow: boolean): number =>
      runAlone(w.machine.hypercalls.domctl(op(w, at, allow)));
    for (const at of [0, 1, 2]) call(at, true);
    call(1, false);
  };
};
const NOTHING = '';
/** A device leaves for quarantine: its tables are there already. Units of AMD are flushed without an answer. */
const LEAVES = ['vendorOp cmpxchg flush', 'vendorOp cmpxchg'] as const;
const largePage = (w: World): [number, number] => [...w.domains[2]!.memory].find(([, order]) => order === 9)!;

const table: Readonly<Record<Name, readonly Case[]>> = {
  createdomain: [
    { attempt: { op: 'create', kind: 'hvm', share: true }, fails: 'alloc domainAlloc' },
    { attempt: separate, fails: 'alloc domainAlloc' },
    { attempt: { op: 'create', kind: 'pv', share: false }, fails: 'alloc domainAlloc' },
  ],
  destroydomain: [
    { before: given(PV), attempt: { op: 'destroy', dom: PV }, fails: LEAVES },
    { before: [...given(HVM), group, bound], attempt: { op: 'destroy', dom: HVM }, fails: LEAVES },
  ],
  assign_device: [
    {
      before: [separate],
      attempt: assign(2),
      fails: ['alloc vendorOp cmpxchg flush', 'alloc vendorOp cmpxchg'],
    },
  ],
  deassign_device: [
    { before: given(2), attempt: { op: 'deassign', dev: 0, dom: 2, flags: 0 }, fails: LEAVES },
  ],
  test_assign_device: [{ attempt: { op: 'testAssign', dev: 0, dom: HVM }, fails: NOTHING }],
  get_device_group: [
    {
      before: given(PV),
      attempt: domctl((w) => {
        const machineSbdf = w.layout.devices[0]!.sbdf;
        return { cmd: 'get_device_group', domid: domid(w, PV), machineSbdf, maxSdevs: 8 };
      }),
      fails: NOTHING,
    },
  ],
  pausedomain: [{ attempt: onHvm({ cmd: 'pausedomain' }), fails: NOTHING }],
  unpausedomain: [{ attempt: onHvm({ cmd: 'unpausedomain' }), fails: NOTHING }],
  getdomaininfo: [{ attempt: onHvm({ cmd: 'getdomaininfo' }), fails: NOTHING }],
  max_mem: [{ attempt: onHvm({ cmd: 'max_mem', maxKb: 65_536 } as never), fails: NOTHING }],
  max_vcpus: [{ attempt: onHvm({ cmd: 'max_vcpus', max: 1 } as never), fails: NOTHING }],
  setvcpuaffinity: [
    { attempt: onHvm({ cmd: 'setvcpuaffinity', vcpu: 0, hard: [0] } as never), fails: NOTHING },
  ],
  setdomainhandle: [{ attempt: onHvm({ cmd: 'setdomainhandle', handle: 'h' } as never), fails: NOTHING }],
  irq_permission: [
    {
      attempt: rights((w, at, allow) => ({
        cmd: 'irq_permission',
        domid: domid(w, HVM),
        pirq: [16, 18, 20][at]!,
        allow,
      })),
      fails: 'alloc',
    },
  ],
  iomem_permission: [
    {
      attempt: rights((w, at, allow) => ({
        cmd: 'iomem_permission',
        domid: domid(w, HVM),
        firstMfn: mmioFrame(w.layout, 0) + at,
        nrMfns: 1,
        allow,
      })),
      fails: 'alloc',
    },
  ],
  ioport_permission: [
    {
      attempt: rights((w, at, allow) => ({
        cmd: 'ioport_permission',
        domid: domid(w, HVM),
        firstPort: 0xc000 + 8 * at,
        nrPorts: 8,
        allow,
      })),
      fails: 'alloc',
    },
  ],
  memory_mapping: [
    { attempt: { op: 'mmio', dom: HVM, dev: 0, add: true, allow: true }, fails: 'alloc' },
    {
      before: [{ op: 'mmio', dom: HVM, dev: 0, add: true, allow: true }],
      attempt: { op: 'mmio', dom: HVM, dev: 0, add: false, allow: true },
      fails: NOTHING,
    },
  ],
  ioport_mapping: [
    {
      attempt: rights((w, at, add) => ({
        cmd: 'ioport_mapping',
        domid: domid(w, HVM),
        firstGport: 0xc000 + 8 * at,
        firstMport: 0xc000 + 8 * at,
        nrPorts: 8,
        add,
      })),
      fails: 'alloc',
    },
  ],
  bind_pt_irq: [{ before: [assign(HVM), single], attempt: bound, fails: 'alloc' }],
  unbind_pt_irq: [{ before: [assign(HVM), single, bound], attempt: { ...bound, on: false }, fails: NOTHING }],
  gethvmcontext: [{ attempt: onHvm({ cmd: 'gethvmcontext' }), fails: 'alloc' }],
  sethvmcontext: [{ attempt: onHvm({ cmd: 'sethvmcontext', records: [] } as never), fails: 'alloc' }],
  shadow_op: [{ attempt: { op: 'sharing', dom: HVM, what: 'logdirty', on: true }, fails: NOTHING }],
  mem_sharing_op: [{ attempt: { op: 'sharing', dom: HVM, what: 'sharing', on: true }, fails: NOTHING }],
  vm_event_op: [
    {
      before: [{ op: 'create', kind: 'noiommu', share: false }],
      attempt: { op: 'sharing', dom: 2, what: 'paging', on: true },
      fails: NOTHING,
    },
  ],
  populate_physmap: [
    { before: given(2), attempt: { op: 'populate', dom: 2, gfn: 1, order: 0 }, fails: 'alloc' },
    { before: given(PV), attempt: { op: 'populate', dom: PV, gfn: 1, order: 9 }, fails: 'alloc' },
    { before: [separate], attempt: { op: 'pod', dom: 2 }, fails: NOTHING },
  ],
  decrease_reservation: [
    { before: given(2), attempt: { op: 'decrease', dom: 2, gfn: 0, part: false }, fails: ['flush', ''] },
    {
      before: [...given(2), { op: 'populate', dom: 2, gfn: 1, order: 9 }],
      attempt: { op: 'decrease', dom: 2, gfn: 1, part: true },
      fails: ['alloc flush', 'alloc'],
    },
  ],
  exchange: [
    { before: given(PV), attempt: { op: 'exchange', dom: PV, page: 0 }, fails: ['alloc flush', 'alloc'] },
  ],
  gnttab_transfer: [
    { before: given(2), attempt: { op: 'transfer', dom: PV, to: 2, page: 0 }, fails: NOTHING },
  ],
  add_to_physmap: [
    {
      attempt: memory((w) => ({
        cmd: 'add_to_physmap',
        domid: domid(w, HVM),
        space: 'grant_table',
        idx: 0,
        gfn: 0x1000,
      })),
      fails: NOTHING,
    },
  ],
  add_to_physmap_range: [
    {
      before: given(2),
      attempt: { op: 'move', dom: 2, from: 0, to: 3, count: 2 },
      fails: ['alloc flush', 'alloc'],
    },
  ],
  set_mem_type: [
    {
      before: [...given(2), { op: 'populate', dom: 2, gfn: 1, order: 9 }],
      attempt: memory((w) => {
        const [gfn] = largePage(w);
        return { cmd: 'set_mem_type', domid: domid(w, 2), gfn, nr: 2, readOnly: true };
      }),
      fails: ['alloc flush', 'alloc'],
    },
  ],
  remove_from_physmap: [
    {
      before: [...given(2), { op: 'populate', dom: 2, gfn: 1, order: 9 }],
      attempt: (w) => {
        const [gfn] = largePage(w);
        w.domains[2]!.memory.delete(gfn);
        runAlone(
          w.machine.hypercalls.memoryOp({ cmd: 'remove_from_physmap', domid: domid(w, 2), gfn: gfn + 1 }),
        );
      },
      fails: ['alloc flush', 'alloc'],
    },
  ],
  set_memory_map: [
    {
      attempt: memory((w) => ({ cmd: 'set_memory_map', domid: domid(w, HVM), entries: [] })),
      fails: 'alloc',
    },
  ],
  set_pod_target: [
    {
      attempt: memory((w) => ({ cmd: 'set_pod_target', domid: domid(w, HVM), targetPages: 1 })),
      fails: NOTHING,
    },
  ],
  reserved_device_memory_map: [
    {
      attempt: memory((w) => {
        const { sbdf } = w.layout.devices[0]!;
        return { cmd: 'reserved_device_memory_map', flags: 1, sbdf, maxEntries: 8 };
      }),
      fails: NOTHING,
    },
  ],
  maximum_gpfn: [{ attempt: memory((w) => ({ cmd: 'maximum_gpfn', domid: domid(w, HVM) })), fails: NOTHING }],
  pci_device_add: [
    {
      before: [{ op: 'remove', dev: 0 }],
      attempt: { op: 'add', dev: 0 },
      fails: ['alloc vendorOp cmpxchg', 'alloc vendorOp'],
    },
  ],
  pci_device_remove: [
    { before: given(2), attempt: { op: 'remove', dev: 0 }, fails: ['flush', ''] },
    { before: [assign(HVM), group, bound], attempt: { op: 'remove', dev: 0 }, fails: ['flush', ''] },
  ],
  prepare_msix: [{ attempt: physdev((w) => ({ cmd: 'prepare_msix', ...place(w) })), fails: NOTHING }],
  release_msix: [{ attempt: physdev((w) => ({ cmd: 'release_msix', ...place(w) })), fails: NOTHING }],
  restore_msi_ext: [{ attempt: physdev((w) => ({ cmd: 'restore_msi_ext', ...place(w) })), fails: NOTHING }],
  pci_device_reset: [
    { attempt: physdev((w) => ({ cmd: 'pci_device_reset', ...place(w), flags: 3 })), fails: NOTHING },
  ],
  map_pirq: [
    { before: [assign(HVM)], attempt: single, fails: 'alloc' },
    { before: [assign(HVM)], attempt: group, fails: 'alloc' },
    { before: [assign(HVM), single], attempt: group, fails: 'alloc' },
    { before: [assign(PV)], attempt: { ...group, kind: 'msix', nr: 1 }, fails: 'alloc' },
    {
      attempt: physdev((w) => ({ cmd: 'map_pirq', domid: domid(w, HVM), type: 'gsi', index: 17, pirq: -1 })),
      fails: 'alloc',
    },
  ],
  unmap_pirq: [
    { before: [assign(HVM), group], attempt: { op: 'unmapMsi', which: 0 }, fails: NOTHING },
    { before: [assign(PV), single, bound], attempt: { op: 'unmapMsi', which: 0 }, fails: NOTHING },
  ],
  setup_gsi: [
    { attempt: physdev(() => ({ cmd: 'setup_gsi', gsi: 17, triggering: 1, polarity: 1 })), fails: NOTHING },
  ],
  bind_pirq: [{ before: [assign(PV), single], attempt: bound, fails: 'alloc' }],
  // Here the pages that a domain shares with Xen are made with its first channel, which does without if need be.
  alloc_unbound: [
    { attempt: evtchn((w) => ({ cmd: 'alloc_unbound', dom: domid(w, HVM), remote: 0 })), fails: 'alloc' },
  ],
  bind_interdomain: [
    {
      attempt: (w) => {
        const port = { cmd: 'alloc_unbound' as const, dom: domid(w, HVM), remote: domid(w, PV), port: 0 };
        runAlone(w.machine.hypercalls.eventChannelOp(port));
        const op = { cmd: 'bind_interdomain' as const, domid: domid(w, PV), remote: domid(w, HVM) };
        runAlone(w.machine.hypercalls.eventChannelOp({ ...op, remotePort: port.port }));
      },
      fails: 'alloc',
    },
  ],
  bind_virq: [
    { attempt: evtchn((w) => ({ cmd: 'bind_virq', domid: domid(w, PV), virq: 0, vcpu: 0 })), fails: 'alloc' },
  ],
  bind_ipi: [{ attempt: evtchn((w) => ({ cmd: 'bind_ipi', domid: domid(w, PV), vcpu: 0 })), fails: 'alloc' }],
  init_control: [{ attempt: evtchn((w) => ({ cmd: 'init_control', domid: domid(w, PV) })), fails: 'alloc' }],
  close: [{ before: [assign(PV), single, bound], attempt: { ...bound, on: false }, fails: NOTHING }],
};

const cases = (['vtd', 'amd'] as const).flatMap((vendor) =>
  Object.entries(table).flatMap(([name, each]) => each.map((one, i) => ({ vendor, name, one, i }))),
);
const machine = (vendor: Vendor) =>
  plainMachine(vendor, ['phantom2'], { quarantine: 'scratch-page', dom0: 'strict', messages: true });

describe('INV-O6 INV-O7 INV-O8 INV-F8 each step of each hypercall fails', () => {
  test.each(cases)('$vendor, $name $i: nothing leaks, nothing is violated', ({ vendor, one }) => {
    const { failed, failures } = failEachStep(machine(vendor), one.before ?? [], one.attempt);
    expect(failures).toEqual([]);
    const due = typeof one.fails === 'string' ? one.fails : one.fails[vendor === 'vtd' ? 0 : 1];
    expect([...failed.keys()].join(' ')).toBe(due);
  });
});

test('W10: a guest whose vectors were taken back by halves ends the host when it ends', () => {
  const h = parseToken(witnesses.W10!);
  const ended = { ...h, commands: [...h.commands, { op: 'destroy', dom: 0 } as const] };
  const ends = (seams: Partial<Seams>) => violationOf(ended, { seams }, [])?.violation.what;
  expect(ends({ groupIsTakenBackWhole: () => false })).toBe('HostCrash: FATAL PAGE FAULT');
  expect(ends({})).toBeUndefined();
});
