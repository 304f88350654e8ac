/** How records of a replay are compared: what comes at another time, and what no record has. */
import { describe, expect, test } from 'vitest';
import {
  compareRecord,
  type FieldResult,
  matchAcrossRecords,
  unrecordedLines,
} from '../../src/cli/golden/compare.js';
import { isBootKind, isXens, withRecorded } from '../../src/cli/golden/console_ring.js';
import { diffLines } from '../../src/cli/golden/diff.js';
import type { ReplayRecord } from '../../src/cli/golden/recorded_host.js';
import type { GoldenRecord } from '../../src/cli/golden/recording.js';

const GSI = '[    1.000000] Already setup the GSI :22';
const FLUSH = [
  'vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x200e2',
  'vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x2',
];
const PAGES =
  'vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x2 page-selective x3 (collapsed; first addr 0x1000 mask 0x0)';

const theirs = (r: Partial<GoldenRecord>): GoldenRecord => ({
  cmd: 'true',
  stdout: '',
  stderr: '',
  xen_log: [],
  dom0_kernel_log: [],
  vtd_trace: [],
  ...r,
});
const ours = (r: Partial<ReplayRecord>): ReplayRecord => ({ cmd: 'true', ...r });
const field = (results: readonly FieldResult[], name: string): FieldResult =>
  results.find((r) => r.field === name)!;

test('a line that a guest causes may be in another record, but it must be in one', () => {
  const [a, b] = matchAcrossRecords([
    compareRecord(theirs({ dom0_kernel_log: [GSI, GSI] }), ours({}), ''),
    compareRecord(theirs({}), ours({ dom0_kernel_log: [GSI] }), ''),
  ]);
  expect(field(a!, 'kernel')).toMatchObject({ equal: 1, compared: 2 });
  expect(field(b!, 'kernel')).toMatchObject({ equal: 0, compared: 0 });
});

test('what only we have of a guest is hidden and counted; other lines are not', () => {
  const other = '[    1.000000] pciback 0000:02:00.0: enabling device (0000 -> 0002)';
  const [a] = matchAcrossRecords([compareRecord(theirs({}), ours({ dom0_kernel_log: [GSI, other] }), '')]);
  const kernel = field(a!, 'kernel');
  expect(kernel.differences.map((d) => d.line.text)).toEqual([other]);
  expect([...kernel.byRule].filter(([rule]) => rule.effect === 'hide')).toMatchObject([
    [{ id: 'guest-unseen' }, 1],
  ]);
});

test('a flush of a whole domain before its pages is left out, but not one after a context cache', () => {
  const alone = compareRecord(theirs({ vtd_trace: [...FLUSH, PAGES] }), ours({}), '');
  expect(field(alone, 'trace').differences).toEqual([]);
  const cc = 'vtd_inv_desc_cc_devices context invalidate devices sid 0x200 fmask 0x0';
  const assigned = compareRecord(theirs({ vtd_trace: [cc, ...FLUSH, PAGES] }), ours({ vtd_trace: [cc] }), '');
  expect(field(assigned, 'trace').differences.map((d) => d.line.text)).toEqual(FLUSH);
});

test("a dead domain's root table may be another's later; two of one domain are told apart", () => {
  const root = (at: string, domain: number): string =>
    `(XEN) AMD-Vi: Setup I/O page table: device id = 0x900, type = 0x7, root table = ${at}, domain = ${domain}, paging mode = 3`;
  const differing = (a: string[], b: string[]): number =>
    field(compareRecord(theirs({ xen_log: a }), ours({ xen_log: b }), ''), 'console').differences.length;
  expect(differing([root('0xa000', 1), root('0xb000', 2)], [root('0xc000', 1), root('0xc000', 2)])).toBe(0);
  expect(differing([root('0xa000', 1), root('0xb000', 1)], [root('0xc000', 1), root('0xc000', 1)])).toBe(1);
  expect(differing([root('0xa000', 1)], [root('0xa000', 2)])).toBe(2);
});

test('a wait for a reset that our kernel told of between two commands stands for theirs; one that nobody told of does not', () => {
  const wait = (ms: number): string =>
    `[    1.000000] pciback 0000:03:00.1: not ready ${ms}ms after FLR; waiting`;
  const compared = [compareRecord(theirs({ dom0_kernel_log: [wait(1023), wait(2047)] }), ours({}), '')];
  const [a] = matchAcrossRecords([...compared, unrecordedLines([wait(2047), GSI])]);
  expect(field(a!, 'kernel')).toMatchObject({ equal: 1, compared: 2 });
  expect(field(a!, 'kernel').differences.map((d) => d.line.text)).toEqual([wait(1023)]);
  const [b] = matchAcrossRecords([compareRecord(theirs({}), ours({ dom0_kernel_log: [wait(511)] }), '')]);
  expect(field(b!, 'kernel')).toMatchObject({ equal: 0, compared: 1 });
});

test("what the handler of the AMD unit's interrupt writes is out of scope, but no other write of the register", () => {
  const control = (state: string): string => `amdvi_control_status MMIO_STATUS state ${state}`;
  const left = (...states: string[]): string[] =>
    field(compareRecord(theirs({ vtd_trace: states.map(control) }), ours({}), ''), 'trace').differences.map(
      (d) => d.line.text,
    );
  expect(left('0x1b407', '0x1b40f', '0x1f40f')).toEqual([]);
  expect(left('0x1b40f', '0x1f40f')).toEqual([]);
  expect(left('0x1b407', '0x1f40e')).toEqual([control('0x1b407'), control('0x1f40e')]);
  // The end of the handler alone is left out where the record begins with it.
  expect(left('0x1f40f')).toEqual([]);
  expect(left('0x1b40e', '0x1f40f')).toEqual([control('0x1b40e'), control('0x1f40f')]);
});

test('one flush after the other is left out with its own lines alone', () => {
  const steady = 'vtd_inv_desc_iec granularity 0x1 index 0x24 mask 0x0';
  const many = compareRecord(
    theirs({ vtd_trace: [PAGES, ...FLUSH, ...FLUSH, ...FLUSH, steady] }),
    ours({}),
    '',
  );
  expect(field(many, 'trace').differences.map((d) => d.line.text)).toEqual([steady]);
});

describe('lines of two sides', () => {
  const edits = (theirs: string[], ours: string[]): string[] =>
    diffLines(theirs, ours).map((e) => `${e.kind} ${e.theirs} ${e.ours}`);
  test('are told apart by the fewest lines', () => {
    expect(edits(['a', 'b', 'c'], ['a', 'c', 'd'])).toEqual([
      'same 0 0',
      'theirs 1 -1',
      'same 2 1',
      'ours -1 2',
    ]);
  });
  test('are compared place by place where thousands differ', () => {
    const many = (letter: string): string[] => Array.from({ length: 5000 }, (_, i) => letter + i);
    const all = edits([...many('a'), 'end'], ['more', ...many('b'), 'end']);
    expect(all.filter((e) => e.startsWith('same'))).toEqual([]);
    expect(all).toHaveLength(10_003);
  });
});

// Debian's Xen 4.17.7 under dom0-iommu=strict: pages of dom0 that become page tables.
test("flushes of domain 0's pages on AMD are out of scope where dom0 is strict, and only there", () => {
  const flush = 'amdvi_pages_inval AMD-Vi pages for domain 0x0 invalidated';
  const compared = (xen: string): number =>
    compareRecord(theirs({ vtd_trace: [flush] }), ours({}), xen).find((r) => r.field === 'trace')!.compared;
  expect(compared('iommu=1')).toBe(1);
  expect(compared('iommu=1 dom0-iommu=map-reserved,strict')).toBe(0);
  expect(compared('iommu=dom0-strict')).toBe(0);
  expect(compared('dom0-iommu=nostrict')).toBe(1);
});

describe('what only the recording has of the console', () => {
  const dmi = '(XEN) DMI 2.8 present.';
  const vtd = '(XEN) [VT-D]Host address width 48';
  test('lines of the boot that are not compared stay, those that are compared are ours', () => {
    expect(withRecorded([dmi, vtd, '(XEN) [VT-D]theirs'], [vtd, '(XEN) [VT-D]ours'], isBootKind)).toEqual([
      dmi,
      vtd,
      '(XEN) [VT-D]ours',
    ]);
  });

  test('what guests print stands where they printed it, and what only we have at the end', () => {
    const lines = withRecorded(
      ['(XEN) a', '(d1) BIOS', '(XEN) b'],
      ['(XEN) a', '(XEN) b', '(XEN) c'],
      isXens,
    );
    expect(lines).toEqual(['(XEN) a', '(d1) BIOS', '(XEN) b', '(XEN) c']);
  });
});
