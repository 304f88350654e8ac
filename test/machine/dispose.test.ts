/** A machine that is done with gives its memory to the next one, which cannot tell. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { XenBug } from '../../src/base/assert.js';
import * as xen from '../../src/index.js';
import { Machine } from '../../src/machine.js';
import { runAlone } from '../../src/sim/co.js';
import { restoreSnapshot } from '../../src/sim/snapshot.js';
import { dump } from '../support/graph.js';
import { bootListening, go, histories, type Step } from '../support/history.js';
import { DEVICES, HOSTS } from '../support/hosts.js';

/** Words of memory that a machine has at once. */
const FIRST_WORDS = 18 * 1024;

/** Memory that machines of this file have had. */
const had = new WeakSet<object>();

/** A machine in memory that nobody had before: all that machines gave back is taken first. */
function bootFresh(host: xen.HostDescription): ReturnType<typeof bootListening> {
  for (;;) {
    const booted = bootListening(xen, host);
    const { words } = booted.machine.hw.ram;
    if (!had.has(words)) return booted;
  }
}

/** The machine plays a history, in part twice, and is disposed of; the arrays that it had. */
function useUp(machine: Machine, steps: readonly Step[]): { words: Int32Array; table: object } {
  const booted = machine.snapshot();
  go(xen, machine, steps);
  const later = machine.snapshot();
  go(xen, machine, steps);
  if (steps.length % 3 > 0) machine.restore(steps.length % 3 === 1 ? booted : later);
  const { ram, frames } = machine.hw;
  had.add(ram.words);
  const arrays = { words: ram.words, table: (frames as unknown as { mixed: object }).mixed };
  machine.dispose();
  return arrays;
}

/** The whole machine, as text. */
const all = ({ hw, xen: state }: Machine): string => dump({ hw, xen: state }, { anyRoom: true });

test.each(['intel', 'amd'] as const)(
  'a machine on used memory is word for word the one on fresh memory, at its start, later, and restored: %s',
  (vendor) => {
    const host = HOSTS[vendor]();
    let grown = 0;
    fc.assert(
      fc.property(histories, histories, histories, (before, steps, astray) => {
        const fresh = bootFresh(host);
        const arrays = useUp(bootFresh(host).machine, before);
        grown += Number(arrays.words.length > FIRST_WORDS);
        const used = bootListening(xen, host);
        expect(used.machine.hw.ram.words).toBe(arrays.words);
        expect((used.machine.hw.frames as unknown as { mixed: object }).mixed).toBe(arrays.table);
        // Not toBe: the difference of two texts of megabytes is never done.
        expect(all(used.machine) === all(fresh.machine)).toBe(true);
        expect(go(xen, used.machine, steps)).toEqual(go(xen, fresh.machine, steps));
        expect(all(used.machine) === all(fresh.machine)).toBe(true);
        const [one, other] = [used.machine.snapshot(), fresh.machine.snapshot()];
        expect(one.objects).toBe(other.objects);
        go(xen, used.machine, astray);
        go(xen, fresh.machine, astray);
        used.machine.restore(one);
        fresh.machine.restore(other);
        expect(all(used.machine) === all(fresh.machine)).toBe(true);
        expect(used.events).toEqual(fresh.events);
        had.add(used.machine.hw.ram.words);
        had.add(fresh.machine.hw.ram.words);
      }),
      { numRuns: 25 },
    );
    expect(grown).toBeGreaterThan(0);
  },
);

const REFUSED = /asked of a machine that was disposed of/;

test.each(['intel', 'amd'] as const)('a machine that was disposed of refuses to be used: %s', (vendor) => {
  const machine = Machine.boot(HOSTS[vendor]());
  machine.dispose();
  machine.dispose();
  const doors: readonly (() => unknown)[] = [
    () => machine.hypercalls.readConsole(false),
    () => machine.hw.ram,
    () => machine.xen.pdevs,
    () => machine.units,
    () => machine.unitFor(DEVICES.gpu),
    () => machine.dom0ConfigWrite(DEVICES.gpu, 4, 2, 6),
    () => machine.dma(DEVICES.gpu, { address: 0x8000, bytes: 4, write: true }),
    () => machine.translate(0, DEVICES.gpu, 8, true),
    () => machine.raise(0, DEVICES.gpu, 0xfee0_0000, 0x30),
    () => runAlone(machine.serviceInterrupts()),
    () => machine.phantomRids(DEVICES.gpu),
    () => machine.snapshot(),
  ];
  for (const door of doors) {
    expect(door).toThrow(XenBug);
    expect(door).toThrow(REFUSED);
  }
});

test.each(['intel', 'amd'] as const)('whoever kept a part of it is refused too: %s', (vendor) => {
  const machine = Machine.boot(HOSTS[vendor]());
  const { hypercalls, hw } = machine;
  const mfn = machine.xen.hwdom.extents[0]!.mfn;
  // A walk's tables are foreseen from now on.
  machine.translate(0, DEVICES.gpu & 0xffff, mfn, true);
  // Other frames than the next machine has belong to dom0, and what is restored is not what was taken last.
  expect(runAlone(hypercalls.memoryOp({ cmd: 'populate_physmap', domid: 0, gfns: [16], order: 0 }))).toBe(1);
  const earlier = machine.snapshot();
  const snapshot = machine.snapshot();
  const { words } = hw.ram;
  machine.dispose();
  const next = Machine.boot(HOSTS[vendor]());
  expect(next.hw.ram.words).toBe(words);
  const before = all(next);
  const gpu = { seg: 0, bus: 1, devfn: 0 };
  const doors: readonly (() => unknown)[] = [
    () => hw.ram.read32(mfn * 4096),
    () => hw.ram.write32(mfn * 4096, 1),
    () => hw.ram.peekTable(mfn, 1),
    () => hw.frames.set(mfn, 1, 0, 1),
    () => hw.heap.alloc(0, 0, 1),
    () =>
      runAlone(
        hypercalls.domctl({ cmd: 'assign_device', domid: 0, dev: 0, machineSbdf: DEVICES.gpu, flags: 0 }),
      ),
    () => runAlone(hypercalls.physdevOp({ ...gpu, cmd: 'pci_device_remove' })),
    () => runAlone(hypercalls.memoryOp({ cmd: 'populate_physmap', domid: 0, gfns: [16], order: 0 })),
    () => machine.restore(snapshot),
    () => restoreSnapshot(snapshot),
    () => machine.restore(earlier),
    () => restoreSnapshot(earlier),
  ];
  for (const door of doors) expect(door, String(door)).toThrow(XenBug);
  expect(all(next) === before).toBe(true);
});

test('the end of a block, by which `using` disposes of a machine, is dispose()', () => {
  const machine = Machine.boot(HOSTS.intel());
  machine[Symbol.dispose]();
  expect(() => machine.hw.ram).toThrow(REFUSED);
});

test('a few machines give their memory back, and no more is kept', () => {
  const host = HOSTS.intel();
  const given = Array.from({ length: 10 }, () => Machine.boot(host)).map((machine) => {
    const { words } = machine.hw.ram;
    machine.dispose();
    return words;
  });
  const again = Array.from({ length: 10 }, () => Machine.boot(host).hw.ram.words);
  expect(again.filter((words) => given.includes(words))).toHaveLength(4);
});
