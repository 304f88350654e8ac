/**
 * Interrupts follow the virtual CPU that they are for. Expected: Xen 4.17's sched_move_irqs(), move_native_irq() and
 * set_desc_affinity(), and recording 03, where dom0 went to the second CPU and back.
 */
import { describe, expect, test } from 'vitest';
import { parseSbdf } from '../../src/base/sbdf.js';
import { Recorder } from '../../src/cli/recorder.js';
import { Session } from '../../src/cli/session.js';
import { doIrq } from '../../src/hypervisor/irq/do_irq.js';
import { irqArrives, runOn } from '../../src/hypervisor/irq/move.js';
import { runAlone } from '../../src/sim/co.js';
import { q35 } from '../helpers/q35.js';

const SERIAL = 3;
const SCI = 9;
const FIRST_VECTOR = 0x40;

/** The recorded board after its boot, with a program on its second serial line. */
function host() {
  const recorder = new Recorder('intel');
  const ioApic = {
    id: 0,
    pins: 24,
    overrides: [{ irq: 0, pin: 2 }, ...[5, 9, 10, 11].map((irq) => ({ irq, pin: irq, level: true }))],
    serialIrq: 4,
  };
  const session = new Session({ ...q35('vtd'), ioApic }, { release: '4.17', sinks: [recorder.sink] });
  const { dom0, machine } = session;
  runAlone(dom0.kernel.interrupts.request(SERIAL));
  recorder.booted(session);
  const { xen } = machine;
  const flushes = (): string[] =>
    recorder
      .record('', { exit: 0, stdout: '', stderr: '', pieces: [] })
      .vtd_trace.flatMap((l) => /index (0x\S+) mask 0x0(.*)/.exec(l)?.slice(1, 3).join('') ?? []);
  return { machine, xen, session, flushes, desc: (irq: number) => xen.irqs.desc(irq) };
}

describe('an interrupt of dom0', () => {
  test('stays where it is when dom0 moves, and goes after it the next time it comes', () => {
    const { desc, flushes, xen } = host();
    runOn(xen, xen.hwdom, 1);
    expect([flushes(), desc(SERIAL).affinity]).toEqual([[], 1]);
    runAlone(irqArrives(xen, SERIAL));
    // An edge: its entry is aimed, then let go.
    expect([flushes(), desc(SERIAL).affinity]).toEqual([['0x3   x2'], 2]);
    runAlone(irqArrives(xen, SERIAL));
    expect(flushes()).toEqual([]);
  });

  test('of a line that only the first CPU knows gets a vector of all CPUs, once; the old one ends with the next interrupt', () => {
    const { desc, xen } = host();
    const last = xen.irqs.currentVector;
    expect(desc(SERIAL).vector).toBe(FIRST_VECTOR);
    runOn(xen, xen.hwdom, 1);
    runAlone(irqArrives(xen, SERIAL));
    expect([desc(SERIAL).vector, desc(SERIAL).cpuMask]).toEqual([last + 8, 3]);
    expect(xen.irqs.byVector.get(FIRST_VECTOR)).toBe(SERIAL);
    runOn(xen, xen.hwdom, 0);
    runAlone(irqArrives(xen, SERIAL));
    expect([desc(SERIAL).vector, desc(SERIAL).affinity]).toEqual([last + 8, 1]);
    expect(xen.irqs.byVector.has(FIRST_VECTOR)).toBe(false);
  });

  test('of a level is masked while it moves', () => {
    const { flushes, xen } = host();
    runOn(xen, xen.hwdom, 1);
    runAlone(irqArrives(xen, SCI));
    expect(flushes()).toEqual(['0x9   x3']);
  });

  test('that is a message moves as its device sends it', () => {
    const { flushes, machine, xen } = host();
    const disk = parseSbdf('00:1f.2')!;
    const { irq, remapIndex } = xen.irqs.msis.get(disk)![0]!;
    runOn(xen, xen.hwdom, 1);
    runAlone(machine.sendMessage(disk));
    expect([flushes(), xen.irqs.desc(irq).affinity]).toEqual([[`0x${remapIndex.toString(16)}`], 2]);
    runAlone(machine.sendMessage(disk));
    expect(flushes()).toEqual([]);
  });

  test('is noted once, however often it comes before somebody looks', () => {
    const { machine, xen } = host();
    const { irq } = xen.irqs.msis.get(parseSbdf('00:1f.2')!)![0]!;
    runOn(xen, xen.hwdom, 1);
    for (let i = 0; i < 3; i++) doIrq(xen, xen.irqs.desc(irq).vector);
    expect(xen.irqs.moving).toEqual([irq]);
    runAlone(machine.serviceInterrupts());
    expect([xen.irqs.moving, xen.irqs.desc(irq).affinity]).toEqual([[], 2]);
  });

  test('is bound where dom0 runs', () => {
    const { desc, session, xen } = host();
    runOn(xen, xen.hwdom, 1);
    runAlone(session.dom0.kernel.interrupts.setupGsi(16, true));
    runAlone(session.dom0.kernel.interrupts.request(16));
    expect(desc(16).affinity).toBe(2);
  });
});

test('NVMe: dom0 has moved, and the answer to the last command of its driver moves its interrupt before it is freed', () => {
  const { flushes, session, xen } = host();
  session.run('modprobe nvme');
  runOn(xen, xen.hwdom, 1);
  flushes();
  const entries = xen.irqs.msis.get(parseSbdf('03:00.0')!)!.map((e) => `0x${e.remapIndex.toString(16)}`);
  session.run('xl pci-assignable-add 03:00.0');
  // Recording 03, record 55.
  expect(flushes()).toEqual([`${entries[0]}   x2`, entries[1]]);
});
