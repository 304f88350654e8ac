import { expect, test } from 'vitest';
import { type Field, get, getFrame, type Layout } from '../../src/base/layout.js';
import * as amd from '../../src/iommu/format/amd.js';
import * as features from '../../src/iommu/format/amd_features.js';

const layouts: Record<string, [Layout, number]> = {
  DTE: [amd.DTE, 8],
  PTE: [amd.PTE, 2],
  CMD_WAIT: [amd.CMD_WAIT, 2],
  CMD_PAGES: [amd.CMD_PAGES, 4],
  CMD_IOTLB: [amd.CMD_IOTLB, 4],
  EVENT_ENTRY: [amd.EVENT_ENTRY, 4],
  IRTE32: [amd.IRTE32, 1],
  IRTE128: [amd.IRTE128, 4],
  EXT_FEATURE: [features.EXT_FEATURE, 2],
  IVHD_ATTR: [features.IVHD_ATTR, 1],
  CAP_HEADER: [features.CAP_HEADER, 1],
};

test.each(Object.entries(layouts))('no two fields of %s share a bit', (_name, [layout, words]) => {
  const used = new Int32Array(words);
  for (const f of Object.values(layout) as Field[]) {
    expect(used[f.word]! & (f.mask << f.lo)).toBe(0);
    used[f.word] = used[f.word]! | (f.mask << f.lo);
  }
});

/** Quadwords as the recordings of a real Xen print them. */
const words = (...quads: string[]): Int32Array => {
  const t = new Int32Array(quads.length * 2);
  quads.forEach((q, i) => {
    t[i * 2 + 1] = Number.parseInt(q.slice(0, 8), 16);
    t[i * 2] = Number.parseInt(q.slice(8), 16);
  });
  return t;
};

test('a device table entry that a real Xen wrote decodes to what it meant', () => {
  const t = words('600000012f7ca603', '0000000000000001', '200000013af0a015', '0000000000000000');
  const f = (name: keyof typeof amd.DTE): number => get(t, 0, amd.DTE[name]);
  expect([f('V'), f('TV'), f('MODE'), f('IR'), f('IW'), f('DOMAIN_ID')]).toEqual([1, 1, 3, 1, 1, 1]);
  expect(getFrame(t, 0)).toBe(0x12f7ca);
  expect([f('IV'), f('INT_TAB_LEN'), f('INT_CTL'), f('IG')]).toEqual([1, 10, 2, 0]);
  expect(f('INT_ROOT_HI') * 2 ** 32 + f('INT_ROOT_LO') * 64).toBe(0x13af0a000);
});

test('page-table entries of a real Xen decode to a page of 1 GiB and to a table', () => {
  const page = words('7000000100000001');
  expect(get(page, 0, amd.PTE.NEXT_LEVEL)).toBe(0);
  expect([get(page, 0, amd.PTE.FC), get(page, 0, amd.PTE.IR), get(page, 0, amd.PTE.IW)]).toEqual([1, 1, 1]);
  expect(getFrame(page, 0)).toBe(0x100000);
  const table = words('600000013ae79401');
  expect(get(table, 0, amd.PTE.NEXT_LEVEL)).toBe(2);
  expect(get(table, 0, amd.PTE.FC)).toBe(0);
  expect(getFrame(table, 0)).toBe(0x13ae79);
});

test('an event entry of the recordings decodes to device, code and flags', () => {
  // 71b-amd-events: IO_PAGE_FAULT of 07:00.0, write, at 0x8000000000.
  const t = words('2020000000000700', '0000008000000000');
  expect(get(t, 0, amd.EVENT_ENTRY.CODE)).toBe(amd.EVENT.IO_PAGE_FAULT);
  expect(get(t, 0, amd.EVENT_ENTRY.DEVICE_ID)).toBe(0x700);
  expect(get(t, 0, amd.EVENT_ENTRY.FLAGS)).toBe(amd.EVENT_FLAG.RW);
});
