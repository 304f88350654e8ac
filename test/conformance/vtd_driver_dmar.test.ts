/** Reading the DMAR and starting the units: lines, refusals and the order of register writes of a real boot. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { acpiDmarInit } from '../../src/iommu/driver/vtd/dmar.js';
import { acpiFindMatchedDrhdUnit } from '../../src/iommu/driver/vtd/drhd.js';
import { type DmarStructure, SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { QEMU_CAP, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { VtdUnit } from '../../src/iommu/hw/vtd/unit.js';
import { runAlone } from '../../src/sim/co.js';
import { TestServices, type TestXen } from '../helpers/services.js';
import { at, dmarTable, drhd, rmrr, scope, UNIT_BASE, VtdHost } from '../helpers/vtd_host.js';

const ENDPOINT = SCOPE_TYPE.ENDPOINT;
const BRIDGE = SCOPE_TYPE.BRIDGE;
const IOAPIC = SCOPE_TYPE.IOAPIC;

/** Reads a table on a board with one unit; `tweak` may spoil its bytes. */
function read(structures: readonly DmarStructure[], o: TestXen = {}, tweak?: (t: Uint8Array) => void) {
  const s = new TestServices(o);
  const unit = new VtdUnit(s.ram, s.events, s.clock, {
    index: 0,
    segment: 0,
    cap: QEMU_CAP,
    ecap: QEMU_ECAP,
    version: 0x10,
    haw: 48,
  });
  s.mmio.add(UNIT_BASE, 4096, unit);
  for (const dev of [at(0, 2), at(0, 8), at(2, 0)]) s.addFunction(dev);
  const table = dmarTable(structures);
  tweak?.(table);
  return { s, result: acpiDmarInit(s, table) };
}
const FAILED = 'Failed to parse ACPI DMAR.  Disabling VT-d.';

describe('lines', () => {
  test('the recorded board: widths, unit, capabilities and each scope', () => {
    const s = (o: { verbose: boolean }) => {
      const h = new VtdHost({
        opts: o,
        structures: [
          drhd([scope(IOAPIC, 0xff, [0, 0]), scope(ENDPOINT, 0, [0, 0]), scope(BRIDGE, 0, [4, 0])], {
            all: false,
          }),
        ],
        prepare: (x) => {
          x.addFunction(at(0, 0), 0x29c0_8086, { 11: 6 });
          x.addFunction(at(0, 4), 0x000c_1b36, { 25: 4, 26: 7 });
        },
      });
      return h.s.console;
    };
    expect(s({ verbose: true })).toEqual([
      '[VT-D]Host address width 48',
      '[VT-D]found ACPI_DMAR_DRHD:',
      '[VT-D]  dmaru->address = fed90000',
      '[VT-D]drhd->address = fed90000 iommu->reg = ffff82c000205000',
      '[VT-D]cap = d2008c222f0606 ecap = f00f4a',
      '[VT-D] IOAPIC: 0000:ff:00.0',
      '[VT-D] endpoint: 0000:00:00.0',
      '[VT-D] bridge: 0000:00:04.0 start=0 sec=4 sub=7',
    ]);
    expect(s({ verbose: false })).toEqual([]);
  });

  test('INCLUDE_ALL, RMRR, ATSR and RHSA', () => {
    const { s, result } = read(
      [
        drhd([]),
        rmrr(0x7ffe_0000, 0x7ffe_3fff, [scope(ENDPOINT, 2, [0, 0])]),
        { kind: 'atsr', flags: 1, reserved: 0, segment: 0, scopes: [] },
        { kind: 'rhsa', reserved: 0, base: UNIT_BASE, proximityDomain: 3 },
      ],
      { opts: { verbose: true } },
    );
    expect(result).toBeTypeOf('object');
    expect(s.console.slice(5)).toEqual([
      '[VT-D]  flags: INCLUDE_ALL',
      '[VT-D]found ACPI_DMAR_RMRR:',
      '[VT-D] endpoint: 0000:02:00.0',
      '[VT-D]found ACPI_DMAR_ATSR:',
      '[VT-D]  atsru->all_ports: 1',
      '[VT-D]  flags: ALL_PORTS',
      '[VT-D]found ACPI_DMAR_RHSA:',
      '[VT-D]  rhsau->address: fed90000 rhsau->proximity_domain: 3',
    ]);
  });

  test('SATC is read from 4.19 on', () => {
    const satc = {
      kind: 'satc',
      flags: 1,
      reserved: 0,
      segment: 0,
      scopes: [scope(ENDPOINT, 2, [0, 0])],
    } as const;
    const lines = (reads: boolean): string[] =>
      read([satc], { opts: { verbose: true }, seams: { vtdReadsSatc: () => reads } }).s.console.slice(1);
    expect(lines(false)).toEqual([]);
    expect(lines(true)).toEqual([
      '[VT-D]found ACPI_DMAR_SATC:',
      '[VT-D] endpoint: 0000:02:00.0',
      '[VT-D] ATC required: 1',
    ]);
  });

  test("a device in a unit's scope that does not answer is named, unless the IOMMU is forced", () => {
    const units = [drhd([scope(ENDPOINT, 0, [9, 0]), scope(IOAPIC, 0xff, [0, 0])], { all: false })];
    expect(read(units).s.console).toEqual([
      "[VT-D] Non-existent device (0000:00:09.0) in this DRHD's scope!",
    ]);
    expect(read(units, { opts: { force: true } }).s.console).toEqual([]);
  });
});

describe('refusals', () => {
  const dev = [scope(ENDPOINT, 2, [0, 0])];
  test('FT-C24 overlapping reserved ranges disable VT-d', () => {
    const { s, result } = read([
      drhd([]),
      rmrr(0x7ffe_0000, 0x7ffe_3fff, dev),
      rmrr(0x7ffe_3000, 0x7ffe_4fff, dev),
    ]);
    expect(result).toBe(E.EXIST);
    expect(s.console).toEqual([
      '[VT-D]Overlapping RMRRs [7ffe0000,7ffe3fff] and [7ffe3000,7ffe4fff]',
      FAILED,
    ]);
  });

  test('FT-C24 a structure shorter than its type disables VT-d', () => {
    const { s, result } = read([drhd([])], {}, (t) => {
      t[48 + 2] = 8;
    });
    expect(result).toBe(E.INVAL);
    expect(s.console).toEqual(['[VT-D]Invalid ACPI DMAR entry length: 0x8', FAILED]);
  });

  test('FT-C24 a structure of no length disables VT-d', () => {
    const { s, result } = read([drhd([])], {}, (t) => {
      t[48 + 2] = 0;
    });
    expect(result).toBe(E.INVAL);
    expect(s.console).toEqual(['[VT-D]Invalid ACPI DMAR entry length: 0', FAILED]);
  });

  test('FT-C24 a second INCLUDE_ALL unit of segment 0 disables VT-d', () => {
    const { s, result } = read([drhd([]), drhd([])]);
    expect(result).toBe(E.INVAL);
    expect(s.console).toEqual(['[VT-D]Only one INCLUDE_ALL device scope is allowed', FAILED]);
  });

  test('FT-C24 a scope shorter than its header disables VT-d, after the unit was looked at', () => {
    const { s, result } = read([drhd(dev, { all: false })], { opts: { verbose: true } }, (t) => {
      t[48 + 16 + 1] = 6;
    });
    expect(result).toBe(E.INVAL);
    expect(s.console.slice(-3)).toEqual([
      '[VT-D]cap = d2008c222f0606 ecap = f00f4a',
      '[VT-D]Invalid device scope',
      FAILED,
    ]);
  });

  test('FT-C24 a table without width, a unit at 0, and a unit where none answers', () => {
    const zero = read([drhd([])], {}, (t) => {
      t[36] = 0;
    });
    expect(zero.result).toBe(E.INVAL);
    expect(zero.s.console).toEqual(['[VT-D]Zero: Invalid DMAR width']);
    expect(read([drhd([], { base: 0 })]).result).toBe(E.NODEV);
    const absent = read([drhd([], { base: 0xfed8_0000 })], { opts: { verbose: true } });
    expect(absent.result).toBe(E.NODEV);
    expect(absent.s.console.at(-2)).toBe('[VT-D]cap = ffffffffffffffff ecap = ffffffffffffffff');
  });

  test('two ALL_PORTS structures disable VT-d', () => {
    const atsr = { kind: 'atsr', flags: 1, reserved: 0, segment: 0, scopes: [] } as const;
    const { s, result } = read([drhd([]), atsr, atsr]);
    expect(result).toBe(E.INVAL);
    expect(s.console).toEqual(['[VT-D]Only one ALL_PORTS device scope is allowed', FAILED]);
  });

  test('a reserved range that runs backwards disables VT-d, one without living device is void', () => {
    expect(
      read([rmrr(0x7ffe_3000, 0x7ffe_2fff, dev)], { seams: { vtdRmrrMustBeReserved: () => false } }).result,
    ).toBe(E.FAULT);
    const gone = read([rmrr(0x7ffe_0000, 0x7ffe_3fff, [scope(ENDPOINT, 0, [9, 0])])]);
    expect(gone.result).toMatchObject({ vtd: { rmrrs: [] } });
  });

  test('FT-C25 reserved memory that is RAM: a warning up to 4.18, -EIO from 4.19 on', () => {
    const range = [drhd([]), rmrr(0x1000_0000, 0x1000_0fff, dev)];
    const old = read(range, { seams: { vtdRmrrMustBeReserved: () => false } });
    expect(old.result).toBeTypeOf('object');
    expect(old.s.console).toEqual([
      '[VT-D] RMRR [10000000,10000fff] not in reserved memory; need "iommu_inclusive_mapping=1"?',
    ]);
    const now = read(range, { seams: { vtdRmrrMustBeReserved: () => true } });
    expect(now.result).toBe(E.IO);
    expect(now.s.console).toEqual(['RMRR: [10000, 10000] is not reserved', FAILED]);
  });

  // One type of memory must hold all of the range, in as many pieces as it likes.
  const pieces = [
    { start: 0x1000_0000, end: 0x1000_2000, type: 'reserved' },
    { start: 0x1000_2000, end: 0x1000_4000, type: 'reserved' },
    { start: 0x1000_4000, end: 0x1000_6000, type: 'ACPI data' },
    { start: 0x1000_6000, end: 0x1000_8000, type: 'ACPI NVS' },
    { start: 0x1000_8000, end: 0x1001_0000, type: 'usable' },
  ] as const;
  test.each([
    [0x1000_0000, 0x1000_0fff, true],
    [0x1000_0000, 0x1000_3fff, true],
    [0x1000_3000, 0x1000_3fff, true],
    [0x1000_4000, 0x1000_5fff, true],
    [0x1000_6000, 0x1000_7fff, true],
    [0x0fff_f000, 0x1000_0fff, false],
    [0x1000_3000, 0x1000_4fff, false],
    [0x1000_5000, 0x1000_6fff, false],
    [0x1000_7000, 0x1000_8fff, false],
    [0x1000_8000, 0x1000_8fff, false],
    [0x1000_0000, 0x1000_4000, false],
  ])('FT-C25 the range from %i to %i is reserved: %s', (base, limit, quiet) => {
    const { s } = read([drhd([]), rmrr(base, limit, dev)], {
      e820: pieces,
      seams: { vtdRmrrMustBeReserved: () => false },
    });
    const warned = s.console.filter((line) => line.includes('not in reserved memory'));
    expect(warned).toHaveLength(quiet ? 0 : 1);
  });

  test('a unit that Xen cannot drive is refused with its registers', () => {
    const h = (cap: readonly [number, number]) => () => new VtdHost({ cap });
    // SAGAW without 39 and 48 bits; 256 fault records do not fit the page.
    expect(h([0x222f_0806, 0x00d2_008c])).toThrow('acpi_dmar_init: -19');
  });
});

describe('rmrr=', () => {
  const ranges = (...extraRanges: NonNullable<TestXen['extraRanges']>) =>
    read([drhd([])], { extraRanges, opts: { verbose: true } }).s.console.slice(6);
  test('a range is added, with the devices it was given', () => {
    const r = { start: 0x7_ffe0, frames: 4, sbdfs: [at(2, 0), at(0, 8)] };
    const { s, result } = read([drhd([])], { extraRanges: [r], opts: { verbose: true } });
    expect(s.console.at(-1)).toBe('[VT-D]Adding RMRR for 2 device ([0]: 0x200) range [7ffe0-7ffe3]');
    expect(result).toMatchObject({ vtd: { rmrrs: [{ base: 0x7ffe_0000, end: 0x7ffe_3fff, segment: 0 }] } });
  });
  test('ranges that overlap, lie outside memory, mix segments or name nobody are only complained about', () => {
    const one = { start: 0x7_ffe0, frames: 1, sbdfs: [at(2, 0)] };
    expect(ranges(one, { ...one, start: 0x7_ffdf, frames: 2 }).at(-1)).toBe(
      '[VT-D]Overlapping RMRRs: [7ffdf-7ffe0] and [7ffe0-7ffe0]',
    );
    expect(ranges({ ...one, start: 0x9_0000 }).at(-1)).toBe('[VT-D]Invalid pfn in RMRR range [90000-90000]');
    expect(ranges({ ...one, sbdfs: [at(2, 0), 0x1_0200] }).at(-1)).toBe(
      '[VT-D]Segments are not equal for RMRR range [7ffe0-7ffe0]',
    );
    expect(ranges({ ...one, sbdfs: [at(9, 9)] }).at(-1)).toBe(
      '[VT-D]Could not register RMMR range [7ffe0-7ffe0]',
    );
    expect(ranges({ ...one, frames: 0 }).at(-1)).toBe('[VT-D]Invalid RMRR Range [7ffe0-7ffdf]');
  });
});

describe('who serves whom', () => {
  const B = 0xfed9_1000;
  const host = () =>
    new VtdHost({
      units: [{ base: UNIT_BASE }, { base: B }],
      structures: [
        drhd([scope(ENDPOINT, 3, [0, 0]), scope(BRIDGE, 0, [1, 0])], { base: B, all: false }),
        drhd([]),
      ],
      prepare: (s) => {
        s.addFunction(at(0, 1), 0x3420_1b36, { 25: 1, 26: 2 });
        s.addFunction(at(3, 0));
      },
    });
  const unitOf = (h: VtdHost, bus: number, dev: number, fn = 0): number | undefined =>
    acpiFindMatchedDrhdUnit(h.driver.vtd, h.s.addPdev(at(bus, dev, fn), PDEV_TYPE.PCIE_ENDPOINT))?.address;

  test('scoped functions and buses go to their unit, the rest to INCLUDE_ALL', () => {
    const h = host();
    expect([unitOf(h, 3, 0), unitOf(h, 1, 5), unitOf(h, 2, 9)]).toEqual([B, B, B]);
    expect([unitOf(h, 3, 0, 1), unitOf(h, 4, 0)]).toEqual([UNIT_BASE, UNIT_BASE]);
  });

  test('FT-C26 a virtual function is served by the unit of its physical one', () => {
    const h = host();
    const vf = h.s.addPdev(at(3, 4, 1), PDEV_TYPE.PCIE_ENDPOINT);
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, vf)?.address).toBe(UNIT_BASE);
    // What is known of a function may change after it was first looked up.
    vf.become(false, true, { bus: 3, devfn: 0 });
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, vf)?.address).toBe(B);
    vf.become(false, true, { bus: 3, devfn: 1 });
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, vf)?.address).toBe(UNIT_BASE);
    vf.become(true, true, { bus: 3, devfn: 1 });
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, vf)?.address).toBe(B);
  });

  test('FT-C26 a function of ARI is served by the unit of function 0', () => {
    const h = host();
    const far = h.s.addPdev(at(3, 4, 2), PDEV_TYPE.PCIE_ENDPOINT);
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, far)?.address).toBe(UNIT_BASE);
    far.become(true, false, { bus: 0, devfn: 0 });
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, far)?.address).toBe(B);
  });

  test('a device of a segment without unit has none', () => {
    const h = host();
    const far = h.s.addPdev(0x1_0300, PDEV_TYPE.PCIE_ENDPOINT);
    expect(acpiFindMatchedDrhdUnit(h.driver.vtd, far)).toBeUndefined();
  });
});

describe('set-up', () => {
  const pairs = (h: VtdHost): string[] => h.registerWrites().map((w) => w.replace(/53[0-9a-f]{4}/, 'FRAME_'));
  test('registers and descriptors of a boot come in the recorded order', () => {
    const h = new VtdHost({ cpu: { vendor: 'amd' } });
    h.endpoint(at(2, 0));
    h.s.record();
    expect(runAlone(h.driver.setup())).toBe(0);
    expect(pairs(h)).toEqual([
      '38=0',
      '3c=4130',
      '40=fee0100c',
      '34=7d',
      '38=0',
      '90=FRAME_000',
      '18=4000000',
      'b8=FRAME_00f',
      '18=5000000',
      '18=7000000',
      '20=FRAME_000',
      '18=47000000',
    ]);
    expect(h.descriptors()).toEqual(['4 0', '11 0', 'd2 0']);
    expect(h.s.console).toEqual([
      'Intel VT-d iommu 0 supported page sizes: 4kB, 2MB, 1GB',
      'Intel VT-d Snoop Control not enabled.',
      'Intel VT-d Dom0 DMA Passthrough not enabled.',
      'Intel VT-d Queued Invalidation enabled.',
      'Intel VT-d Interrupt Remapping enabled.',
      'Intel VT-d Posted Interrupt not enabled.',
      'Intel VT-d Shared EPT tables enabled.',
    ]);
    h.s.log.length = 0;
    runAlone(h.driver.init(h.s.hwdom));
    runAlone(h.driver.adjustIrqAffinities());
    runAlone(h.driver.hwdomInit(h.s.hwdom));
    expect(pairs(h)).toEqual(['3c=4130', '40=fee0100c', '18=c7000000']);
    expect(h.descriptors()).toEqual(['11 0', 'd2 0']);
    expect(h.s.denied).toEqual([0xfed90]);
  });

  const noQi = { base: 0xfed9_1000, ecap: [QEMU_ECAP[0] & ~2, 0] as const };
  const two = [drhd([], { base: 0xfed9_1000, seg: 1 }), drhd([])];
  test('FT-C27 one unit without queued invalidation turns it and interrupt remapping off for all', () => {
    const h = new VtdHost({ units: [{ base: UNIT_BASE }, noQi], structures: two });
    h.s.record();
    expect(runAlone(h.driver.setup())).toBe(0);
    expect(h.s.opts).toMatchObject({ qinval: false, intremap: 'off' });
    expect(h.s.console.slice(-4, -2)).toEqual([
      'Intel VT-d Queued Invalidation not enabled.',
      'Intel VT-d Interrupt Remapping not enabled.',
    ]);
    expect(h.descriptors()).toEqual([]);
    // Both units are flushed by register: context, then IOTLB at ECAP.IRO.
    expect(h.registerWrites().filter((w) => w.startsWith('28=') || w.startsWith('f8='))).toEqual([
      '28=a000000000000000',
      'f8=9003000000000000',
      '28=a000000000000000',
      'f8=9003000000000000',
    ]);
  });

  test('FT-C27 a page size that one unit lacks is used by none', () => {
    const small = { base: 0xfed9_1000, cap: [QEMU_CAP[0], QEMU_CAP[1] & ~8] as const };
    const h = new VtdHost({ units: [{ base: UNIT_BASE }, small], structures: two });
    runAlone(h.driver.setup());
    expect(h.s.console.slice(0, 2)).toEqual([
      'Intel VT-d iommu 0 supported page sizes: 4kB, 2MB',
      'Intel VT-d iommu 1 supported page sizes: 4kB, 2MB, 1GB',
    ]);
    expect(h.driver.pageSizes).toBe(4096 + 2 ** 21);
    expect(h.s.opts.hapPtShare).toBe(false);
  });

  test('units that can neither queue nor take requests by register are refused', () => {
    const h = new VtdHost({ version: 0x60, opts: { qinval: false } });
    expect(h.s.console).toEqual(['[VT-D]IOMMU 0: cannot disable Queued Invalidation']);
    const dead = new VtdHost({ version: 0x60, ecap: [QEMU_ECAP[0] & ~2, 0] });
    expect(runAlone(dead.driver.setup())).toBe(E.NODEV);
  });

  test('a CPU without CMPXCHG16B: refused from 4.18.6 on', () => {
    const h = (requires: boolean) =>
      new VtdHost({ cpu: { cx16: false }, seams: { vtdRequiresCx16: () => requires } });
    expect(runAlone(h(false).driver.setup())).toBe(0);
    const now = h(true);
    expect(runAlone(now.driver.setup())).toBe(E.NODEV);
    expect(now.s.console).toEqual(['[VT-D]no CMPXCHG16B support, disabling IOMMU']);
    expect(now.s.opts).toMatchObject({ qinval: false, intremap: 'off' });
  });

  test('interrupt remapping that firmware left on is off again when Xen does not use it', () => {
    const h = new VtdHost({ opts: { intremap: 'off' } });
    const [GCMD, GSTS, IRE] = [0x18, 0x1c, 2 ** 25];
    h.units[0]!.write32(GCMD, IRE);
    expect(h.units[0]!.read32(GSTS) & IRE).toBe(IRE);
    expect(runAlone(h.driver.setup())).toBe(0);
    expect(h.units[0]!.read32(GSTS) & IRE).toBe(0);
  });

  test('interrupt remapping needs firmware, and every I/O APIC behind a unit', () => {
    const optedOut = new VtdHost({ dmar: { flags: 0 } });
    runAlone(optedOut.driver.setup());
    expect(optedOut.s.console.at(-1)).toBe('[VT-D] Platform firmware does not support interrupt remapping');
    expect(optedOut.s.opts.intremap).toBe('off');
    const apicless = new VtdHost({ ioapicIds: [0] });
    runAlone(apicless.driver.setup());
    expect(apicless.s.opts.intremap).toBe('off');
    const scoped = new VtdHost({
      ioapicIds: [0],
      structures: [drhd([scope(IOAPIC, 0xff, [0, 0])], { all: true })],
    });
    runAlone(scoped.driver.setup());
    expect(scoped.s.opts.intremap).toBe('full');
  });

  test('FT-C31 iommu=no-igfx leaves the unit of the graphics alone', () => {
    const host = (igfx: boolean) =>
      new VtdHost({
        opts: { igfx },
        structures: [drhd([scope(ENDPOINT, 0, [2, 0])], { all: false })],
        prepare: (s) => s.addFunction(at(0, 2), 0x1234_8086, { 11: 3 }),
      }).boot();
    const off = host(false);
    expect(off.s.console.at(-1)).toBe('[VT-D] passed iommu=no-igfx option; disabling IGD VT-d engine');
    expect(off.units[0]!.read32(0x1c) >>> 31).toBe(0);
    expect(host(true).units[0]!.read32(0x1c) >>> 31).toBe(1);
  });

  test('a chipset with broken interrupt remapping disables the IOMMU', () => {
    const h = new VtdHost({ prepare: (s) => s.addFunction(at(0, 0), 0x3405_8086, { 8: 0x13 }) });
    expect(runAlone(h.driver.setup())).toBe(E.NODEV);
    expect(h.s.console).toEqual(['[VT-D]Disabling IOMMU due to Intel X58 chipset errata #62 and #69']);
  });

  test('a unit that never answers a command kills the host', () => {
    const h = new VtdHost();
    const read32 = h.units[0]!.read32.bind(h.units[0]);
    h.units[0]!.read32 = (offset) => (offset === 0x1c ? 0 : read32(offset));
    expect(() => runAlone(h.driver.setup())).toThrow('DMAR hardware malfunction');
  });

  test('reserved ranges are reported once per device', () => {
    const { result } = read([
      drhd([]),
      rmrr(0x7ffe_0000, 0x7ffe_3fff, [scope(ENDPOINT, 2, [0, 0]), scope(ENDPOINT, 0, [8, 0])]),
    ]);
    const seen: number[][] = [];
    if (typeof result === 'number') throw new Error('read');
    result.getReservedDeviceMemory((start, frames, sbdf) => {
      seen.push([start, frames, sbdf]);
      return 0;
    });
    expect(seen).toEqual([
      [0x7_ffe0, 4, 0x200],
      [0x7_ffe0, 4, 0x40],
    ]);
    seen.length = 0;
    expect(
      result.getReservedDeviceMemory((start) => {
        seen.push([start]);
        return 1;
      }),
    ).toBe(0);
    expect(seen).toEqual([[0x7_ffe0]]);
    expect(result.getReservedDeviceMemory(() => E.FAULT)).toBe(E.FAULT);
  });
});
