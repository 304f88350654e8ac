/** Quarantine tables and reserved memory, seen through DMAs of the quarantined device. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { DEV_RDM_RELAXED, PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { DOMID } from '../../src/sim/frames.js';
import { at, drhd, scope, UNIT_BASE, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

const NOT_PRESENT = 2;
const RMRR = 0x7_ffe0;

/** 02:00.0 (and 06:00.0) of dom0; reserved frames 7ffe0-7ffe3 for those in `who`. */
function host(mode: 'none' | 'basic' | 'scratch-page', who: number[] = [], o: VtdHostOptions = {}) {
  const h = new VtdHost({
    extraRanges: who.length === 0 ? [] : [{ start: RMRR, frames: 4, sbdfs: who }],
    prepare: (s) => {
      s.addFunction(at(2, 0));
      s.addFunction(at(6, 0));
    },
    ...o,
    opts: { quarantine: mode, ...o.opts },
  });
  const pdev = h.endpoint(at(2, 0));
  const other = h.endpoint(at(6, 0));
  h.boot();
  return { h, pdev, other, d1: h.domain(1), d2: h.domain(2) };
}
/** As assign_device() does: table first, unless the device is quarantined already. */
function toQuarantine(x: ReturnType<typeof host>, pdev = x.pdev): number {
  const { h } = x;
  const rc = h.quarantine(pdev, h.s.opts.quarantine === 'scratch-page');
  return rc !== 0 ? rc : h.assign(h.s.domIo, pdev, pdev.devfn, DEV_RDM_RELAXED);
}

describe('basic', () => {
  test('FT-C07 a quarantined device has no entry: every DMA faults with reason 2', () => {
    const x = host('basic');
    expect(toQuarantine(x)).toBe(0);
    expect(x.pdev.arch.rootMfn).toBe(0);
    expect(x.h.dma(2, 0, 0, 0x1234)).toBe(-NOT_PRESENT);
    expect(x.h.s.domIo.iommu.pgtables).toEqual([]);
  });

  test('FT-C09 with reserved memory only that is reachable, under an id of its own', () => {
    const x = host('basic', [at(2, 0)]);
    expect(toQuarantine(x)).toBe(0);
    expect(x.h.entry(2, 0)).toMatchObject({ p: 1, did: 0x8000, root: x.pdev.arch.rootMfn });
    expect(x.h.dma(2, 0, 0, RMRR + 3)).toBe(RMRR + 3);
    expect(x.h.dma(2, 0, 0, RMRR + 4)).toBe(-5);
    expect(x.h.dma(2, 0, 0, 0, false)).toBe(-6);
    expect(x.h.s.domIo.iommu.identityMaps).toEqual([]);
  });

  test('V5: going back in clears frame 0 in releases, which have no leaf to clear', () => {
    const clears = (seam: boolean): number => {
      const x = host('basic', [at(2, 0)], { seams: { vtdClearsUnsetLeaf: () => seam } });
      toQuarantine(x);
      x.h.assign(x.d1, x.pdev);
      x.h.s.ram.write32(0, 0x55);
      toQuarantine(x);
      return x.h.s.ram.read32(0);
    };
    expect(clears(true)).toBe(0);
    expect(clears(false)).toBe(0x55);
  });
});

describe('scratch page', () => {
  test('FT-C08 every address of the domain width reaches one page, which reads zero when entered again', () => {
    const x = host('scratch-page');
    expect(toQuarantine(x)).toBe(0);
    const leaf = x.pdev.arch.leafMfn;
    for (const dfn of [0, 0x1234, 0x7_ffe0, 0x8_0000_0000, 0xf_ffff_ffff]) {
      expect(x.h.dma(2, 0, 0, dfn)).toBe(leaf);
    }
    x.h.s.ram.write32(leaf * 4096 + 64, 0x1234);
    expect(x.h.assign(x.d1, x.pdev)).toBe(0);
    expect(x.h.dma(2, 0, 0, 0)).toBe(-5);
    expect(toQuarantine(x)).toBe(0);
    expect(x.pdev.arch.leafMfn).toBe(leaf);
    expect(x.h.s.ram.read32(leaf * 4096 + 64)).toBe(0);
  });

  test('FT-C08 each device has its own page, table and id', () => {
    const x = host('scratch-page');
    toQuarantine(x);
    toQuarantine(x, x.other);
    expect(x.h.dma(2, 0, 0, 1)).not.toBe(x.h.dma(6, 0, 0, 1));
    expect([x.h.entry(2, 0).did, x.h.entry(6, 0).did]).toEqual([0x8000, 0x8001]);
    // Root, a table per level below it, and the page.
    expect(x.pdev.arch.pgtables.length).toBe(5);
  });

  test('FT-C08 reserved memory stays reachable in place', () => {
    const x = host('scratch-page', [at(2, 0)]);
    toQuarantine(x);
    expect(x.h.dma(2, 0, 0, RMRR)).toBe(RMRR);
    expect(x.h.dma(2, 0, 0, RMRR + 4)).toBe(x.pdev.arch.leafMfn);
  });

  test('FT-C10 the entry is replaced in place; old id and pseudo id are flushed as recorded', () => {
    const x = host('scratch-page');
    x.h.s.record();
    toQuarantine(x);
    expect(x.h.descriptors()).toEqual(['20000000031 0', 'e2 0']);
    x.h.s.log.length = 0;
    x.h.assign(x.d1, x.pdev);
    expect(x.h.descriptors()).toEqual(['20080000031 0', '800000e2 0']);
    x.h.s.log.length = 0;
    x.h.reassign(x.d1, x.h.s.hwdom, x.pdev);
    expect(x.h.descriptors()).toEqual(['20000010031 0', '100e2 0']);
  });

  test('every allocation that can fail leaves no table and the device where it was', () => {
    for (let n = 1; n <= 5; n++) {
      const x = host('scratch-page', [at(2, 0)]);
      const free = x.h.s.heap.freeFrames;
      x.h.s.faults.failNth(n, 'alloc');
      expect(x.h.quarantine(x.pdev, true)).toBe(E.NOMEM);
      x.h.s.faults.disarm();
      expect(x.pdev.arch.rootMfn).toBe(0);
      expect(x.pdev.arch.pgtables).toEqual([]);
      x.h.s.processPendingSoftirqs();
      expect(x.h.s.heap.freeFrames).toBe(free);
      expect(toQuarantine(x)).toBe(0);
    }
  });

  test('removing the device gives table, page and id back', () => {
    const x = host('scratch-page');
    const free = x.h.s.heap.freeFrames;
    toQuarantine(x);
    expect(x.h.locked(() => runAlone(x.h.driver.removeDevice(0, x.pdev)))).toBe(0);
    expect(x.pdev.arch).toMatchObject({ rootMfn: 0, pseudoDomid: DOMID.INVALID });
    expect(x.h.s.heap.freeFrames).toBe(free);
    expect(x.h.entry(2, 0).p).toBe(0);
    expect(x.h.driver.vtd.drhds[0]!.iommu!.pseudoDomids!.test(0)).toBe(false);
  });
});

describe('pseudo ids', () => {
  test('FT-B15 they are dealt from 0x8000 on as functions are added, and none without quarantine', () => {
    const x = host('basic');
    expect([x.pdev.arch.pseudoDomid, x.other.arch.pseudoDomid]).toEqual([0x8000, 0x8001]);
    expect(host('none').pdev.arch.pseudoDomid).toBe(DOMID.INVALID);
  });

  test('FT-B15 when all are dealt, adding a device is -ENOSPC, until one is free again', () => {
    const x = host('basic');
    const map = x.h.driver.vtd.drhds[0]!.iommu!.pseudoDomids!;
    for (let idx = 0; idx <= 0x7fff; idx++) map.set(idx);
    const late = x.h.endpoint(at(7, 0));
    expect(x.h.locked(() => runAlone(x.h.driver.addDevice(0, late)))).toBe(E.NOSPC);
    map.clear(5);
    expect(x.h.locked(() => runAlone(x.h.driver.addDevice(0, late)))).toBe(0);
    expect(late.arch.pseudoDomid).toBe(0x8005);
  });

  test('FT-B15 each unit has its own, but one search for all: an id given back is not the next one dealt', () => {
    const B = UNIT_BASE + 0x1000;
    const h = new VtdHost({
      units: [{ base: UNIT_BASE }, { base: B }],
      structures: [drhd([scope(1, 6, [0, 0])], { base: B, all: false }), drhd([])],
      prepare: (s) => s.addFunction(at(6, 0)),
      opts: { quarantine: 'basic' },
    });
    const pdevs = [at(2, 0), at(6, 0), at(3, 0)].map((f) => h.endpoint(f));
    h.boot();
    const ids = (): number[] => pdevs.map((p) => p.arch.pseudoDomid);
    expect(ids()).toEqual([0x8000, 0x8001, 0x8002]);
    const [b, a] = h.driver.vtd.drhds.map((d) => d.iommu!.pseudoDomids!);
    expect([0, 1, 2].map((i) => [a!.test(i), b!.test(i)])).toEqual([
      [true, false],
      [false, true],
      [true, false],
    ]);
    const again = (pdev: (typeof pdevs)[number]): number => {
      expect(h.locked(() => runAlone(h.driver.removeDevice(0, pdev)))).toBe(0);
      expect(h.locked(() => runAlone(h.driver.addDevice(0, pdev)))).toBe(0);
      return pdev.arch.pseudoDomid;
    };
    expect([again(pdevs[0]!), again(pdevs[0]!), again(pdevs[1]!)]).toEqual([0x8003, 0x8004, 0x8005]);
    // At the end the search begins anew, at the lowest that this unit has free.
    h.driver.vtd.pseudoCursor.start = 0x7fff;
    expect([again(pdevs[0]!), again(pdevs[0]!)]).toEqual([0xffff, 0x8000]);
  });

  test('a device whose mapping fails gives its fresh id back', () => {
    const x = host('basic');
    const late = x.h.endpoint(at(7, 0));
    x.h.s.faults.failNth(1, 'alloc');
    expect(x.h.locked(() => runAlone(x.h.driver.addDevice(0, late)))).toBe(E.NOMEM);
    expect(late.arch.pseudoDomid).toBe(DOMID.INVALID);
    expect(x.h.driver.vtd.drhds[0]!.iommu!.pseudoDomids!.test(2)).toBe(false);
  });
});

describe('reserved memory', () => {
  const shared = [at(2, 0), at(6, 0)];
  test('FT-C18 shared by two devices it bars both from guests: -EPERM', () => {
    const x = host('basic', shared);
    expect(x.h.assign(x.d1, x.pdev)).toBe(E.PERM);
    expect(x.h.s.console.at(-1)).toBe(
      "[VT-D] It's disallowed to assign 0000:02:00.0 with shared RMRR at 7ffe0000 for d1.",
    );
    expect(x.pdev.domain).toBe(x.h.s.hwdom);
  });

  test('FT-C18 d[IO] is no exception, a range of one device no reason', () => {
    const x = host('basic', shared);
    expect(x.h.assign(x.h.s.domIo, x.pdev)).toBe(E.PERM);
    expect(x.h.s.console.at(-1)).toBe(
      "[VT-D] It's disallowed to assign 0000:02:00.0 with shared RMRR at 7ffe0000 for d[IO].",
    );
    const own = host('basic', [at(2, 0)]);
    expect([own.h.assign(own.d1, own.pdev), own.h.assign(own.d2, own.other)]).toEqual([0, 0]);
    expect(own.h.s.console.filter((l) => l.includes('shared RMRR'))).toEqual([]);
  });

  test('FT-C18 the relaxed flag takes the risk', () => {
    const x = host('basic', shared);
    expect(x.h.assign(x.d1, x.pdev, 0, DEV_RDM_RELAXED)).toBe(0);
    expect(x.h.s.console.at(-1)).toBe(
      "[VT-D] It's risky to assign 0000:02:00.0 with shared RMRR at 7ffe0000 for d1.",
    );
    expect(x.h.dma(2, 0, 0, RMRR)).toBe(RMRR);
    expect(x.h.assign(x.d1, x.other, 0, DEV_RDM_RELAXED)).toBe(0);
    expect(x.d1.iommu.identityMaps).toMatchObject([{ base: RMRR, end: RMRR + 3, count: 2 }]);
    x.h.reassign(x.d1, x.h.s.domIo, x.pdev);
    expect(x.d1.iommu.identityMaps).toMatchObject([{ count: 1 }]);
    expect(x.h.dma(6, 0, 0, RMRR)).toBe(RMRR);
  });

  test('FT-C19 a range that cannot be mapped keeps the device where it is', () => {
    const x = host('basic', [at(2, 0)]);
    x.h.s.faults.failNth(1, 'alloc');
    expect(x.h.assign(x.d1, x.pdev)).toBe(E.NOMEM);
    expect(x.h.s.console.at(-1)).toBe('[VT-D]d1: cannot map reserved region [7ffe0000,7ffe3fff]: -12');
    expect(x.pdev.domain).toBe(x.h.s.hwdom);
    expect(x.d1.crashed).toBeUndefined();
    expect(x.h.entry(2, 0).did).toBe(0);
  });

  test('FT-C19 with several ranges the failure of one unmaps the others', () => {
    const x = host('basic', [], {
      extraRanges: [
        { start: 0x10_0000, frames: 1, sbdfs: [at(2, 0)] },
        { start: RMRR, frames: 1, sbdfs: [at(2, 0)] },
      ],
    });
    // The newest range is mapped first, with four tables; the other one finds no memory.
    x.h.s.faults.failNth(5, 'alloc');
    expect(x.h.assign(x.d1, x.pdev)).toBe(E.NOMEM);
    expect(x.d1.iommu.identityMaps).toEqual([]);
    const out = { mfn: 0, flags: 0 };
    expect(runAlone(x.h.driver.lookupPage(x.d1, RMRR, out))).toBe(E.NOENT);
    expect(x.pdev.domain).toBe(x.h.s.hwdom);
  });

  test('FT-C19 a failing assignment takes the ranges back; failing that crashes the guest', () => {
    const x = host('basic', [at(2, 0)]);
    x.h.s.faults.failNth(1, 'cmpxchg');
    expect(x.h.assign(x.d1, x.pdev)).toBe(E.ILSEQ);
    expect(x.d1.iommu.identityMaps).toEqual([]);

    const y = host('basic', [at(2, 0)]);
    const identity = y.h.s.identityMapping.bind(y.h.s);
    y.h.s.identityMapping = (d, access, base, end, flag) =>
      identity(d, access, access === 'x' ? base + 1 : base, end, flag);
    y.h.s.faults.failNth(1, 'cmpxchg');
    expect(y.h.assign(y.d1, y.pdev)).toBe(E.ILSEQ);
    expect(y.h.s.console.at(-1)).toBe('[VT-D]d1: cannot unmap reserved region [7ffe0000,7ffe3fff]: -98');
    expect(y.d1.crashed).toBe('vtd/iommu.c intel_iommu_assign_device');
  });

  test('FT-C19 a range that cannot be taken back is an error, one that is not there is none', () => {
    const taken = (spoil: (maps: { base: number; end: number }[]) => void): number => {
      const x = host('basic', [at(2, 0)]);
      x.h.assign(x.d1, x.pdev);
      spoil(x.d1.iommu.identityMaps);
      const rc = x.h.reassign(x.d1, x.h.s.hwdom, x.pdev);
      // The device is gone from the guest in any case.
      expect(x.pdev.domain).toBe(x.h.s.hwdom);
      return rc;
    };
    expect(taken(() => {})).toBe(0);
    expect(taken((maps) => maps.splice(0))).toBe(0);
    expect(taken((maps) => void maps[0]!.end++)).toBe(E.ADDRINUSE);
  });

  test('dom0 keeps its reserved ranges, a guest loses them with the device', () => {
    const x = host('basic', [at(2, 0)]);
    expect(x.h.s.hwdom.iommu.identityMaps).toMatchObject([{ count: 1 }]);
    x.h.assign(x.d1, x.pdev);
    expect(x.h.s.hwdom.iommu.identityMaps.length).toBe(1);
    expect(x.h.dma(2, 0, 0, RMRR)).toBe(RMRR);
    x.h.reassign(x.d1, x.h.s.hwdom, x.pdev);
    expect(x.d1.iommu.identityMaps).toEqual([]);
  });
});

describe('adding and removing', () => {
  test('a device without owner is -EINVAL', () => {
    const x = host('basic');
    const late = x.h.endpoint(at(7, 0));
    late.domain = undefined;
    expect(x.h.locked(() => runAlone(x.h.driver.addDevice(0, late)))).toBe(E.INVAL);
    expect(x.h.locked(() => runAlone(x.h.driver.removeDevice(0, late)))).toBe(E.INVAL);
  });

  test('adding needs pcidevs_lock', () => {
    const x = host('basic');
    expect(() => runAlone(x.h.driver.addDevice(0, x.pdev))).toThrow('pcidevs lock is held');
    expect(() => runAlone(x.h.driver.assignDevice(x.d1, 0, x.pdev, 0))).toThrow('pcidevs lock is held');
    expect(() => runAlone(x.h.driver.quarantineInit(x.pdev, true))).toThrow('pcidevs lock is held');
  });

  test('bridges are added and removed without entries', () => {
    const x = host('basic');
    const port = x.h.s.addPdev(at(0, 4), PDEV_TYPE.PCIE_BRIDGE);
    expect(x.h.locked(() => runAlone(x.h.driver.addDevice(port.devfn, port)))).toBe(0);
    expect(x.h.entry(0, port.devfn).p).toBe(0);
    expect(x.h.locked(() => runAlone(x.h.driver.removeDevice(port.devfn, port)))).toBe(0);
  });

  test('teardown frees the id of a domain, and no flush touches a unit for it', () => {
    const x = host('none', [], { cap: [0x222f_0600, 0x00d2_008c] });
    x.h.assign(x.d1, x.pdev);
    expect(x.h.driver.vtd.drhds[0]!.iommu!.didOfDomid.has(1)).toBe(true);
    x.h.reassign(x.d1, x.h.s.hwdom, x.pdev);
    runAlone(x.h.s.freePgtables(x.d1));
    runAlone(x.h.driver.teardown(x.d1));
    expect(x.h.driver.vtd.drhds[0]!.iommu!.didOfDomid.has(1)).toBe(false);
    expect(x.d1.iommu.usesAny()).toBe(false);
  });

  test('releases with a lock per device list move the device under both, one after the other', () => {
    const x = host('none', [], { pciLock: true });
    x.h.s.record();
    x.h.assign(x.d1, x.pdev);
    const taken = x.h.s.log.flatMap((e) =>
      e.kind === 'lock' && e.lock.endsWith('pci_lock') ? [`${e.action} ${e.lock}`] : [],
    );
    expect(taken).toEqual([
      'acquire d0.pci_lock',
      'release d0.pci_lock',
      'acquire d1.pci_lock',
      'release d1.pci_lock',
    ]);
  });

  test('without interrupt remapping a guest with a device makes MSIs untrusted', () => {
    const x = host('none', [], { opts: { intremap: 'off' } });
    expect(x.h.driver.untrustedMsi).toBe(false);
    x.h.assign(x.d1, x.pdev);
    expect(x.h.driver.untrustedMsi).toBe(true);
  });

  test('the group of a device is the id of its topmost bridge', () => {
    const x = host('none');
    x.h.s.bus2bridge.set(9, { bus: 8, devfn: 0 });
    expect(x.h.driver.getDeviceGroupId(0, 9, 0x10)).toBe(0x800);
    expect(x.h.driver.getDeviceGroupId(0, 2, 0)).toBe(0x200);
    x.h.s.bus2bridge.set(8, { bus: 9, devfn: 0 });
    expect(x.h.driver.getDeviceGroupId(0, 9, 0x10)).toBe(E.NODEV);
  });
});
