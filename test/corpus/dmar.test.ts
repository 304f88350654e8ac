/** Every DMAR of the corpus of real machines. Skipped where the corpus is absent. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { DmarError, encodeDmar, parseDmar } from '../../src/iommu/format/dmar.js';

const SHARED = resolve(import.meta.dirname, '../../../shared');
const ACPI = join(SHARED, 'corpus/acpi');
const tables = existsSync(ACPI)
  ? readdirSync(ACPI)
      .filter((f) => f.endsWith('.DMAR.aml'))
      .map((f) => ({ name: f, bytes: new Uint8Array(readFileSync(join(ACPI, f))) }))
  : [];
const recorded = ['32-rmrr-shared', '70-vtd-faults']
  .map((d) => join(SHARED, 'golden', d, 'dmar.bin'))
  .filter((f) => existsSync(f))
  .map((f) => ({ name: f, bytes: new Uint8Array(readFileSync(f)) }));

describe.skipIf(tables.length === 0)('DMAR tables of real machines', () => {
  test('there are at least 200, and each encodes to the bytes it was parsed from', () => {
    expect(tables.length).toBeGreaterThanOrEqual(200);
    for (const { name, bytes } of [...tables, ...recorded]) {
      const again = encodeDmar(parseDmar(bytes, name));
      expect(Buffer.compare(again, bytes), name).toBe(0);
    }
  });

  test('every structure is of a known type and has scopes that fit', () => {
    const seen = new Map<string, number>();
    for (const { bytes } of tables)
      for (const s of parseDmar(bytes).structures) seen.set(s.kind, (seen.get(s.kind) ?? 0) + 1);
    expect([...seen.keys()].sort()).toEqual(['andd', 'atsr', 'drhd', 'rhsa', 'rmrr', 'satc', 'sidp']);
    expect(seen.get('drhd')).toBe(420);
    expect(seen.get('rmrr')).toBe(332);
  });

  test('peculiarities survive: a size in the DRHD, scope flags in a SIDP, several hops in a path', () => {
    const all = tables.flatMap((t) => parseDmar(t.bytes).structures);
    expect(all.some((s) => s.kind === 'drhd' && s.size === 4)).toBe(true);
    expect(all.some((s) => s.kind === 'sidp' && s.scopes.some((d) => d.flags === 0x1f))).toBe(true);
    expect(all.some((s) => 'scopes' in s && s.scopes.some((d) => d.path.length > 1))).toBe(true);
    expect(all.some((s) => s.kind === 'andd' && s.name === '\\_SB.PCI0.I2C0')).toBe(true);
  });

  test('a table cut anywhere is refused with an offset inside it, never with another exception', () => {
    for (const { name, bytes } of tables.slice(0, 40)) {
      for (let n = 0; n < bytes.length; n += 7) {
        const cut = bytes.slice(0, n);
        if (n >= 8) new DataView(cut.buffer).setUint32(4, n, true);
        try {
          const t = parseDmar(cut);
          expect(Buffer.compare(encodeDmar(t), cut), `${name} at ${n}`).toBe(0);
        } catch (e) {
          expect(e, `${name} at ${n}`).toBeInstanceOf(DmarError);
          expect(e).toBeInstanceOf(InputError);
          expect((e as DmarError).offset).toBeLessThanOrEqual(n);
        }
      }
    }
  });

  test('a table with any one byte changed parses and encodes back, or is refused', () => {
    const rng = (() => {
      let s = 12345;
      return (n: number) => {
        s = (Math.imul(s, 1103515245) + 12345) >>> 0;
        return (s >>> 8) % n;
      };
    })();
    let parsed = 0;
    for (const { name, bytes } of tables) {
      for (let i = 0; i < 30; i++) {
        const bad = bytes.slice();
        bad[rng(bad.length)] = rng(256);
        try {
          const t = parseDmar(bad, name);
          expect(Buffer.compare(encodeDmar(t), bad), name).toBe(0);
          parsed++;
        } catch (e) {
          expect(e).toBeInstanceOf(DmarError);
        }
        const kept = (() => {
          try {
            return parseDmar(bad, name, true);
          } catch (e) {
            expect(e).toBeInstanceOf(DmarError);
            return undefined;
          }
        })();
        if (kept !== undefined) expect(Buffer.compare(encodeDmar(kept), bad), name).toBe(0);
      }
    }
    expect(parsed).toBeGreaterThan(1000);
  });
});
