/**
 * Context entries as Xen 4.18.3 writes and flushes them, seen through DMAs and through what the unit was told.
 * Expected values: drivers/passthrough/vtd/iommu.c, and the recordings of a QEMU board (descriptors, entries).
 */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { QEMU_CAP_CM, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import { at, hostWithGuest, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

const READ = 6;
const NOT_PRESENT = 2;

/** 09:01.0 and 09:02.0 behind a PCIe-to-PCI bridge at 08:00.0 (or a legacy one), which is behind port 00:05.0. */
function conventional(bridgeType: number = PDEV_TYPE.PCIE2PCI_BRIDGE, o: VtdHostOptions = {}) {
  const h = new VtdHost(o);
  h.s.addPdev(at(0, 5), PDEV_TYPE.PCIE_BRIDGE);
  h.s.addPdev(at(8, 0), bridgeType as 3);
  const first = h.s.addPdev(at(9, 1), PDEV_TYPE.PCI);
  const second = h.s.addPdev(at(9, 2), PDEV_TYPE.PCI);
  // @xen bus2bridge holds conventional bridges only: the walk ends at 08:00.0.
  h.s.bus2bridge.set(9, { bus: 8, devfn: 0 });
  h.boot();
  return { h, first, second, d1: h.domain(1), d2: h.domain(2) };
}

describe('an endpoint', () => {
  test("FT-C01 an assigned endpoint's DMA goes through the guest's table under the guest's id", () => {
    const { h, pdev, d1 } = hostWithGuest();
    expect(h.entry(2, 0)).toMatchObject({ p: 1, did: 0, aw: 2, tt: 0 });
    expect(h.assign(d1, pdev)).toBe(0);
    expect(h.entry(2, 0)).toEqual({ p: 1, root: d1.iommu.pgdMfn, aw: 2, tt: 0, did: 1 });
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x4_0000);
    expect(h.dma(2, 0, 0, 0x101, false)).toBe(-READ);
    expect(pdev.domain).toBe(d1);
    expect([h.s.hwdom.pdevList.size, d1.pdevList.size]).toEqual([0, 1]);
  });

  test('FT-C01 phantom functions translate like the primary and do not move it', () => {
    const { h, pdev, d1 } = hostWithGuest();
    expect(h.assign(d1, pdev, 1)).toBe(0);
    expect(h.dma(2, 0, 1, 0x100)).toBe(0x4_0000);
    expect(pdev.domain).toBe(h.s.hwdom);
    expect(h.dma(2, 0, 0, 0x100)).toBe(-5);
  });

  test('FT-C05 a device without unit is refused with -ENODEV', () => {
    const { h, d1 } = hostWithGuest();
    const other = h.s.addPdev(0x1_0300, PDEV_TYPE.PCIE_ENDPOINT);
    expect(h.assign(d1, other)).toBe(E.NODEV);
    expect(other.domain).toBe(h.s.hwdom);
  });

  test('a device of unknown kind is refused with -EINVAL, whether mapped or unmapped', () => {
    const { h, d1 } = hostWithGuest();
    const odd = h.s.addPdev(at(3, 0), PDEV_TYPE.UNKNOWN);
    expect(h.assign(d1, odd)).toBe(E.INVAL);
    expect(h.assign(h.s.domIo, odd)).toBe(E.INVAL);
  });
});

describe('a host bridge', () => {
  const bridge = (scratch: boolean) => {
    const h = new VtdHost({ opts: { quarantine: scratch ? 'scratch-page' : 'basic', debug: true } });
    const pdev = h.s.addPdev(at(0, 0), PDEV_TYPE.PCI_HOST_BRIDGE);
    h.boot();
    return { h, pdev, d1: h.domain(1) };
  };
  test('FT-C04 a host bridge cannot go to a guest: -EPERM', () => {
    const { h, pdev, d1 } = bridge(false);
    expect(h.s.console).toContain('[VT-D]d0:Hostbridge: skip 0000:00:00.0 map');
    expect(h.assign(d1, pdev)).toBe(E.PERM);
    expect(pdev.domain).toBe(h.s.hwdom);
  });
  test('FT-C04 to d[IO] it goes in basic mode, with nothing written or flushed', () => {
    const { h, pdev } = bridge(false);
    h.s.record();
    expect(h.quarantine(pdev)).toBe(0);
    expect(h.assign(h.s.domIo, pdev)).toBe(0);
    expect(h.descriptors()).toEqual([]);
    expect(h.s.console.at(-1)).toBe('[VT-D]d0:Hostbridge: skip 0000:00:00.0 unmap');
  });
  test('FT-C04 to d[IO] it is refused with scratch pages: -EPERM', () => {
    const { h, pdev } = bridge(true);
    expect(h.quarantine(pdev, true)).toBe(0);
    expect(h.assign(h.s.domIo, pdev)).toBe(E.PERM);
  });
});

describe('conventional PCI', () => {
  test('FT-C02 behind a PCIe-to-PCI bridge three ids carry the root: own, bridge, (secondary bus, 0, 0)', () => {
    const { h, first, d1 } = conventional();
    h.map(d1, 0x100, 0x4_0000);
    expect(h.assign(d1, first)).toBe(0);
    for (const [bus, dev] of [
      [9, 1],
      [8, 0],
      [9, 0],
    ] as const) {
      expect(h.dma(bus, dev, 0, 0x100)).toBe(0x4_0000);
      expect(h.entry(bus, dev << 3).did).toBe(1);
    }
    expect(h.entry(9, 2 << 3).did).toBe(0);
  });

  test('FT-C02 behind a legacy bridge (secondary bus, 0, 0) is left alone', () => {
    const { h, first, d1 } = conventional(PDEV_TYPE.LEGACY_PCI_BRIDGE);
    expect(h.assign(d1, first)).toBe(0);
    expect(h.entry(8, 0).did).toBe(1);
    expect(h.entry(9, 0).p).toBe(0);
  });

  /** 0a:01.0 behind 09:03.0 behind the PCIe-to-PCI bridge 08:00.0, and a device at 09:00.0 itself. */
  function nested() {
    const x = conventional();
    const deep = x.h.s.addPdev(at(10, 1), PDEV_TYPE.PCI);
    const corner = x.h.s.addPdev(at(9, 0), PDEV_TYPE.PCI);
    x.h.s.bus2bridge.set(10, { bus: 9, devfn: 0x18 });
    for (const p of [deep, corner]) {
      expect(x.h.locked(() => runAlone(x.h.driver.addDevice(p.devfn, p)))).toBe(0);
    }
    return { ...x, deep, corner };
  }

  test('FT-C02 behind two bridges it is the topmost whose id, and whose secondary bus, carry the root', () => {
    const { h, deep, d1 } = nested();
    expect(h.assign(d1, deep)).toBe(0);
    expect([h.entry(10, 8), h.entry(8, 0), h.entry(9, 0)].map((e) => e.did)).toEqual([1, 1, 1]);
    expect([h.entry(9, 0x18), h.entry(10, 0)].map((e) => e.p)).toEqual([0, 0]);
  });

  test('FT-C02 a function that sits at (secondary bus, 0, 0) is mapped once, and its bridge', () => {
    const { h, corner, d1 } = nested();
    h.s.record();
    expect(h.assign(d1, corner)).toBe(0);
    expect([h.entry(9, 0), h.entry(8, 0)].map((e) => e.did)).toEqual([1, 1]);
    expect(h.descriptors()).toEqual(['90000000031 0', 'e2 0', '80000000031 0', 'e2 0']);
  });

  test('FT-C02 the aliases follow the last map or unmap of any sibling', () => {
    const { h, first, second, d1, d2 } = conventional();
    h.assign(d1, first);
    h.assign(d2, second);
    expect([h.entry(8, 0).did, h.entry(9, 0).did]).toEqual([2, 2]);
    expect(h.entry(9, 1 << 3).did).toBe(1);
    h.reassign(d2, h.s.domIo, second);
    expect([h.entry(8, 0).p, h.entry(9, 0).p]).toEqual([0, 0]);
    expect(h.entry(9, 1 << 3).did).toBe(1);
  });

  test('FT-C10 own id, bridge and alias are flushed in this order, each by device and then by domain', () => {
    const { h, first } = conventional();
    h.s.record();
    expect(h.assign(h.s.domIo, first)).toBe(0);
    expect(h.descriptors()).toEqual([
      '90800000031 0',
      'e2 0',
      '80000000031 0',
      'e2 0',
      '90000000031 0',
      'e2 0',
    ]);
  });

  const withRmrr: VtdHostOptions = {
    extraRanges: [{ start: 0x7_ffe0, frames: 1, sbdfs: [at(9, 1)] }],
    prepare: (s) => s.addFunction(at(9, 1)),
  };
  test('FT-C03 an alias cannot follow a device with reserved memory: -EOPNOTSUPP, owner unchanged', () => {
    const { h, first, d1 } = conventional(PDEV_TYPE.PCIE2PCI_BRIDGE, withRmrr);
    expect(h.assign(d1, first)).toBe(E.OPNOTSUPP);
    expect(first.domain).toBe(h.s.hwdom);
    expect(h.entry(9, 1 << 3).did).toBe(0);
  });
  test('FT-C03 V1: releases undo the wrong id and leave the own entry on the new domain', () => {
    const { h, first, d1 } = conventional(PDEV_TYPE.PCIE2PCI_BRIDGE, {
      ...withRmrr,
      seams: { vtdAliasUndoDevfn: (_own, bridge) => bridge },
    });
    expect(h.assign(d1, first)).toBe(E.OPNOTSUPP);
    expect(first.domain).toBe(h.s.hwdom);
    expect(h.entry(9, 1 << 3).did).toBe(1);
  });

  test('a loop of bridges gives -ENXIO on assignment and crashes a guest on release', () => {
    const { h, first, d1 } = conventional();
    h.assign(d1, first);
    h.s.bus2bridge.set(8, { bus: 9, devfn: 0 });
    expect(h.reassign(d1, h.s.hwdom, first)).toBe(E.NXIO);
    expect(h.reassign(d1, h.s.domIo, first)).toBe(0);
    expect(d1.crashed).toBe('vtd/iommu.c domain_context_unmap');
  });
});

describe('flushing', () => {
  test('FT-C10 a replaced entry is flushed by device, then the old id by domain; the new owner meets nothing stale', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.map(h.s.hwdom, 0x100, 0x5_0000);
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x5_0000);
    h.s.record();
    h.assign(d1, pdev);
    expect(h.descriptors()).toEqual(['20000000031 0', 'e2 0']);
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x4_0000);
    h.s.log.length = 0;
    h.reassign(d1, h.s.hwdom, pdev);
    expect(h.descriptors()).toEqual(['20000010031 0', '100e2 0']);
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x5_0000);
  });

  test('FT-C11 an entry that was absent is not flushed', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.assign(h.s.domIo, pdev);
    h.s.record();
    expect(h.assign(d1, pdev)).toBe(0);
    expect(h.descriptors()).toEqual([]);
  });

  test('FT-C11 FT-C17 with caching mode it is flushed under id 0, and ids are complements', () => {
    const { h, pdev, d1 } = hostWithGuest({ cap: QEMU_CAP_CM });
    expect(h.entry(2, 0).did).toBe(0xffff);
    h.s.record();
    h.assign(h.s.domIo, pdev);
    expect(h.descriptors()).toEqual(['200ffff0031 0', 'ffff00e2 0']);
    h.s.log.length = 0;
    h.assign(d1, pdev);
    expect(h.descriptors()).toEqual(['20000000031 0', 'e2 0']);
    expect(h.entry(2, 0).did).toBe(0xfffe);
    expect(h.driver.vtd.drhds[0]!.iommu!.pseudoDomids!.test(0x7fff)).toBe(true);
  });

  test('FT-C12 a unit that needs it gets its write buffer flushed when nothing else was', () => {
    const { h, pdev, d1 } = hostWithGuest({ cap: [0x222f_0616, 0x00d2_008c] });
    h.assign(h.s.domIo, pdev);
    h.s.record();
    h.assign(d1, pdev);
    // WBF beside what GSTS shows: TES, RTPS, QIES, IRES, IRTPS.
    expect(h.registerWrites()).toEqual(['18=cf000000']);
    expect(h.descriptors()).toEqual([]);
    // What was flushed needs no more.
    h.s.log.length = 0;
    h.reassign(d1, h.s.hwdom, pdev);
    expect([h.registerWrites(), h.descriptors().length]).toEqual([[], 2]);
  });

  test('a flush that fails puts the previous owner back', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.s.faults.failNth(1, 'flush');
    expect(h.assign(d1, pdev)).toBe(E.IO);
    expect(h.entry(2, 0)).toMatchObject({ p: 1, did: 0, root: h.s.hwdom.iommu.pgdMfn });
    expect(pdev.domain).toBe(h.s.hwdom);
    expect(h.dma(2, 0, 0, 0x100)).toBe(-5);
    // The unit is none of the guest's again, so that its flushes go past it.
    expect(d1.iommu.uses(0)).toBe(false);
  });

  test('a flush that fails on the way out of quarantine leaves no entry', () => {
    const { h, pdev, d1 } = hostWithGuest({ cap: QEMU_CAP_CM });
    h.assign(h.s.domIo, pdev);
    h.s.faults.failNth(1, 'flush');
    expect(h.assign(d1, pdev)).toBe(E.IO);
    expect([h.entry(2, 0).p, d1.iommu.uses(0), pdev.domain]).toEqual([0, false, h.s.domIo]);
  });

  test('an entry of a conventional device, its bridge or its alias that cannot be flushed keeps the id', () => {
    const kept = [1, 2, 3, 4, 5, 6].map((n) => {
      const { h, first, d1 } = conventional();
      h.assign(d1, first);
      h.s.faults.failNth(n, 'flush');
      expect(h.reassign(d1, h.s.domIo, first)).toBe(0);
      expect([h.entry(9, 8).p, h.entry(8, 0).p, h.entry(9, 0).p]).toEqual([0, 0, 0]);
      return [d1.crashed !== undefined, d1.iommu.uses(0)];
    });
    expect(kept).toEqual(Array(6).fill([true, true]));
  });

  test('a flush that fails on release crashes a living guest and is only reported for a dying one', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.assign(d1, pdev);
    h.s.faults.failNth(1, 'flush');
    expect(h.reassign(d1, h.s.domIo, pdev)).toBe(0);
    expect(d1.crashed).toBe('vtd/iommu.c domain_context_unmap_one');

    const other = hostWithGuest();
    other.h.assign(other.d1, other.pdev);
    other.d1.isDying = true;
    other.h.s.faults.failNth(1, 'flush');
    expect(other.h.reassign(other.d1, other.h.s.domIo, other.pdev)).toBe(0);
    expect(other.h.s.console).toContain('d1: error -5 unmapping 0000:02:00.0');
    expect(other.d1.crashed).toBeUndefined();
  });
});

describe('how an entry is written', () => {
  /** Entry states that hardware could have met, as present bits and ids. */
  const states = (h: VtdHost): string[] =>
    h.s.log.flatMap((e) =>
      e.kind === 'entry' && e.table === 'context'
        ? [`${e.after[0]! & 1} ${(e.after[2]! >>> 8) & 0xffff}`]
        : [],
    );

  test('FT-C06 with CMPXCHG16B no step of a reassignment shows an absent entry', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.s.record();
    h.assign(d1, pdev);
    h.reassign(d1, h.s.hwdom, pdev);
    expect(states(h)).toEqual(['1 1', '1 0']);
  });

  test('FT-C06 to and from basic quarantine the entry is absent, by one change each', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.s.record();
    h.assign(h.s.domIo, pdev);
    h.assign(d1, pdev);
    expect(states(h)).toEqual(['0 0', '1 1']);
  });

  test('FT-C06 without it the entry is absent for a moment', () => {
    const { h, pdev, d1 } = hostWithGuest({ cpu: { cx16: false }, seams: { vtdRequiresCx16: () => false } });
    h.s.record();
    expect(h.assign(d1, pdev)).toBe(0);
    expect(states(h)).toEqual(['0 0', '0 1', '1 1']);
  });

  test('FT-C06 with reserved memory the table is switched before the id, with a warning when others share it', () => {
    const { h, pdev, d1 } = hostWithGuest({
      cpu: { cx16: false },
      seams: { vtdRequiresCx16: () => false },
      extraRanges: [{ start: 0x7_ffe0, frames: 1, sbdfs: [at(2, 0)] }],
      prepare: (s) => s.addFunction(at(2, 0)),
    });
    h.s.addPdev(at(3, 0), PDEV_TYPE.PCIE_ENDPOINT);
    h.s.record();
    expect(h.assign(d1, pdev)).toBe(0);
    expect(states(h)).toEqual(['1 0', '1 1']);
    expect(h.s.console).toContain('[VT-D] 0000:02:00.0: reassignment may cause d0 data corruption');
  });

  test('FT-C20 an entry that changed behind our back is left alone: -EILSEQ and a line', () => {
    const { h, pdev, d1 } = hostWithGuest();
    const root = h.s.hwdom.iommu.pgdMfn;
    h.s.faults.failNth(1, 'cmpxchg');
    expect(h.assign(d1, pdev)).toBe(E.ILSEQ);
    const entry = `0000000000000002_${(root * 4096 + 1).toString(16).padStart(16, '0')}`;
    expect(h.s.console.at(-1)).toBe(`0000:02:00.0: unexpected context entry ${entry} (expected ${entry})`);
    expect(h.entry(2, 0).did).toBe(0);
    expect(pdev.domain).toBe(h.s.hwdom);
  });

  test('FT-C20 a real change during the update is noticed too', () => {
    const { h, pdev, d1 } = hostWithGuest();
    const table = h.contextTable(2);
    // While Xen makes the guest's table, somebody sets a bit of the entry.
    d1.iommu.pgdMfn = 0;
    const alloc = h.s.allocPgtable.bind(h.s);
    h.s.allocPgtable = (d) => {
      h.s.ram.write32(table * 4096 + 8, h.s.ram.read32(table * 4096 + 8) | 0x40);
      return alloc(d);
    };
    expect(h.assign(d1, pdev)).toBe(E.ILSEQ);
    expect(h.s.console.at(-1)).toMatch(
      /unexpected context entry 0000000000000042_.* \(expected 0000000000000002_/,
    );
  });

  test('an entry with the id of nobody gives -ESRCH', () => {
    const { h, pdev, d1 } = hostWithGuest();
    h.s.domains.delete(0);
    expect(h.assign(d1, pdev)).toBe(E.SRCH);
  });
});

describe('domain ids', () => {
  /** ND 0: sixteen ids. */
  const narrow: VtdHostOptions = { cap: [0x222f_0600, 0x00d2_008c], opts: { quarantine: 'none' } };

  test('FT-C16 sixteen ids serve dom0 and fifteen guests; the next gets -EBUSY until one is free again', () => {
    const { h } = hostWithGuest(narrow);
    const pdevs = Array.from({ length: 16 }, (_, i) => h.endpoint(at(4, i)));
    for (const p of pdevs) expect(h.locked(() => runAlone(h.driver.addDevice(p.devfn, p)))).toBe(0);
    const guests = pdevs.map((_, i) => h.domain(i + 10));
    for (let i = 0; i < 15; i++) expect(h.assign(guests[i]!, pdevs[i]!)).toBe(0);
    expect(h.entry(4, 14 << 3).did).toBe(15);
    expect(h.assign(guests[15]!, pdevs[15]!)).toBe(E.BUSY);
    expect(h.entry(4, 15 << 3).did).toBe(0);
    h.reassign(guests[4]!, h.s.hwdom, pdevs[4]!);
    expect(h.assign(guests[15]!, pdevs[15]!)).toBe(0);
    expect(h.entry(4, 15 << 3).did).toBe(5);
  });

  test('FT-C16 an id is kept while another device of the domain is behind the unit', () => {
    const { h, pdev } = hostWithGuest(narrow);
    const other = h.endpoint(at(3, 0));
    h.locked(() => runAlone(h.driver.addDevice(other.devfn, other)));
    const d = h.domain(7);
    h.assign(d, pdev);
    h.assign(d, other);
    h.reassign(d, h.s.hwdom, pdev);
    expect(d.iommu.uses(0)).toBe(true);
    expect(h.entry(3, 0).did).toBe(1);
    h.reassign(d, h.s.hwdom, other);
    expect(d.iommu.uses(0)).toBe(false);
    expect(h.driver.vtd.drhds[0]!.iommu!.domidMap![1]).toBe(-1);
  });

  test('FT-C16 an id is free again when the last device went to quarantine, with its phantoms before it', () => {
    const { h, pdev } = hostWithGuest({ ...narrow, opts: { quarantine: 'basic' } });
    const other = h.endpoint(at(3, 0));
    h.locked(() => runAlone(h.driver.addDevice(other.devfn, other)));
    const d = h.domain(7);
    const free = (): number => h.driver.vtd.drhds[0]!.iommu!.domidMap!.indexOf(-1);
    const before = free();
    for (const fn of [0, 2, 4]) expect(h.assign(d, pdev, fn)).toBe(0);
    expect([d.iommu.uses(0), free()]).toEqual([true, before + 1]);
    for (const fn of [2, 4]) h.reassign(d, h.s.domIo, pdev, fn);
    expect([d.iommu.uses(0), free()]).toEqual([true, before + 1]);
    h.reassign(d, h.s.domIo, pdev);
    expect([d.iommu.uses(0), free()]).toEqual([false, before]);
  });

  test("FT-C16 dom0 keeps its id for devices that are hidden: they belong to d[XEN], their entries are dom0's", () => {
    const idLeft = (hidden: boolean): number[] => {
      const { h, pdev } = hostWithGuest(narrow);
      const other = h.endpoint(at(3, 0));
      h.locked(() => runAlone(h.driver.addDevice(other.devfn, other)));
      h.s.hwdom.pdevList.remove(other);
      if (hidden) h.s.domXen.pdevList.add(other);
      h.assign(h.domain(7), pdev);
      return [h.s.hwdom.iommu.uses(0) ? 1 : 0, h.driver.vtd.drhds[0]!.iommu!.domidMap!.indexOf(0)];
    };
    expect([idLeft(true), idLeft(false)]).toEqual([
      [1, 0],
      [0, -1],
    ]);
  });

  test('FT-C17 a narrow unit in caching mode never deals id 0', () => {
    const { h, pdev, d1 } = hostWithGuest({ ...narrow, cap: [0x222f_0680, 0x00d2_008c] });
    expect(h.entry(2, 0).did).toBe(1);
    h.assign(d1, pdev);
    expect(h.entry(2, 0).did).toBe(2);
  });
});

describe("dom0's own translation", () => {
  test('FT-C21 passthrough gives dom0 type 2 and no table; a guest still gets one', () => {
    const ecap = [QEMU_ECAP[0] | 0x40, 0] as const;
    const { h, pdev, d1 } = hostWithGuest({ ecap, opts: { hwdomPassthrough: true } });
    expect(h.entry(2, 0)).toMatchObject({ p: 1, tt: 2, root: 0 });
    expect(h.s.hwdom.iommu.pgdMfn).toBe(0);
    expect(h.dma(2, 0, 0, 0x12_3456)).toBe(0x12_3456);
    expect(h.map(h.s.hwdom, 1, 1)).toBe(0);
    expect(h.s.hwdom.iommu.pgdMfn).toBe(0);
    h.assign(d1, pdev);
    expect(h.entry(2, 0).tt).toBe(0);
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x4_0000);
  });

  test('a context table without memory: -ENOMEM, or frame 0 in releases that do not look', () => {
    const { h, d1 } = hostWithGuest();
    const late = h.endpoint(at(5, 0));
    late.domain = h.s.hwdom;
    h.s.faults.failNth(1, 'alloc');
    expect(h.assign(d1, late)).toBe(E.NOMEM);
    const old = hostWithGuest({ seams: { vtdNoticesMissingContextTable: () => false } });
    const lost = old.h.endpoint(at(5, 0));
    old.h.s.faults.failNth(1, 'alloc');
    expect(old.h.assign(old.d1, lost)).toBe(0);
    expect(old.h.s.ram.read32(0) & 1).toBe(1);
    expect(old.h.dma(5, 0, 0, 0x100)).toBe(-1);
  });
});

test('FT-C07 the fault of an absent entry is reason 2', () => {
  const { h, pdev } = hostWithGuest();
  expect(h.quarantine(pdev)).toBe(0);
  expect(h.assign(h.s.domIo, pdev)).toBe(0);
  expect(h.entry(2, 0).p).toBe(0);
  expect(h.dma(2, 0, 0, 0)).toBe(-NOT_PRESENT);
});
