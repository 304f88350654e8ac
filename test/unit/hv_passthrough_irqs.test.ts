/** Interrupts of devices on their way to HVM guests, in softirqs; and which functions answer at all. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import { allDpciSoftirqs, hvmDoIrqDpci, softirqsElsewhere } from '../../src/hypervisor/passthrough/dpci.js';
import { archPciCleanPirqs, ptIrqBind, ptIrqUnbind } from '../../src/hypervisor/passthrough/hvm.js';
import { pciDeviceDetect } from '../../src/hypervisor/passthrough/pdev.js';
import { physdevOp } from '../../src/hypervisor/physdev.js';
import { runAlone } from '../../src/sim/co.js';
import { endpoint, makeXen, sbdf, type TestXen, type TestXenOptions } from '../helpers/xen.js';

function guest(o: TestXenOptions = {}, pirqs: readonly number[] = [20]): { xen: TestXen; d: Domain } {
  const xen = makeXen({ devices: [endpoint(3, 0)], ...o });
  xen.hwdom.irqCaps.add(0, 23);
  const d = xen.guest(1, { hvm: true });
  for (const pirq of pirqs)
    runAlone(physdevOp(xen, { cmd: 'map_pirq', domid: 1, type: 'gsi', index: pirq, pirq }));
  for (const machineIrq of pirqs)
    expect(runAlone(ptIrqBind(xen, d, { cmd: 'bind_pt_irq', domid: 1, machineIrq, irqType: 'msi' }))).toBe(0);
  return { xen, d };
}

describe('softirqs', () => {
  test('run at once, or after as many rounds as the CPU is busy; one at a time for an interrupt', () => {
    const { xen, d } = guest();
    const pirq = d.pirqs.get(20)!;
    hvmDoIrqDpci(xen, d, pirq, 0);
    expect([xen.irqs.inFlight.length, pirq.dpciActive]).toEqual([0, false]);
    hvmDoIrqDpci(xen, d, pirq, 2);
    hvmDoIrqDpci(xen, d, pirq, 5);
    expect(xen.irqs.inFlight).toEqual([{ d, pirq, rounds: 2 }]);
    softirqsElsewhere(xen);
    expect([xen.irqs.inFlight.length, pirq.dpciActive]).toEqual([1, true]);
    softirqsElsewhere(xen);
    expect([xen.irqs.inFlight.length, pirq.dpciActive]).toEqual([0, false]);
  });
  test('all that wait run together', () => {
    const { xen, d } = guest({}, [20, 21]);
    for (const n of [20, 21]) hvmDoIrqDpci(xen, d, d.pirqs.get(n)!, 9);
    expect(xen.irqs.inFlight).toHaveLength(2);
    allDpciSoftirqs(xen);
    expect([xen.irqs.inFlight, d.pirqs.get(21)!.dpciActive]).toEqual([[], false]);
  });
  test('are raised for what is bound only', () => {
    const { xen, d } = guest();
    const pirq = d.pirqs.get(20)!;
    d.dpci = false;
    hvmDoIrqDpci(xen, d, pirq, 1);
    d.dpci = true;
    pirq.bound = false;
    hvmDoIrqDpci(xen, d, pirq, 1);
    expect(xen.irqs.inFlight).toEqual([]);
  });
  test('are forgotten when the interrupt is bound anew or unbound', () => {
    const { xen, d } = guest();
    const pirq = d.pirqs.get(20)!;
    const op = { domid: 1, machineIrq: 20, irqType: 'msi' } as const;
    hvmDoIrqDpci(xen, d, pirq, 3);
    expect(runAlone(ptIrqBind(xen, d, { cmd: 'bind_pt_irq', ...op }))).toBe(0);
    expect([xen.irqs.inFlight, pirq.dpciActive]).toEqual([[], false]);
    hvmDoIrqDpci(xen, d, pirq, 3);
    expect(runAlone(ptIrqUnbind(xen, d, { cmd: 'unbind_pt_irq', ...op }))).toBe(0);
    expect([xen.irqs.inFlight, pirq.dpciActive]).toEqual([[], false]);
  });
});

describe('a dying guest', () => {
  test('has what is bound unbound, and nothing more to clean', () => {
    const { xen, d } = guest({}, [20, 21]);
    expect(runAlone(archPciCleanPirqs(xen, d))).toBe(0);
    expect([d.dpci, d.pirqs.get(20)?.bound ?? false, d.pirqs.get(21)?.bound ?? false]).toEqual([
      false,
      false,
      false,
    ]);
    expect([xen.irqs.desc(20).guests, xen.irqs.desc(21).guests]).toEqual([[], []]);
    expect(runAlone(archPciCleanPirqs(xen, d))).toBe(0);
  });
  test('is taken up again while an interrupt is in flight', () => {
    const { xen, d } = guest({}, [20, 21]);
    hvmDoIrqDpci(xen, d, d.pirqs.get(20)!, 2);
    expect([runAlone(archPciCleanPirqs(xen, d)), d.dpci]).toEqual([E.RESTART, true]);
    softirqsElsewhere(xen);
    softirqsElsewhere(xen);
    expect([runAlone(archPciCleanPirqs(xen, d)), d.dpci]).toEqual([0, false]);
    expect([xen.irqs.desc(20).guests, xen.irqs.desc(21).guests]).toEqual([[], []]);
  });
  test('that never had an interrupt, or is PV, is done at once', () => {
    const xen = makeXen({ devices: [endpoint(3, 0)] });
    expect(runAlone(archPciCleanPirqs(xen, xen.guest(1, { hvm: true })))).toBe(0);
    expect(runAlone(archPciCleanPirqs(xen, xen.guest(2)))).toBe(0);
  });
});

test('a number without interrupt behind it cannot be bound, whoever asks', () => {
  const { xen, d } = guest();
  const bind = (machineIrq: number): number =>
    runAlone(ptIrqBind(xen, d, { cmd: 'bind_pt_irq', domid: 1, machineIrq, irqType: 'msi' }));
  expect([bind(21), bind(0), bind(20)]).toEqual([E.PERM, E.PERM, 0]);
});

test.each([
  [0xffff_ffff, false],
  [0, false],
  [0x0000_ffff, false],
  [0xffff_0000, false],
  [0xffff_0001, true],
  [0x0001_ffff, true],
  [0x1000_8086, true],
])('a function whose ids read as %i answers: %s', (ids, there) => {
  const edit = (c: DataView): void => c.setUint32(0, ids, true);
  const xen = makeXen({ devices: [{ ...endpoint(3, 0), edit }], boot: 'none' });
  expect(pciDeviceDetect(xen, sbdf(0, 3, 0, 0))).toBe(there);
  expect(pciDeviceDetect(xen, sbdf(0, 4, 0, 0))).toBe(false);
});
