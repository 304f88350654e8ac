/** The small parts of the driver: pseudo ids, hand-written masks, printing of words. */
import { describe, expect, test } from 'vitest';
import { get, set } from '../../src/base/layout.js';
import {
  DomidCursor,
  iommuAllocDomid,
  iommuFreeDomid,
  iommuInitDomid,
} from '../../src/iommu/driver/domid.js';
import { CONTEXT_BITS } from '../../src/iommu/driver/vtd/context.js';
import { DID_MASK } from '../../src/iommu/driver/vtd/did.js';
import { hexq } from '../../src/iommu/driver/vtd/state.js';
import { CONTEXT } from '../../src/iommu/format/vtd.js';
import { DOMID } from '../../src/sim/frames.js';
import { TestServices } from '../helpers/services.js';

describe('the units that hold an entry of a domain', () => {
  test.each([0, 30, 31, 32, 200])('unit %i comes and goes by itself', (index) => {
    const { iommu } = new TestServices().hwdom;
    iommu.usesNone();
    expect([iommu.uses(index), iommu.usesAny()]).toEqual([false, false]);
    iommu.setUses(index, true);
    const used = Array.from({ length: 256 }, (_, i) => i).filter((i) => iommu.uses(i));
    expect([used, iommu.usesAny()]).toEqual([[index], true]);
    iommu.setUses(index, false);
    expect([iommu.uses(index), iommu.usesAny()]).toEqual([false, false]);
    iommu.setUses(index, true);
    iommu.usesNone();
    expect(iommu.usesAny()).toBe(false);
  });
});

describe('pseudo domain ids', () => {
  const setUp = (reserve: number = DOMID.INVALID) => {
    const { pcidevsLock } = new TestServices();
    pcidevsLock.acquire();
    const map = iommuInitDomid(reserve);
    const cursor = new DomidCursor();
    return { pcidevsLock, map, cursor, alloc: () => iommuAllocDomid(pcidevsLock, cursor, map) };
  };

  test('are dealt upwards from 0x8000 and not again at once', () => {
    const x = setUp();
    expect([x.alloc(), x.alloc()]).toEqual([0x8000, 0x8001]);
    iommuFreeDomid(x.pcidevsLock, 0x8000, x.map);
    expect(x.alloc()).toBe(0x8002);
  });

  test('one cursor serves all units', () => {
    const x = setUp();
    x.alloc();
    expect(iommuAllocDomid(x.pcidevsLock, x.cursor, iommuInitDomid(DOMID.INVALID))).toBe(0x8001);
  });

  test('wrap around, end, and leave out what is reserved', () => {
    const x = setUp(0xffff);
    x.cursor.start = 0x7ffe;
    expect([x.alloc(), x.alloc()]).toEqual([0xfffe, 0x8000]);
    for (let idx = 0; idx <= 0x7fff; idx++) x.map.set(idx);
    expect(x.alloc()).toBe(DOMID.INVALID);
    iommuFreeDomid(x.pcidevsLock, 0x9234, x.map);
    expect(x.alloc()).toBe(0x9234);
  });

  test('freeing what was not dealt is a bug of Xen, INVALID is ignored, and both need the lock', () => {
    const x = setUp();
    iommuFreeDomid(x.pcidevsLock, DOMID.INVALID, x.map);
    expect(() => iommuFreeDomid(x.pcidevsLock, 0x8005, x.map)).toThrow('Xen BUG');
    expect(() => iommuFreeDomid(x.pcidevsLock, 5, x.map)).toThrow('only pseudo ids');
    x.pcidevsLock.release();
    expect(() => x.alloc()).toThrow('pcidevs lock is held');
    expect(() => iommuFreeDomid(x.pcidevsLock, 0x8000, x.map)).toThrow('pcidevs lock is held');
  });
});

test('masks written by hand are those of the layout', () => {
  const bits = (field: (typeof CONTEXT)[keyof typeof CONTEXT], v: number): number[] => {
    const t = new Int32Array(4);
    set(t, 0, field, v);
    expect(get(t, 0, field)).toBe(v);
    return [...t];
  };
  expect(bits(CONTEXT.P, 1)).toEqual([CONTEXT_BITS.P, 0, 0, 0]);
  expect(bits(CONTEXT.FPD, 1)).toEqual([CONTEXT_BITS.FPD, 0, 0, 0]);
  expect(bits(CONTEXT.TT, 3)).toEqual([CONTEXT_BITS.TT_MASK, 0, 0, 0]);
  expect(bits(CONTEXT.TT, 1)).toEqual([1 << CONTEXT_BITS.TT_SHIFT, 0, 0, 0]);
  expect(bits(CONTEXT.AW, 7)).toEqual([0, 0, CONTEXT_BITS.AW, 0]);
  expect(bits(CONTEXT.DID, 0xffff)).toEqual([0, 0, DID_MASK, 0]);
  expect(bits(CONTEXT.DID, 1)).toEqual([0, 0, 1 << CONTEXT_BITS.DID_SHIFT, 0]);
});

test('64-bit words print without leading zeroes', () => {
  expect([hexq(0, 0), hexq(-1, 0), hexq(0x1000, 0x13), hexq(-1, -1)]).toEqual([
    '0',
    'ffffffff',
    '1300001000',
    'ffffffffffffffff',
  ]);
});
