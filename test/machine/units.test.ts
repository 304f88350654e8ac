/** Machines of the kit with several units, and with bridges behind bridges. */
import { describe, expect, test } from 'vitest';
import { bdfOf } from '../../src/base/sbdf.js';
import { plainMachine } from '../../src/check/machines.js';
import { World } from '../../src/check/world.js';

describe.each(['vtd', 'amd'] as const)('%s', (vendor) => {
  const world = (units: number | undefined, slots = ['endpoint', 'phantom1', 'twoFunctions'] as const) =>
    new World(plainMachine(vendor, slots, { units, dom0: 'strict' }), { fixed: true });

  test.each([undefined, 2, 3])(
    '%s units: each device goes through one of its own, the rest through the last',
    (n) => {
      const w = world(n);
      const { machine } = w;
      expect(machine.units).toHaveLength(n ?? 1);
      const frame = machine.xen.hwdom.extents[0]!.mfn;
      const through = w.layout.devices.map((d) => {
        const before = machine.units.map((u) => u.cachedTranslations().length);
        expect(machine.translate(0, bdfOf(d.sbdf), frame, false)).toBe(frame);
        return machine.units.findIndex((u, i) => u.cachedTranslations().length > before[i]!);
      });
      // The functions of one slot share a unit and dom0's id: the second finds what the first left.
      expect(through.slice(0, 3).map((i) => (i < 0 ? 'shared' : i))).toHaveLength(3);
      const serving = w.layout.devices.map((d) => machine.units.indexOf(machine.unitFor(d.sbdf)!));
      const rest = vendor === 'vtd' ? (n ?? 1) - 1 : 0;
      const own = vendor === 'vtd' ? [0, 1] : [1, 2];
      const expected = n === 3 ? [...own, rest, rest] : n === 2 ? [own[0], rest, rest, rest] : [0, 0, 0, 0];
      expect(serving).toEqual(expected);
      for (const [i, unit] of through.entries()) if (unit >= 0) expect(unit).toBe(serving[i]);
    },
  );

  test('a device of a guest is out of its reach once its own unit was told', () => {
    const w = world(3);
    const page = [...w.domains[1]!.memory.keys()][0]!;
    for (let dev = 0; dev < 3; dev++) {
      w.apply({ op: 'assign', dev, dom: 1, flags: 0 });
      const rid = bdfOf(w.layout.devices[dev]!.sbdf);
      expect(w.machine.translate(0, rid, page, true)).toBe(page);
      w.apply({ op: 'deassign', dev, dom: 1, flags: 0 });
      expect(w.machine.translate(0, rid, page, true)).toBeLessThan(0);
    }
  });

  test('requests from behind two bridges arrive as the upper one’s bus says', () => {
    const w = new World(plainMachine(vendor, ['nestedBridge'], { dom0: 'strict' }), { fixed: true });
    const [device] = w.layout.devices;
    const frame = w.machine.xen.hwdom.extents[0]!.mfn;
    const done = w.machine.dma(device!.sbdf, { address: frame * 4096, bytes: 4, write: false });
    expect(done).toMatchObject({ status: 'done', rid: 0x200, mfn: frame });
    expect(device!.sharedRids).toContain(0x200);
  });
});
