/** Every step of every hypercall that can fail does, in turn; nothing leaks, and no device is with the wrong owner. */
import { describe, expect, test } from 'vitest';
import { type Command, showCommand } from '../../src/check/commands.js';
import { failEachStep } from '../../src/check/fail_nth.js';
import { type MachineSpec, plainMachine, type SlotKind, type Vendor } from '../../src/check/machines.js';

const machine = (vendor: Vendor, slot: SlotKind, more: Partial<MachineSpec> = {}): MachineSpec =>
  plainMachine(vendor, [slot], { quarantine: 'scratch-page', dom0: 'strict', ...more });

const assign = (dom: number, dev = 0): Command => ({ op: 'assign', dev, dom, flags: 0 });
const quarantine: Command = { op: 'quarantine', dev: 0 };
const separate: Command = { op: 'create', kind: 'hvm', share: false };

/** Domain 0 shares its tables, 1 is PV, 2 has tables of its own. */
const cases: { before: Command[]; command: Command }[] = [
  { before: [], command: { op: 'create', kind: 'hvm', share: true } },
  { before: [], command: separate },
  { before: [], command: { op: 'create', kind: 'pv', share: false } },
  ...[0, 1, 2].flatMap((dom) => [
    { before: [separate], command: assign(dom) },
    { before: [separate, quarantine], command: assign(dom) },
    { before: [separate, assign(dom)], command: { op: 'deassign', dev: 0, dom, flags: 0 } as const },
    { before: [separate, assign(dom)], command: { op: 'destroy', dom } as const },
    { before: [separate, assign(dom)], command: { op: 'populate', dom, gfn: 1, order: 0 } as const },
    { before: [separate, assign(dom)], command: { op: 'populate', dom, gfn: 1, order: 9 } as const },
    { before: [separate, assign(dom)], command: { op: 'decrease', dom, gfn: 0, part: false } as const },
    { before: [separate, assign(dom)], command: { op: 'remove', dev: 0 } as const },
  ]),
  { before: [separate, assign(2)], command: { op: 'move', dom: 2, from: 0, to: 3, count: 2 } },
  { before: [], command: { op: 'mmio', dom: 0, dev: 0, add: true, allow: true } },
  { before: [], command: { op: 'sharing', dom: 0, what: 'logdirty', on: true } },
  { before: [], command: quarantine },
  { before: [quarantine], command: { op: 'release', dev: 0 } },
  { before: [], command: { op: 'remove', dev: 0 } },
  { before: [{ op: 'remove', dev: 0 }], command: { op: 'add', dev: 0 } },
  { before: [], command: { op: 'testAssign', dev: 0, dom: 0 } },
];

const machines: [string, MachineSpec][] = (['vtd', 'amd'] as const).flatMap((vendor) => [
  [`${vendor}, phantom functions`, machine(vendor, 'phantom2')],
  [`${vendor}, behind a bridge`, machine(vendor, 'pcieToPci')],
  [`${vendor}, a reserved range`, machine(vendor, 'phantom1', { reserved: 0, quarantine: 'basic' })],
]);

describe.each(machines)('%s', (_name, spec) => {
  test('INV-O6 INV-O7 INV-O8 INV-F8 INV-D7 whatever fails, nothing leaks and nothing is violated', () => {
    const told: string[] = [];
    const sites = new Map<string, number>();
    for (const { before, command } of cases) {
      const { failed, failures } = failEachStep(spec, before, command);
      for (const [site, n] of failed) sites.set(site, (sites.get(site) ?? 0) + n);
      for (const f of failures)
        told.push(
          `${[...before, command].map(showCommand).join('; ')}: ${f.site} ${f.nth}: ${f.violation.id} ${f.violation.what}`,
        );
    }
    expect(told).toEqual([]);
    for (const site of ['alloc', 'domainAlloc', 'vendorOp', 'cmpxchg'])
      expect(sites.get(site)).toBeGreaterThan(0);
  });
});
