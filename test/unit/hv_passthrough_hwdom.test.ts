/** The hardware domain's identity map. @xen arch_iommu_hwdom_init, iommu_unity_region_ok */
import { describe, expect, test } from 'vitest';
import { archIommuHwdomInit } from '../../src/hypervisor/passthrough/hwdom_map.js';
import { pageGetRamType, RAM_TYPE } from '../../src/hypervisor/passthrough/ram_type.js';
import { type E820Entry, IOMMUF } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { makeXen, type TestXen, type TestXenOptions } from '../helpers/xen.js';

/** The memory map of the recorded board. */
const E820: readonly E820Entry[] = [
  { start: 0, end: 0x9_fc00, type: 'usable' },
  { start: 0x9_fc00, end: 0xa_0000, type: 'reserved' },
  { start: 0xf_0000, end: 0x10_0000, type: 'reserved' },
  { start: 0x10_0000, end: 0x7ffd_8000, type: 'usable' },
  { start: 0x7ffd_8000, end: 0x8000_0000, type: 'reserved' },
  { start: 0xb000_0000, end: 0xc000_0000, type: 'reserved' },
  { start: 0xfed1_c000, end: 0xfed2_0000, type: 'reserved' },
  { start: 0xfffc_0000, end: 0x1_0000_0000, type: 'reserved' },
  { start: 0x1_0000_0000, end: 0x1_4000_0000, type: 'usable' },
  { start: 0xfd_0000_0000, end: 0x100_0000_0000, type: 'reserved' },
];

function board(o: TestXenOptions = {}): TestXen {
  const xen = makeXen({ e820: E820, ...o });
  // Where Xen's trampoline and image lay when the table was recorded.
  xen.xenRanges.add(0x8f, 0x90);
  xen.xenRanges.add(0x7fa00, 0x7fbb6);
  xen.xenRanges.add(0x7fc5b, 0x7fc71);
  xen.xenRanges.add(0x7fd72, 0x7fda6);
  xen.mmioRo.add(0xb_0000, 0xb_ffff);
  xen.mmioRo.add(0xf_ec00, 0xf_ec00);
  xen.mmioRo.add(0xf_ed00, 0xf_ed00);
  xen.hwdom.iomemCaps.add(0, 2 ** 40 - 1);
  xen.hwdom.iomemCaps.remove(0xf_ee00, 0xf_eeff);
  return xen;
}

/** Runs as `first+frames rights`, in order of address. */
function mapped(xen: TestXen): string[] {
  const runs: { s: number; n: number; rights: string }[] = [];
  for (const p of xen.vendor.pages.filter((c) => c.op === 'map').sort((a, b) => a.dfn - b.dfn)) {
    expect(p.mfn).toBe(p.dfn);
    const rights = (p.flags & IOMMUF.writable) !== 0 ? 'RW' : 'R';
    const last = runs.at(-1);
    if (last !== undefined && last.s + last.n === p.dfn && last.rights === rights) last.n += 2 ** p.order;
    else runs.push({ s: p.dfn, n: 2 ** p.order, rights });
  }
  return runs.map((r) => `${r.s.toString(16)}+${r.n.toString(16)} ${r.rights}`);
}

/** Frames that are mapped and belong to Xen, or to interrupts. */
function holes(xen: TestXen): number[] {
  const never = [...xen.xenRanges.list(), { s: 0xfee00, e: 0xfeeff }];
  const maps = xen.vendor.pages.filter((c) => c.op === 'map');
  return maps.filter((p) => never.some((r) => p.dfn <= r.e && r.s < p.dfn + 2 ** p.order)).map((p) => p.dfn);
}

/** As recorded with 4.17.7 (golden 50-debug-keys-and-slpt, slpt-dom0.json). */
const RECORDED = [
  '0+8f RW',
  '91+f RW',
  'f0+7f910 RW',
  '7fbb7+a4 RW',
  '7fc72+100 RW',
  '7fda7+259 RW',
  'b0000+10000 R',
  'fec00+1 R',
  'fed00+1 R',
  'fed1c+4 RW',
  'fffc0+40040 RW',
];

describe('arch_iommu_hwdom_init()', () => {
  const run = (o: TestXenOptions = {}): TestXen => {
    const xen = board(o);
    runAlone(archIommuHwdomInit(xen, xen.hwdom));
    return xen;
  };

  test('FT-B12 INV-I9 relaxed, 4.17: the ranges of the recording, Xen and MSI left out', () => {
    expect(mapped(run({ release: '4.17' }))).toEqual(RECORDED);
  });

  test('FT-B12 relaxed, 4.23: E820 decides above 4 GiB too', () => {
    expect(mapped(run({ release: '4.23' }))).toEqual([...RECORDED, 'fd00000+300000 RW']);
  });

  test.each(['4.18', '4.23'])('FT-B12 strict leaves RAM out, reserved ranges stay: Xen %s', (release) => {
    const runs = mapped(run({ release, opts: { hwdomStrict: true } }));
    expect(runs).toContain('fed1c+4 RW');
    expect(runs).toContain('f0+10 RW');
    expect(runs).toContain('b0000+10000 R');
    expect(runs.some((r) => r.startsWith('100+') || r.startsWith('0+'))).toBe(false);
  });

  test.each(['4.18', '4.23'])('FT-B12 no-map-reserved leaves reserved ranges out: Xen %s', (release) => {
    const runs = mapped(run({ release, opts: { hwdomReserved: 0 } }));
    expect(runs.some((r) => r.startsWith('fed1c') || r.startsWith('f0+'))).toBe(false);
    expect(runs.some((r) => r.startsWith('100+'))).toBe(true);
  });

  test.each(['4.18', '4.23'])(
    'map-inclusive adds what lies between, below 4 GiB, with a warning: Xen %s',
    (release) => {
      const xen = run({ release, opts: { hwdomInclusive: true } });
      expect(mapped(xen)).toContain('7fda7+30259 RW');
      expect(mapped(xen).some((r) => r.startsWith('fee'))).toBe(false);
      expect(holes(xen)).toEqual([]);
      expect(xen.news()[0]).toBe(
        'IOMMU inclusive mappings are deprecated and will be removed in future versions',
      );
    },
  );

  test.each(
    ['4.17', '4.18', '4.23'].flatMap((release) =>
      ([{}, { hwdomStrict: true }, { hwdomReserved: 0 }] as const).map((opts) => ({ release, opts })),
    ),
  )('FT-B12 neither Xen itself nor the address of interrupts is ever mapped: %j', ({ release, opts }) => {
    expect(holes(run({ release, opts }))).toEqual([]);
  });

  test('FT-B12 strict maps nothing but what is reserved: no frame of RAM, whoever owns it', () => {
    for (const release of ['4.17', '4.18', '4.23']) {
      const xen = run({ release, opts: { hwdomStrict: true } });
      const ram = E820.filter((e) => e.type === 'usable').map((e) => [e.start / 4096, e.end / 4096]);
      for (const p of xen.vendor.pages.filter((c) => c.op === 'map')) {
        for (const [s, e] of ram)
          expect(p.dfn + 2 ** p.order > s! && p.dfn + 1 <= Math.floor(e!)).toBe(false);
      }
    }
  });

  test('dom0 passthrough needs no table', () => {
    expect(mapped(run({ opts: { hwdomPassthrough: true } }))).toEqual([]);
  });

  test('large pages are used, so that memory of any size is mapped quickly', () => {
    const calls = run().vendor.pages.filter((p) => p.op === 'map');
    expect(calls.length).toBeLessThan(6000);
    expect(calls.some((p) => p.order === 18)).toBe(true);
  });

  test('what cannot be mapped is reported, and the rest goes on', () => {
    const xen = board();
    xen.vendor.fail('map', 0x91, -12, 1);
    runAlone(archIommuHwdomInit(xen, xen.hwdom));
    expect(xen.news()).toContain('d0: IOMMU identity mapping of [91,a0) failed: -12');
    expect(mapped(xen)).toContain('fffc0+40040 RW');
  });

  test('4.23 lists the ranges when it is talkative', () => {
    expect(
      run({ release: '4.23', opts: { verbose: true } })
        .news()
        .slice(0, 3),
    ).toEqual([
      'd0: identity mappings for IOMMU:',
      ' [0000000000, 000000008e] RW',
      ' [0000000091, 000000009f] RW',
    ]);
  });
});

describe('the memory map', () => {
  test.each([
    [0, RAM_TYPE.CONVENTIONAL],
    // Both types, and Xen takes the byte where one ends and the other begins for a hole.
    [0x9f, RAM_TYPE.CONVENTIONAL | RAM_TYPE.RESERVED | RAM_TYPE.UNKNOWN],
    [0xa0, RAM_TYPE.UNKNOWN],
    [0x7ffd7, RAM_TYPE.CONVENTIONAL],
    [0x7ffd8, RAM_TYPE.RESERVED],
    [0x80000, RAM_TYPE.UNKNOWN],
    [2 ** 30, RAM_TYPE.UNKNOWN],
  ])('frame %i is of type %i', (mfn, type) => {
    expect(pageGetRamType(E820, mfn)).toBe(type);
  });

  test('FT-C25 ranges for devices: reserved is fine, holes become so, RAM is refused', () => {
    const xen = board();
    const ok = (s: number, e: number): boolean => xen.services.unityRegionOk('IVMD', s, e);
    expect([ok(0xb0000, 0xb00ff), xen.news()]).toEqual([true, []]);
    expect(ok(0xbffff, 0xc0001)).toBe(true);
    expect(xen.news()).toEqual(['IVMD: [0xbffff000, 0xc0001000] is not (entirely) in reserved memory']);
    expect([ok(0xc0000, 0xc0001), xen.news()]).toEqual([true, []]);
    expect(ok(0x7ffd7, 0x7ffd8)).toBe(false);
    expect(xen.news()[1]).toBe("IVMD: page at 0x7ffd7 can't be converted");
  });
});
