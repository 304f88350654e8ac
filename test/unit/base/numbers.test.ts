import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { E, errnoName, isErr, strerror } from '../../../src/base/errno.js';
import { bits, get, getFrame, hex64, set, setFrame } from '../../../src/base/layout.js';
import { Rng } from '../../../src/base/rng.js';
import {
  bdfOf,
  busOf,
  devfnOf,
  formatBdf,
  formatSbdf,
  funcOf,
  parseSbdf,
  sbdf,
  segOf,
  slotOf,
  withDevfn,
} from '../../../src/base/sbdf.js';

describe('errno', () => {
  test('has the numbers of include/public/errno.h', () => {
    const numbers = {
      PERM: 1,
      NOENT: 2,
      SRCH: 3,
      TOOBIG: 7,
      NOMEM: 12,
      FAULT: 14,
      BUSY: 16,
      NODEV: 19,
      INVAL: 22,
    };
    for (const [name, n] of Object.entries(numbers)) expect(E[name as keyof typeof E]).toBe(-n);
    expect([E.NOSYS, E.ILSEQ, E.RESTART, E.OPNOTSUPP, E.TIMEDOUT]).toEqual([-38, -84, -85, -95, -110]);
  });

  test('is told from an object and from success', () => {
    expect([isErr(-19), isErr(0), isErr({}), isErr(undefined)]).toEqual([true, false, false, false]);
  });

  test('prints as Xen and as libc do', () => {
    expect([errnoName(-19), errnoName(-7), errnoName(0), errnoName(-4000)]).toEqual([
      '-ENODEV',
      '-E2BIG',
      '0',
      '-4000',
    ]);
    expect([strerror(-16), strerror(22), strerror(999)]).toEqual([
      'Device or resource busy',
      'Invalid argument',
      'Unknown error 999',
    ]);
  });
});

describe('a bit layout', () => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  const field = fc
    .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 31 }))
    .map(([a, b]) => ({ hi: Math.max(a, b), lo: Math.min(a, b) }));

  test('reads and writes what the same shifts on BigInt do, and no other bit', () => {
    fc.assert(
      fc.property(field, word, word, ({ hi, lo }, was, value) => {
        const table = new Int32Array([7, was, 9]);
        const f = bits(1, hi, lo);
        const mask = (1n << BigInt(hi - lo + 1)) - 1n;
        expect(get(table, 0, f)).toBe(Number((BigInt(was) >> BigInt(lo)) & mask));
        set(table, 0, f, value);
        const expected = (BigInt(was) & ~(mask << BigInt(lo))) | ((BigInt(value) & mask) << BigInt(lo));
        expect([table[0], table[1]! >>> 0, table[2]]).toEqual([7, Number(expected), 9]);
      }),
    );
  });

  test('holds a frame number of 40 bits in bits 51:12 of a pair', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 40 - 1 }), word, word, (frame, lo, hi) => {
        const table = new Int32Array([lo, hi]);
        setFrame(table, 0, frame);
        expect(getFrame(table, 0)).toBe(frame);
        const pair = (BigInt(table[1]! >>> 0) << 32n) | BigInt(table[0]! >>> 0);
        const before = (BigInt(hi) << 32n) | BigInt(lo);
        const mask = 0x000f_ffff_ffff_f000n;
        expect(pair).toBe((before & ~mask) | (BigInt(frame) << 12n));
      }),
    );
  });

  test('prints 64 bits from two words', () => {
    expect(hex64(-1, 0x12)).toBe('0x00000012ffffffff');
  });
});

describe('an SBDF', () => {
  const parts = fc.tuple(fc.nat(0xffff), fc.nat(0xff), fc.nat(31), fc.nat(7));

  test('is unsigned and gives its parts back', () => {
    fc.assert(
      fc.property(parts, ([seg, bus, dev, fn]) => {
        const s = sbdf(seg, bus, dev, fn);
        expect(s).toBe(seg * 65536 + bus * 256 + dev * 8 + fn);
        expect([segOf(s), busOf(s), slotOf(devfnOf(s)), funcOf(devfnOf(s))]).toEqual([seg, bus, dev, fn]);
        expect(bdfOf(s)).toBe(bus * 256 + dev * 8 + fn);
        expect(withDevfn(s, 0)).toBe(seg * 65536 + bus * 256);
      }),
    );
  });

  test('prints as %pp and as lspci do, and reads back', () => {
    expect(formatSbdf(sbdf(1, 0xaf, 0x1d, 7))).toBe('0001:af:1d.7');
    expect(formatBdf(sbdf(0, 3, 0, 1))).toBe('03:00.1');
    fc.assert(
      fc.property(parts, ([a, b, c, d]) => parseSbdf(formatSbdf(sbdf(a, b, c, d))) === sbdf(a, b, c, d)),
    );
  });

  test.each(['', '03:00', '03:00.8', '03:20.0', 'g3:00.0', '03:00.0 ', '00003:00:00.0', '0000:003:00.0'])(
    'is not %j',
    (text) => expect(parseSbdf(text)).toBeUndefined(),
  );
});

describe('the generator of random numbers', () => {
  test('gives the numbers of xorshift32, so that stored seeds keep their meaning', () => {
    // Marsaglia 2003, the triple 13, 17, 5: the first outputs for state 1.
    const rng = new Rng(1);
    expect([rng.next(), rng.next(), rng.next()]).toEqual([270369, 67634689, 2647435461]);
  });

  test('takes any seed, zero too', () => {
    expect(new Rng(0).next()).not.toBe(0);
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 1000 }), (seed, n) => {
        const rng = new Rng(seed);
        for (let i = 0; i < 20; i++) {
          const x = rng.below(n);
          if (!(x >= 0 && x < n)) return false;
        }
        return true;
      }),
    );
  });
});
