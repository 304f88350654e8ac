/** The DMAR codec on a table written by hand, byte by byte, after VT-d chapter 8. */
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { type Dmar, DmarError, encodeDmar, fixChecksum, parseDmar } from '../../src/iommu/format/dmar.js';

const text = (s: string): number[] => [...s].map((c) => c.charCodeAt(0));
const header = (length: number): number[] => [
  ...text('DMAR'),
  ...[length & 0xff, length >> 8, 0, 0],
  ...[1, 0x5a],
  ...text('BOCHS '),
  ...text('BXPC    '),
  ...[1, 0, 0, 0],
  ...text('BXPC'),
  ...[1, 0, 0, 0],
  ...[0x2f, 0x01],
  ...Array(10).fill(0),
];
/** INCLUDE_ALL unit at fed90000 with an I/O APIC, and an endpoint behind two bridges. */
const DRHD = [
  ...[0, 0, 34, 0, 1, 0, 0, 0],
  ...[0, 0, 0xd9, 0xfe, 0, 0, 0, 0],
  ...[3, 8, 0, 0, 2, 0xff, 0, 0],
  ...[1, 10, 0, 0, 0, 0x40, 0x1c, 4, 0, 1],
];
/** 7b800000-7fffffff for 00:02.0. */
const RMRR = [
  ...[1, 0, 32, 0, 0, 0, 0, 0],
  ...[0, 0, 0x80, 0x7b, 0, 0, 0, 0],
  ...[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0],
  ...[1, 8, 0, 0, 0, 0, 2, 0],
];
const ATSR = [2, 0, 16, 0, 1, 0, 5, 0, 2, 8, 0, 0, 0, 0x16, 0, 0];
const RHSA = [3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 1, 0, 0, 0, 7, 0, 0, 0];
const ANDD = [4, 0, 16, 0, 0, 0, 0, 9, ...text('\\_SB'), 0, 0, 0xcc, 0];
const SATC = [5, 0, 16, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0x6a, 1, 0];
const SIDP = [6, 0, 16, 0, 0, 0, 0, 0, 1, 8, 0x1f, 0, 0, 0, 5, 0];
const UNKNOWN = [0x34, 0x12, 6, 0, 0xab, 0xcd];

function table(...structures: number[][]): Uint8Array {
  const body = structures.flat();
  return Uint8Array.from([...header(48 + body.length), ...body]);
}

describe('reading', () => {
  test('every structure type, with its scopes', () => {
    const t = parseDmar(table(DRHD, RMRR, ATSR, RHSA, ANDD, SATC, SIDP, UNKNOWN));
    expect(t).toMatchObject({
      signature: 'DMAR',
      revision: 1,
      checksum: 0x5a,
      oemId: 'BOCHS ',
      oemTableId: 'BXPC    ',
      creatorId: 'BXPC',
      hostAddressWidth: 47,
      flags: 1,
    });
    const scope = { flags: 0, reserved: 0, enumerationId: 0 };
    expect(t.structures).toEqual([
      {
        kind: 'drhd',
        flags: 1,
        size: 0,
        segment: 0,
        base: 0xfed9_0000,
        scopes: [
          { ...scope, type: 3, enumerationId: 2, startBus: 0xff, path: [{ dev: 0, fn: 0 }] },
          {
            ...scope,
            type: 1,
            startBus: 0x40,
            path: [
              { dev: 0x1c, fn: 4 },
              { dev: 0, fn: 1 },
            ],
          },
        ],
      },
      {
        kind: 'rmrr',
        reserved: 0,
        segment: 0,
        base: 0x7b80_0000,
        limit: 0x7fff_ffff,
        scopes: [{ ...scope, type: 1, startBus: 0, path: [{ dev: 2, fn: 0 }] }],
      },
      {
        kind: 'atsr',
        flags: 1,
        reserved: 0,
        segment: 5,
        scopes: [{ ...scope, type: 2, startBus: 0x16, path: [{ dev: 0, fn: 0 }] }],
      },
      { kind: 'rhsa', reserved: 0, base: 0x1_fed9_0000, proximityDomain: 7 },
      {
        kind: 'andd',
        reserved: Uint8Array.of(0, 0, 0),
        deviceNumber: 9,
        name: '\\_SB',
        fill: Uint8Array.of(0, 0, 0xcc, 0),
      },
      {
        kind: 'satc',
        flags: 1,
        reserved: 0,
        segment: 0,
        scopes: [{ ...scope, type: 1, startBus: 0x6a, path: [{ dev: 1, fn: 0 }] }],
      },
      {
        kind: 'sidp',
        flags: 0,
        reserved: 0,
        segment: 0,
        scopes: [{ ...scope, type: 1, flags: 0x1f, startBus: 0, path: [{ dev: 5, fn: 0 }] }],
      },
      { kind: 'unknown', type: 0x1234, bytes: Uint8Array.from(UNKNOWN) },
    ]);
  });

  test('what was read is written back byte for byte', () => {
    const bytes = table(SIDP, UNKNOWN, DRHD, RMRR, ATSR, RHSA, ANDD, SATC);
    expect(encodeDmar(parseDmar(bytes))).toEqual(bytes);
  });

  test('a dump taken under Xen, with the signature turned round, is read and written back', () => {
    const bytes = table(DRHD);
    bytes.set(text('RMAD'));
    expect(parseDmar(bytes).signature).toBe('RMAD');
    expect(encodeDmar(parseDmar(bytes))).toEqual(bytes);
  });

  test('texts with bytes above 127 survive', () => {
    const bytes = table(DRHD);
    bytes[12] = 0xff;
    expect(encodeDmar(parseDmar(bytes))).toEqual(bytes);
  });

  test('an RMRR that ends below its base is read as it is', () => {
    const upside = [...RMRR.slice(0, 8), ...RMRR.slice(16, 24), ...RMRR.slice(8, 16), ...RMRR.slice(24)];
    expect(parseDmar(table(upside)).structures[0]).toMatchObject({ base: 0x7fff_ffff, limit: 0x7b80_0000 });
  });
});

describe('refusing', () => {
  const spoilt = (bytes: number[], at: number, value: number): number[] => bytes.with(at, value);
  const refusals: readonly (readonly [string, Uint8Array, number])[] = [
    ['no bytes', new Uint8Array(0), 0],
    ['a header cut short', table(DRHD).slice(0, 40), 40],
    ['another signature', Uint8Array.from([...text('IVRS'), ...table().slice(4)]), 0],
    ['a file shorter than the table', table(DRHD).slice(0, 80), 4],
    ['a file longer than the table', Uint8Array.from([...table(DRHD), 0]), 82],
    ['a length shorter than the header', Uint8Array.from(header(47)), 4],
    ['a structure of length 0', table(spoilt(DRHD, 2, 0)), 50],
    ['a structure that reaches beyond the table', table(spoilt(RMRR, 2, 40)), 50],
    ['a structure too short for its type', table([1, 0, 16, 0, ...Array(12).fill(0)]), 50],
    ['three bytes at the end', table(DRHD, [1, 0, 8]), 82],
    ['a scope of length 0', table(spoilt(DRHD, 17, 0)), 65],
    ['a scope of odd length', table(spoilt(DRHD, 17, 9)), 65],
    ['a scope that leaves its structure', table(spoilt(DRHD, 25, 12)), 73],
    ['a scope without a path', table([0, 0, 22, 0, ...Array(12).fill(0), 1, 6, 0, 0, 0, 0]), 64],
    ['an address beyond 2^53', table(spoilt(DRHD, 15, 0x80)), 56],
    ['an RHSA with something behind it', table([3, 0, 24, 0, ...Array(20).fill(0)]), 50],
  ];
  test.each(refusals)('%s, with the offset', (_says, bytes, offset) => {
    try {
      parseDmar(bytes, 'host/DMAR');
      expect.unreachable();
    } catch (e) {
      expect(e).toBeInstanceOf(DmarError);
      expect(e).toBeInstanceOf(InputError);
      expect((e as DmarError).offset).toBe(offset);
      expect((e as DmarError).message).toMatch(
        new RegExp(`^host/DMAR: offset 0x${offset.toString(16)}: .+; dump the table again: .+$`),
      );
    }
  });

  test('with keepBroken a broken structure is an entry of its own, and the others are read', () => {
    const bytes = table(DRHD, spoilt(ATSR, 9, 3), RMRR);
    const t = parseDmar(bytes, 'DMAR', true);
    expect(t.structures.map((s) => s.kind)).toEqual(['drhd', 'broken', 'rmrr']);
    expect(t.structures[1]).toMatchObject({ type: 2, length: 16 });
    expect(encodeDmar(t)).toEqual(bytes);
  });

  test('with keepBroken a length that leads nowhere ends the table', () => {
    for (const length of [0, 3, 200]) {
      const bytes = table(DRHD, spoilt(RMRR, 2, length), ATSR);
      const t = parseDmar(bytes, 'DMAR', true);
      expect(t.structures.map((s) => s.kind)).toEqual(['drhd', 'broken']);
      expect(t.structures[1]).toMatchObject({ type: 1, length });
      expect(encodeDmar(t)).toEqual(bytes);
    }
  });
});

describe('writing', () => {
  test('a table made from scratch is read back as it was meant, with its checksum', () => {
    const made: Dmar = {
      ...parseDmar(table()),
      structures: [
        {
          kind: 'drhd',
          flags: 0,
          size: 0,
          segment: 1,
          base: 0x4000_0000_0000,
          scopes: [
            { type: 1, flags: 0, reserved: 0, enumerationId: 0, startBus: 3, path: [{ dev: 31, fn: 7 }] },
          ],
        },
      ],
    };
    const bytes = fixChecksum(encodeDmar(made));
    expect(bytes.reduce((sum, b) => (sum + b) & 0xff, 0)).toBe(0);
    expect(parseDmar(bytes).structures).toEqual(made.structures);
  });
});
