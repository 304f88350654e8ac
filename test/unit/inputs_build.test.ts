import { describe, expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { buildFunctions, type FunctionSpec } from '../../src/inputs/build.js';
import { buildDmar, buildIvrs, DEFAULT_AMD_BASE, DEFAULT_UNIT_BASE } from '../../src/inputs/firmware.js';
import { poweredOn } from '../../src/inputs/power_on.js';
import { ATSR_ALL_PORTS, DRHD_INCLUDE_PCI_ALL, parseDmar, SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { parseIvrs } from '../../src/iommu/format/ivrs.js';

const PORT = sbdf(0, 0, 1, 0);
const GPU = sbdf(0, 1, 0, 0);
const BRIDGE = sbdf(0, 2, 0, 0);
const functions: readonly FunctionSpec[] = [
  { sbdf: sbdf(0, 0, 0, 0), kind: 'host-bridge' },
  { sbdf: PORT, kind: 'root-port', secondary: 1 },
  {
    sbdf: GPU,
    kind: 'pcie-endpoint',
    vendor: 0x10de,
    device: 0x1c82,
    classCode: 0x030000,
    msix: 8,
    phantomBits: 2,
  },
  { sbdf: GPU + 1, kind: 'pcie-endpoint', ats: true },
  { sbdf: sbdf(0, 0, 2, 0), kind: 'root-port', secondary: 2, subordinate: 3 },
  { sbdf: BRIDGE, kind: 'pcie-to-pci-bridge', secondary: 3 },
  { sbdf: sbdf(0, 3, 1, 0), kind: 'pci-device', bars: [{ index: 1, address: 0xfe00_0000, bytes: 4096 }] },
];
const sum = (table: Uint8Array): number => table.reduce((n, b) => (n + b) & 0xff, 0);

describe('a function made to order', () => {
  const built = buildFunctions(functions);
  const view = (i: number): DataView => new DataView(built[i]!.config.buffer);

  test('has the ids, the class and the header type of PCI 3.0 6.1', () => {
    expect([view(2).getUint32(0, true), view(2).getUint32(8, true) >>> 8]).toEqual([0x1c82_10de, 0x030000]);
    // A bridge is type 1; the multi-function bit is in function 0 alone.
    expect([0, 1, 2, 3, 5].map((i) => view(i).getUint8(0x0e))).toEqual([0, 1, 0x80, 0, 1]);
    expect([view(4).getUint8(0x18), view(4).getUint8(0x19), view(4).getUint8(0x1a)]).toEqual([0, 2, 3]);
  });

  test('announces what it was asked for in its capabilities', () => {
    const pcie = view(2).getUint8(0x34);
    expect([view(2).getUint8(pcie), (view(2).getUint16(pcie + 2, true) >> 4) & 15]).toEqual([0x10, 0]);
    // Device Capabilities: phantom functions in bits 4:3, FLR in bit 28 (PCIe 7.5.3.3).
    expect((view(2).getUint32(pcie + 4, true) >> 3) & 3).toBe(2);
    expect((view(2).getUint32(pcie + 4, true) >>> 28) & 1).toBe(1);
    const msix = view(2).getUint8(pcie + 1);
    expect([view(2).getUint8(msix), (view(2).getUint16(msix + 2, true) & 0x7ff) + 1]).toEqual([0x11, 8]);
    expect([view(2).getUint16(0x100, true), view(3).getUint16(0x100, true)]).toEqual([0, 0x0f]);
    expect([(view(1).getUint16(0x42, true) >> 4) & 15, (view(5).getUint16(0x42, true) >> 4) & 15]).toEqual([
      4, 7,
    ]);
  });

  test('is conventional without PCI Express, and keeps the size of its memory', () => {
    expect([view(6).getUint8(0x34), view(6).getUint16(6, true) & 0x10]).toEqual([0, 0]);
    expect([view(6).getUint32(0x14, true), built[6]!.barBytes]).toEqual([0xfe00_0000, [undefined, 4096]]);
  });
});

describe('a DMAR made to order', () => {
  test('has a checksum, a unit for all, and paths through bridges', () => {
    const table = buildDmar({
      functions,
      reserved: [{ start: 0x3f000, end: 0x3f00f, devices: [sbdf(0, 3, 1, 0)] }],
    });
    expect(sum(table)).toBe(0);
    const [drhd, rmrr] = parseDmar(table).structures;
    expect(drhd).toMatchObject({
      kind: 'drhd',
      flags: DRHD_INCLUDE_PCI_ALL,
      base: DEFAULT_UNIT_BASE,
      scopes: [],
    });
    expect(rmrr).toMatchObject({ kind: 'rmrr', base: 0x3f00_0000, limit: 0x3f00_ffff });
    expect(rmrr?.kind === 'rmrr' && rmrr.scopes[0]!.path).toEqual([
      { dev: 2, fn: 0 },
      { dev: 0, fn: 0 },
      { dev: 1, fn: 0 },
    ]);
  });

  test('gives the bridges of other units first, and ATS to all ports when asked', () => {
    const table = buildDmar({
      functions,
      unitBases: [0xfed9_1000, 0xfed9_0000],
      behind: [[PORT]],
      ats: true,
    });
    const { structures } = parseDmar(table);
    expect(structures[0]).toMatchObject({
      flags: 0,
      base: 0xfed9_1000,
      scopes: [{ type: SCOPE_TYPE.BRIDGE }],
    });
    expect(structures[1]).toMatchObject({ flags: DRHD_INCLUDE_PCI_ALL, scopes: [] });
    expect(structures[2]).toMatchObject({ kind: 'atsr', flags: ATSR_ALL_PORTS });
  });
});

test('an IVRS made to order names phantom functions, and the alias behind a bridge to conventional PCI', () => {
  const iommu = sbdf(0, 0, 0, 2);
  const table = buildIvrs({ functions, iommu, reserved: [{ start: 0x100, end: 0x10f, devices: [GPU] }] });
  expect(sum(table)).toBe(0);
  const [ivhd, ivmd] = parseIvrs(table).blocks;
  expect(ivhd).toMatchObject({ kind: 'ivhd', deviceId: 2, base: DEFAULT_AMD_BASE });
  const entries = ivhd!.kind === 'ivhd' ? ivhd!.entries : [];
  // Types of AMD 48882 5.2.2.1: 2 select, 3 start of range, 4 end, 67 alias start of range.
  const at = entries.findIndex((e) => e.type === 67);
  expect(entries[at]).toMatchObject({ id: 0x300, usedId: 0x300 });
  expect(entries[at + 1]).toMatchObject({ type: 4, id: 0x3ff });
  const gpu = entries.findIndex((e) => e.type === 3 && e.id === 0x100);
  expect(entries[gpu + 1]).toMatchObject({ type: 4, id: 0x107 });
  expect(entries.some((e) => e.id === 0x308)).toBe(false);
  expect(ivmd).toMatchObject({ kind: 'ivmd', deviceId: 0x100, start: 0x10_0000, length: 0x1_0000 });
});

describe('power-on', () => {
  const [, , gpu] = buildFunctions(functions);
  test('leaves alone what raises no messages', () => {
    expect(poweredOn(gpu!)).toBe(gpu);
  });
  test('takes back MSI and MSI-X enable and the mask of all vectors, in a copy', () => {
    const config = gpu!.config.slice();
    config[0x83] = config[0x83]! | 0xc0;
    config[0x81] = 0xc0;
    config.set([0x05, 0, 0x81, 0], 0xc0);
    const f = poweredOn({ ...gpu!, config });
    expect([f.config[0x83]! & 0xc0, f.config[0xc2]]).toEqual([0, 0x80]);
    expect([config[0x83]! & 0xc0, config[0xc2]]).toEqual([0xc0, 0x81]);
  });
  test('comes to an end in a chain that bites its tail, and reads no capability that the status denies', () => {
    const config = gpu!.config.slice();
    config.set([0x01, 0x40], 0x40);
    expect(poweredOn({ ...gpu!, config })).toMatchObject({ config });
    config.set([0x05, 0, 1, 0], 0x40);
    config[6] = 0;
    expect(poweredOn({ ...gpu!, config }).config[0x42]).toBe(1);
  });
});
