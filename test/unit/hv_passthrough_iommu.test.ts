/** Mapping, flushing and set-up of the common IOMMU code. @xen drivers/passthrough/iommu.c, x86/iommu.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { P2M } from '../../src/hypervisor/mm/p2m.js';
import { iommuIdentityMapping } from '../../src/hypervisor/passthrough/identity.js';
import {
  dumpIommuInfo,
  dumpIommuPageTables,
  iommuDomainInit,
  iommuFreePgtables,
  iommuIotlbFlush,
  iommuLegacyMap,
  iommuLegacyUnmap,
  iommuLookupPage,
  iommuMap,
  iommuSetup,
  iommuUnmap,
  mappingOrder,
  processPendingSoftirqs,
} from '../../src/hypervisor/passthrough/iommu.js';
import { FLUSHF, type FlushAcc, INVALID_DFN, IOMMUF, type P2mAccess } from '../../src/iommu/driver/types.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import { DOMID, OWNER_FREE } from '../../src/sim/frames.js';
import { makeXen, type TestXen, type TestXenOptions, withPcidevs } from '../helpers/xen.js';

const RW = IOMMUF.readable | IOMMUF.writable;
const pages = (xen: TestXen): string[] =>
  xen.vendor.pages.map(
    (p) => `${p.op} ${p.dfn.toString(16)}/${p.order}${p.op === 'flush' ? ` ${p.flags}` : ''}`,
  );

describe('mapping_order()', () => {
  const ALL = 2 ** 12 + 2 ** 21 + 2 ** 30;
  test.each([
    { sizes: ALL, dfn: 0, mfn: 0, nr: 2 ** 18, order: 18 },
    { sizes: ALL, dfn: 0, mfn: 0, nr: 2 ** 18 - 1, order: 9 },
    { sizes: ALL, dfn: 2 ** 18, mfn: 2 ** 9, nr: 2 ** 18, order: 9 },
    { sizes: ALL, dfn: 1, mfn: 2 ** 18, nr: 2 ** 18, order: 0 },
    { sizes: ALL, dfn: 0, mfn: 0, nr: 511, order: 0 },
    { sizes: 2 ** 12 + 2 ** 21, dfn: 0, mfn: 0, nr: 2 ** 18, order: 9 },
    { sizes: 2 ** 12, dfn: 0, mfn: 0, nr: 2 ** 18, order: 0 },
    { sizes: ALL, dfn: 2 ** 36, mfn: 2 ** 36, nr: 2 ** 18, order: 18 },
  ])('FT-B08 dfn $dfn, mfn $mfn, $nr frames: order $order', ({ sizes, dfn, mfn, nr, order }) => {
    expect(mappingOrder(sizes, dfn, mfn, nr)).toBe(order);
  });
});

describe('iommu_map() and iommu_unmap()', () => {
  const acc = (): FlushAcc => ({ flags: 0 });

  test('FT-B08 the largest pages that fit, small ones at both ends', () => {
    const xen = makeXen();
    const a = acc();
    expect(runAlone(iommuMap(xen, xen.guest(1), 511, 511, 514, RW, a))).toBe(0);
    expect([pages(xen), a.flags]).toEqual([['map 1ff/0', 'map 200/9', 'map 400/0'], FLUSHF.added]);
  });

  test('FT-B06 INV-F8 a page that fails takes the ones before with it, and the guest', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    xen.vendor.fail('map', 0x12, E.NOMEM);
    const a = acc();
    expect(runAlone(iommuMap(xen, d, 0x10, 0x20, 4, RW, a))).toBe(E.NOMEM);
    expect(pages(xen)).toEqual([
      'map 10/0',
      'map 11/0',
      'map 12/0',
      'unmap 10/0',
      'unmap 11/0',
      'flush -1/0 7',
    ]);
    expect([a.flags, d.crashed]).toEqual([0, true]);
    expect(xen.news().slice(0, 2)).toEqual([
      'd1: IOMMU mapping dfn 12 to mfn 00022 failed: -12',
      'domain_crash called from drivers/passthrough/iommu.c:366',
    ]);
  });

  test('FT-B06 the hardware domain is told, not crashed; one page alone is not flushed', () => {
    const xen = makeXen();
    xen.vendor.fail('map', 5, E.NOMEM);
    expect(runAlone(iommuMap(xen, xen.hwdom, 5, 5, 1, RW, acc()))).toBe(E.NOMEM);
    expect([pages(xen), xen.hwdom.crashed]).toEqual([['map 5/0'], false]);
    expect(xen.news()).toEqual(['d0: IOMMU mapping dfn 5 to mfn 00005 failed: -12']);
  });

  test('a domain that is going already is not reported again', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    d.isShuttingDown = true;
    xen.vendor.fail('map', 5, E.NOMEM);
    runAlone(iommuMap(xen, d, 5, 5, 1, RW, acc()));
    expect(xen.news().filter((l) => l.includes('IOMMU'))).toEqual([]);
  });

  test('FT-B07 unmapping a guest ends at the first error and crashes it', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    xen.vendor.fail('unmap', 1, E.IO);
    expect(runAlone(iommuUnmap(xen, d, 0, 4, 0, acc()))).toBe(E.IO);
    expect([pages(xen), d.crashed]).toEqual([['unmap 0/0', 'unmap 1/0', 'flush -1/0 6'], true]);
    expect(xen.news()[0]).toBe('d1: IOMMU unmapping dfn 1 failed: -5');
  });

  test('FT-B07 for the hardware domain it goes on, and returns the first error', () => {
    const xen = makeXen();
    xen.vendor.fail('unmap', 1, E.IO, 1);
    xen.vendor.fail('unmap', 2, E.NXIO, 1);
    expect(runAlone(iommuUnmap(xen, xen.hwdom, 0, 4, 0, acc()))).toBe(E.IO);
    expect(pages(xen)).toEqual(['unmap 0/0', 'unmap 1/0', 'unmap 2/0', 'unmap 3/0', 'flush -1/0 6']);
    expect(xen.hwdom.crashed).toBe(false);
  });

  test('the legacy calls flush what they did, and only then', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    expect(runAlone(iommuLegacyMap(xen, d, 3, 3, 2, RW))).toBe(0);
    expect(runAlone(iommuLegacyUnmap(xen, d, 3, 2))).toBe(0);
    expect(pages(xen)).toEqual([
      'map 3/0',
      'map 4/0',
      'flush 3/2 1',
      'unmap 3/0',
      'unmap 4/0',
      'flush 3/2 2',
    ]);
    xen.vendor.pages.length = 0;
    xen.vendor.fail('map', 9, E.NOMEM);
    expect(runAlone(iommuLegacyMap(xen, xen.hwdom, 9, 9, 1, RW))).toBe(E.NOMEM);
    expect(pages(xen)).toEqual(['map 9/0']);
  });

  test('a flush that fails crashes a guest; an address without meaning is -EINVAL', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    expect(runAlone(iommuIotlbFlush(xen, d, INVALID_DFN, 1, 1))).toBe(E.INVAL);
    expect(runAlone(iommuIotlbFlush(xen, d, 7, 0, 1))).toBe(0);
    xen.vendor.fail('flush', 7, E.TIMEDOUT);
    expect(runAlone(iommuIotlbFlush(xen, d, 7, 16, 3))).toBe(E.TIMEDOUT);
    expect(xen.news()[0]).toBe('d1: IOMMU IOTLB flush failed: -110, dfn 7, page count 16 flags 3');
    expect(d.crashed).toBe(true);
  });

  test('looking a page up needs an IOMMU and a vendor that can', () => {
    const out = { mfn: 0, flags: 0 };
    const xen = makeXen();
    expect([runAlone(iommuLookupPage(xen, xen.guest(1), 2, out)), out.mfn]).toEqual([0, 0x1002]);
    expect(runAlone(iommuLookupPage(xen, xen.guest(2, { iommu: false }), 2, out))).toBe(E.OPNOTSUPP);
    const amd = makeXen({ bare: true });
    expect(runAlone(iommuLookupPage(amd, amd.guest(1), 2, out))).toBe(E.OPNOTSUPP);
  });

  test('without an IOMMU everything succeeds and nothing happens', () => {
    const xen = makeXen();
    const d = xen.guest(1, { iommu: false });
    expect(runAlone(iommuMap(xen, d, 0, 0, 8, RW, acc()))).toBe(0);
    expect(runAlone(iommuUnmap(xen, d, 0, 8, 0, acc()))).toBe(0);
    expect(runAlone(iommuIotlbFlush(xen, d, 0, 8, 1))).toBe(0);
    expect(pages(xen)).toEqual([]);
  });
});

describe('iommu_setup()', () => {
  const setup = (o: Parameters<typeof makeXen>[0], line = 0): { xen: TestXen; lines: string[] } => {
    const xen = makeXen({ ...o, boot: 'none' });
    xen.iommuEnabled = false;
    xen.domIo.iommuEnabled = false;
    runAlone(iommuSetup(xen));
    return { xen, lines: xen.news().slice(line) };
  };
  const ON = 'I/O virtualisation enabled';
  const OFF = 'I/O virtualisation disabled';
  const REMAP = 'Interrupt remapping enabled';

  test.each([
    { opts: {}, lines: [ON, ' - Dom0 mode: Relaxed', REMAP] },
    { opts: { hwdomStrict: true }, lines: [ON, ' - Dom0 mode: Strict', REMAP] },
    { opts: { hwdomPassthrough: true }, lines: [ON, ' - Dom0 mode: Passthrough', REMAP] },
    { opts: { hwdomPassthrough: true, hwdomStrict: true }, lines: [ON, ' - Dom0 mode: Strict', REMAP] },
    { opts: { intremap: 'off' }, lines: [ON, ' - Dom0 mode: Relaxed', 'Interrupt remapping disabled'] },
    { opts: { enable: false, hwdomStrict: true }, lines: [OFF] },
  ] as const)('FT-B04 $opts prints $lines', ({ opts, lines }) => {
    expect(setup({ opts }).lines).toEqual(lines);
  });

  test('what is off takes its companions with it', () => {
    const { xen } = setup({ opts: { enable: false, hwdomStrict: true, intpost: true } });
    expect(xen.opts).toMatchObject({
      hwdomStrict: false,
      hwdomPassthrough: false,
      intremap: 'off',
      intpost: false,
    });
    expect([xen.iommuEnabled, xen.domIo.iommuEnabled]).toEqual([false, false]);
  });

  test('FT-B03 what is required and cannot be had stops the boot', () => {
    expect(() => setup({ driver: false, opts: { force: true } })).toThrow(
      "Couldn't enable IOMMU and iommu=required/force",
    );
    const xen = makeXen({ boot: 'none', opts: { force: true } });
    const turnsOff = {
      ops: xen.vendor,
      *setup(): Co<number> {
        xen.opts.intremap = 'off';
        return 0;
      },
    };
    Object.assign(xen, { driver: turnsOff });
    expect(() => runAlone(iommuSetup(xen))).toThrow(
      "Couldn't enable Interrupt Remapping and iommu=required/force",
    );
    expect(setup({ driver: false }).lines).toEqual([OFF]);
    // Switched off is as bad as absent; interrupt remapping that nobody asked for is not missed.
    expect(() => setup({ opts: { enable: false, force: true } })).toThrow(
      "Couldn't enable IOMMU and iommu=required/force",
    );
    expect(setup({ opts: { force: true, intremap: 'off' } }).lines[0]).toBe(ON);
  });

  test('superpages can be forbidden', () => {
    expect(setup({ opts: { superpages: false } }).xen.vendor.pageSizes).toBe(4096);
  });
});

describe('iommu_domain_init()', () => {
  const pair = (o: { hap: boolean; option: boolean; noSharept: boolean }): string => {
    const xen = makeXen({ opts: { hapPtShare: o.option } });
    const d = xen.guest(1, { hvm: true, hap: o.hap });
    d.iommu.needSync = false;
    expect(runAlone(iommuDomainInit(xen, d, o.noSharept))).toBe(0);
    return d.iommu.hapPtShare ? 'shared' : d.iommu.needSync ? 'synced' : 'neither';
  };
  test.each([
    { hap: true, option: true, noSharept: false, is: 'shared' },
    { hap: false, option: true, noSharept: false, is: 'synced' },
    { hap: true, option: false, noSharept: false, is: 'synced' },
    { hap: true, option: true, noSharept: true, is: 'synced' },
  ])('FT-B05 HAP $hap, option $option, no_sharept $noSharept: $is', ({ is, ...o }) => {
    expect(pair(o)).toBe(is);
  });

  test.each([
    { strict: false, sync: false },
    { strict: true, sync: true },
  ])('FT-B05 the hardware domain is kept in step only when strict: $strict', ({ strict, sync }) => {
    const xen = makeXen({ opts: { hwdomStrict: strict } });
    expect(runAlone(iommuDomainInit(xen, xen.hwdom, false))).toBe(0);
    expect([xen.hwdom.iommu.needSync, xen.hwdom.iommu.hapPtShare]).toEqual([sync, false]);
  });

  // 16 combinations: a guest's own tables follow its memory unless the p2m serves for both.
  const flags = [false, true];
  const all = flags.flatMap((hap) =>
    flags.flatMap((option) =>
      flags.flatMap((noSharept) => flags.map((strict) => ({ hap, option, noSharept, strict }))),
    ),
  );
  test.each(all)(
    'FT-B05 a guest and dom0 with %j have tables that are shared or in step, never both',
    (c) => {
      const xen = makeXen({ opts: { hapPtShare: c.option, hwdomStrict: c.strict } });
      const d = xen.guest(1, { hvm: true, hap: c.hap });
      const shares = c.hap && c.option && !c.noSharept;
      for (const who of [d, xen.hwdom]) {
        who.iommu.needSync = false;
        expect(runAlone(iommuDomainInit(xen, who, c.noSharept))).toBe(0);
      }
      expect([d.iommu.hapPtShare, d.iommu.needSync]).toEqual([shares, !shares]);
      expect([xen.hwdom.iommu.hapPtShare, xen.hwdom.iommu.needSync]).toEqual([false, c.strict]);
      expect([xen.domIo.iommu.hapPtShare, xen.domIo.iommu.needSync]).toEqual([false, false]);
    },
  );

  test('the error of the vendor is the error', () => {
    const xen = makeXen();
    xen.vendor.fail('init', 0, E.NOMEM);
    expect(runAlone(iommuDomainInit(xen, xen.guest(1), false))).toBe(E.NOMEM);
  });

  test('FT-B02 a PVH hardware domain is strict, whatever was asked', () => {
    const xen = makeXen({ opts: { hwdomPassthrough: true } });
    const pvh = xen.guest(3, { hvm: true, hap: false });
    xen.hwdom = pvh;
    pvh.iommu.needSync = false;
    expect(runAlone(iommuDomainInit(xen, pvh, false))).toBe(0);
    expect(xen.opts).toMatchObject({ hwdomStrict: true, hwdomPassthrough: false });
    expect([pvh.iommu.needSync, pvh.iommu.hapPtShare]).toEqual([true, false]);
  });

  test('FT-B02 dom0-iommu=none lets a PVH hardware domain be; without an IOMMU it cannot live', () => {
    const pvhOf = (o: TestXenOptions): { xen: TestXen; rc: () => number } => {
      const xen = makeXen(o);
      const pvh = xen.guest(3, { hvm: true, iommu: o.opts?.enable ?? true });
      pvh.iommu.needSync = false;
      xen.hwdom = pvh;
      return { xen, rc: () => runAlone(iommuDomainInit(xen, pvh, false)) };
    };
    const none = pvhOf({ opts: { hwdomNone: true, hwdomPassthrough: true } });
    expect(none.rc()).toBe(0);
    expect(none.xen.opts).toMatchObject({ hwdomStrict: false, hwdomPassthrough: true });
    expect(() => pvhOf({ opts: { enable: false } }).rc()).toThrow(
      'Presently, iommu must be enabled for PVH hardware domain',
    );
  });
});

describe('I/O page tables', () => {
  test('FT-B16 INV-F7 a table taken out of use is free only after the flush', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    const first = xen.services.allocPgtable(d);
    const second = xen.services.allocPgtable(d);
    expect(xen.frames.owner(first)).toBe(DOMID.XEN);
    xen.services.queueFreePgtable(d, first);
    expect([d.iommu.pgtables, xen.frames.owner(first)]).toEqual([[second], DOMID.XEN]);
    expect(xen.services.allocPgtable(undefined)).not.toBe(first);
    processPendingSoftirqs(xen);
    expect(xen.frames.owner(first)).toBe(OWNER_FREE);
  });

  test('tables come zeroed, and 0 stands for no memory', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    const mfn = xen.services.allocPgtable(d);
    xen.ram.write32(mfn * 4096, 42);
    xen.services.queueFreePgtable(d, mfn);
    processPendingSoftirqs(xen);
    expect([xen.services.allocPgtable(d), xen.ram.read32(mfn * 4096)]).toEqual([mfn, 0]);
    xen.faults.failNth(1);
    expect([xen.services.allocPgtable(d), d.iommu.pgtables.length]).toEqual([0, 1]);
  });

  test('all of them go with the domain', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    const before = xen.heap.freeFrames;
    for (let n = 0; n < 300; n++) xen.services.allocPgtable(d);
    expect(runAlone(iommuFreePgtables(xen, d))).toBe(0);
    expect([d.iommu.pgtables.length, xen.heap.freeFrames]).toEqual([0, before]);
    expect(d.iommu.mappingLock.depth).toBe(0);
  });

  test("keys 'o' and 'V' skip the hardware domain and those without an IOMMU", () => {
    const xen = makeXen();
    xen.guest(2);
    xen.guest(1, { hvm: true }).iommu.hapPtShare = true;
    xen.guest(3, { iommu: false });
    runAlone(dumpIommuPageTables(xen));
    runAlone(dumpIommuInfo(xen));
    expect(xen.news()).toEqual(['d1 sharing page tables', 'tables of d2', 'iommu info']);
  });
});

describe('iommu_identity_mapping()', () => {
  const ask = (xen: TestXen, access: P2mAccess, base: number, end: number, flag = 0, domid = 1): number =>
    runAlone(
      withPcidevs(xen, () => iommuIdentityMapping(xen, xen.domains.get(domid)!, access, base, end, flag)),
    );
  const hvm = (): TestXen => {
    const xen = makeXen();
    xen.guest(1, { hvm: true });
    return xen;
  };

  test('FT-B13 INV-F11 a second holder counts, the last one clears', () => {
    const xen = hvm();
    const p2m = xen.domains.get(1)!.p2m!;
    expect([ask(xen, 'rw', 0x80, 0x81), ask(xen, 'rw', 0x80, 0x81)]).toEqual([0, 0]);
    expect(p2m.lookup(0x81)).toMatchObject({ mfn: 0x81, type: P2M.mmioDirect, writable: true });
    expect(ask(xen, 'x', 0x80, 0x81)).toBe(0);
    expect(p2m.lookup(0x80).mfn).toBe(0x80);
    expect(ask(xen, 'x', 0x80, 0x81)).toBe(0);
    expect([p2m.lookup(0x80).mfn, p2m.lookup(0x81).mfn, ask(xen, 'x', 0x80, 0x81)]).toEqual([
      -1,
      -1,
      E.NOENT,
    ]);
  });

  test('FT-B13 ranges that overlap or want other access are -EADDRINUSE', () => {
    const xen = hvm();
    expect(ask(xen, 'rw', 0x80, 0x83)).toBe(0);
    expect([ask(xen, 'rw', 0x83, 0x84), ask(xen, 'rw', 0x7f, 0x80), ask(xen, 'r', 0x80, 0x83)]).toEqual([
      E.ADDRINUSE,
      E.ADDRINUSE,
      E.ADDRINUSE,
    ]);
    expect(ask(xen, 'rw', 0x84, 0x84)).toBe(0);
  });

  test.each([
    { flag: 0, rc: E.BUSY },
    { flag: 1, rc: 0 },
  ])('FT-B14 a guest frame that is taken gives $rc with flag $flag, and a line', ({ flag, rc }) => {
    const xen = hvm();
    const d = xen.domains.get(1)!;
    d.p2m!.setEntry(0x81, 0x5000, 0, P2M.ramRw, true);
    expect(ask(xen, 'rw', 0x80, 0x82, flag)).toBe(rc);
    expect(xen.news()).toEqual(['Cannot setup identity map d1:81, gfn already mapped to 5000.']);
    expect(d.p2m!.lookup(0x81).mfn).toBe(0x5000);
    // The range is known even when it is only half mapped, so that it can be cleaned up.
    expect(ask(xen, 'x', 0x80, 0x82)).toBe(0);
    expect(xen.news()).toEqual(['non-identity map d1:81 not cleared (mapped to 5000)']);
  });

  test('a range that fails at its first frame is forgotten', () => {
    const xen = hvm();
    xen.domains.get(1)!.p2m!.setEntry(0x80, 0x5000, 0, P2M.ramRw, true);
    expect([ask(xen, 'rw', 0x80, 0x82), ask(xen, 'x', 0x80, 0x82)]).toEqual([E.BUSY, E.NOENT]);
  });

  test('a PV domain maps frame by frame with a flush, and without an IOMMU not at all', () => {
    const xen = makeXen();
    xen.guest(1);
    expect(ask(xen, 'r', 0x80, 0x81)).toBe(0);
    expect(pages(xen)).toEqual(['map 80/0', 'flush 80/1 1', 'map 81/0', 'flush 81/1 1']);
    expect(xen.vendor.pages[0]?.flags).toBe(IOMMUF.readable);
    xen.vendor.pages.length = 0;
    xen.vendor.fail('unmap', 0x80, E.IO);
    expect(ask(xen, 'x', 0x80, 0x81)).toBe(E.NXIO);
    xen.guest(2, { iommu: false });
    expect([ask(xen, 'rw', 0x80, 0x80, 0, 2), ask(xen, 'x', 0x80, 0x80, 0, 2)]).toEqual([0, 0]);
  });
});
