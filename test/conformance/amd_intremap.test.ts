/** Interrupts through AMD-Vi as Xen sets them up: entries, and what the unit is told of them. */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { E } from '../../src/base/errno.js';
import { amdFlaws } from '../../src/iommu/driver/amd/seams.js';
import type { MsiDesc, MsiMsg, Pdev } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost, type AmdHostOptions } from '../helpers/amd_services.js';
import { DEFAULT_ENTRIES, ivhd } from '../helpers/amd_table.js';

const IOAPIC = 0;
const descOf = (pdev: Pdev, nvec = 1): MsiDesc => ({ pdev, nvec, remapIndex: -1, irteInitialized: false });
/** Lowest priority to the CPUs of a logical destination. */
const message = (vector: number, dest = 1): MsiMsg => ({
  addressLo: (0xfee0_000c | (dest << 12)) >>> 0,
  addressHi: 0,
  data: 0x4100 | vector,
});
const send = (host: AmdHost, descs: readonly MsiDesc[], nr: number, msg: MsiMsg | undefined): number =>
  runAlone(host.driver.ops.updateIreFromMsi!(descs, nr, msg));
const pin = (host: AmdHost, n: number, lo: number, hi: number): number =>
  runAlone(host.driver.ops.updateIreFromApic!(0, IOAPIC, n, lo, hi));
/** What key 'V' shows. */
const shown = (host: AmdHost): string[] => host.lines(() => runAlone(host.driver.ops.dumpInfo())).slice(1);

const newest: AmdHostOptions = { seams: { amdUpdatesIrteInPlace: () => true } };

describe('messages', () => {
  test("FT-D14 a message's vector, destination and mode go into the device's table, its number into the message", () => {
    const host = new AmdHost().boot([{ bdf: 0x200 }]);
    const desc = descOf(host.pdev(0x200));
    const msg = message(0xb0, 3);
    expect(host.commands(() => send(host, [desc], 0, msg))).toEqual([]);
    expect([desc.remapIndex, msg.data]).toEqual([0, 0x4000]);
    expect(shown(host)).toEqual(['  0000:02:00.0:', '    IRTE[000] 00b00345']);
    expect(host.unit.remapInterrupt(0x200, msg.addressLo, msg.data)).toEqual({
      vector: 0xb0,
      dest: 3,
      logical: true,
      deliveryMode: 1,
      level: false,
      redirectionHint: false,
    });
  });

  test.each([
    ['before 4.18.5 an entry in use is off while it is flushed, and interrupts are lost', {}, false],
    ['from 4.18.5 on an entry in use is replaced in one go, then flushed', newest, true],
  ])('FT-D14 %s', (_, options, delivered) => {
    const host = new AmdHost(options).boot([{ bdf: 0x200 }]);
    const desc = descOf(host.pdev(0x200));
    const first = message(0xb0);
    send(host, [desc], 0, first);
    host.unit.remapInterrupt(0x200, first.addressLo, 0x4000);
    const during: (number | undefined)[] = [];
    const off = host.events.attach((e) => {
      if (e.kind !== 'hw' || e.what !== 'intr_inval') return;
      const sent = host.unit.remapInterrupt(0x200, first.addressLo, 0x4000);
      during.push(typeof sent === 'object' ? sent.vector : undefined);
    });
    expect(host.commands(() => send(host, [desc], 0, message(0xc1)))).toEqual(['intr_inval 200']);
    off();
    // An interrupt that comes meanwhile.
    expect(during).toEqual([delivered ? 0xc1 : undefined]);
    expect(desc.remapIndex).toBe(0);
    expect(shown(host)[1]).toBe('    IRTE[000] 00c10145');
    expect(host.unit.remapInterrupt(0x200, first.addressLo, 0x4000)).toMatchObject({ vector: 0xc1 });
    const words: number[][] = [];
    const quiet = host.events.attach((e) => {
      if (e.kind === 'entry' && e.table === 'irte') words.push([...e.after]);
    });
    send(host, [desc], 0, message(0xd2));
    quiet();
    expect(words).toEqual(delivered ? [[0x00d2_0145]] : [[0x00c1_0144], [0x00d2_0145]]);
  });

  test('FT-D14 a group has neighbouring entries at a multiple of its size, and gives all of them back', () => {
    const host = new AmdHost().boot([{ bdf: 0x200, msi: 8 }]);
    const pdev = host.pdev(0x200);
    const single = descOf(pdev);
    send(host, [single], 0, message(0x31));
    const group = [4, 0, 0, 0].map((n) => descOf(pdev, n));
    for (let i = 0; i < 4; i++) {
      const msg = message(0x40 + i);
      expect(send(host, group, i, msg)).toBe(0);
      expect(msg.data).toBe(0x4000 + 4 + i);
    }
    expect(shown(host).length).toBe(6);
    // From the last to the first, as msi_free_irq() goes: only the first has entries to give.
    const freed = host.commands(() => {
      for (const desc of [...group].reverse()) send(host, [desc], 0, undefined);
    });
    expect(freed).toEqual(Array(4).fill('intr_inval 200'));
    expect(shown(host)).toEqual(['  0000:02:00.0:', '    IRTE[000] 00310145']);
    expect(host.commands(() => send(host, [group[0]!], 0, undefined))).toEqual([]);
  });

  test('FT-D14 a full table answers -ENOSPC: 1024 entries of a page, 2048 at most', () => {
    const host = new AmdHost().boot([
      { bdf: 0x200, msi: 1 },
      { bdf: 0x208, msi: 2000 },
    ]);
    for (const [bdf, room] of [
      [0x200, 1024],
      [0x208, 2048],
    ] as const) {
      const pdev = host.pdev(bdf);
      let rc = 0;
      let taken = -1;
      while (rc === 0 && taken < 3000) {
        rc = send(host, [descOf(pdev)], 0, message(0x31));
        taken += 1;
      }
      expect([rc, taken]).toEqual([E.NOSPC, room]);
    }
  });

  test('FT-D14 behind an alias both ids are flushed, and the table is that of the alias', () => {
    const host = new AmdHost().boot([{ bdf: 0x908 }]);
    const desc = descOf(host.pdev(0x908));
    const msg = message(0x51);
    expect(send(host, [desc], 0, msg)).toBe(0);
    expect(shown(host)).toEqual(['  0000:09:00.0:', '    IRTE[000] 00510145']);
    expect(host.commands(() => send(host, [desc], 0, message(0x52)))).toEqual(['intr_inval 900']);
    expect(host.unit.remapInterrupt(0x900, msg.addressLo, msg.data)).toMatchObject({ vector: 0x52 });
  });

  test('every release dies of the first message of a device that the IVRS knows by an alias only', () => {
    const host = new AmdHost({ seams: amdFlaws }).boot([{ bdf: 0x908 }]);
    expect(() => send(host, [descOf(host.pdev(0x908))], 0, message(0x51))).toThrow(HostCrash);
  });

  test('phantom functions send through the table of their device', () => {
    const host = new AmdHost().boot([{ bdf: 0x200, stride: 1 }]);
    const msg = message(0x61);
    send(host, [descOf(host.pdev(0x200))], 0, msg);
    expect(host.unit.remapInterrupt(0x205, msg.addressLo, msg.data)).toMatchObject({ vector: 0x61 });
    expect(host.unit.remapInterrupt(0x208, msg.addressLo, msg.data)).toBe(-2);
  });

  test('phantom functions lose the table with their device, its neighbours keep theirs', () => {
    const host = new AmdHost().boot([{ bdf: 0x200, stride: 1 }, { bdf: 0x208 }]);
    const { intremap } = host.driver.state.mappings.get(0)!;
    const ids = [0x200, 0x201, 0x205, 0x207];
    expect(ids.map((id) => intremap.get(id) === intremap.get(0x200))).toEqual([true, true, true, true]);
    host.remove(host.pdev(0x200));
    expect(ids.map((id) => intremap.get(id))).toEqual([undefined, undefined, undefined, undefined]);
    expect(intremap.get(0x208)?.freed).toBe(false);
  });

  test("a unit's own message is not remapped; without a unit there is -EINVAL", () => {
    const host = new AmdHost().boot([{ bdf: 0x200 }, { bdf: 0x700 }]);
    const msg = message(0x30);
    expect(send(host, [descOf(host.pdev(host.unitBdf))], 0, msg)).toBe(0);
    expect(msg).toEqual(message(0x30));
    expect(send(host, [descOf(host.pdev(0x700))], 0, msg)).toBe(E.INVAL);
  });

  test('FT-D14 with one table for all, devices have entries beside each other', () => {
    const host = new AmdHost({ opts: { amdPerdevIntremap: false } }).boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
    const messages = [0x200, 0x300].map((bdf, i) => {
      const msg = message(0x71 + i);
      send(host, [descOf(host.pdev(bdf))], 0, msg);
      return msg.data & 0x7ff;
    });
    expect(messages).toEqual([0, 1]);
    expect(shown(host)).toEqual(['    IRTE[000] 00710145', '    IRTE[001] 00720145']);
    // XSA-36: either may raise what is the other's.
    expect(host.unit.remapInterrupt(0x300, 0xfee0_0000, 0)).toMatchObject({ vector: 0x71 });
  });

  test('the newest release leaves the destination out of the message', () => {
    const host = new AmdHost(newest).boot([{ bdf: 0x200 }]);
    const msg = message(0xb0, 3);
    send(host, [descOf(host.pdev(0x200))], 0, msg);
    expect(msg.addressLo).toBe(0xfee0_0008);
  });
});

describe('128-bit entries, which x2APIC mode asks for', () => {
  test('FT-D14 what Xen writes is what the unit reads, and key V shows both halves', () => {
    const host = new AmdHost({ features: [0x29d7, 0] });
    expect(host.probe()).toBe(0);
    for (const unit of host.driver.state.units) unit.ctrl |= 1 << 17; // GAEn
    const pdev = host.addPdev({ bdf: 0x200 });
    expect(runAlone(host.driver.setup())).toBe(0);
    const desc = descOf(pdev);
    const msg = message(0xb0, 3);
    send(host, [desc], 0, msg);
    expect(shown(host)).toEqual(['  0000:02:00.0:', '    IRTE[000] 00000000000000b0_0000000000000345']);
    expect(host.unit.remapInterrupt(0x200, msg.addressLo, msg.data)).toMatchObject({ vector: 0xb0, dest: 3 });
    expect(host.commands(() => send(host, [desc], 0, undefined))).toEqual(['intr_inval 200']);
    expect(shown(host)).toEqual([]);
    const rest = Array.from({ length: 257 }, () => send(host, [descOf(pdev)], 0, message(0x31)));
    expect(rest.lastIndexOf(0)).toBe(255); // a page of them
  });
});

describe('the interrupt of a unit', () => {
  test('its message goes into the MSI capability of its function, 64 bits wide', () => {
    const host = new AmdHost().boot();
    host.driver.ops.setFaultMessage!(0, { addressLo: 0xfee0_100c, addressHi: 0, data: 0x4130 });
    const bytes = host.configOf(host.unitBdf).slice(host.msiPos, host.msiPos + 14);
    expect([...bytes]).toEqual([5, 0, 0x81, 0, 0x0c, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x30, 0x41]);
  });
});

describe('pins of the I/O APIC', () => {
  test('FT-D14 a pin keeps its entry; what the hardware holds names it in place of vector and delivery mode', () => {
    const host = new AmdHost().boot();
    expect(host.commands(() => pin(host, 5, 0x1_0000, 0))).toEqual([]);
    expect(host.commands(() => pin(host, 9, 0x8931, 0x0300_0000))).toEqual([]);
    expect(host.commands(() => pin(host, 5, 0x9938, 0x0100_0000))).toEqual(['intr_inval a0']);
    expect(shown(host)).toEqual(['  0000:00:14.0:', '    IRTE[000] 00380145', '    IRTE[001] 00310345']);
    const { rtes } = host.driver.state.ioapics[0]!;
    expect([...rtes]).toEqual([
      [5, { lo: 0x9800, hi: 0x0100_0000 }],
      [9, { lo: 0x8801, hi: 0x0300_0000 }],
    ]);
  });

  test('an I/O APIC that the IVRS does not name is left alone', () => {
    const host = new AmdHost().boot();
    expect(runAlone(host.driver.ops.updateIreFromApic!(1, 7, 0, 0x31, 0))).toBe(0);
    expect(shown(host)).toEqual([]);
  });

  test('a pin without room stays masked, and Xen says so', () => {
    const host = new AmdHost({
      opts: { amdPerdevIntremap: false },
      blocks: [ivhd(DEFAULT_ENTRIES)],
    }).boot([{ bdf: 0x200, msi: 2048 }]);
    pin(host, 3, 0x131, 0x0100_0000);
    const pdev = host.pdev(0x200);
    while (send(host, [descOf(pdev)], 0, message(0x31)) === 0);
    expect(host.lines(() => pin(host, 4, 0x132, 0))).toEqual(['Remapping IO-APIC 0 pin 4 failed (-28)']);
    expect(host.driver.state.ioapics[0]!.rtes.has(4)).toBe(false);
  });
});
