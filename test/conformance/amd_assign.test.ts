/** Device assignment on AMD-Vi, seen by DMAs and by device table entries. */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { E } from '../../src/base/errno.js';
import { bdfOf } from '../../src/base/sbdf.js';
import { amdFlaws } from '../../src/iommu/driver/amd/seams.js';
import { IVMD_TYPE, type Ivmd } from '../../src/iommu/format/ivrs.js';
import { DOMID } from '../../src/sim/frames.js';
import { AmdHost } from '../helpers/amd_services.js';
import { DEFAULT_ENTRIES, ivhd, sbIoapic, UNIT_BASE } from '../helpers/amd_table.js';

const R1 = { amdDisableSkipsQuarantinedSource: () => true };
const RELEASED = { ...amdFlaws, ...R1 };
/** Memory at 0x70000000 that a device must reach. */
const unity = (deviceId: number, change: Partial<Ivmd> = {}): Ivmd => ({
  kind: 'ivmd',
  type: IVMD_TYPE.ONE,
  flags: 7,
  deviceId,
  auxData: 0,
  reserved: [0, 0],
  start: 0x7000_0000,
  length: 0x2000,
  rest: new Uint8Array(0),
  ...change,
});
const withUnity = (...ids: number[]): AmdHost =>
  new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), ...ids.map((id) => unity(id))] });
const UNITY_DFN = 0x7_0001;

describe('assignment', () => {
  test('FT-D01 the entry gets the guest root and domain id, and DMA is translated', () => {
    const host = new AmdHost().boot();
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    expect(host.dma(0x200, 0x10)).toBe(0x10); // dom0: its own frame
    expect(host.assign(d, host.pdev(0x200))).toBe(0);
    expect(host.dte(0x200)[1]).toBe('0x0000000000000007');
    expect(host.dte(0x200)[0]).toBe(`0x6000000${d.iommu.rootMfn.toString(16)}603`);
    expect(host.dma(0x200, 0x10)).toBe(0x5555);
    expect(host.dma(0x200, 0x11)).toBe(-1);
    expect([host.pdev(0x200).domain, d.pdevList.first, host.dom0.pdevList.size]).toEqual([
      d,
      host.pdev(0x200),
      0,
    ]);
  });

  test('FT-D02 a device with an alias: the entry of the alias is written, its own is not touched', () => {
    const host = new AmdHost().boot([{ bdf: 0x908 }]);
    const own = host.dte(0x908);
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    host.assign(d, host.pdev(0x908));
    expect(host.dte(0x900)[1]).toBe('0x0000000000000007');
    expect(host.dma(0x900, 0x10)).toBe(0x5555);
    expect(host.dte(0x908)).toEqual(own);
    expect(host.driver.ops.getDeviceGroupId(0, 9, 8)).toBe(0x900);
  });

  test('FT-D03 a device with alias and unity map cannot be reassigned', () => {
    const host = withUnity(0x908).boot([{ bdf: 0x908 }]);
    const d = host.newDomain(7);
    const before = host.dte(0x900);
    host.opts.quarantine = 'none';
    expect(host.assign(d, host.pdev(0x908))).toBe(E.OPNOTSUPP);
    expect(host.dte(0x900)).toEqual(before);
    expect(host.pdev(0x908).domain).toBe(host.dom0);
    expect(d.iommu.identityMaps).toEqual([]);
  });

  test('FT-D04 basic quarantine leaves V=1, TV=0, IntCtl=0 and the stale root; DMA is aborted and logged', () => {
    const host = new AmdHost().boot();
    const [q0, q1, q2] = host.dte(0x200);
    host.assign(host.domIo, host.pdev(0x200));
    const after = host.dte(0x200);
    expect(after[0]).toBe(q0!.replace(/3$/, '1'));
    expect(after[1]).toBe(q1);
    expect(after[2]).toBe(q2!.replace(/^0x2/, '0x0'));
    expect(host.dma(0x200, 0x10)).toBe(-1);
    expect(host.unit.read32(0x2018)).toBe(16);
  });

  test('FT-D04 an entry that aborts lets nothing pass whatever stood there, and keeps all that is nobody’s', () => {
    const host = new AmdHost().boot();
    const base = host.ram.peek(host.unit.frame(0) + 4) * 1024;
    const at = base + (0x200 % 128) * 8;
    const words = host.ram.words;
    for (let w = 3; w < 8; w++) words[at + w] = w === 3 || w === 5 ? -1 : 0x5a5a_5a5b;
    words[at + 1] = words[at + 1]! | 0x0080_0000;
    const before = Array.from(words.subarray(at, at + 8), (w) => w >>> 0);
    host.assign(host.domIo, host.pdev(0x200));
    const after = Array.from(words.subarray(at, at + 8), (w) => w >>> 0);
    // TV; GV; SD, EX, SysMgt, SA, SE, I, IoCtl; IntCtl.
    const cleared = [2, 0x0080_0000, 0, 0x3df, 0, 0x3000_0000, 0, 0];
    expect(after).toEqual(before.map((w, i) => (w & ~cleared[i]!) >>> 0));
  });

  test.each([
    ['a release', RELEASED, 0x10],
    ['the repaired driver', {}, -1],
  ])('FT-D04 phantom functions of a device quarantined from dom0: %s', (_what, seams, reached) => {
    const host = new AmdHost({ seams }).boot([{ bdf: 0x200, stride: 4 }]);
    const pdev = host.pdev(0x200);
    host.assign(host.domIo, pdev);
    expect([host.dma(0x200, 0x10), host.dma(0x204, 0x10)]).toEqual([-1, reached]);
    const d = host.newDomain(3);
    host.map(d, 0x10, 0x5555);
    host.assign(d, pdev);
    expect([host.dma(0x200, 0x10), host.dma(0x204, 0x10)]).toEqual([0x5555, 0x5555]);
    host.deassign(d, host.domIo, pdev);
    expect([host.dma(0x200, 0x10), host.dma(0x204, 0x10)]).toEqual([-1, -1]);
  });

  test('FT-D05 a switch flushes the entry, then the pages of the previous id; from a dead entry only the entry', () => {
    const host = new AmdHost({ opts: { quarantine: 'none' } }).boot();
    const pdev = host.pdev(0x200);
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    host.dma(0x200, 0x10);
    expect(host.commands(() => host.assign(d, pdev))).toEqual(['devtab_inval 200', 'pages_inval 0']);
    host.dma(0x200, 0x10);
    expect(host.commands(() => host.deassign(d, host.domIo, pdev))).toEqual([
      'devtab_inval 200',
      'pages_inval 7',
    ]);
    expect(host.unit.cachedTranslations()).toEqual([]);
    expect(host.commands(() => host.assign(d, pdev))).toEqual(['devtab_inval 200']);
    // Again: nothing changes, nothing is flushed.
    expect(host.commands(() => host.assign(d, pdev))).toEqual([]);
  });

  test('FT-D06 a unity map that fails keeps the device, and is undone', () => {
    const host = withUnity(0x200).boot();
    const d = host.newDomain(7);
    d.iommu.identityMaps.push({ base: 0x7_0001, end: 0x7_0001, access: 'rw', count: 1 });
    expect(host.assign(d, host.pdev(0x200))).toBe(E.ADDRINUSE);
    expect(host.pdev(0x200).domain).toBe(host.dom0);
    expect([d.iommu.identityMaps.length, d.crashed]).toEqual([1, true]);
    expect(host.log.at(-1)).toBe('AMD-Vi: unity-unmap for d7/0000:02:00.0 failed (-98)');
  });

  test('FT-D06 when the entry cannot be changed the unity map goes again', () => {
    const host = withUnity(0x200).boot();
    const d = host.newDomain(7);
    host.opts.quarantine = 'none';
    host.faults.failNth(1, 'cmpxchg');
    expect(host.assign(d, host.pdev(0x200))).toBe(E.ILSEQ);
    expect([d.iommu.identityMaps, d.crashed, host.pdev(0x200).domain]).toEqual([[], false, host.dom0]);
    expect(host.log.at(-1)).toMatch(/^Dom7: unexpected DTE [0-9a-f]{16}_[0-9a-f]{16} \(expected /);
    expect(host.dma(0x200, UNITY_DFN)).toBe(UNITY_DFN);
  });

  test('a unity map follows its device, and stays in dom0', () => {
    const host = withUnity(0x200).boot();
    const pdev = host.pdev(0x200);
    const d = host.newDomain(7);
    host.assign(d, pdev);
    expect([host.dma(0x200, UNITY_DFN), d.iommu.identityMaps[0]?.count]).toEqual([UNITY_DFN, 1]);
    host.deassign(d, host.dom0, pdev);
    expect([d.iommu.identityMaps, host.dom0.iommu.identityMaps.length]).toEqual([[], 1]);
  });

  test.each([
    ['a release loses', RELEASED, [0, 0]],
    ['the repaired driver keeps', {}, [3, 3]],
  ])('%s the unity map of a device with phantom functions', (_what, seams, counts) => {
    const ids = [0x200, 0x202, 0x204, 0x206];
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), ...ids.map((id) => unity(id))], seams }).boot([
      { bdf: 0x200, stride: 2 },
    ]);
    const d = host.newDomain(7);
    host.opts.quarantine = 'none';
    host.assign(d, host.pdev(0x200));
    const count = d.iommu.identityMaps[0]?.count ?? 0;
    expect(count).toBe(counts[0] === 0 ? 1 : 4);
    host.deassign(d, host.dom0, host.pdev(0x200));
    expect(d.iommu.identityMaps).toEqual([]);
  });

  test('FT-D07 a function that the IVRS forgot uses what function 0 has, with a warning', () => {
    const host = new AmdHost({ entries: [...DEFAULT_ENTRIES, { type: 2, id: 0xa00, data: 0 }] });
    host.boot([{ bdf: 0xa00 }]);
    const pdev = host.addPdev({ bdf: 0xa03 });
    pdev.domain = host.dom0;
    host.dom0.pdevList.add(pdev);
    const lines = host.lines(() => expect(host.add(pdev)).toBe(0));
    expect(lines).toEqual(['0000:0a:00.3 not found in ACPI tables; using same IOMMU as function 0']);
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    // Said once: from then on the function is known.
    expect(host.lines(() => expect(host.assign(d, pdev)).toBe(0))).toEqual([]);
    expect(host.dma(0xa03, 0x10)).toBe(0x5555);
  });

  test('a device that no unit serves is refused with -ENODEV and a line', () => {
    const host = new AmdHost().boot();
    host.addPdev({ bdf: 0x4000 }).domain = host.dom0;
    const lines = host.lines(() => expect(host.add(host.pdev(0x4000))).toBe(E.NODEV));
    expect(lines).toEqual(['AMD-Vi: Warning: no IOMMU for 0000:40:00.0; cannot be handed to d0']);
    const d = host.newDomain(7);
    host.opts.quarantine = 'none';
    expect(host.deassign(host.dom0, d, host.pdev(0x4000))).toBe(E.NODEV);
  });
});

describe('quarantine with a scratch page', () => {
  test('all writes land on one page of the device, which reads zero when it enters again', () => {
    const host = new AmdHost({ opts: { quarantine: 'scratch-page' } }).boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
    const pdev = host.pdev(0x200);
    host.assign(host.domIo, pdev);
    const leaf = host.dma(0x200, 0);
    expect([host.dma(0x200, 0x12345), host.dma(0x200, 512 ** 3 - 1)]).toEqual([leaf, leaf]);
    expect(host.dma(0x200, 512 ** 3)).toBe(-1); // three levels
    expect(leaf).toBe(pdev.arch.leafMfn);
    expect(host.dte(0x200)[1]).toBe('0x0000000000008000');
    host.assign(host.domIo, host.pdev(0x300));
    expect(host.dma(0x300, 0)).not.toBe(leaf);
    host.ram.write32(leaf * 4096, 0x1234);
    const d = host.newDomain(7);
    host.assign(d, pdev);
    host.deassign(d, host.domIo, pdev);
    expect([host.dma(0x200, 0), host.ram.read32(leaf * 4096)]).toEqual([leaf, 0x1234]);
    host.deassign(host.domIo, host.dom0, pdev);
    host.assign(host.domIo, pdev);
    expect(host.ram.read32(leaf * 4096)).toBe(0);
  });

  test('its tables are freed with the device, and no allocation that fails leaves any behind', () => {
    const host = new AmdHost({ opts: { quarantine: 'scratch-page' } }).boot();
    const pdev = host.pdev(0x200);
    const before = host.allocated.size;
    for (let n = 1; n <= 4; n++) {
      host.faults.failNth(n);
      expect(host.assign(host.domIo, pdev)).toBe(E.NOMEM);
      host.faults.disarm();
      expect([host.allocated.size, pdev.domain]).toEqual([before, host.dom0]);
    }
    host.assign(host.domIo, pdev);
    expect(host.allocated.size).toBe(before + 4); // root, two tables, the page
    expect(host.remove(pdev)).toBe(0);
    expect(host.allocated.size).toBe(before - 1); // the interrupt table went as well
  });

  test('a device that cannot be set up has no id of quarantine, and the next one gets it', () => {
    const host = new AmdHost().boot();
    const late = host.addPdev({ bdf: 0x210, msi: 0 });
    late.domain = host.newDomain(7);
    host.faults.failNth(1); // the root of its table
    expect(host.add(late)).toBe(E.NOMEM);
    host.faults.disarm();
    expect(late.arch.pseudoDomid).toBe(DOMID.INVALID);
    const { domidMap } = host.driver.state.units[0]!;
    const taken = (): number => [0, 1, 2, 3].filter((id) => domidMap!.test(id)).length;
    const before = taken();
    expect(host.add(late)).toBe(0);
    expect(taken()).toBe(before + 1);
    expect(before).toBe(1);
  });

  test.each([
    ['leaves', RELEASED],
    ['does not leave', {}],
  ])('removing a device with phantom functions %s the others on freed tables', (_what, seams) => {
    const host = new AmdHost({ opts: { quarantine: 'scratch-page', intremap: 'off' }, seams }).boot([
      { bdf: 0x200, stride: 4 },
    ]);
    const pdev = host.pdev(0x200);
    host.assign(host.domIo, pdev);
    host.remove(pdev);
    const root = host.unit.cachedDevices();
    expect(root).toEqual([]);
    const reached = host.dma(0x200, 0x10);
    const dte = host.dte(0x200)[0]!;
    expect(dte.endsWith('3')).toBe(seams === RELEASED);
    expect(reached).toBe(-1);
  });

  test('every release frees the interrupt table of a device with phantom functions twice', () => {
    const released = new AmdHost({ seams: RELEASED }).boot([{ bdf: 0x200, stride: 4 }]);
    expect(() => released.remove(released.pdev(0x200))).toThrow(HostCrash);
    const repaired = new AmdHost().boot([{ bdf: 0x200, stride: 4 }]);
    expect(repaired.remove(repaired.pdev(0x200))).toBe(0);
  });
});

describe('dom0', () => {
  test('in passthrough mode its entries are not valid, so that DMA passes', () => {
    const host = new AmdHost({ opts: { hwdomPassthrough: true } }).boot();
    expect(host.dte(0x200)[0]!.endsWith('2')).toBe(true);
    expect(host.dma(0x200, 0x99_9999)).toBe(0x99_9999);
    const d = host.newDomain(7);
    host.assign(d, host.pdev(0x200));
    expect(host.dma(0x200, 0x99_9999)).toBe(-1);
  });

  test('a device that leaves it in passthrough mode is stopped, and the unit is told', () => {
    const host = new AmdHost({ opts: { hwdomPassthrough: true } }).boot();
    expect(host.commands(() => host.remove(host.pdev(0x200)))).toContain('devtab_inval 200');
    // V, without TV.
    expect(host.dte(0x200)[0]!.endsWith('1')).toBe(true);
    expect(host.dma(0x200, 0x99_9999)).toBe(-1);
  });

  test('a device of the old id behind another unit shares nothing', () => {
    const host = new AmdHost({
      cx16: false,
      seams: RELEASED,
      opts: { quarantine: 'none' },
      blocks: [
        ivhd([{ type: 2, id: 0x200, data: 0 }, sbIoapic]),
        ivhd([{ type: 2, id: 0x300, data: 0 }], { deviceId: 0x0003, base: UNIT_BASE + 0x10000 }),
        unity(0x200),
      ],
    }).boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
    expect(host.lines(() => host.assign(host.newDomain(7), host.pdev(0x200)))).toEqual([]);
  });

  test('without CMPXCHG16B a release warns when others share the old id', () => {
    const host = new AmdHost({ cx16: false, seams: RELEASED, opts: { quarantine: 'none' } });
    host.boot([{ bdf: 0x200 }, { bdf: 0x208 }]);
    const d = host.newDomain(7);
    // Only an entry with a unity map is changed in place then; without one it stops translating for a moment.
    expect(host.lines(() => host.assign(d, host.pdev(0x200)))).toEqual([]);
    const shared = new AmdHost({
      cx16: false,
      seams: RELEASED,
      opts: { quarantine: 'none' },
      blocks: [ivhd(DEFAULT_ENTRIES), unity(0x200)],
    }).boot([{ bdf: 0x200 }, { bdf: 0x208 }]);
    const lines = shared.lines(() => shared.assign(shared.newDomain(7), shared.pdev(0x200)));
    expect(lines).toEqual(['AMD-Vi: Warning:  0000:02:00.0: reassignment may cause d0 data corruption']);
  });

  test('newer releases refuse a CPU without CMPXCHG16B', () => {
    const host = new AmdHost({ cx16: false, seams: { amdRequiresCx16: () => true } });
    expect(() => host.boot()).toThrow(/no CMPXCHG16B support, disabling IOMMU/);
  });
});

describe('translation caches of devices', () => {
  /** An ATS capability, queue depth 8. */
  const withAts = (seams = {}): AmdHost => {
    const host = new AmdHost({ opts: { ats: true, quarantine: 'none' }, seams });
    host.configOf(0x200).set([0x0f, 0, 0, 0, 8, 0, 0, 0], 0x100);
    return host.boot();
  };
  test('ATS is enabled by the first assignment and disabled with the entry', () => {
    const host = withAts();
    expect(host.configOf(0x200)[0x107]).toBe(0x80);
    expect(host.pdev(0x200)).toMatchObject({ atsEnabled: true, atsQueueDepth: 8 });
    const d = host.newDomain(7);
    host.assign(d, host.pdev(0x200));
    const seen = host.commands(() => host.map(d, 0x10, 0x20));
    expect(seen).toEqual([]);
    expect(host.commands(() => host.unmap(d, 0x10))).toEqual(['pages_inval 7', 'iotlb_inval 200']);
    host.deassign(d, host.domIo, host.pdev(0x200));
    expect(host.configOf(0x200)[0x107]).toBe(0);
  });

  test('a queue depth of 0 means 32', () => {
    const host = new AmdHost({ opts: { ats: true, quarantine: 'none' } });
    host.configOf(0x200).set([0x0f, 0, 0, 0, 0xe0, 0, 0, 0], 0x100);
    expect(host.boot().pdev(0x200).atsQueueDepth).toBe(32);
  });

  test('a unit has those of its devices on record whose ATS it turned on, the newest first', () => {
    const host = new AmdHost({ opts: { ats: true, quarantine: 'none' } });
    const rids = [0x200, 0x300, 0x308];
    for (const rid of rids) host.configOf(rid).set([0x0f, 0, 0, 0, 8, 0, 0, 0], 0x100);
    host.boot(rids.map((bdf) => ({ bdf })));
    const d = host.newDomain(7);
    const known = () => host.driver.state.units[0]!.atsDevices.map((p) => bdfOf(p.sbdf));
    expect(known()).toEqual([0x308, 0x300, 0x200]);
    for (const rid of [0x308, 0x200]) {
      host.assign(d, host.pdev(rid));
      host.deassign(d, host.domIo, host.pdev(rid));
      expect(known()).not.toContain(rid);
    }
    host.assign(d, host.pdev(0x200));
    expect(known()).toEqual([0x200, 0x300]);
  });

  test('a device without the capability in a domain that is flushed kills Xen when `ats` is on', () => {
    const host = withAts(amdFlaws);
    host.addPdev({ bdf: 0x210 }).domain = host.dom0;
    expect(host.add(host.pdev(0x210))).toBe(0);
    host.dom0.pdevList.add(host.pdev(0x210));
    expect(() => host.unmap(host.dom0, 0x4_0010)).toThrow(HostCrash);
  });

  test.each([
    ['a release says nothing', amdFlaws, []],
    ['the repaired driver tells it', {}, ['iotlb_inval 200']],
  ])('to a device that goes from one domain to the next with ATS on: %s', (_what, seams, told) => {
    const host = withAts(seams);
    const d = host.newDomain(7);
    const seen = host.commands(() => host.assign(d, host.pdev(0x200)));
    expect(seen.filter((c) => c.startsWith('iotlb_inval'))).toEqual(told);
  });
});
