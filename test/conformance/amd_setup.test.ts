/** What AMD-Vi's registers, entries and messages are once Xen has set the units up, and after it gave up. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { setUnitMessage } from '../../src/iommu/driver/amd/iommu_init.js';
import { FLUSHF, IOMMUF } from '../../src/iommu/driver/types.js';
import { IVMD_TYPE, type IvhdEntry, type Ivmd } from '../../src/iommu/format/ivrs.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost, type AmdHostOptions } from '../helpers/amd_services.js';
import { DEFAULT_ENTRIES, ivhd, ivmd, range, UNIT_BASE } from '../helpers/amd_table.js';

const EXCLUDE = 8;
const withBlocks = (...blocks: Ivmd[]): AmdHost =>
  new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), ...blocks] });
/** Descriptors that a unit fetches while `f` runs, as they lie in its command buffer. */
function fetched(host: AmdHost, f: () => void): string[] {
  const ring = host.driver.state.units[0]!.cmdBuffer;
  const from = ring.tail;
  f();
  const found: string[] = [];
  for (let at = from; at !== ring.tail; at = (at + 16) % ring.size) {
    const w = [0, 4, 8, 12].map((i) => host.ram.read32(ring.mfn * 4096 + at + i) >>> 0);
    found.push(w.map((x) => x.toString(16)).join(' '));
  }
  return found;
}
/** Without the waits, whose opcode is 1. */
const orders = (host: AmdHost, f: () => void): string[] =>
  fetched(host, f).filter((c) => !/^[0-9a-f]+ 1000/.test(c));

describe('registers', () => {
  const [DEV_TAB, CMD, EVT, CONTROL, EXCL_BASE, EXCL_LIMIT, PPR] = [0, 8, 0x10, 0x18, 0x20, 0x28, 0x38];
  const frame = (host: AmdHost, offset: number): number =>
    (host.unit.read32(offset + 4) % 0x10_0000) * 0x10_0000 + Math.floor(host.unit.read32(offset) / 4096);

  test('bases name the tables, with their lengths: pages less one, and the log of the entries', () => {
    const host = new AmdHost().boot([]);
    const unit = host.driver.state.units[0]!;
    expect([DEV_TAB, CMD, EVT, PPR].map((r) => frame(host, r))).toEqual([
      unit.devTableMfn,
      unit.cmdBuffer.mfn,
      unit.eventLog.mfn,
      unit.pprLog.mfn,
    ]);
    // 0xa00 ids of 32 bytes: 20 pages, of which 32 are allocated. 256 commands, 512 entries of each log.
    expect(host.unit.read32(DEV_TAB) & 0xfff).toBe(31);
    expect([CMD, EVT, PPR].map((r) => host.unit.read32(r + 4) >>> 24)).toEqual([8, 9, 9]);
    expect([CMD, EVT, PPR].map((r) => host.unit.read32(r) & 0xfff)).toEqual([0, 0, 0]);
  });

  test.each([
    [2, 8],
    [127, 8],
    [128, 9],
    [255, 9],
    [256, 10],
  ])('for %i CPUs a command ring of 2^%i entries: two of each, and one that stays empty', (count, log) => {
    const host = new AmdHost();
    Object.assign(host.services.cpu, { count });
    host.boot([]);
    expect(host.unit.read32(CMD + 4) >>> 24).toBe(log);
  });

  test('a unit without page requests and guest tables is not told of them', () => {
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES, { efr: [0x40, 0] })] }).boot([]);
    const unit = host.driver.state.units[0]!;
    expect([unit.pprLog.mfn, host.unit.read32(PPR)]).toEqual([0, 0]);
    // CmdBufEn, EventLogEn, EventIntEn, IommuEn, Coherent, and what the flags b0 of the IVHD ask for: nothing.
    expect(host.unit.read32(CONTROL)).toBe(0x140d);
    const all = new AmdHost().boot([]);
    expect(all.unit.read32(CONTROL)).toBe(0x1_f40d);
  });

  test.each([
    [0, 0x400],
    [1, 0x402],
    [2, 0x500],
    [4, 0x600],
    [8, 0xc00],
    [0x0f, 0xf02],
  ])(
    'flags %i of the IVHD become bits %i of CONTROL: tunnel, PassPW, ResPassPW, isochronous',
    (flags, bits) => {
      const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES, { flags })], htTunnel: true }).boot([]);
      expect(host.unit.read32(CONTROL) & 0xf02).toBe(bits);
      const plain = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES, { flags })] }).boot([]);
      expect(plain.unit.read32(CONTROL) & 0xf02).toBe(bits & ~2);
    },
  );

  test.each([
    ['above 4 GiB', 0x12_3456_7000, 0x3000, [0x3456_9000, 0x12, 0x3456_7001, 0x12]],
    ['at the end of 48 bits', 0xffff_ffff_0000, 0x1_0000, [0xffff_f000, 0xffff, 0xffff_0001, 0xffff]],
    ['below', 0x7000_0000, 0x1000, [0x7000_0000, 0, 0x7000_0001, 0]],
  ])('an exclusion range %s: limit and base, each in two halves', (_what, start, length, words) => {
    const e820 = [
      { start: 0, end: 0x7000_0000, type: 'usable' },
      { start: 0x7000_0000, end: 0x7100_0000, type: 'reserved' },
      { start: 0x12_3456_0000, end: 0x12_3457_0000, type: 'reserved' },
      { start: 0xffff_ffff_0000, end: 0x1_0000_0000_0000, type: 'reserved' },
    ] as const;
    const host = new AmdHost({
      e820,
      blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ flags: EXCLUDE, start, length })],
    }).boot([]);
    const r = (offset: number): number => host.unit.read32(offset);
    expect([r(EXCL_LIMIT), r(EXCL_LIMIT + 4), r(EXCL_BASE), r(EXCL_BASE + 4)]).toEqual(words);
  });

  test('an exclusion range of all devices sets Allow, in every unit', () => {
    const second = ivhd(range(0x400, 0x4ff), { deviceId: 0x0502, base: UNIT_BASE + 0x4000 });
    const host = new AmdHost({
      blocks: [ivhd(DEFAULT_ENTRIES), second, ivmd({ type: IVMD_TYPE.ALL, flags: EXCLUDE })],
    }).boot([]);
    expect(host.units.map((u) => u.read32(EXCL_BASE))).toEqual([0x7000_0003, 0x7000_0003]);
    expect(host.driver.state.mappings.get(0)!.unityMaps(0x200)).toEqual([]);
  });

  test('one of all devices behind a unit is of that unit alone', () => {
    const second = ivhd(range(0x400, 0x4ff), { deviceId: 0x0502, base: UNIT_BASE + 0x4000 });
    const own = ivmd({ type: IVMD_TYPE.IOMMU, deviceId: 0x502, auxData: 0x40, flags: EXCLUDE });
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), second, own] }).boot([]);
    expect(host.units.map((u) => u.read32(EXCL_BASE))).toEqual([0, 0x7000_0003]);
    const unity = ivmd({ type: IVMD_TYPE.IOMMU, deviceId: 0x502, auxData: 0x40 });
    const maps = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), second, unity] }).boot([]).driver.state;
    const ids = [0x3ff, 0x400, 0x4ff, 0x900].filter((id) => maps.mappings.get(0)!.unityMaps(id).length > 0);
    expect(ids).toEqual([0x400, 0x4ff]);
  });

  test('ranges that touch become one, those that do not or are of another kind become unity maps', () => {
    const excluded = (...others: Partial<Ivmd>[]) => {
      const host = withBlocks(
        ivmd({ flags: EXCLUDE, start: 0x7001_0000, length: 0x2000 }),
        ...others.map((o) => ivmd({ flags: EXCLUDE, deviceId: 0x300, ...o })),
      ).boot([]);
      const x = host.driver.state.units[0]!.exclusion;
      const unity = host.driver.state.mappings.get(0)!.unityMaps(0x300).length;
      return [x.base.toString(16), x.limit.toString(16), x.allowAll, unity];
    };
    expect(excluded({ start: 0x7001_2000 })).toEqual(['70010000', '70012000', false, 0]);
    expect(excluded({ start: 0x7000_f000 })).toEqual(['7000f000', '70011000', false, 0]);
    expect(excluded({ start: 0x7000_0000, length: 0x10_0000 })).toEqual(['70000000', '700ff000', false, 0]);
    expect(excluded({ start: 0x7001_1000 })).toEqual(['70010000', '70011000', false, 0]);
    expect(excluded({ start: 0x7001_3000 })).toEqual(['70010000', '70011000', false, 1]);
    expect(excluded({ start: 0x7000_e000 })).toEqual(['70010000', '70011000', false, 1]);
    expect(excluded({ start: 0x7001_2000, type: IVMD_TYPE.ALL })).toEqual(['70010000', '70011000', false, 1]);
  });

  test('the message of a unit has 64 bits of address', () => {
    const host = new AmdHost().boot([]);
    const msg = { addressLo: 0xfee0_100c, addressHi: 0x89ab_cdef, data: 0x4130 };
    setUnitMessage(host.driver.state, host.driver.state.units[0]!, msg);
    const read = (offset: number, size: 2 | 4): number =>
      host.services.confRead(host.unitBdf, host.msiPos + offset, size);
    expect([read(4, 4), read(8, 4), read(12, 2), read(2, 2) & 1]).toEqual([
      0xfee0_100c, 0x89ab_cdef, 0x4130, 1,
    ]);
  });

  test('when a later unit fails, those that ran are stopped and everything is given back', () => {
    const second = ivhd(range(0x400, 0x4ff), { deviceId: 0x0502, base: UNIT_BASE + 0x4000 });
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), second], opts: { hwdomPassthrough: true } });
    host.probe();
    const { pciGetPdev } = host.services;
    Object.assign(host.services, {
      pciGetPdev: (sbdf: number) => (sbdf === 0x502 ? undefined : pciGetPdev(sbdf)),
    });
    const control: string[] = [];
    host.events.attach((e) => {
      if (e.kind === 'reg' && e.unit === 0 && e.offset === CONTROL && e.size === 8)
        control.push(e.lo.toString(16));
    });
    expect(runAlone(host.driver.setup())).toBe(E.NODEV);
    expect([host.unit.read32(CONTROL) & 0x1_f01d, host.configOf(host.unitBdf)[host.msiPos + 2]! & 1]).toEqual(
      [0, 0],
    );
    // Command ring, event log, page requests, guest tables, the unit itself.
    expect(control.slice(-5)).toEqual(['1e40d', '1e401', '10401', '401', '400']);
    expect([host.allocated.size, host.opts.intremap, host.opts.hwdomPassthrough]).toEqual([0, 'off', false]);
    expect(host.driver.state.units).toEqual([]);
  });

  test('the shared interrupt table goes with a set-up that failed', () => {
    const host = new AmdHost({ opts: { amdPerdevIntremap: false } });
    host.probe();
    Object.assign(host.services, { pciGetPdev: () => undefined });
    expect(runAlone(host.driver.setup())).toBe(E.NODEV);
    expect([host.allocated.size, host.driver.state.sharedIntremap]).toEqual([0, undefined]);
  });
});

describe('device table entries', () => {
  test.each([
    [0x01, 0, 0x0100_0000],
    [0x02, 0, 0x0200_0000],
    [0x04, 0, 0x0400_0000],
    [0x40, 0, 0x4000_0000],
    [0x80, 0, 0x8000_0000],
    [0x10, 0x100, 0],
    [0x20, 0x200, 0],
    [0x30, 0x300, 0],
    [0, 0, 0],
  ])(
    'data %i of the IVRS: system management in word 3, %i; passed interrupts in word 5, %i',
    (data, sys, pass) => {
      const host = new AmdHost({ entries: [...DEFAULT_ENTRIES, { type: 2, id: 0xa00, data }] }).boot([
        { bdf: 0xa00 },
      ]);
      const words = (): number[] => {
        const [, w23, w45] = host.dte(0xa00).map((q) => Number.parseInt(q.slice(2, 10), 16));
        return [w23! & 0x300, (w45! & 0xc700_0000) >>> 0];
      };
      expect(words()).toEqual([sys, pass]);
      // An entry that aborts has no system management; one that translates again has.
      const d = host.newDomain(7);
      host.assign(host.domIo, host.pdev(0xa00));
      expect(words()).toEqual([0, pass]);
      host.deassign(host.domIo, d, host.pdev(0xa00));
      expect(words()).toEqual([sys, pass]);
    },
  );

  test('a device that comes back without messages has no interrupt table', () => {
    const host = new AmdHost().boot([{ bdf: 0x200, msi: 4 }]);
    const pdev = host.pdev(0x200);
    const table = (): string[] =>
      host
        .dte(0x200)
        .slice(2, 3)
        .map((q) => q.replace(/^0x(.)/, ''));
    expect(table()).not.toEqual(['000000000000001']);
    expect(host.remove(pdev)).toBe(0);
    pdev.msiMaxvec = 0;
    expect(host.add(pdev)).toBe(0);
    expect(table()).toEqual(['000000000000001']);
    expect(host.driver.state.mappings.get(0)!.intremap.has(0x200)).toBe(false);
  });

  test('EX is set for the devices of an exclusion range, whoever owns them', () => {
    const host = withBlocks(ivmd({ flags: EXCLUDE })).boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
    const ex = (rid: number): number => (Number.parseInt(host.dte(rid)[1]!.slice(2, 10), 16) >>> 7) & 1;
    const d = host.newDomain(7);
    expect([ex(0x200), ex(0x300)]).toEqual([1, 0]);
    host.assign(host.domIo, host.pdev(0x200));
    expect(ex(0x200)).toBe(0);
    host.deassign(host.domIo, d, host.pdev(0x200));
    expect(ex(0x200)).toBe(1);
  });

  test('every change is an event with the words before and after', () => {
    const host = new AmdHost().boot();
    const d = host.newDomain(7);
    const seen: { before: readonly number[]; after: readonly number[] }[] = [];
    host.events.attach((e) => {
      if (e.kind === 'entry' && e.table === 'dte' && e.id === 0x200) seen.push(e);
    });
    const words = (): number[] =>
      host.dte(0x200).flatMap((q) => [Number.parseInt(q.slice(10), 16), Number.parseInt(q.slice(2, 10), 16)]);
    const before = words();
    for (const [from, to] of [
      [host.dom0, host.domIo],
      [host.domIo, d],
      [d, host.dom0],
    ] as const) {
      if (to === host.domIo) host.assign(to, host.pdev(0x200));
      else host.deassign(from, to, host.pdev(0x200));
    }
    expect(seen.length).toBeGreaterThanOrEqual(3);
    expect(seen[0]!.before).toEqual(before);
    for (const [i, e] of seen.entries()) {
      expect(e.after).not.toEqual(e.before);
      expect(e.after).toEqual(seen[i + 1]?.before ?? words());
    }
  });
});

describe('IVRS entries', () => {
  const ats = (entries: readonly IvhdEntry[], bdf: number): boolean => {
    const host = new AmdHost({
      entries: [...DEFAULT_ENTRIES, ...entries],
      opts: { ats: true, quarantine: 'none' },
    });
    host.configOf(bdf).set([0x0f, 0, 0, 0, 8, 0, 0, 0], 0x100);
    host.boot([{ bdf }]);
    return host.configOf(bdf)[0x107] === 0x80;
  };
  const extRange = (ext: number): IvhdEntry[] => [{ type: 71, id: 0xa00, data: 0, ext }, range(0, 0xa0f)[1]!];
  test('bit 31 of extended data forbids ATS, for one device and for a range', () => {
    const one = (ext: number): IvhdEntry[] => [{ type: 70, id: 0xa00, data: 0, ext }];
    expect([0x8000_0000, 0xffff_ffff, 0x7fff_ffff, 0].map((x) => ats(one(x), 0xa00))).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect([0x8000_0000, 0x7fff_ffff].map((x) => ats(extRange(x), 0xa0f))).toEqual([false, true]);
    expect(ats([{ type: 2, id: 0xa00, data: 0 }], 0xa00)).toBe(true);
  });
  test('an alias of one device uses the table of the other, and its data', () => {
    const alias: IvhdEntry = { type: 66, id: 0xa00, data: 0x30, byte4: 0, usedId: 0x300, byte7: 0 };
    const host = new AmdHost({ entries: [...DEFAULT_ENTRIES, alias] }).boot([{ bdf: 0xa00 }]);
    const ivrs = host.driver.state.mappings.get(0)!;
    expect([ivrs.requestor[0xa00], ivrs.valid(0xa00), ivrs.valid(0x300), ivrs.intremap.has(0x300)]).toEqual([
      0x300,
      false,
      true,
      true,
    ]);
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    host.assign(d, host.pdev(0xa00));
    expect(host.dma(0x300, 0x10)).toBe(0x5555);
  });
  test('the highest id counts, of whatever entry', () => {
    const ids = (...entries: IvhdEntry[]): number => {
      const host = new AmdHost({
        entries: [{ type: 2, id: 8, data: 0 }, ...entries],
        opts: { intremap: 'off' },
      });
      expect(host.probe()).toBe(0);
      runAlone(host.driver.setup());
      return host.driver.state.ivrsBdfEntries;
    };
    expect(ids()).toBe(0x10);
    expect(ids({ type: 2, id: 0x123, data: 0 })).toBe(0x128);
    expect(ids({ type: 70, id: 0x123, data: 0, ext: 0 })).toBe(0x128);
    expect(ids(...extRange(0))).toBe(0xa10);
    expect(ids(...range(0x20, 0x2ff))).toBe(0x300);
    expect(ids({ type: 72, id: 0, data: 0, byte4: 0, usedId: 0x4a0, byte7: 1 })).toBe(0x4a8);
    // Pads name nobody, whatever stands in them; an alias does not count by the id it leads to.
    expect(ids({ type: 0, id: 0x700, data: 0 }, { type: 64, id: 0x700, data: 0 })).toBe(0x10);
  });
});

describe('memory that the toolstack is told of', () => {
  /** What is told of each device that `wanted` says is of interest. */
  const told = (host: AmdHost, wanted: (sbdf: number) => boolean): string[] => {
    const found: string[] = [];
    host.driver.ops.getReservedDeviceMemory((start, frames, sbdf) => {
      if (frames > 0) found.push(`${sbdf.toString(16)}: ${start.toString(16)}+${frames}`);
      return wanted(sbdf) ? 1 : 0;
    });
    return found;
  };
  test('ranges of all devices once, of one device with it, of an exclusion range too', () => {
    const all = withBlocks(
      ivmd({ type: IVMD_TYPE.ALL, length: 0x2000 }),
      ivmd({ deviceId: 0x300, start: 0x7010_0000 }),
      ivmd({ deviceId: 0x310, start: 0x7020_0000, length: 0x3000, flags: EXCLUDE }),
    ).boot([]);
    // The range of all is told of with the first device that is of interest; what was read last comes first.
    expect(told(all, () => true).slice(0, 3)).toEqual(['0: 70000+2', '300: 70100+1', '310: 70200+3']);
    expect(told(all, (sbdf) => sbdf === 0x300)).toEqual(['300: 70100+1', '300: 70000+2', '310: 70200+3']);
    expect(told(all, () => false)).toEqual(['300: 70100+1', '310: 70200+3']);
  });
  test('an exclusion range of all devices once', () => {
    const all = withBlocks(ivmd({ type: IVMD_TYPE.ALL, flags: EXCLUDE, length: 0x3000 })).boot([]);
    expect(told(all, (sbdf) => sbdf >= 0x100)).toEqual(['100: 70000+3']);
    expect(told(all, () => false)).toEqual([]);
  });
  test('an error ends it', () => {
    const host = withBlocks(ivmd({}), ivmd({ deviceId: 0x300, start: 0x7010_0000 })).boot([]);
    const asked: number[] = [];
    const rc = host.driver.ops.getReservedDeviceMemory((_start, frames, sbdf) => {
      if (frames > 0) asked.push(sbdf);
      return frames > 0 ? E.FAULT : 0;
    });
    expect([rc, asked]).toEqual([E.FAULT, [0x200]]);
  });
});

describe('what a unit is told', () => {
  const guest = (o: AmdHostOptions = {}) => {
    const host = new AmdHost(o).boot();
    const d = host.newDomain(7, true);
    host.assign(d, host.pdev(0x200));
    return { host, d };
  };
  const flush = (host: AmdHost, d: ReturnType<typeof guest>['d'], dfn: number, count: number): string[] =>
    orders(host, () => runAlone(host.driver.ops.iotlbFlush(d, dfn, count, FLUSHF.modified)));
  test('a page by its address, above 4 GiB and 16 TiB too; windows of 2 MiB and 1 GiB with S and PDE', () => {
    const { host, d } = guest();
    expect(flush(host, d, 0x1234, 1)).toEqual(['0 30000007 1234000 0']);
    expect(flush(host, d, 0x12_3456, 1)).toEqual(['0 30000007 23456000 1']);
    expect(flush(host, d, 0x1_2345_6789, 1)).toEqual(['0 30000007 56789000 1234']);
    // 2^9 pages: bits below the window's highest are ones, that one is 0.
    expect(flush(host, d, 0x12_3456, 2)).toEqual(['0 30000007 234ff003 1']);
    expect(flush(host, d, 0x12_3456, 0x400)).toEqual(['0 30000007 1ffff003 1']);
    expect(flush(host, d, 0, 2 ** 19)).toEqual(['0 30000007 fffff003 7fffffff']);
  });
  test('devices with ATS after it: queue depth, id, address and size', () => {
    const host = new AmdHost({
      opts: { ats: true, quarantine: 'none' },
      seams: { amdIotlbSizeFlag: (s) => s },
    });
    host.configOf(0x218).set([0x0f, 0, 0, 0, 8, 0, 0, 0], 0x100);
    host.boot([{ bdf: 0x218, stride: 4 }]);
    const d = host.newDomain(7, true);
    host.assign(d, host.pdev(0x218));
    const pages = (dfn: number, count: number): string[] => flush(host, d, dfn, count).slice(1);
    // Each phantom function has its own.
    expect(pages(0x12_3456, 1)).toEqual(['8000218 40000218 23456000 1', '800021c 4000021c 23456000 1']);
    expect(pages(0x12_3456, 2)).toEqual(['8000218 40000218 234ff001 1', '800021c 4000021c 234ff001 1']);
    expect(pages(0, 2 ** 19)).toEqual([
      '8000218 40000218 fffff001 7fffffff',
      '800021c 4000021c fffff001 7fffffff',
    ]);
  });
  test('a unit that can is told to forget everything when it starts, and others are not', () => {
    const start = (efr: number): number => {
      const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES, { efr: [efr, 0] })] });
      host.probe();
      runAlone(host.driver.setup());
      const ring = host.driver.state.units[0]!.cmdBuffer;
      return ring.tail === 0 ? 0 : host.ram.read32(ring.mfn * 4096 + 4) >>> 28;
    };
    expect([start(0x40), start(0)]).toEqual([8, 0]);
  });
  test('the wait of each CPU has a status word of its own', () => {
    const { host, d } = guest();
    const waits = (cpu: number): string => {
      const was = host.cpus.current;
      host.cpus.current = host.cpus.list[cpu]!;
      const all = fetched(host, () => runAlone(host.driver.ops.iotlbFlush(d, 1, 1, FLUSHF.modified)));
      host.cpus.current = was;
      return all.at(-1)!;
    };
    const poll = host.driver.state.pollMfn;
    const at = (cpu: number): string =>
      `${((poll % 0x10_0000) * 4096 + cpu * 8 + 1).toString(16)} ${(0x1000_0000 + Math.floor(poll / 0x10_0000)).toString(16)}`;
    expect(waits(0)).toMatch(new RegExp(`^${at(0)} `));
    expect(waits(1)).toMatch(new RegExp(`^${at(1)} `));
  });
  test('mapping and unmapping above 4 GiB reach the very frames, in pages of each size', () => {
    const { host, d } = guest();
    for (const [dfn, mfn, order] of [
      [0x23_4567, 0x34_5678, 0],
      [0x40_0200, 0x1_2345_6600, 9],
      [0x100_0000, 0x7_ffc0_0000, 18],
      [0x7f_ffff, 0xf_ffff_fffe, 0],
    ] as const) {
      expect(host.map(d, dfn, mfn, order, IOMMUF.readable | IOMMUF.writable)).toBe(0);
      const last = 2 ** order - 1;
      expect([host.dma(0x200, dfn), host.dma(0x200, dfn + last)]).toEqual([mfn, mfn + last]);
      if (order > 0) expect(host.dma(0x200, dfn + last + 1)).toBe(-1);
      host.unmap(d, dfn, order);
      expect(host.dma(0x200, dfn)).toBe(-1);
    }
  });
});
