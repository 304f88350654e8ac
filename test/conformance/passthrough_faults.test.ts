/** Devices that fault, and domains that die. @xen drivers/passthrough/pci.c */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import { PCI } from '../../src/hypervisor/passthrough/config.js';
import { pciCheckDisableDevice } from '../../src/hypervisor/passthrough/fault.js';
import { assignDevice, pciReleaseDevices } from '../../src/hypervisor/passthrough/pci.js';
import { runAlone } from '../../src/sim/co.js';
import {
  endpoint,
  makeXen,
  sbdf,
  type TestXen,
  type TestXenOptions,
  told,
  withPcidevs,
} from '../helpers/xen.js';

const MS = 1_000_000;
const NIC = sbdf(0, 3, 0, 0);
const DEVICES = [endpoint(3, 0, 0, 1), endpoint(4, 0), endpoint(5, 0)];
const make = (o: TestXenOptions = {}): TestXen => makeXen({ devices: DEVICES, ...o });

const masters = (xen: TestXen): boolean =>
  (xen.pci.configRead(NIC, PCI.COMMAND, 2) & PCI.COMMAND_MASTER) !== 0;
const fault = (xen: TestXen, fn = 0): void => runAlone(pciCheckDisableDevice(xen, 0, 3, fn));
const give = (xen: TestXen, d: Domain, bus: number): number =>
  runAlone(withPcidevs(xen, () => assignDevice(xen, d, 0, bus, 0, 0)));

describe('pci_check_disable_device()', () => {
  test('FT-A36 nine faults are borne, the tenth takes the bus mastership', () => {
    const xen = make();
    for (let n = 1; n <= 9; n++) {
      xen.clock.advance(10 * MS);
      fault(xen);
      expect(masters(xen)).toBe(true);
    }
    xen.clock.advance(10 * MS);
    fault(xen);
    expect(masters(xen)).toBe(false);
  });

  test('FT-A36 each further fault takes it again', () => {
    const xen = make();
    for (let n = 0; n < 12; n++) fault(xen);
    xen.pci.configWrite(NIC, PCI.COMMAND, 2, 7);
    fault(xen);
    expect(masters(xen)).toBe(false);
  });

  test('FT-A37 gaps of more than 10 ms halve the count: any sequence, against a model', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(0, MS, 10 * MS, 10 * MS + 1, 50 * MS), { maxLength: 60 }),
        (gaps) => {
          const xen = make();
          xen.clock.advance(1000 * MS);
          let count = 0;
          let struck = false;
          gaps.forEach((gap, i) => {
            xen.clock.advance(gap);
            if (i === 0 || gap > 10 * MS) count = Math.floor(count / 2);
            count += 1;
            struck ||= count >= 10;
            fault(xen);
            expect([xen.dev(3, 0).faultCount, masters(xen)]).toEqual([count, !struck]);
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  test('a clock that went back halves the count too', () => {
    const xen = make();
    for (let n = 0; n < 5; n++) fault(xen);
    xen.dev(3, 0).faultTime = 1;
    fault(xen);
    expect(xen.dev(3, 0).faultCount).toBe(3);
  });

  test('FT-A38 the device stays where it is, whole, and its domain runs', () => {
    const xen = make();
    const d = xen.guest(1);
    give(xen, d, 3);
    for (let n = 0; n < 20; n++) fault(xen);
    expect([xen.dev(3, 0).domain, xen.dev(3, 0).broken, d.crashed, masters(xen)]).toEqual([
      d,
      false,
      false,
      false,
    ]);
  });

  test('INV-P5 faults of phantoms count for the device, where they can be told', () => {
    const xen = make();
    fault(xen, 3);
    expect(xen.dev(3, 0).faultCount).toBe(1);
    fault(xen, 2);
    expect(xen.dev(3, 0).faultCount).toBe(1);
  });
});

describe('pci_release_devices()', () => {
  const owned = (o: TestXenOptions = {}): { xen: TestXen; d: Domain } => {
    const xen = make(o);
    const d = xen.guest(1, { hvm: true });
    for (const bus of [3, 4, 5]) expect(give(xen, d, bus)).toBe(0);
    xen.vendor.calls.length = 0;
    return { xen, d };
  };
  const owners = (xen: TestXen): string[] => [3, 4, 5].map((bus) => xen.services.pd(xen.dev(bus, 0).domain));

  test.each(['4.18', '4.23'])('FT-A39 INV-O10 every device leaves, newest first: Xen %s', (release) => {
    const { xen, d } = owned({ release });
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(0);
    expect([owners(xen), d.pdevList.size]).toEqual([['d[IO]', 'd[IO]', 'd[IO]'], 0]);
    expect(told(xen.vendor.calls).filter((c) => c.startsWith('quarantine'))).toHaveLength(3);
    expect(xen.vendor.calls.every((c) => c.locked)).toBe(true);
  });

  /** 05:00.0 is tried first, then 04:00.0 and 03:00.0; the first and the last fail. */
  const failing = (xen: TestXen): void => {
    xen.vendor.fail('quarantine', 0, E.NOMEM, 1);
    xen.vendor.fail('reassign', 1, E.NXIO, 1);
  };

  test('FT-A39 INV-O10 in 4.18 devices that fail stay, and the last error is told', () => {
    const { xen, d } = owned();
    failing(xen);
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(E.NXIO);
    expect([owners(xen), d.pdevList.size]).toEqual([['d1', 'd[IO]', 'd1'], 2]);
  });

  test('FT-A39 INV-O10 in 4.23 they are put back in front, and the first error is told', () => {
    const { xen, d } = owned({ release: '4.23' });
    failing(xen);
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(E.NOMEM);
    expect(owners(xen)).toEqual(['d1', 'd[IO]', 'd1']);
    expect(d.pdevList.toArray().map((p) => p.bus)).toEqual([5, 3]);
  });

  test('FT-A40 an interrupt in flight stops it before any device moves; it can be taken up again', () => {
    const { xen, d } = owned();
    const pirq = (n: number, dpciActive: boolean) => {
      d.pirqs.set(n, { pirq: n, irq: n, msi: false, dpciActive, bound: true });
      const desc = xen.irqs.desc(n);
      desc.isGuest = true;
      desc.guests.push(d);
    };
    d.dpci = true;
    pirq(20, false);
    pirq(21, true);
    pirq(22, false);
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(E.RESTART);
    expect([owners(xen), xen.vendor.calls]).toEqual([['d1', 'd1', 'd1'], []]);
    expect([20, 21, 22].map((n) => d.pirqs.get(n)?.bound)).toEqual([false, false, true]);
    d.pirqs.get(21)!.dpciActive = false;
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(0);
    expect(xen.pcidevsLock.depth).toBe(0);
  });

  test('FT-A40 a PV guest has nothing to unbind', () => {
    const xen = make();
    const d = xen.guest(2);
    give(xen, d, 4);
    d.pirqs.set(20, { pirq: 20, irq: 20, msi: false, dpciActive: true, bound: true });
    expect(runAlone(pciReleaseDevices(xen, d))).toBe(0);
  });
});
