/** Which commands to a unit make requests arrive that were on their way. */
import { describe, expect, test } from 'vitest';
import { InFlight } from '../../src/check/in_flight.js';
import type { StampedEvent } from '../../src/sim/events.js';

const command = (unit: number, ...words: number[]): StampedEvent => ({
  kind: 'descriptor',
  unit,
  words,
  seq: 0,
  t: 0,
  cpu: 0,
  dom: 0,
});
/** Of requester 0x100 to bus frame 0x205, under domain id 3, on unit 0: a read and a write. */
function two(vendor: 'vtd' | 'amd'): InFlight {
  const all = new InFlight(vendor);
  const r = { unit: 0, rid: 0x100, dfn: 0x205, mfn: 0x77, did: 3, owner: 1, since: 'the start' };
  for (const write of [true, false]) all.launch({ ...r, write });
  return all;
}
const left = (all: InFlight): string => [...all.all()].map((r) => (r.write ? 'write' : 'read')).join(' ');

describe('VT-d: an IOTLB invalidation that drains, and the wait behind it', () => {
  const WAIT = command(0, 0x25, 0, 0, 0);
  const iotlb = (
    granularity: number,
    drain: number,
    did: number,
    dfn = 0,
    order = 0,
    unit = 0,
  ): StampedEvent => command(unit, 2 | (granularity << 4) | drain | (did << 16), 0, dfn * 4096 + order, 0);
  const [DW, DR, BOTH] = [0x40, 0x80, 0xc0];

  test.each([
    ['all', iotlb(1, BOTH, 0), ''],
    ['the domain', iotlb(2, BOTH, 3), ''],
    ['writes alone', iotlb(2, DW, 3), 'read'],
    ['reads alone', iotlb(2, DR, 3), 'write'],
    ['without draining', iotlb(2, 0, 3), 'write read'],
    ['another domain', iotlb(2, BOTH, 4), 'write read'],
    ['the page', iotlb(3, BOTH, 3, 0x205), ''],
    ['the page before', iotlb(3, BOTH, 3, 0x204), 'write read'],
    ['eight pages from 200', iotlb(3, BOTH, 3, 0x203, 3), ''],
    ['four pages from 200', iotlb(3, BOTH, 3, 0x203, 2), 'write read'],
    ['another unit', iotlb(1, BOTH, 0, 0, 0, 1), 'write read'],
    ['an entry', command(0, 1 | (3 << 4) | (3 << 16), 0x100, 0, 0), 'write read'],
  ])('%s', (_what, e, what) => {
    const all = two('vtd');
    all.hear(e);
    expect(left(all)).toBe('write read');
    all.hear(command(1, 0x25, 0, 0, 0));
    expect(left(all)).toBe('write read');
    all.hear(WAIT);
    expect(left(all)).toBe(what);
  });
});

describe('AMD: an invalidation, and the completion wait behind it', () => {
  const WAIT = command(0, 0, 0x1000_0000, 0, 0);
  test.each([
    ['the entry', command(0, 0x100, 0x2000_0000, 0, 0), ''],
    ['the entry of another', command(0, 0x108, 0x2000_0000, 0, 0), 'write read'],
    ['the page', command(0, 0, 0x3000_0003, 0x20_5000, 0), ''],
    ['the page of another domain', command(0, 0, 0x3000_0004, 0x20_5000, 0), 'write read'],
    ['eight pages from 200', command(0, 0, 0x3000_0003, 0x20_3001, 0), ''],
    ['four pages from 200', command(0, 0, 0x3000_0003, 0x20_1001, 0), 'write read'],
    ['all pages', command(0, 0, 0x3000_0003, 0xffff_f001, 0x7fff_ffff), ''],
    ['everything', command(0, 0, 0x8000_0000, 0, 0), ''],
    ['a device’s own', command(0, 0x100, 0x4000_0100, 0xffff_f001, 0x7fff_ffff), 'write read'],
  ])('%s', (_what, e, what) => {
    const all = two('amd');
    all.hear(e);
    expect(left(all)).toBe('write read');
    all.hear(WAIT);
    expect(left(all)).toBe(what);
  });
});

test('requests are known by where they go, and are gone after a new start', () => {
  const all = two('amd');
  expect([all.has(0x100, 0x205, 0x77), all.has(0x100, 0x205, 0x78)]).toEqual([true, false]);
  expect([all.to(0x70, 7).length, all.to(0x70, 8).length, all.to(0x78, 8).length]).toEqual([0, 2, 0]);
  all.clear();
  expect([...all.all()]).toEqual([]);
});
