/** Invariants that need machines, releases or commands of their own: random histories of few kinds of commands. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatSbdf } from '../../src/base/sbdf.js';
import { arbCommandOf, arbLargePage, type Command } from '../../src/check/commands.js';
import { checkHistories, type HistoryOptions, invariants } from '../../src/check/histories.js';
import { layOut, type MachineSpec, plainMachine } from '../../src/check/machines.js';
import { layOutHost } from '../../src/check/own_machine.js';
import { SEED } from '../support/seed.js';

const plain: Partial<MachineSpec> = {
  slots: ['endpoint', 'twoFunctions'],
  quarantine: 'basic',
  reserved: -1,
  fewIds: false,
  threeLevels: false,
  phantomOption: false,
};
const MOVES = ['assign', 'deassign', 'create', 'destroy'] as const;

const dom = fc.nat(3);
const dev = fc.nat(5);
const yes = fc.constant(true);

type Case = Pick<HistoryOptions, 'vendor' | 'release' | 'machine' | 'draw'> & {
  readonly id: string;
  /** What the histories must have come by. */
  readonly reached: readonly string[];
};

const bothVendors = (c: Omit<Case, 'vendor'>): Case[] => [
  { vendor: 'vtd', ...c },
  { vendor: 'amd', ...c },
];

const cases: readonly Case[] = [
  ...bothVendors({
    id: 'INV-I8',
    machine: plain,
    draw: arbCommandOf(['mmio', 'assign', 'dma']).map((c) =>
      c.op === 'mmio' ? { ...c, dev: 7, allow: true } : c,
    ),
    reached: ['write to a read-only page'],
  }),
  ...bothVendors({
    id: 'INV-I9',
    machine: { ...plain, dom0: 'relaxed' },
    draw: arbCommandOf(['mmio', ...MOVES]).map((c) => (c.op === 'mmio' ? { ...c, dev: 6, allow: true } : c)),
    reached: ['mmio -1'],
  }),
  ...bothVendors({
    id: 'INV-I11',
    machine: plain,
    draw: fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({ op: fc.constant('mmio' as const), dom, dev, add: yes, allow: yes }),
      },
      { weight: 1, arbitrary: fc.constant<Command>({ op: 'create', kind: 'hvm', share: false }) },
      { weight: 3, arbitrary: arbCommandOf(['assign']) },
      { weight: 1, arbitrary: arbCommandOf(['destroy']) },
      { weight: 2, arbitrary: fc.constant<Command>({ op: 'fail', site: 'vendorOp', nth: 1 }) },
    ),
    reached: ['map for the dying'],
  }),
  {
    id: 'INV-F8',
    vendor: 'vtd',
    machine: { ...plain, superpages: false },
    draw: fc.oneof(
      arbLargePage,
      arbCommandOf(['fail']).map((c) => ({ ...c, site: 'alloc' }) as Command),
      fc.constant<Command>({ op: 'create', kind: 'pv', share: false }),
      arbCommandOf(['assign', 'destroy']),
    ),
    reached: ['map fails on the way'],
  },
  ...bothVendors({
    id: 'INV-F4',
    machine: { ...plain, ats: true },
    draw: arbCommandOf(['ats', 'assign', 'deassign', 'quarantine', 'populate', 'decrease', 'remove', 'add']),
    reached: ['device keeps a translation', 'decrease 0', 'deassign 0'],
  }),
  ...bothVendors({
    id: 'INV-O12',
    release: '4.23',
    // A virtual function is behind its physical one's unit, and dom0 may call it something else later.
    machine: { ...plain, twoUnits: false, units: 1 },
    draw: arbCommandOf(['addVf', 'remove', 'add', 'assign']),
    reached: ['virtual function', 'remove -16'],
  }),
  ...bothVendors({
    id: 'INV-L5',
    release: '4.23',
    machine: plain,
    draw: arbCommandOf(['mmio', 'create', 'destroy']),
    reached: ['two domains locked by id'],
  }),
];

test.each(cases)('$vendor: $id holds where it can be broken', (c) => {
  const r = checkHistories({
    fixed: true,
    runs: 60,
    commands: 40,
    seed: SEED,
    vendor: c.vendor,
    release: c.release ?? '4.18',
    machine: c.machine!,
    draw: c.draw!,
    invariants: invariants.filter((i) => i.id === c.id),
    shrink: process.env.XPSIM_MUTANT === undefined,
  });
  expect(r.failure?.report).toBeUndefined();
  expect(c.reached.filter((what) => (r.counts.get(what) ?? 0) === 0)).toEqual([]);
});

/** Machines that few histories draw, under every invariant. */
const rare: readonly { name: string; machine: Partial<MachineSpec>; release?: string; reached: string[] }[] =
  [
    {
      name: 'two segments',
      machine: { segments: 2, slots: ['phantom1', 'endpoint', 'pcieToPci', 'twoFunctions'] },
      reached: ['move on another segment', 'dma by phantom'],
    },
    {
      name: 'virtual functions and a ninth function',
      machine: { slots: ['sriov', 'ari', 'endpoint'] },
      reached: ['move of a virtual function', 'move of an extended function'],
    },
    {
      name: 'virtual functions on two segments, 4.23',
      release: '4.23',
      machine: { segments: 2, slots: ['sriov', 'sriov', 'legacyBridge'] },
      reached: ['move on another segment', 'move of a virtual function', 'remove -16'],
    },
  ];

test.each(rare.flatMap((m) => (['vtd', 'amd'] as const).map((vendor) => ({ ...m, vendor }))))(
  '$vendor: $name: every invariant holds',
  ({ machine, reached, release, vendor }) => {
    const r = checkHistories({
      vendor,
      release: release ?? '4.18',
      runs: 40,
      commands: 50,
      seed: SEED,
      machine,
    });
    expect(r.failure?.report).toBeUndefined();
    expect(reached.filter((what) => (r.counts.get(what) ?? 0) === 0)).toEqual([]);
  },
);

test.each(['vtd', 'amd'] as const)('%s: devices of both segments of a described machine move', (vendor) => {
  const { host } = layOut(plainMachine(vendor, ['endpoint', 'phantom1', 'endpoint'], { segments: 2 }));
  const devices = layOutHost(host, plainMachine(vendor, ['endpoint'])).devices;
  expect(devices.map((d) => formatSbdf(d.sbdf))).toEqual(['0000:01:00.0', '0001:01:00.0', '0000:02:00.0']);
  const r = checkHistories({ vendor, runs: 10, commands: 40, seed: SEED, host });
  expect(r.failure?.report).toBeUndefined();
  expect(r.counts.get('move on another segment')).toBeGreaterThan(0);
});
