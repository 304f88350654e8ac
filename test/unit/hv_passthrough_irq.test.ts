/** Interrupts: PHYSDEVOP_*, and how a guest hears of them. @xen arch/x86/physdev.c, irq.c, passthrough/x86/hvm.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import { ptIrqBind, ptIrqUnbind } from '../../src/hypervisor/passthrough/hvm.js';
import { physdevOp } from '../../src/hypervisor/physdev.js';
import type { DomctlOp } from '../../src/hypervisor/public/domctl.js';
import type { PhysdevOp } from '../../src/hypervisor/public/physdev.js';
import { runAlone } from '../../src/sim/co.js';
import { type DeviceSpec, endpoint, makeXen, type TestXen, type TestXenOptions } from '../helpers/xen.js';

/** 03:00.0 has four MSIs (a capability at 0x90) and MSI-X. */
const DEVICES: readonly DeviceSpec[] = [
  {
    ...endpoint(3, 0),
    msix: 4,
    edit: (c) => {
      c.setUint8(0x81, 0x90);
      c.setUint32(0x90, 0x0004_0005, true);
    },
  },
  endpoint(4, 0),
];

function make(o: TestXenOptions = {}): TestXen {
  const xen = makeXen({ devices: DEVICES, ...o });
  xen.hwdom.irqCaps.add(1, 23);
  return xen;
}
const op = (xen: TestXen, o: PhysdevOp): number => runAlone(physdevOp(xen, o));
type MapOp = Extract<PhysdevOp, { cmd: 'map_pirq' }>;
function map(xen: TestXen, more: Partial<MapOp>): { rc: number; pirq: number } {
  const o: MapOp = { cmd: 'map_pirq', domid: 1, type: 'gsi', index: 20, pirq: -1, ...more };
  return { rc: op(xen, o), pirq: o.pirq };
}

describe('PHYSDEVOP_map_pirq', () => {
  test('a GSI gets the first free number from 16 on, once', () => {
    const xen = make();
    const d = xen.guest(1);
    expect(map(xen, {})).toEqual({ rc: 0, pirq: 16 });
    expect(map(xen, {})).toEqual({ rc: 0, pirq: 16 });
    expect(map(xen, { index: 21 })).toEqual({ rc: 0, pirq: 17 });
    expect([d.irqCaps.contains(20, 21), d.pirqs.get(16)?.irq]).toEqual([true, 20]);
  });

  const refused: readonly { why: string; q: Partial<MapOp>; rc: number }[] = [
    { why: 'no such domain', q: { domid: 77 }, rc: E.SRCH },
    { why: 'a GSI beyond the I/O APIC', q: { index: 24 }, rc: E.INVAL },
    { why: 'a pirq beyond those of the domain', q: { pirq: 56 }, rc: E.INVAL },
    {
      why: 'a device that the domain does not have',
      q: { type: 'msi_seg', index: -1, bus: 4, devfn: 0 },
      rc: E.NODEV,
    },
    { why: 'an unknown device', q: { type: 'msi_seg', index: -1, bus: 9, devfn: 0 }, rc: E.NODEV },
  ];
  test.each(refused)('$why is refused', ({ q, rc }) => {
    const xen = make();
    xen.guest(1);
    expect(map(xen, q).rc).toBe(rc);
  });

  test('an interrupt that the caller may not use is -EPERM, and so is a guest that asks', () => {
    const xen = make();
    xen.guest(1);
    xen.hwdom.irqCaps.remove(20, 20);
    expect(map(xen, {}).rc).toBe(E.PERM);
    xen.cpus.current.domid = 1;
    expect(map(xen, { index: 21 }).rc).toBe(E.PERM);
  });

  test('an interrupt that is mapped cannot have a second number', () => {
    const xen = make();
    xen.guest(1);
    map(xen, { pirq: 30 });
    expect(map(xen, { pirq: 31 }).rc).toBe(E.EXIST);
  });

  // @xen map_domain_pirq: Xen takes what is there for what was asked
  test('a number that another interrupt has is given as if it were mapped, and stays as it was', () => {
    const xen = make();
    const d = xen.guest(1);
    map(xen, { index: 20 });
    expect(map(xen, { index: 21, pirq: 16 })).toEqual({ rc: 0, pirq: 16 });
    expect([d.pirqs.size, d.pirqs.get(16)?.irq, d.irqCaps.list()]).toEqual([1, 20, [{ s: 20, e: 20 }]]);
  });

  // @xen arch_hwdom_irqs, nr_irqs: 208 vectors for each bit of the number of CPUs, no more than dom0 has vCPUs
  test.each([
    [3, 8, 24 + 2 * 208],
    [3, 1, 24 + 208],
    [1, 8, 208],
    [4, 8, 24 + 3 * 208],
  ])(
    'on %i CPUs dom0 with %i vCPUs has %i numbers, the last of which its first MSI gets',
    (cpus, vcpus, numbers) => {
      const xen = make();
      Object.assign(xen.cpu, { count: cpus });
      Object.assign(xen.hwdom, { maxVcpus: vcpus });
      const q = { type: 'msi_seg', index: -1, bus: 3, devfn: 0, domid: 0 } as const;
      expect(map(xen, q)).toEqual({ rc: 0, pirq: numbers - 1 });
    },
  );

  test('each is an event with what was asked and answered', () => {
    const xen = make();
    const seen: unknown[] = [];
    xen.events.attach((e) => {
      if (e.kind === 'hypercall') seen.push([e.op, e.args, e.rc]);
    });
    const release = { cmd: 'release_msix', seg: 0, bus: 3, devfn: 0 } as const;
    op(xen, release);
    expect(seen).toEqual([['physdev:release_msix', release, E.BUSY]]);
  });

  test('an MSI takes the highest number of a guest; the IOMMU has the first interrupt', () => {
    const xen = make();
    const q = { type: 'msi_seg', index: -1, bus: 3, devfn: 0, domid: 0 } as const;
    const first = map(xen, q);
    expect([first.rc, xen.hwdom.pirqs.get(first.pirq)?.irq, xen.dev(3, 0).msiIrqs]).toEqual([0, 25, [25]]);
    const d = xen.guest(1);
    xen.dev(3, 0).domain = d;
    expect(map(xen, { ...q, domid: 1 })).toEqual({ rc: 0, pirq: 55 });
    expect([d.pirqs.get(55)?.irq, xen.dev(3, 0).msiIrqs]).toEqual([26, [25, 26]]);
  });

  test('several MSIs are a block, rounded up to a power of two', () => {
    const xen = make();
    const d = xen.guest(1);
    xen.dev(3, 0).domain = d;
    const q = { type: 'multi_msi', index: -1, bus: 3, devfn: 0 } as const;
    expect(map(xen, { ...q, entryNr: 3 })).toEqual({ rc: 0, pirq: 52 });
    expect([...d.pirqs.keys()].sort()).toEqual([52, 53, 54, 55]);
    xen.opts.intremap = 'off';
    expect(map(xen, { ...q, entryNr: 2 }).rc).toBe(E.OPNOTSUPP);
  });

  // @xen allocate_pirq, msi_capability_init: more vectors than the device has are told apart from more than there can be
  test('a group is of 1 to 32, of as many as the device has, and goes where it is asked to', () => {
    const xen = make();
    const d = xen.guest(1);
    xen.dev(3, 0).domain = d;
    const group = (entryNr: number, pirq = -1) =>
      map(xen, { type: 'multi_msi', index: -1, bus: 3, devfn: 0, entryNr, pirq });
    expect([0, -1, 33, 32, 5].map((n) => group(n).rc)).toEqual([E.DOM, E.DOM, E.DOM, E.NFILE, E.NFILE]);
    expect([d.pirqs.size, d.irqCaps.isEmpty(), xen.irqs.descs.has(25)]).toEqual([0, true, false]);
    expect(group(2, 0)).toEqual({ rc: 0, pirq: 0 });
    expect([...d.pirqs.keys()]).toEqual([0, 1]);
  });

  test('unmapping gives the number and the right back', () => {
    const xen = make();
    const d = xen.guest(1);
    map(xen, {});
    expect(op(xen, { cmd: 'unmap_pirq', domid: 1, pirq: 16 })).toBe(0);
    expect([d.pirqs.size, d.irqCaps.isEmpty()]).toEqual([0, true]);
    expect(op(xen, { cmd: 'unmap_pirq', domid: 1, pirq: 16 })).toBe(E.INVAL);
    expect(op(xen, { cmd: 'unmap_pirq', domid: 9, pirq: 16 })).toBe(E.SRCH);
  });
});

describe('other PHYSDEVOPs', () => {
  const at = { seg: 0, bus: 3, devfn: 0 } as const;

  test('MSI-X is prepared once, and released once', () => {
    const xen = make();
    const rcs = ['prepare_msix', 'prepare_msix', 'release_msix', 'release_msix'] as const;
    expect(rcs.map((cmd) => op(xen, { cmd, ...at }))).toEqual([0, E.BUSY, 0, E.BUSY]);
    expect(op(xen, { cmd: 'prepare_msix', ...at, bus: 9 })).toBe(E.NODEV);
    xen.cpus.current.domid = 3;
    expect(op(xen, { cmd: 'prepare_msix', ...at })).toBe(E.PERM);
  });

  test('devices are added and removed, flags and all', () => {
    const xen = make({ boot: 'none' });
    const add = { cmd: 'pci_device_add', ...at } as const;
    expect(op(xen, { ...add, flags: 0 })).toBe(0);
    expect(op(xen, { ...add, bus: 4, flags: 2, physfn: { bus: 3, devfn: 0 } })).toBe(0);
    expect(xen.dev(4, 0).isVirtfn).toBe(true);
    expect(op(xen, { cmd: 'restore_msi_ext', ...at })).toBe(0);
    expect(op(xen, { cmd: 'pci_device_remove', ...at, bus: 4 })).toBe(0);
    expect(op(xen, { cmd: 'restore_msi_ext', ...at, bus: 4 })).toBe(E.NODEV);
  });

  // drivers/pci/physdev.c of 4.23: flags, then rights, then the device; older ones know no such call.
  test('a reset is told: flags, rights, device', () => {
    const reset = { cmd: 'pci_device_reset', ...at, flags: 3 } as const;
    expect(op(make(), reset)).toBe(E.NOSYS);
    const xen = make({ release: '4.23' });
    expect([0, 1, 2, 3].map((flags) => op(xen, { ...reset, flags }))).toEqual([0, 0, 0, 0]);
    expect(op(xen, { ...reset, bus: 9 })).toBe(E.NODEV);
    xen.cpus.current.domid = 3;
    expect(op(xen, { ...reset, bus: 9 })).toBe(E.PERM);
    expect(op(xen, { ...reset, flags: 4 })).toBe(E.INVAL);
  });
});

describe('XEN_DOMCTL_bind_pt_irq', () => {
  type BindOp = Extract<DomctlOp, { cmd: 'bind_pt_irq' | 'unbind_pt_irq' }>;
  const guest = (o: TestXenOptions = {}): { xen: TestXen; d: Domain } => {
    const xen = make(o);
    const d = xen.guest(1, { hvm: true });
    map(xen, { pirq: 20 });
    return { xen, d };
  };
  const pin = { irqType: 'pci', bus: 0, device: 3, intx: 0 } as const;
  const bind = (xen: TestXen, d: Domain, more: Partial<BindOp>): number =>
    runAlone(ptIrqBind(xen, d, { cmd: 'bind_pt_irq', domid: 1, machineIrq: 20, ...pin, ...more }));
  const unbind = (xen: TestXen, d: Domain, more: Partial<BindOp>): number =>
    runAlone(ptIrqUnbind(xen, d, { cmd: 'unbind_pt_irq', domid: 1, machineIrq: 20, ...pin, ...more }));

  test('FT-B17 pins, with the lines of a talkative Xen', () => {
    const { xen, d } = guest({ opts: { verbose: true } });
    xen.news();
    expect([bind(xen, d, {}), bind(xen, d, { device: 4 })]).toEqual([0, 0]);
    expect([unbind(xen, d, {}), unbind(xen, d, { device: 4 })]).toEqual([0, 0]);
    expect(xen.news()).toEqual([
      'd1: bind: m_gsi=20 g_gsi=28 dev=00.00.3 intx=0',
      'd1: bind: m_gsi=20 g_gsi=32 dev=00.00.4 intx=0',
      'd1: unbind: m_gsi=20 g_gsi=28 dev=00:00.3 intx=0',
      'd1 partial unmap: m_irq=20 dev=00.00.3 intx=0',
      'd1: unbind: m_gsi=20 g_gsi=32 dev=00:00.4 intx=0',
      'd1 final unmap: m_irq=20 dev=00.00.4 intx=0',
    ]);
    expect(d.pirqs.get(20)?.bound).toBe(false);
  });

  const gsis = [
    { device: 0, intx: 0, gsi: 16 },
    { device: 5, intx: 2, gsi: 38 },
    { device: 8, intx: 0, gsi: 17 },
    { device: 16, intx: 1, gsi: 19 },
    { device: 31, intx: 3, gsi: 18 },
  ] as const;
  test.each(gsis)(
    'FT-B17 pin $intx of device $device is GSI $gsi: pins wrap at 32',
    ({ device, intx, gsi }) => {
      const { xen, d } = guest({ opts: { verbose: true } });
      xen.news();
      bind(xen, d, { device, intx });
      expect(xen.news()[0]).toMatch(`g_gsi=${gsi} `);
    },
  );

  test('FT-B17 an MSI may be bound again with another vector, but not over a pin', () => {
    const { xen, d } = guest();
    expect(bind(xen, d, { irqType: 'msi', gvec: 0x31 })).toBe(0);
    expect(bind(xen, d, { irqType: 'msi', gvec: 0x41 })).toBe(0);
    expect(d.pirqs.get(20)?.gmsi?.gvec).toBe(0x41);
    expect(unbind(xen, d, { irqType: 'msi' })).toBe(0);
    expect(bind(xen, d, { irqType: 'msi_translate' })).toBe(0);
    expect(bind(xen, d, { irqType: 'msi' })).toBe(E.BUSY);
    expect(xen.news()).toEqual(['pt_irq_create_bind failed (-16) for dom1']);
  });

  // @xen arch/x86/domctl.c XEN_DOMCTL_bind_pt_irq
  test('a failed binding is told with the name that the release gives a domain; a missing IOMMU by 4.18 alone', () => {
    for (const [release, who] of [
      ['4.17', 'd1'],
      ['4.18', 'dom1'],
      ['4.23', 'd1'],
    ] as const) {
      const { xen, d } = guest({ release });
      bind(xen, d, { irqType: 'msi_translate' });
      xen.news();
      expect(bind(xen, d, { irqType: 'msi' })).toBe(E.BUSY);
      expect(xen.news()).toEqual([`pt_irq_create_bind failed (-16) for ${who}`]);
      d.iommuEnabled = false;
      expect(bind(xen, d, {})).toBe(E.SRCH);
      expect(xen.news()).toEqual(release === '4.18' ? ['pt_irq_create_bind failed (-3) for dom1'] : []);
    }
  });

  test('FT-B17 a line is shared by those who bind it as a pin, and free again with the last of them', () => {
    const { xen, d } = guest();
    const other = xen.guest(2, { hvm: true });
    map(xen, { domid: 2, pirq: 20 });
    const desc = xen.irqs.desc(20);
    expect([bind(xen, d, {}), bind(xen, other, {})]).toEqual([0, 0]);
    expect([desc.isGuest, desc.guests.map((g) => g.domid)]).toEqual([true, [1, 2]]);
    expect(unbind(xen, d, {})).toBe(0);
    expect([desc.isGuest, desc.guests.map((g) => g.domid)]).toEqual([true, [2]]);
    expect(unbind(xen, other, {})).toBe(0);
    expect([desc.isGuest, desc.disabled]).toEqual([false, true]);
  });

  test("FT-B17 a line that is another guest's alone cannot be bound, and the pin is not kept", () => {
    const { xen, d } = guest();
    const other = xen.guest(2, { hvm: true });
    map(xen, { domid: 2, pirq: 20 });
    expect(bind(xen, other, { irqType: 'msi_translate' })).toBe(0);
    xen.news();
    expect(bind(xen, d, {})).toBe(E.BUSY);
    const failed = 'pt_irq_create_bind failed (-16) for dom1';
    expect(xen.news()).toEqual(['Cannot bind IRQ20 to dom1. Others do not share.', failed]);
    expect([d.pirqs.get(20)?.bound, d.pirqs.get(20)?.links]).toEqual([false, []]);
    expect(bind(xen, d, { irqType: 'msi_translate' })).toBe(E.BUSY);
    expect(xen.news()).toEqual(['Cannot bind IRQ20 to dom1. Will not share with others.', failed]);
    expect(unbind(xen, other, { irqType: 'msi_translate' })).toBe(0);
    expect(bind(xen, d, {})).toBe(0);
  });

  // @xen arch/x86/irq.c pirq_guest_bind
  test('FT-B17 a line that Xen uses, memory that is short and a 33rd guest: not bound, and the console says why', () => {
    const { xen, d } = guest();
    const why = (rc: number): string[] => {
      expect(bind(xen, d, {})).toBe(rc);
      expect(d.pirqs.get(20)?.bound).toBe(false);
      return xen.news().filter((l) => !l.startsWith('pt_irq_create_bind'));
    };
    const desc = xen.irqs.desc(20);
    xen.news();
    desc.action = 'timer_interrupt';
    expect(why(E.BUSY)).toEqual(["Cannot bind IRQ20 to dom1. In use by 'timer_interrupt'."]);
    desc.action = undefined;
    xen.faults.failNth(1, 'alloc');
    expect(why(E.NOMEM)).toEqual([]);
    xen.faults.failNth(2, 'alloc');
    expect(why(E.NOMEM)).toEqual(['Cannot bind IRQ20 to dom1. Out of memory.']);
    xen.faults.disarm();
    for (let domid = 2; domid < 34; domid++) {
      const other = xen.guest(domid, { hvm: true });
      expect(map(xen, { domid, pirq: 20 }).rc).toBe(0);
      expect(bind(xen, other, { domid })).toBe(0);
    }
    expect(why(E.BUSY)).toEqual([
      'Cannot bind IRQ20 to d1: already at max share 32 (increase with irq-max-guests= option)',
    ]);
  });

  test('FT-B17 who may not, and what is not there', () => {
    const { xen, d } = guest();
    expect(bind(xen, xen.guest(2), {})).toBe(E.INVAL);
    expect(bind(xen, d, { machineIrq: 21 })).toBe(E.PERM);
    expect([unbind(xen, d, {}), xen.news()]).toEqual([
      E.INVAL,
      ['pt_irq_destroy_bind failed (-22) for dom1'],
    ]);
    xen.hwdom.irqCaps.remove(20, 20);
    expect(bind(xen, d, {})).toBe(E.PERM);
    const bare = make();
    const other = bare.guest(1, { hvm: true, iommu: false });
    map(bare, { pirq: 20 });
    expect(bind(bare, other, {})).toBe(E.SRCH);
  });
});
