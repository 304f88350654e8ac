import { describe, expect, test } from 'vitest';
import { sbdf } from '../../../src/base/sbdf.js';
import type { Domain } from '../../../src/hypervisor/domain.js';
import { domainShutdown } from '../../../src/hypervisor/domain_ops.js';
import { doDomctl } from '../../../src/hypervisor/domctl.js';
import { P2M } from '../../../src/hypervisor/mm/p2m.js';
import type { CreateDomain, DomctlOp } from '../../../src/hypervisor/public/domctl.js';
import { runAlone } from '../../../src/sim/co.js';
import { makeXen, type TestXen, type TestXenOptions } from '../../helpers/xen.js';

const domctl = (xen: TestXen, op: DomctlOp): number => runAlone(doDomctl(xen, op));

/** A host whose dom0 may use frames 0x1000 to 0x1fff and ports 0x100 to 0x1ff, and a guest d1. */
function host(o: TestXenOptions & { hvm?: boolean } = {}): { xen: TestXen; d: Domain } {
  const xen = makeXen(o);
  xen.hwdom.iomemCaps.add(0x1000, 0x1fff);
  xen.hwdom.ioportCaps.add(0x100, 0x1ff);
  return { xen, d: xen.guest(1, { hvm: o.hvm ?? true }) };
}

const iomem = (firstMfn: number, nrMfns: number, allow = true): DomctlOp => ({
  cmd: 'iomem_permission',
  domid: 1,
  firstMfn,
  nrMfns,
  allow,
});
const mapping = (firstGfn: number, firstMfn: number, nrMfns: number, add = true): DomctlOp => ({
  cmd: 'memory_mapping',
  domid: 1,
  firstGfn,
  firstMfn,
  nrMfns,
  add,
});
const ports = (firstGport: number, firstMport: number, nrPorts: number, add = true): DomctlOp => ({
  cmd: 'ioport_mapping',
  domid: 1,
  firstGport,
  firstMport,
  nrPorts,
  add,
});

describe('permissions', () => {
  test('FT-E01 rights to device memory can be given by who has them', () => {
    const { xen, d } = host();
    expect(domctl(xen, iomem(0x1800, 0x10))).toBe(0);
    expect(d.iomemCaps.list()).toEqual([{ s: 0x1800, e: 0x180f }]);
    expect(domctl(xen, iomem(0x1ff0, 0x11))).toBe(-1);
    expect(domctl(xen, iomem(0x1804, 4, false))).toBe(0);
    expect(d.iomemCaps.list()).toEqual([
      { s: 0x1800, e: 0x1803 },
      { s: 0x1808, e: 0x180f },
    ]);
    expect(domctl(xen, iomem(0x1800, 0))).toBe(-22);
  });

  test('rights to ports end at 65535', () => {
    const { xen, d } = host();
    const op = (firstPort: number, nrPorts: number, allow = true): DomctlOp => ({
      cmd: 'ioport_permission',
      domid: 1,
      firstPort,
      nrPorts,
      allow,
    });
    expect(domctl(xen, op(0x100, 8))).toBe(0);
    expect(domctl(xen, op(0x200, 1))).toBe(-1);
    expect(domctl(xen, op(0xffff, 2))).toBe(-22);
    expect(domctl(xen, op(0x100, 0))).toBe(-22);
    expect(d.ioportCaps.list()).toEqual([{ s: 0x100, e: 0x107 }]);
  });

  test('rights to interrupts end with the pirqs of the caller', () => {
    const { xen, d } = host();
    xen.hwdom.irqCaps.add(16, 20);
    const op = (pirq: number, allow = true): DomctlOp => ({ cmd: 'irq_permission', domid: 1, pirq, allow });
    expect(domctl(xen, op(17))).toBe(0);
    expect(domctl(xen, op(21))).toBe(-1);
    expect(domctl(xen, op(100_000))).toBe(-22);
    expect(d.irqCaps.list()).toEqual([{ s: 17, e: 17 }]);
  });
});

describe('device memory', () => {
  test('FT-E02 mapping needs the rights of caller and guest, unmapping as the release has it', () => {
    for (const release of ['4.17', '4.18', '4.23'] as const) {
      const { xen, d } = host({ release });
      expect(domctl(xen, mapping(0xf000, 0x1000, 1))).toBe(-1);
      d.iomemCaps.add(0x1000, 0x2fff);
      expect(domctl(xen, mapping(0xf000, 0x2000, 1))).toBe(-1);
      xen.news();
      expect(domctl(xen, mapping(0xf000, 0x1000, 2))).toBe(0);
      const who = release === '4.18' ? 'dom1' : 'd1';
      expect(xen.news()).toContain(`memory_map:add: ${who} gfn=f000 mfn=1000 nr=2`);
      expect(d.p2m!.lookup(0xf001)).toMatchObject({ mfn: 0x1001, type: P2M.mmioDirect });
      d.iomemCaps.remove(0, 0xffff);
      expect(domctl(xen, mapping(0xf000, 0x1000, 2, false))).toBe(release === '4.23' ? 0 : -1);
    }
  });

  test('ranges that wrap or leave the address space are invalid', () => {
    const { xen } = host();
    expect(domctl(xen, mapping(0, 0x1000, 0))).toBe(-22);
    expect(domctl(xen, mapping(0, 2 ** 34, 1))).toBe(-22);
    expect(domctl(xen, mapping(0, 2 ** 34 - 1, 1))).toBe(-1);
  });

  test('64 entries are set at a time, large ones where both addresses allow', () => {
    const { xen, d } = host();
    d.iomemCaps.add(0x1000, 0x1fff);
    expect(domctl(xen, mapping(0xf001, 0x1001, 100))).toBe(64);
    expect(domctl(xen, mapping(0xf041, 0x1041, 36))).toBe(0);
    expect(domctl(xen, mapping(0xf200, 0x1200, 0x400))).toBe(0);
    expect(d.p2m!.lookup(0xf3ff)).toMatchObject({ mfn: 0x13ff, order: 9 });
    expect(domctl(xen, mapping(0xf200, 0x1200, 0x400, false))).toBe(0);
    expect(d.p2m!.lookup(0xf3ff).mfn).toBe(-1);
    expect(domctl(xen, mapping(0xf300, 0x1300, 1, false))).toBe(-22);
  });

  test('what dom0 may only read a guest may only read', () => {
    const { xen, d } = host();
    d.iomemCaps.add(0x1000, 0x1fff);
    xen.mmioRo.add(0x1234, 0x1234);
    expect(domctl(xen, mapping(0xf200, 0x1200, 0x200))).toBe(64);
    expect(d.p2m!.lookup(0xf234)).toMatchObject({ mfn: 0x1234, order: 0, writable: false });
    expect(d.p2m!.lookup(0xf235).writable).toBe(true);
  });

  test('a mapping elsewhere of the same guest frame crashes the guest', () => {
    const { xen, d } = host();
    d.iomemCaps.add(0x1000, 0x1fff);
    domctl(xen, mapping(0xf000, 0x1000, 1));
    expect(domctl(xen, mapping(0xf000, 0x1000, 1))).toBe(0);
    xen.news();
    expect(domctl(xen, mapping(0xf000, 0x1001, 1))).toBe(-1);
    expect(xen.news().slice(1, 3)).toEqual([
      'd1: GFN 0xf000 (0x1000,0,5,7) -> (0x1001,0,5,7) not permitted',
      'domain_crash called from arch/x86/mm/p2m.c:1042',
    ]);
    expect(d.isShutDown).toBe(true);
    expect(d.p2m!.lookup(0xf000).mfn).toBe(0x1000);
  });

  test('nothing is mapped for a PV guest, which does it itself', () => {
    const { xen, d } = host({ hvm: false });
    d.iomemCaps.add(0x1000, 0x1fff);
    xen.news();
    expect(domctl(xen, mapping(0xf000, 0x1000, 1))).toBe(0);
    expect(xen.news()).toEqual([]);
  });

  test.each([
    ['4.17', 'd1'],
    ['4.17.0', 'dom1'],
    ['4.18', 'dom1'],
    ['4.23', 'd1'],
  ])('what fails to map or to unmap is told, %s', (release, who) => {
    const { xen, d } = host({ release });
    d.iomemCaps.add(0x1000, 0x1fff);
    const told = (add: boolean): string[] => {
      xen.news();
      expect(domctl(xen, mapping(0xf000, 0x1000, 1, add))).toBe(-12);
      return xen.news().filter((l) => l.startsWith('memory_map'));
    };
    const what = `${who} gfn=f000 mfn=1000 nr=1`;
    xen.vendor.fail('map', 0xf000, -12, 1);
    expect(told(true)).toEqual([`memory_map:add: ${what}`, `memory_map:fail: ${what} ret:-12`]);
    expect(domctl(xen, mapping(0xf000, 0x1000, 1))).toBe(0);
    xen.vendor.fail('unmap', 0xf000, -12, 1);
    const error = `memory_map: error -12 removing ${who} access to [1000,1000]`;
    expect(told(false)).toEqual([`memory_map:remove: ${what}`, error]);
  });

  // @xen common/domctl.c XEN_DOMCTL_memory_mapping: 4.17.7 and the newest ask paging_mode_translate() first
  test('rights to what is not mapped for a PV guest are looked at by 4.18 alone', () => {
    for (const [release, rc] of [
      ['4.17', 0],
      ['4.17.0', -1],
      ['4.18', -1],
      ['4.23', 0],
    ] as const)
      expect(domctl(host({ release, hvm: false }).xen, mapping(0xf000, 0x3000, 1))).toBe(rc);
  });
});

describe('ports', () => {
  test('FT-E03 a range is added or removed whole: -16 beside another, -2 unknown, -95 for PV', () => {
    const { xen, d } = host({ release: '4.23' });
    d.ioportCaps.add(0x100, 0x1ff);
    expect(domctl(xen, ports(0x300, 0x100, 8))).toBe(0);
    expect(d.ioportMaps).toEqual([{ gport: 0x300, mport: 0x100, np: 8 }]);
    expect(domctl(xen, ports(0x400, 0x104, 8))).toBe(-16);
    expect(domctl(xen, ports(0x300, 0x180, 8, false))).toBe(-2);
    expect(domctl(xen, ports(0x300, 0x100, 8, false))).toBe(0);
    expect([d.ioportMaps, d.ioportCaps.list()]).toEqual([[], [{ s: 0x100, e: 0x1ff }]]);
    const pv = host({ release: '4.23', hvm: false });
    expect(domctl(pv.xen, ports(0x300, 0x100, 8))).toBe(-95);
    expect(pv.xen.news()).toContain('ioport_map against non-HVM domain');
  });

  // @xen arch/x86/domctl.c XEN_DOMCTL_ioport_mapping: commit 3845d3854d, not in 4.17.7 and 4.18.3
  test('a mapping of ports gives and takes the right to them until 4.22; then the guest must have it', () => {
    for (const release of ['4.17', '4.18', '4.23'] as const) {
      const { xen, d } = host({ release });
      const grants = release !== '4.23';
      xen.news();
      expect(domctl(xen, ports(0x300, 0x100, 8))).toBe(grants ? 0 : -1);
      expect(xen.news()).toEqual(grants ? ['ioport_map:add: dom1 gport=300 mport=100 nr=8'] : []);
      expect(d.ioportCaps.contains(0x100, 0x107)).toBe(grants);
      d.ioportCaps.add(0x100, 0x107);
      expect(domctl(xen, ports(0x300, 0x100, 8))).toBe(0);
      expect(domctl(xen, ports(0x300, 0x100, 8, false))).toBe(0);
      expect(d.ioportCaps.contains(0x100, 0x107)).toBe(!grants);
    }
  });

  test('4.18 replaces what begins at the same port, and removes what is not there', () => {
    const { xen, d } = host({ release: '4.18' });
    domctl(xen, ports(0x300, 0x100, 8));
    expect(domctl(xen, ports(0x400, 0x100, 4))).toBe(0);
    expect(d.ioportMaps).toEqual([{ gport: 0x400, mport: 0x100, np: 4 }]);
    expect(domctl(xen, ports(0x300, 0x180, 8, false))).toBe(0);
  });

  test('ranges beyond 65535 and ports of others are refused', () => {
    const { xen } = host();
    expect(domctl(xen, ports(0xfffc, 0x100, 8))).toBe(-22);
    expect(xen.news()).toContain('ioport_map:invalid:dom1 gport=fffc mport=100 nr=8');
    expect(domctl(xen, ports(0x300, 0x100, 0))).toBe(-22);
    expect(domctl(xen, ports(0x300, 0x200, 8))).toBe(-1);
  });
});

describe('the domctl lock', () => {
  const rights: DomctlOp[] = [
    iomem(0x1000, 1),
    mapping(0xf000, 0x1000, 1),
    ports(0x300, 0x100, 8),
    { cmd: 'ioport_permission', domid: 1, firstPort: 0x100, nrPorts: 8, allow: true },
    { cmd: 'irq_permission', domid: 1, pirq: 17, allow: true },
    { cmd: 'bind_pt_irq', domid: 1, machineIrq: 17, irqType: 'pci' },
    { cmd: 'unbind_pt_irq', domid: 1, machineIrq: 17, irqType: 'pci' },
    { cmd: 'get_device_group', domid: 1, machineSbdf: sbdf(0, 0, 2, 0), maxSdevs: 1 },
    { cmd: 'getdomaininfo', domid: 1 },
  ];

  // @xen common/domctl.c do_domctl: "sub-ops not requiring the domctl lock", in 4.17.7 and the newest
  test.each([
    ['4.17', false],
    ['4.17.0', true],
    ['4.18', true],
    ['4.23', false],
  ] as const)('%s takes it for rights and questions: %s; for devices always', (release, taken) => {
    for (const op of [...rights, { cmd: 'pausedomain', domid: 1 } as const]) {
      const { xen } = host({ release });
      let held = 0;
      xen.events.attach((e) => {
        if (e.kind === 'lock' && e.lock === 'domctl_lock' && e.action === 'acquire') held += 1;
      });
      domctl(xen, op);
      expect([op.cmd, held > 0]).toEqual([op.cmd, taken || op.cmd === 'pausedomain']);
    }
  });
});

// @xen common/domctl.c iocaps_double_lock, newest: the caller's rights are read, those of the domain read or written
test.each([
  [iomem(0x1000, 1), 'rw'],
  [{ cmd: 'ioport_permission', domid: 1, firstPort: 0x100, nrPorts: 8, allow: true }, 'rw'],
  [{ cmd: 'irq_permission', domid: 1, pirq: 17, allow: true }, 'rw'],
  [mapping(0xf000, 0x1000, 1), 'rr'],
  [ports(0x300, 0x100, 8), 'rr'],
  [{ cmd: 'bind_pt_irq', domid: 1, machineIrq: 17, irqType: 'pci' }, 'r-'],
  [{ cmd: 'unbind_pt_irq', domid: 1, machineIrq: 17, irqType: 'pci' }, 'r-'],
] as [DomctlOp, string][])("$0.cmd locks dom0's rights and the guest's: %s", (op, modes) => {
  const { xen, d } = host({ release: '4.23' });
  const locks = [xen.hwdom.capsLock!, d.capsLock!];
  const seen: string[] = [];
  xen.events.attach((e) => {
    if (e.kind !== 'lock' || !e.lock.endsWith('caps_lock')) return;
    const held = locks.map((l) =>
      l.writeHeldByCurrent() ? 'w' : l.readers.includes(xen.cpus.current) ? 'r' : '-',
    );
    seen.push(held.join(''));
  });
  domctl(xen, op);
  const most = modes.endsWith('-') ? ['r-'] : ['r-', modes, 'r-'];
  expect(seen.slice(0, most.length)).toEqual(most);
});

describe('domains', () => {
  const create = (more: Partial<CreateDomain['flags']> & { maxVcpus?: number; domid?: number } = {}) => {
    const { maxVcpus = 1, domid = 0, ...flags } = more;
    const op: CreateDomain = {
      cmd: 'createdomain',
      domid,
      flags: { hvm: true, hap: true, iommu: true, ...flags },
      iommuNoSharept: false,
      maxVcpus,
      handle: 'h',
    };
    return op;
  };

  test('ids are dealt in turn, or as asked for while free', () => {
    const xen = makeXen();
    const dealt = [0, 0, 7, 0, 7].map((domid) => {
      const op = create({ domid });
      const rc = domctl(xen, op);
      return rc === 0 ? op.domid : rc;
    });
    expect(dealt).toEqual([1, 2, 7, 3, -17]);
    expect(domctl(xen, { cmd: 'destroydomain', domid: 2 })).toBe(0);
    const next = create();
    domctl(xen, next);
    expect(next.domid).toBe(4);
  });

  test.each([
    [{ maxVcpus: 0 }, 'No vCPUS'],
    [{ hvm: false }, 'HAP requested for non-HVM guest'],
  ])('%j is refused: %s', (more, line) => {
    const xen = makeXen();
    expect(domctl(xen, create(more))).toBe(-22);
    expect(xen.news()).toContain(line);
    expect([...xen.domains.keys()]).toEqual([0]);
  });

  test('an IOMMU that is not there cannot be had', () => {
    const xen = makeXen({ driver: false });
    expect(domctl(xen, create())).toBe(-22);
    expect(xen.news()).toContain('IOMMU requested but not available');
  });

  test('a failed allocation leaves nothing behind', () => {
    const xen = makeXen();
    const free = xen.heap.freeFrames;
    xen.faults.failNth(1, 'alloc');
    expect(domctl(xen, create())).toBe(-12);
    xen.faults.disarm();
    expect([xen.heap.freeFrames, xen.domains.size]).toEqual([free, 1]);
  });

  test('pauses of the toolstack are counted up to 255', () => {
    const xen = makeXen();
    domctl(xen, create());
    const pause = (): number => domctl(xen, { cmd: 'pausedomain', domid: 1 });
    const unpause = (): number => domctl(xen, { cmd: 'unpausedomain', domid: 1 });
    expect([unpause(), unpause()]).toEqual([0, -22]);
    for (let i = 0; i < 255; i++) expect(pause()).toBe(0);
    expect(pause()).toBe(-75);
    expect(domctl(xen, { cmd: 'pausedomain', domid: 0 })).toBe(-22);
  });

  test('a domain that has shut down is not shown as paused', () => {
    const xen = makeXen();
    domctl(xen, create());
    domctl(xen, { cmd: 'unpausedomain', domid: 1 });
    domainShutdown(xen, xen.domains.get(1)!, 1);
    const op: DomctlOp = { cmd: 'getdomaininfo', domid: 1 };
    expect(domctl(xen, op)).toBe(0);
    expect(op.info).toMatchObject({
      shutdownReason: 1,
      flags: { paused: false, shutdown: true, blocked: false, running: false, dying: false },
    });
  });

  test('an id without a domain: the next one before 4.18, -3 since', () => {
    for (const [release, rc] of [
      ['4.17', 0],
      ['4.18', -3],
    ] as const) {
      const xen = makeXen({ release });
      xen.guest(5);
      const op: DomctlOp = { cmd: 'getdomaininfo', domid: 3 };
      expect(domctl(xen, op)).toBe(rc);
      expect(op.info?.domid).toBe(rc === 0 ? 5 : undefined);
      expect(domctl(xen, { cmd: 'getdomaininfo', domid: 6 })).toBe(-3);
      expect(domctl(xen, { cmd: 'getdomaininfo', domid: 0x7ff1 })).toBe(rc === 0 ? -22 : -3);
    }
  });

  test('vCPUs are as many as were asked for at creation', () => {
    const xen = makeXen();
    domctl(xen, create({ maxVcpus: 4 }));
    expect(domctl(xen, { cmd: 'max_vcpus', domid: 1, max: 4 })).toBe(0);
    expect(domctl(xen, { cmd: 'max_vcpus', domid: 1, max: 5 })).toBe(-22);
    expect(domctl(xen, { cmd: 'max_vcpus', domid: 9, max: 4 })).toBe(-3);
  });

  test('death gives everything back; oneself cannot be destroyed', () => {
    const xen = makeXen();
    const free = xen.heap.freeFrames;
    domctl(xen, create());
    const d = xen.domains.get(1)!;
    expect(domctl(xen, { cmd: 'destroydomain', domid: 0 })).toBe(-22);
    expect(domctl(xen, { cmd: 'destroydomain', domid: 1 })).toBe(0);
    expect([d.dying, xen.heap.freeFrames, xen.domains.has(1)]).toEqual([2, free, false]);
    expect(domctl(xen, { cmd: 'destroydomain', domid: 1 })).toBe(-3);
  });
});
