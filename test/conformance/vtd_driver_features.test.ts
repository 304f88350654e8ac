/** What several units have in common. @xen drivers/passthrough/vtd/iommu.c vtd_setup */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { IommuOptions } from '../../src/iommu/driver/types.js';
import { QEMU_CAP, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import type { TestXen } from '../helpers/services.js';
import { at, drhd, scope, UNIT_BASE, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

const OTHER = UNIT_BASE + 0x1000;
/** ECAP: queue, device TLBs, interrupt remapping, pass-through, snoop control. CAP: posted interrupts, in the upper word. */
const [QI, DT, IR, PT, SC] = [2, 4, 8, 0x40, 0x80];
const POSTED = 1 << 27;
const FULL = QEMU_ECAP[0] | QI | DT | IR | PT | SC;
const CAP_HI = QEMU_CAP[1] | POSTED;
const [SPS_2M, SPS_1G] = [4, 8];

const WISHES: Partial<IommuOptions> = {
  snoop: true,
  hwdomPassthrough: true,
  qinval: true,
  intremap: 'full',
  intpost: true,
  hapPtShare: true,
};

/** Two units, of which the one at `which` lacks bits of ECAP and of CAP's upper word. */
function lines(which: number, ecapLacks: number, capLacks = 0, o: TestXen & VtdHostOptions = {}): string[] {
  const full = { ecap: [FULL, 0], cap: [QEMU_CAP[0], CAP_HI] } as const;
  const poor = { ecap: [FULL & ~ecapLacks, 0], cap: [QEMU_CAP[0], CAP_HI & ~capLacks] } as const;
  const h = new VtdHost({
    units: [UNIT_BASE, OTHER].map((base, i) => ({ base, ...(i === which ? poor : full) })),
    structures: [drhd([scope(1, 6, [0, 0])], { base: OTHER, all: false }), drhd([])],
    prepare: (s) => s.addFunction(at(6, 0)),
    ...o,
    opts: { ...WISHES, ...o.opts },
  });
  expect(runAlone(h.driver.setup())).toBe(0);
  return h.s.console.slice(2).map((l) => l.replace('Intel VT-d ', ''));
}
const NAMES = [
  'Snoop Control',
  'Dom0 DMA Passthrough',
  'Queued Invalidation',
  'Interrupt Remapping',
  'Posted Interrupt',
  'Shared EPT tables',
];
/** All six lines, with these features off. */
const off = (...names: string[]): string[] =>
  NAMES.map((n) => `${n} ${names.includes(n) ? 'not ' : ''}enabled.`);

describe('a feature is used when every unit has it', () => {
  test.each([0, 1])('FT-C27 what all units have is on; unit %i is no exception', (which) => {
    expect(lines(which, 0)).toEqual(off());
  });
  test.each(
    [0, 1].flatMap((which) => [
      { which, what: 'snoop control', ecap: SC, cap: 0, without: ['Snoop Control'] },
      { which, what: 'pass-through', ecap: PT, cap: 0, without: ['Dom0 DMA Passthrough'] },
      {
        which,
        what: 'a queue',
        ecap: QI,
        cap: 0,
        // Posting was decided before the queue took interrupt remapping with it.
        without: ['Queued Invalidation', 'Interrupt Remapping'],
      },
      {
        which,
        what: 'interrupt remapping',
        ecap: IR,
        cap: 0,
        without: ['Interrupt Remapping', 'Posted Interrupt'],
      },
      { which, what: 'posted interrupts', ecap: 0, cap: POSTED, without: ['Posted Interrupt'] },
      { which, what: 'pages of 1 GiB', ecap: 0, cap: SPS_1G, without: ['Shared EPT tables'] },
      { which, what: 'pages of 2 MiB', ecap: 0, cap: SPS_2M, without: ['Shared EPT tables'] },
    ]),
  )('FT-C27 unit $which without $what: off for all is $without', ({ which, ecap, cap, without }) => {
    expect(lines(which, ecap, cap)).toEqual(off(...without));
  });

  test('FT-C27 what nobody wants stays off, and takes nothing else with it', () => {
    expect(lines(0, 0, 0, { opts: { snoop: false, hwdomPassthrough: false, hapPtShare: false } })).toEqual(
      off('Snoop Control', 'Dom0 DMA Passthrough', 'Shared EPT tables'),
    );
    expect(lines(0, 0, 0, { opts: { intremap: 'off' } })).toEqual(
      off('Interrupt Remapping', 'Posted Interrupt'),
    );
    expect(lines(0, 0, 0, { opts: { qinval: false } })).toEqual(
      off('Queued Invalidation', 'Interrupt Remapping'),
    );
  });

  // EPT must not use a page size that a unit lacks; what the CPU lacks, or the user forbids it, is no obstacle.
  test.each([
    { cpu: {}, opts: { superpages: false }, lacks: 0, shared: false },
    { cpu: { hap1g: false }, opts: {}, lacks: SPS_1G, shared: true },
    { cpu: { hap1g: false }, opts: {}, lacks: SPS_2M | SPS_1G, shared: false },
    { cpu: { hap1g: false, hap2m: false }, opts: {}, lacks: SPS_2M | SPS_1G, shared: true },
    { cpu: { hap1g: false, hap2m: false }, opts: { superpages: false }, lacks: 0, shared: true },
    { cpu: { hap: false }, opts: {}, lacks: 0, shared: false },
    { cpu: { cx16: true }, opts: {}, lacks: 0, shared: true },
  ])('FT-C22 CPU $cpu, options $opts, unit without sizes $lacks: shared is $shared', (c) => {
    const got = lines(1, 0, c.lacks, { cpu: c.cpu, opts: c.opts });
    expect(got.at(-1)).toBe(`Shared EPT tables ${c.shared ? '' : 'not '}enabled.`);
  });

  test('FT-C27 posting needs CMPXCHG16B', () => {
    const seams = { vtdRequiresCx16: () => false };
    expect(lines(0, 0, 0, { cpu: { cx16: false }, seams })).toEqual(off('Posted Interrupt'));
  });
});

describe('two segments, each with a unit for everything in it', () => {
  const FAR = 0x1_0200;
  const host = (o: VtdHostOptions = {}) => {
    const h = new VtdHost({
      units: [{ base: UNIT_BASE }, { base: OTHER, segment: 1, index: 1 }],
      structures: [drhd([], { base: OTHER, seg: 1 }), drhd([])],
      ...o,
    });
    const pdevs = [at(2, 0), FAR].map((where) => h.endpoint(where));
    h.boot();
    // The unit for all of segment 0 is the last of Xen's list.
    const near = h.driver.vtd.drhds.findIndex((d) => d.address === UNIT_BASE);
    const dids = (): number[] => [near, 1 - near].map((unit) => h.entry(2, 0, unit).did);
    return { h, near: pdevs[0]!, far: pdevs[1]!, dids };
  };

  test('FT-C01 the same bus and function of two segments have an entry each, in their own unit', () => {
    const { h, near, far, dids } = host();
    const [d1, d2] = [h.domain(1), h.domain(2)];
    h.map(d1, 0x10, 0x4_0000);
    h.map(d2, 0x10, 0x5_0000);
    expect([h.assign(d1, near), h.assign(d2, far), dids()]).toEqual([0, 0, [1, 2]]);
    expect([h.dma(2, 0, 0, 0x10, true, 0), h.dma(2, 0, 0, 0x10, true, 1)]).toEqual([0x4_0000, 0x5_0000]);
    expect(h.reassign(d1, h.s.hwdom, near)).toBe(0);
    expect(dids()).toEqual([0, 2]);
  });

  test('FT-C18 a reserved range is for the devices of its own segment', () => {
    const range = { start: 0x7_ffe0, frames: 1, sbdfs: [FAR, FAR + 0x100] };
    const { h, near, far } = host({
      extraRanges: [range],
      prepare: (s) => {
        for (const where of range.sbdfs) s.addFunction(where);
      },
    });
    expect([h.assign(h.domain(1), near), h.assign(h.domain(2), far)]).toEqual([0, E.PERM]);
    expect(h.s.console.at(-1)).toBe(
      "[VT-D] It's disallowed to assign 0001:02:00.0 with shared RMRR at 7ffe0000 for d2.",
    );
  });

  test('FT-C28 a fault names the segment of its unit', () => {
    const { h } = host();
    h.s.console.length = 0;
    h.dma(2, 0, 0, 0x77, true, 1);
    runAlone(h.driver.pollFaults());
    expect(h.s.console[0]).toBe('[VT-D]DMAR:[DMA Write] Request device [0001:02:00.0] fault addr 77000');
    expect(h.s.charged).toEqual(['0001:02:00.0']);
  });
});

describe('Sandy Bridge', () => {
  test.each([
    ['intel', 42, false],
    ['intel', 45, false],
    ['intel', 43, true],
    ['amd', 42, true],
  ] as const)('a unit of %s model %s that claims superpages has them: %s', (vendor, intelModel, has) => {
    const h = new VtdHost({
      cpu: { vendor, hap: true, hap2m: true, intelModel },
      opts: { hapPtShare: true, superpages: true },
    });
    runAlone(h.driver.setup());
    const sizes = `Intel VT-d iommu 0 supported page sizes: 4kB${has ? ', 2MB, 1GB' : ''}`;
    expect(h.s.console).toContain(sizes);
    expect(h.s.console).toContain(`Intel VT-d Shared EPT tables ${has ? '' : 'not '}enabled.`);
    expect(h.driver.pageSizes > 4096).toBe(has);
  });
});
