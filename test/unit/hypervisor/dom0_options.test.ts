import { describe, expect, test } from 'vitest';
import {
  dom0Pages,
  dom0Vcpus,
  type MemSize,
  parseDom0MaxVcpus,
  parseDom0Mem,
  parseSize,
} from '../../../src/hypervisor/dom0_options.js';

describe('sizes', () => {
  test.each([
    ['512', 512 * 1024, ''],
    ['1b', 1, ''],
    ['4k', 4096, ''],
    ['512M', 2 ** 29, ''],
    ['0x10G', 2 ** 34, ''],
    ['010k', 8192, ''],
    ['1T', 2 ** 40, ''],
    ['30%', 30, '%'],
    ['1Gx', 2 ** 30, 'x'],
    ['', 0, ''],
    ['9'.repeat(400), 2 ** 52, ''],
  ])('%s', (text, bytes, rest) => expect(parseSize(text)).toEqual({ bytes, rest }));
});

describe('dom0_mem=', () => {
  const AVAIL = 0x10_0000;
  const pages = (value: string): number => {
    const into: { size?: MemSize; min?: MemSize; max?: MemSize } = {};
    expect(parseDom0Mem(into, value)).toBe(0);
    return dom0Pages(into, AVAIL, 777);
  };

  test.each([
    ['1G', 0x4_0000],
    ['-1G', AVAIL - 0x4_0000],
    ['25%', AVAIL / 4],
    ['1G+25%', 0x4_0000 + AVAIL / 4],
    ['max:512M', 777],
    ['min:2G', 0x8_0000],
    ['1G,max:512M', 0x2_0000],
    ['min:2G,max:512M,1G', 0x2_0000],
    ['1T', AVAIL],
    ['0', 777],
  ])('%s', (value, expected) => expect(pages(value)).toBe(expected));

  test.each(['', 'G', '100%', '10%+1G', '1G+2G', '1G+1%+1%', '1Gx', '1G,'])('%j is malformed', (value) =>
    expect(parseDom0Mem({}, value)).toBe(-22),
  );
});

describe('dom0_max_vcpus=', () => {
  test.each([
    ['3', 8, 3],
    ['3', 2, 3],
    ['2-', 8, 8],
    ['12-', 8, 12],
    ['-4', 8, 4],
    ['2-4', 8, 4],
    ['2-4', 1, 2],
    ['0', 8, 1],
  ])('%s on %i CPUs', (value, cpus, expected) => {
    const { rc, ...range } = parseDom0MaxVcpus(value);
    expect(rc).toBe(0);
    expect(dom0Vcpus(range, cpus)).toBe(expected);
  });

  test('nothing given means one for each CPU', () => expect(dom0Vcpus(undefined, 6)).toBe(6));
  test.each(['1-2-3', '4xy', '-x'])('%s is malformed', (value) =>
    expect(parseDom0MaxVcpus(value).rc).toBe(-22),
  );
});
