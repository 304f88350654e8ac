/** What the driver does for devices of rarer kinds, and on CPUs of an older one. @xen drivers/passthrough/vtd */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { E } from '../../src/base/errno.js';
import { DEV_RDM_RELAXED, PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { intelIommuEnableDevice } from '../../src/iommu/driver/vtd/assign.js';
import { msiFreeRemapEntries, msiMsgWriteRemapRte } from '../../src/iommu/driver/vtd/intremap.js';
import { QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import { at, drhd, VtdHost } from '../helpers/vtd_host.js';

describe('the interrupt entry of an MSI on a CPU without CMPXCHG16B', () => {
  /** `vector` for `dest`, lowest priority. */
  const message = (vector: number, dest: number) => ({
    addressLo: 0xfee0_000c | (dest << 12),
    addressHi: 0,
    data: 0x4100 | vector,
  });
  const used = () => {
    const h = new VtdHost({ cpu: { cx16: false }, seams: { vtdRequiresCx16: () => false } });
    const pdev = h.endpoint(at(2, 0));
    h.boot();
    const desc = { pdev, remapIndex: -1, irteInitialized: false };
    const msg = message(0x30, 1);
    const write = (vector: number, dest: number): number => {
      Object.assign(msg, message(vector, dest));
      return runAlone(msiMsgWriteRemapRte(h.driver.vtd, [desc], 0, msg));
    };
    const arrives = () => h.units[0]!.remapInterrupt(0x200, msg.addressLo, msg.data);
    expect([write(0x30, 1), arrives()]).toEqual([0, expect.objectContaining({ vector: 0x30, dest: 1 })]);
    return { h, pdev, desc, write, arrives };
  };

  test('while in use changes its lower half at once: vector and destination', () => {
    const { write, arrives } = used();
    expect([write(0x38, 2), arrives()]).toEqual([0, expect.objectContaining({ vector: 0x38, dest: 2 })]);
  });

  test('while in use changes its upper half at once: who may send it', () => {
    const { h, pdev, write, arrives } = used();
    pdev.phantomStride = 4;
    expect([write(0x30, 1), arrives()]).toEqual([0, expect.objectContaining({ vector: 0x30, dest: 1 })]);
    expect(h.units[0]!.remapInterrupt(0x204, 0xfee0_0018, 0)).toMatchObject({ vector: 0x30 });
  });

  test.each([
    { what: 'vector', vector: 0x38, dest: 1 },
    { what: 'destination', vector: 0x30, dest: 2 },
  ])('while in use cannot change the $what and who may send it: Xen stops', ({ vector, dest }) => {
    const { pdev, write } = used();
    pdev.phantomStride = 4;
    expect(() => write(vector, dest)).toThrow(HostCrash);
  });

  test('once given back changes as a whole', () => {
    const { h, pdev, desc, write, arrives } = used();
    runAlone(msiFreeRemapEntries(h.driver.vtd, [desc]));
    Object.assign(desc, { remapIndex: -1, irteInitialized: false });
    pdev.phantomStride = 4;
    expect([write(0x38, 2), arrives()]).toEqual([0, expect.objectContaining({ vector: 0x38, dest: 2 })]);
  });
});

describe('ATS', () => {
  // PCI Express capability at 40h, its type in bits 7:4 of the second half-word; ATS at 100h.
  test.each([
    { type: 9, is: 'integrated in the root complex', ats: true },
    { type: 0, is: 'behind a port', ats: false },
    { type: 1, is: 'an old device behind a port', ats: false },
  ])('a device that is $is uses it without an ATSR: $ats', ({ type, ats }) => {
    const h = new VtdHost({ ecap: [QEMU_ECAP[0] | 4, 0], structures: [drhd([])], opts: { ats: true } });
    const caps = { 52: 0x40, 64: 0x10, 66: (type << 4) | 2, 256: 0x0f, 258: 1, 260: 0x1f };
    h.s.addFunction(at(2, 0), 0x1234_10ec, caps);
    const pdev = h.endpoint(at(2, 0));
    h.boot();
    expect([pdev.atsEnabled, h.s.confRead(at(2, 0), 0x106, 2)]).toEqual(ats ? [true, 0x8000] : [false, 0]);
  });

  // vtd/x86/ats.c of 4.18.3: a copy of the unit is allocated for the first such device behind it, and kept.
  test.each([
    { allocates: true, is: '4.18', rcs: [E.NOMEM, 0] },
    { allocates: false, is: 'the newest', rcs: [0, 0] },
  ])('the first device of a unit needs memory: $is', ({ allocates, rcs }) => {
    const h = new VtdHost({
      ecap: [QEMU_ECAP[0] | 4, 0],
      structures: [drhd([])],
      opts: { ats: true },
      seams: { vtdAllocatesAtsUnit: () => allocates },
    });
    h.boot();
    const caps = { 52: 0x40, 64: 0x10, 66: 0x92, 256: 0x0f, 258: 1, 260: 0x1f };
    h.s.addFunction(at(2, 0), 0x1234_10ec, caps);
    const pdev = h.endpoint(at(2, 0));
    h.s.faults.failNth(1, 'alloc');
    const enable = (): number => intelIommuEnableDevice(h.driver.vtd, pdev);
    const first = enable();
    expect([first, pdev.atsEnabled]).toEqual([rcs[0], rcs[0] === 0]);
    h.s.faults.disarm();
    expect([enable(), pdev.atsEnabled]).toEqual([rcs[1], true]);
  });
});

describe('two functions behind a PCIe-to-PCI bridge, quarantined with scratch pages', () => {
  const quarantined = (follows: boolean) => {
    const h = new VtdHost({
      opts: { quarantine: 'scratch-page' },
      seams: { vtdAliasFollowsQuarantine: () => follows },
    });
    h.s.addPdev(at(8, 0), PDEV_TYPE.PCIE2PCI_BRIDGE);
    const both = [at(9, 1), at(9, 2)].map((where) => h.s.addPdev(where, PDEV_TYPE.PCI));
    h.s.bus2bridge.set(9, { bus: 8, devfn: 0 });
    h.boot();
    for (const pdev of both) {
      expect(h.quarantine(pdev, true)).toBe(0);
      expect(h.assign(h.s.domIo, pdev, pdev.devfn, DEV_RDM_RELAXED)).toBe(0);
    }
    // The bridge sends for both under 09:00.0.
    return { pages: both.map((p) => p.arch.leafMfn), bridge: h.dma(9, 0, 0, 0x123) };
  };

  test('V6: requests of the bridge reach the page of the function that came last; in releases, of the first', () => {
    const last = quarantined(true);
    expect(last.bridge).toBe(last.pages[1]);
    const releases = quarantined(false);
    expect(releases.bridge).toBe(releases.pages[0]);
  });
});
