/** The event log as Xen reads it: texts, attribution, restart; and commands that take long. */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost } from '../helpers/amd_services.js';

const poll = (host: AmdHost): void => runAlone(host.driver.ops.pollFaults());
/** Puts an entry into the log as hardware would. */
function inject(host: AmdHost, w0: number, w1: number, lo: number, hi: number): void {
  const tail = host.unit.read32(0x2018);
  const at = host.unit.frame(0x10) * 4096 + tail;
  for (const [i, w] of [w0, w1, lo, hi].entries()) host.ram.write32(at + i * 4, w | 0);
  host.unit.write32(0x2018, tail + 16);
}

describe('events', () => {
  test('FT-D11 a page fault names device, domain, address and each flag', () => {
    const host = new AmdHost().boot();
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x20, 0, 1 << 6);
    host.assign(d, host.pdev(0x200));
    host.dma(0x200, 0x1_2345_6789, true);
    host.dma(0x200, 0x10, true);
    host.dma(0x200, 0x11, false);
    expect(host.lines(() => poll(host))).toEqual([
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 0000123456789000 flags 0x20 RW',
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 0000000000010000 flags 0x70 PE RW PR',
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 0000000000011000 flags 0',
    ]);
    inject(host, 0x200, 0x2fff_0007, 0x1000, 0);
    expect(host.lines(() => poll(host))).toEqual([
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 0000000000001000 flags 0xfff ?? TR RZ PE RW PR I US NX GN',
    ]);
  });

  test('FT-D11 with `iommu=verbose` the walk follows, and a quarantined device has no root', () => {
    const host = new AmdHost({ opts: { verbose: true } }).boot();
    const d = host.newDomain(7);
    host.map(d, 0x1fe_0000, 0x20);
    host.assign(d, host.pdev(0x200));
    host.dma(0x200, 0x1fe_0001, true);
    const [, root, l3, l2, l1] = host.lines(() => poll(host));
    expect(root).toBe(`0000:02:00.0 root @ ${d.iommu.rootMfn.toString(16)} (3 levels) dfn=1fe0001`);
    expect([l3, l2].map((l) => l!.replace(/ = 60+[0-9a-f]+ /, ' = TABLE '))).toEqual([
      '  L3[07f] = TABLE rw',
      '  L2[100] = TABLE rw',
    ]);
    expect(l1).toBe('  L1[001] = 0 np');
    host.deassign(d, host.domIo, host.pdev(0x200));
    host.dma(0x200, 1, true);
    expect(host.lines(() => poll(host))).toEqual([
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d0 addr 0000000000001000 flags 0x20 RW',
      '0000:02:00.0: no root',
    ]);
  });

  test.each([
    [1, 'ILLEGAL_DEV_TABLE_ENTRY'],
    [4, 'PAGE_TABLE_HW_ERROR'],
    [8, 'INVALID_DEV_REQUEST'],
    [9, 'event'],
  ])('another event of code %i prints its words', (code, name) => {
    const host = new AmdHost().boot();
    inject(host, 0x200, code * 2 ** 28, 0xdead_b000, 0x12);
    const words = `00000200 ${code.toString(16)}0000000 deadb000 00000012`;
    expect(host.lines(() => poll(host))).toEqual([`${name} ${words}`]);
    expect(host.punished).toEqual([]);
  });

  test('FT-D12 a fault under an alias is charged to every id that has it', () => {
    const host = new AmdHost().boot([{ bdf: 0x908 }]);
    host.assign(host.domIo, host.pdev(0x908));
    host.dma(0x900, 1, true);
    poll(host);
    expect(host.punished.length).toBe(256);
    expect([host.punished[0], host.punished.includes(0x908), host.punished.includes(0x200)]).toEqual([
      0x900,
      true,
      false,
    ]);
    host.punished.length = 0;
    host.dma(0x300, 2 ** 30, true); // an id without entry
    poll(host);
    expect(host.punished).toEqual([]);
    expect(host.unit.translate(0x100, 5, true)).toBe(5);
  });

  test('the interrupt silences the unit until the tasklet has read the log', () => {
    const host = new AmdHost().boot();
    let irqs = 0;
    host.unit.onMsi = () => {
      irqs++;
      runAlone(host.driver.interrupt(0));
    };
    host.assign(host.domIo, host.pdev(0x200));
    host.dma(0x200, 1);
    host.dma(0x200, 2);
    expect([irqs, host.unit.read32(0x18) & 0x4008]).toEqual([1, 0]);
    expect(host.lines(() => poll(host)).length).toBe(2);
    expect(host.unit.read32(0x18) & 0x4008).toBe(0x4008);
    host.dma(0x200, 3);
    expect(irqs).toBe(2);
  });

  test('a log that ran over is restarted and goes on', () => {
    const host = new AmdHost().boot();
    host.assign(host.domIo, host.pdev(0x200));
    for (let i = 0; i < 600; i++) host.dma(0x200, i);
    expect(host.unit.read32(0x2020) & 9).toBe(1);
    expect(host.lines(() => poll(host)).length).toBe(511);
    expect(host.unit.read32(0x2020) & 9).toBe(8);
    host.dma(0x200, 0x4242);
    expect(host.lines(() => poll(host))).toEqual([
      'AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d0 addr 0000000004242000 flags 0x20 RW',
    ]);
    expect(host.lines(() => poll(host))).toEqual([]);
  });

  test('an entry that is announced but never written is given up', () => {
    const host = new AmdHost({ opts: { debug: true } }).boot();
    host.unit.write32(0x2018, 16);
    expect(host.lines(() => poll(host))).toEqual(['AMD-Vi: AMD-Vi: No entry written to Event Log']);
    expect(host.clock.nowNs).toBeGreaterThanOrEqual(999_000);
  });
});

describe('slow units', () => {
  test('a completion wait that takes long is told of, and Xen becomes more patient', () => {
    const host = new AmdHost().boot();
    const stallFor = (ms: number): void => {
      host.unit.stalled = true;
      host.clock.after(ms * 1e6, () => host.unit.resume());
    };
    stallFor(250);
    expect(host.lines(() => host.assign(host.domIo, host.pdev(0x200)))).toEqual([
      'AMD IOMMU 0000:00:00.2: completion wait taking too long',
      'AMD IOMMU 0000:00:00.2: completion wait took 25ms', // in units of 10 ms: Xen's own arithmetic
    ]);
    stallFor(250);
    expect(host.lines(() => host.deassign(host.domIo, host.dom0, host.pdev(0x200)))).toEqual([]);
    expect(host.dma(0x200, 0x10)).toBe(0x10);
  });

  test('a host that has been up for hours has as much patience as one that just booted', () => {
    const host = new AmdHost().boot();
    host.clock.advance(4 * 3600e9);
    host.unit.stalled = true;
    const since = host.clock.nowNs;
    host.clock.after(50e6, () => host.unit.resume());
    expect(host.lines(() => host.assign(host.domIo, host.pdev(0x200)))).toEqual([]);
    expect(host.clock.nowNs - since).toBeGreaterThanOrEqual(50e6);
    expect(host.clock.nowNs - since).toBeLessThan(51e6);
  });

  test('a unit that never answers ends the simulation, where Xen would wait for ever', () => {
    const host = new AmdHost().boot();
    host.unit.stalled = true;
    expect(() => host.assign(host.domIo, host.pdev(0x200))).toThrow(HostCrash);
  });
});
