import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeIvrs, type Ivhd, parseIvrs } from '../../src/iommu/format/ivrs.js';

const SHARED = path.resolve('../shared');
const ACPI = path.join(SHARED, 'corpus/acpi');
const files = fs.existsSync(ACPI)
  ? fs
      .readdirSync(ACPI)
      .filter((f) => f.includes('.IVRS.') && f.endsWith('.aml'))
      .map((f) => path.join(ACPI, f))
      .concat(path.join(SHARED, 'golden/40-amdvi/ivrs.bin'))
  : [];

describe.skipIf(files.length === 0)('IVRS tables of real machines', () => {
  test.each(files.map((f) => [path.basename(f), f]))('%s encodes to the bytes it was', (_name, file) => {
    const bytes = new Uint8Array(fs.readFileSync(file));
    expect(encodeIvrs(parseIvrs(bytes, file))).toEqual(bytes);
  });

  test('all three forms of IVHD and named ACPI devices occur among them', () => {
    const tables = files.map((f) => parseIvrs(new Uint8Array(fs.readFileSync(f)), f));
    const ivhds = tables.flatMap((t) => t.blocks).filter((b): b is Ivhd => b.kind === 'ivhd');
    expect(new Set(ivhds.map((b) => b.type))).toEqual(new Set([0x10, 0x11, 0x40]));
    const named = ivhds.flatMap((b) => b.entries).filter((e) => e.type === 240);
    expect(named.length).toBeGreaterThan(100);
    for (const e of named) expect(e.hid).toMatch(/^[A-Z0-9]{4,8}\0*$/);
  });
});
