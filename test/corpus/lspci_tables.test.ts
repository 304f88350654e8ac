import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readAcpiTable } from '../../src/inputs/acpi.js';
import { readE820 } from '../../src/inputs/e820.js';
import { ROOT } from '../support/built.js';

const SHARED = path.join(ROOT, '../shared');
const ACPI = path.join(SHARED, 'corpus/acpi');
const there = fs.existsSync(ACPI);

describe.skipIf(!there)('tables and memory maps of real machines', () => {
  test.each(['DMAR', 'IVRS'] as const)('every %s of the corpus has a sound container', (signature) => {
    const files = fs.readdirSync(ACPI).filter((f) => f.endsWith(`.${signature}.aml`));
    expect(files.length).toBeGreaterThan(20);
    for (const f of files) {
      const data = new Uint8Array(fs.readFileSync(path.join(ACPI, f)));
      expect([f, Buffer.compare(readAcpiTable(f, signature, data), data)]).toEqual([f, 0]);
    }
  });
  test('each recorded boot prints a map that is read', () => {
    const golden = path.join(SHARED, 'golden');
    const boots = fs.readdirSync(golden).filter((d) => fs.existsSync(path.join(golden, d, 'ops.json')));
    for (const d of boots) {
      const log = JSON.parse(fs.readFileSync(path.join(golden, d, 'ops.json'), 'utf8'))[0].xen_log;
      if (!Array.isArray(log) || !log.some((l: string) => l.includes('RAM map'))) continue;
      expect([d, readE820(d, new TextEncoder().encode(log.join('\n'))).length]).toEqual([d, 10]);
    }
  });
});
