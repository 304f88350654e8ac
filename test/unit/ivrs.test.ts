import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import {
  encodeIvrs,
  type IvhdEntry,
  type IvrsBlock,
  makeIvrs,
  parseIvrs,
  sealIvrs,
} from '../../src/iommu/format/ivrs.js';
import { DEFAULT_ENTRIES, ivhd } from '../helpers/amd_table.js';

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const u64 = fc.tuple(u32, u32);
const name = fc.array(u8, { minLength: 8, maxLength: 8 }).map((b) => String.fromCharCode(...b));
const head = { id: u16, data: u8 };
const entry: fc.Arbitrary<IvhdEntry> = fc.oneof(
  fc.record({ type: fc.constantFrom(0, 1, 2, 3, 4), ...head }),
  fc.record({ type: fc.constantFrom(66, 67, 72), ...head, byte4: u8, usedId: u16, byte7: u8 }),
  fc.record({ type: fc.constantFrom(70, 71), ...head, ext: u32 }),
  fc.record({ type: fc.constant(64), ...head, rest: fc.uint8Array({ minLength: 4, maxLength: 4 }) }),
  fc.record({
    type: fc.constant(240),
    ...head,
    hid: name,
    cid: name,
    uidFormat: u8,
    uid: fc.uint8Array({ maxLength: 255 }),
  }),
);
const block: fc.Arbitrary<IvrsBlock> = fc.oneof(
  fc
    .record({
      type: fc.constantFrom(0x11, 0x40),
      flags: u8,
      deviceId: u16,
      entries: fc.array(entry, { maxLength: 9 }),
    })
    .map((b) => ivhd(b.entries, b)),
  fc.record({
    kind: fc.constant('ivmd' as const),
    type: fc.constantFrom(0x20, 0x21, 0x22),
    flags: u8,
    deviceId: u16,
    auxData: u16,
    reserved: u64,
    start: fc.nat(0xff_ffff).map((n) => n * 4096),
    length: fc.nat(0xff_ffff),
    rest: fc.uint8Array({ maxLength: 3 }),
  }),
  fc.record({
    kind: fc.constant('unknown' as const),
    type: fc.constantFrom(0x12, 0x51),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  }),
);

describe('IVRS', () => {
  test('a table reads back as it was written, and encodes to the same bytes', () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 5 }), u32, (blocks, info) => {
        const bytes = makeIvrs(blocks, info);
        const table = parseIvrs(bytes);
        expect(table.blocks).toEqual(blocks);
        expect(encodeIvrs(table)).toEqual(bytes);
      }),
      { numRuns: 60 },
    );
  });

  test('any cut or flipped byte parses, or is refused with an offset and a remedy', () => {
    const good = makeIvrs([ivhd(DEFAULT_ENTRIES)]);
    fc.assert(
      fc.property(fc.nat(good.length), fc.nat(good.length - 1), u8, (cut, at, value) => {
        const bad = good.slice(0, cut);
        if (at < bad.length) bad[at] = value;
        try {
          parseIvrs(bad, 'IVRS.bin');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          expect(String(error)).toMatch(/IVRS\.bin: offset 0x[0-9a-f]+: .+; .+/);
        }
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ['a wrong signature', (b: Uint8Array) => b.fill(0, 0, 1), 'offset 0x0: no IVRS signature'],
    ['a length beyond the file', (b: Uint8Array) => b.fill(9, 6, 7), /offset 0x4: the table says \d+ bytes/],
    ['a block without length', (b: Uint8Array) => b.fill(0, 50, 52), /offset 0x32: .* impossible length 0/],
    [
      'an entry cut by its block',
      (b: Uint8Array) => b.fill(43, 50, 51),
      /offset 0x58: a device entry of type 0x2/,
    ],
  ])('%s is named', (_what, damage, message) => {
    const bytes = makeIvrs([ivhd([{ type: 2, id: 8, data: 0 }])]);
    damage(bytes);
    expect(() => parseIvrs(bytes, 'x')).toThrow(message);
  });

  test('sealing makes the bytes sum to zero', () => {
    const bytes = makeIvrs([]);
    bytes[20] = 0x77;
    expect(sealIvrs(bytes).reduce((a, b) => (a + b) & 0xff, 0)).toBe(0);
  });
});
