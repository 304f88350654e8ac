/** Phantom functions: announced, told by the option, and found again by their ids. @xen drivers/passthrough/pci.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { pciAddDevice } from '../../src/hypervisor/passthrough/device_add.js';
import { parsePciPhantom } from '../../src/hypervisor/passthrough/pci_options.js';
import { pciGetRealPdev } from '../../src/hypervisor/passthrough/segment.js';
import type { PhantomOption } from '../../src/hypervisor/xen.js';
import { runAlone } from '../../src/sim/co.js';
import { type DeviceSpec, endpoint, makeXen, sbdf, underLock } from '../helpers/xen.js';

describe('phantom functions', () => {
  const announced = [
    { bits: 0, fn: 0, stride: 0 },
    { bits: 1, fn: 0, stride: 4 },
    { bits: 2, fn: 0, stride: 2 },
    { bits: 3, fn: 0, stride: 1 },
    { bits: 1, fn: 3, stride: 4 },
    { bits: 1, fn: 4, stride: 0 },
    { bits: 2, fn: 1, stride: 2 },
    { bits: 2, fn: 2, stride: 0 },
    { bits: 3, fn: 1, stride: 0 },
  ] as const;
  test.each(announced)(
    'FT-A22 INV-P3 DEVCAP field $bits on function $fn: stride $stride',
    ({ bits, fn, stride }) => {
      const spec: DeviceSpec = { sbdf: sbdf(0, 3, 0, fn), kind: 'pcie-endpoint', phantomBits: bits };
      const xen = makeXen({ devices: fn === 0 ? [spec] : [endpoint(3, 0), spec] });
      expect(xen.dev(3, 0, fn).phantomStride).toBe(stride);
    },
  );

  const phantom = (stride: number, slot = 0): PhantomOption => ({ seg: 0, bus: 3, slot, stride });

  test('FT-A23 INV-P6 the option speaks for devices that announce nothing, in its slot, below its stride', () => {
    const stride = (devices: DeviceSpec[], option: PhantomOption, fn = 0): number =>
      makeXen({ devices, phantoms: [option] }).dev(3, 0, fn).phantomStride;
    expect(stride([endpoint(3, 0)], phantom(2))).toBe(2);
    expect(stride([endpoint(3, 0, 0, 4)], phantom(1))).toBe(4);
    expect(stride([endpoint(3, 0)], phantom(2, 1))).toBe(0);
    expect(stride([endpoint(3, 0)], { ...phantom(2), bus: 4 })).toBe(0);
    expect(stride([endpoint(3, 0), endpoint(3, 0, 2)], phantom(2), 2)).toBe(0);
    expect(stride([{ sbdf: sbdf(0, 3, 0, 0), kind: 'pci-device' }], phantom(2))).toBe(0);
  });

  const grammar: readonly { text: string; rc: number; got?: PhantomOption }[] = [
    { text: '03:00,1', rc: 0, got: phantom(1) },
    { text: '0:3:1f,4', rc: 0, got: phantom(4, 0x1f) },
    { text: '1:3:0,0x2', rc: 0, got: { ...phantom(2), seg: 1 } },
    { text: '', rc: E.INVAL },
    { text: '03:00', rc: E.INVAL },
    { text: '03:00,3', rc: E.INVAL },
    { text: '03:00,8', rc: E.INVAL },
    { text: '03:00,1x', rc: E.INVAL },
    { text: '03:20,1', rc: E.INVAL },
    { text: '103:00,1', rc: E.INVAL },
    { text: '03,1', rc: E.INVAL },
  ];
  test.each(grammar)('FT-A23 pci-phantom=$text gives $rc', ({ text, rc, got }) => {
    const list: PhantomOption[] = [];
    expect(parsePciPhantom(list, text)).toBe(rc);
    expect(list).toEqual(got === undefined ? [] : [got]);
  });

  test('FT-A23 the ninth is one too many', () => {
    const list: PhantomOption[] = [];
    const rcs = Array.from({ length: 9 }, (_, i) => parsePciPhantom(list, `0${i}:00,1`));
    expect([rcs.slice(0, 8).every((rc) => rc === 0), rcs[8], list.length]).toEqual([true, E.TOOBIG, 8]);
  });

  const bumped = [
    { real: [], option: 1, stride: 1, says: [] },
    { real: [1], option: 1, stride: 2, says: ['03:00.1 2'] },
    { real: [1, 2], option: 1, stride: 4, says: ['03:00.1 2', '03:00.2 4'] },
    { real: [3], option: 1, stride: 2, says: ['03:00.3 2'] },
    { real: [6], option: 2, stride: 4, says: ['03:00.6 4'] },
    { real: [4], option: 4, stride: 0, says: ['03:00.4 8'] },
    { real: [4], option: 1, stride: 0, says: ['03:00.4 2', '03:00.4 4', '03:00.4 8'] },
  ] as const;
  test.each(bumped)(
    'FT-A24 real functions at $real, option $option: stride $stride',
    ({ real, option, stride, says }) => {
      const xen = makeXen({
        devices: [endpoint(3, 0), ...real.map((fn) => endpoint(3, 0, fn))],
        phantoms: [phantom(option)],
        boot: 'none',
      });
      runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
      expect(xen.dev(3, 0).phantomStride).toBe(stride);
      expect(xen.news().filter((l) => l.includes('bumping'))).toEqual(
        says.map((s) => {
          const [at, to] = s.split(' ');
          return `0000:${at} looks to be a real device; bumping 0000:03:00 stride to ${to}`;
        }),
      );
    },
  );

  test('FT-A24 a function that has one of its two ids only is real', () => {
    const half = (id: 'vendor' | 'device'): DeviceSpec => ({
      ...endpoint(3, 0, 1),
      edit: (c) => c.setUint16(id === 'vendor' ? 0 : 2, 0xffff, true),
    });
    for (const id of ['vendor', 'device'] as const) {
      const xen = makeXen({ devices: [endpoint(3, 0), half(id)], phantoms: [phantom(1)], boot: 'none' });
      runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
      expect(xen.dev(3, 0).phantomStride).toBe(2);
    }
  });

  const resolves = [
    { stride: 1, found: [1, 3, 5, 7] },
    { stride: 2, found: [2, 6] },
    { stride: 4, found: [4] },
    { stride: 0, found: [] },
  ] as const;
  test.each(resolves)('FT-A25 INV-P5 stride $stride: $found lead to the device', ({ stride, found }) => {
    const xen = makeXen({ devices: [endpoint(3, 0, 0, stride)] });
    const real = [1, 2, 3, 4, 5, 6, 7].filter(
      (fn) => underLock(xen, () => pciGetRealPdev(xen, sbdf(0, 3, 0, fn))) === xen.dev(3, 0),
    );
    expect(real).toEqual(found);
    expect(underLock(xen, () => pciGetRealPdev(xen, sbdf(0, 3, 0, 0)))).toBe(xen.dev(3, 0));
  });
});
