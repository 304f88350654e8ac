/** Lines of Xen's console that AMD-Vi causes, as drivers/passthrough/amd/*.c of 4.18.3 has them: while it starts, and later. */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { E, type Rc } from '../../src/base/errno.js';
import { PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { type IvhdEntry, type IvrsBlock, makeIvrs } from '../../src/iommu/format/ivrs.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import { AmdHost, type AmdHostOptions } from '../helpers/amd_services.js';
import { DEFAULT_ENTRIES, ivhd, ivmd, range, sbIoapic } from '../helpers/amd_table.js';

const start = (host: AmdHost): number => {
  const rc = host.probe();
  return rc === 0 ? runAlone(host.driver.setup()) : rc;
};
/** What a probe and set-up print, and their result. */
const told = (
  o: AmdHostOptions,
  change: (host: AmdHost) => void = () => {},
): { rc: number; log: string[] } => {
  const host = new AmdHost(o);
  change(host);
  return { rc: start(host), log: host.log };
};
/** Bytes of a table changed, with the checksum right again. */
const patched = (table: Uint8Array, at: number, value: number): Uint8Array => {
  const bytes = table.slice();
  bytes[9] = (bytes[9]! + bytes[at]! - value) & 0xff;
  bytes[at] = value;
  return bytes;
};
const select = (id: number): IvhdEntry => ({ type: 2, id, data: 0 });
/** EFRSup; 52 bits of physical and 64 of virtual addresses. */
const INFO = 1 | (52 << 8) | (64 << 15);
/** Where the entries of the first block begin: after the table's header and the block's. */
const ENTRIES = 48 + 40;

describe('the IVRS with `iommu=debug`', () => {
  test('the header, each block, and each device entry in turn', () => {
    const entries: IvhdEntry[] = [
      { type: 0, id: 0, data: 0 },
      { type: 64, id: 0, data: 0 },
      { type: 2, id: 0x100, data: 0xd7 },
      ...range(0x108, 0x10f),
      { type: 66, id: 0x200, data: 0, byte4: 0, usedId: 0x100, byte7: 0 },
      { type: 67, id: 0x208, data: 0, byte4: 0, usedId: 0x108, byte7: 0 },
      { type: 4, id: 0x20f, data: 0 },
      { type: 70, id: 0x300, data: 0, ext: 0x8000_0000 },
      { type: 71, id: 0x308, data: 0, ext: 0 },
      { type: 4, id: 0x30f, data: 0 },
      sbIoapic,
      { type: 72, id: 0, data: 0, byte4: 3, usedId: 0xa0, byte7: 2 },
      { type: 72, id: 0, data: 0, byte4: 4, usedId: 0xa1, byte7: 2 },
    ];
    const { rc, log } = told({ entries, opts: { debug: true } });
    expect(rc).toBe(0);
    const entry = (type: number, id = 0, flags = 0): string => {
      const [t, i, f] = [type, id, flags].map((n) => (n === 0 ? '0' : `0x${n.toString(16)}`));
      return `AMD-Vi: IVHD Device Entry: type ${t} id ${i} flags ${f}`;
    };
    const from = log.indexOf('AMD-Vi: ACPI Table:');
    expect(log.slice(0, 3)).toEqual([
      'AMD-Vi: IVRS Block: Found type 0x11 flags 0xb0 len 0x80 id 0x2',
      'AMD-Vi: Using IVHD type 0x11',
      'AMD-Vi: Found MSI capability block at 0x64',
    ]);
    expect(log.slice(from + 1, from + 6).map((l) => l.replace(/0x[0-9a-f]+$/, 'N'))).toEqual([
      'AMD-Vi:  Signature IVRS',
      'AMD-Vi:  Length N',
      'AMD-Vi:  Revision N',
      'AMD-Vi:  CheckSum N',
      expect.stringContaining('AMD-Vi:  OEM_Id '),
    ]);
    expect(log.slice(from + 6, from + 10).map((l) => l.split(' ')[2])).toEqual([
      'OEM_Table_Id',
      'OEM_Revision',
      'Creator_Id',
      'Creator_Revision',
    ]);
    expect(log.slice(from + 10, -5)).toEqual([
      'AMD-Vi: IVRS Block: type 0x11 flags 0xb0 len 0x80 id 0x2',
      entry(0),
      entry(64),
      entry(2, 0x100, 0xd7),
      entry(3, 0x108),
      'AMD-Vi:  Dev_Id Range: 0x108 -> 0x10f',
      entry(66, 0x200),
      'AMD-Vi:  Dev_Id Alias: 0x100',
      entry(67, 0x208),
      'AMD-Vi:  Dev_Id Range: 0x208 -> 0x20f alias 0x108',
      entry(70, 0x300),
      entry(71, 0x308),
      'AMD-Vi:  Dev_Id Range: 0x308 -> 0x30f',
      entry(72),
      'AMD-Vi: IVHD Special: 0000:00:14.0 variety 0x1 handle 0',
      entry(72),
      'AMD-Vi: IVHD Special: 0000:00:14.0 variety 0x2 handle 0x3',
      entry(72),
      'AMD-Vi: IVHD Special: 0000:00:14.1 variety 0x2 handle 0x4',
      'Only one IVHD HPET entry is supported.',
    ]);
    // 2 CPUs: a command and a wait of each, and a slot that stays empty, fit a page.
    expect(log.slice(-5)).toEqual([
      'AMD-Vi: Disabled HAP memory map sharing with IOMMU',
      'AMD-Vi: using 256-entry cmd ring(s)',
      'AMD-Vi: PPR Log Enabled.',
      'AMD-Vi: Guest Translation Enabled.',
      'AMD-Vi: IOMMU 0 Enabled.',
    ]);
    const quiet = told({ entries }).log;
    expect(
      quiet.filter((l) => l.startsWith('AMD-Vi:') && !/Disabled HAP|Enabled\.|Extended/.test(l)),
    ).toEqual([]);
  });

  test('memory that devices must reach', () => {
    const { log } = told({ blocks: [ivhd(DEFAULT_ENTRIES), ivmd({})], opts: { debug: true } });
    expect(log).toContain('AMD-Vi: IVMD Block: type 0x21 phys 0x70000000 len 0x1000');
  });

  test('a short header without EFRSup leaves the features to the hardware, told for the first unit alone', () => {
    const basic = (deviceId: number): IvrsBlock => {
      const { efr: _1, efr2: _2, ...rest } = ivhd(DEFAULT_ENTRIES, { type: 0x10, deviceId });
      return rest;
    };
    const line = 'AMD-Vi: EFRSup not set in ACPI table; will fall back to hardware';
    const { log } = told({ blocks: [basic(2), { ...basic(0x102) }], info: 0, opts: { debug: true } });
    expect(log.filter((l) => l === line)).toEqual([line]);
    expect(told({ blocks: [basic(2)], info: 1, opts: { debug: true } }).log).not.toContain(line);
  });
});

describe('a table that does not hold', () => {
  const one = (entries: readonly IvhdEntry[]): Uint8Array => makeIvrs([ivhd([...entries, sbIoapic])], 1);
  /** The last entry but the I/O APIC becomes one that needs more bytes than there are. */
  const cut = (type: number): Uint8Array =>
    patched(makeIvrs([ivhd([sbIoapic, select(0x100)])], 1), ENTRIES + 8, type);
  test.each<[string, Uint8Array, string]>([
    ['an alias that the block cuts off', cut(66), 'IVHD: invalid Device_Entry length'],
    ['an extended entry that it cuts off', cut(70), 'IVHD: invalid Device_Entry length'],
    ['an eight byte pad that it cuts off', cut(64), 'IVHD: invalid Device_Entry length'],
    [
      'a range that starts beyond all ids',
      one([select(0x100), ...range(0x300, 0x107)]),
      'IVHD: invalid range: First Dev_Id 0x300',
    ],
    [
      'an alias range to beyond all ids',
      one([{ type: 67, id: 8, data: 0, byte4: 0, usedId: 0x1000, byte7: 0 }, range(0, 15)[1]!]),
      'IVHD Error: Invalid Alias Dev_Id 0x1000',
    ],
    [
      'memory of a short block',
      makeIvrs([ivhd(DEFAULT_ENTRIES), { kind: 'unknown', type: 0x21, bytes: new Uint8Array(21) }], 1),
      'IVMD: invalid block length',
    ],
    [
      'memory of a range that starts beyond all ids',
      makeIvrs([ivhd(DEFAULT_ENTRIES), ivmd({ type: 0x22, deviceId: 0xa00, auxData: 0xa08 })], INFO),
      'IVMD: invalid Range_First Dev_Id 0xa00',
    ],
    [
      'memory of a range that ends beyond all ids',
      makeIvrs([ivhd(DEFAULT_ENTRIES), ivmd({ type: 0x22, deviceId: 0x200, auxData: 0xa00 })], INFO),
      'IVMD: invalid Range_Last Dev_Id 0xa00',
    ],
    [
      'memory of a range of one device',
      makeIvrs([ivhd(DEFAULT_ENTRIES), ivmd({ type: 0x22, deviceId: 0x200, auxData: 0x200 })], INFO),
      'IVMD: invalid Range_Last Dev_Id 0x200',
    ],
    [
      'memory of a unit that is none',
      makeIvrs([ivhd(DEFAULT_ENTRIES), ivmd({ type: 0x23, deviceId: 2, auxData: 0x44 })], INFO),
      'IVMD: no IOMMU for Dev_Id 0x2 Cap 0x44',
    ],
  ])('%s ends set-up', (_what, table, message) => {
    const { rc, log } = told({ table, opts: { debug: true } });
    expect(rc).toBe(E.NODEV);
    expect(log.at(-1)).toBe('AMD-Vi: Error initialization');
    expect(log.at(-2)!.replace(/^AMD-Vi: (Error: )?/, '')).toBe(message);
  });

  test('a block that is longer than the table ends the probe', () => {
    const table = makeIvrs([ivhd(DEFAULT_ENTRIES)], 1);
    const long = patched(table, 48 + 3, 1);
    const whole = long.length;
    const end = 48 + 0x100 + (whole - 48);
    expect(told({ table: long })).toEqual({
      rc: E.NODEV,
      log: [`AMD-Vi: Error: IVRS: table length exceeded: 0x${whole.toString(16)} -> 0x${end.toString(16)}`],
    });
  });

  test.each([
    ['id', { deviceId: 0 }],
    ['capability', { capOffset: 0 }],
    ['base', { base: 0 }],
  ] as const)('a unit of no %s is refused', (_what, change) => {
    expect(told({ table: makeIvrs([ivhd(DEFAULT_ENTRIES, change)], 1) })).toEqual({
      rc: E.NODEV,
      log: ['AMD-Vi: Error: invalid IVHD block'],
    });
  });

  test('I/O APICs: the same one twice is only told of, one that contradicts is fatal where each has its table', () => {
    const twice = [...DEFAULT_ENTRIES, sbIoapic];
    expect(told({ entries: twice }).log).toContain('AMD-Vi: Warning: IVHD: duplicate IO-APIC 0 entries');
    const other = [...DEFAULT_ENTRIES, { ...sbIoapic, usedId: 0xa8 }];
    const line = 'AMD-Vi: Error: IVHD: conflicting IO-APIC 0 entries';
    const shared = told({ entries: other, opts: { amdPerdevIntremap: false } });
    expect([shared.rc, shared.log.includes(line)]).toEqual([0, true]);
    expect(told({ entries: other }).rc).toBe(E.NODEV);
    const many = Array.from({ length: 129 }, (_, i) => ({ ...sbIoapic, byte4: i, usedId: 0xa0 + i }));
    expect(told({ entries: many.slice(0, 128) }).rc).toBe(0);
    const { rc, log } = told({ entries: many });
    expect([rc, log.at(-2)]).toEqual([E.NODEV, 'IVHD Error: Too many IO APICs.']);
    expect(told({ entries: many, opts: { intremap: 'off' } }).rc).toBe(0);
  });
});

describe('set-up', () => {
  test("each feature has a line; those of guests' tables only where guests may translate", () => {
    // All bits but HATS, which says five levels.
    const features = (lo: number): string[] =>
      told({ blocks: [ivhd(DEFAULT_ENTRIES, { efr: [lo, 0xffff_ffff] })] }).log.filter((l) =>
        l.startsWith('- '),
      );
    const guests = [
      '- Guest Address Translation Size: 0x3',
      '- Guest CR3 Root Table Level: 0x3',
      '- Maximum PASID: 0x1f',
    ];
    const all = [
      '- Prefetch Pages Command',
      '- Peripheral Page Service Request',
      '- x2APIC',
      '- NX bit',
      '- Guest APIC Physical Processor Interrupt',
      '- Invalidate All Command',
      '- Guest APIC',
      '- Hardware Error Registers',
      '- Performance Counters',
      '- Host Address Translation Size: 0x1',
      ...guests,
      '- SMI Filter Register: 0x3',
      '- SMI Filter Register Count: 0x7',
      '- Guest Virtual APIC Modes: 0x7',
      '- Dual PPR Log: 0x3',
      '- Dual Event Log: 0x3',
      '- Secure ATS',
      '- User / Supervisor Page Protection',
      '- Device Table Segmentation: 0x3',
      '- PPR Log Overflow Early Warning',
      '- PPR Automatic Response',
      '- Memory Access Routing and Control: 0x3',
      '- Block StopMark Message',
      '- Performance Optimization',
      '- MSI Capability MMIO Access',
      '- Guest I/O Protection',
      '- Host Access',
      '- Enhanced PPR Handling',
      '- Attribute Forward',
      '- Host Dirty',
      '- Invalidate IOTLB Type',
      '- Virtualized IOMMU',
      '- VMGuard I/O Support',
      '- VM Table Size: 0xf',
      '- Guest Access Bit Update Disable',
    ];
    expect(features(0xffff_f7ff)).toEqual(all);
    expect(features(0xffff_f7ef)).toEqual(all.filter((l) => !guests.includes(l)));
  });

  test('a second unit tells of its features only where they differ', () => {
    const first = ivhd(DEFAULT_ENTRIES, { efr: [0xd0, 0] });
    const second = (efr: readonly [number, number]) => {
      const other = ivhd(range(0x400, 0x4ff), { deviceId: 0x502, base: 0xfeb8_4000, efr });
      const { log } = told({ blocks: [first, other] });
      return log.filter((l) => l === 'AMD-Vi: IOMMU Extended Features:').length;
    };
    expect([second([0xd0, 0]), second([0xd1, 0]), second([0xd0, 1])]).toEqual([1, 2, 2]);
  });

  test.each([
    ['its own interrupt tables', {}, true],
    ['one table for all', { amdPerdevIntremap: false }, false],
    ['no remapping of interrupts', { intremap: 'off' }, false],
  ] as const)('SATA of an SP5100 in combined mode forbids %s', (_what, opts, forbids) => {
    const combined = (vendor: number[], bits: number, bus = 0) =>
      told({ opts }, (host) => {
        host.configOf((bus << 8) | 0xa0).set(vendor);
        host.configOf((bus << 8) | 0xa0)[0xad] = bits;
      });
    const smbus = [0x02, 0x10, 0x85, 0x43];
    const lines = [
      'AMD-Vi: SP5100 erratum 28 detected, disabling IOMMU.',
      'If possible, disable SATA Combined mode in BIOS or contact your vendor for BIOS update.',
    ];
    for (const bus of [0, 255]) {
      const { rc, log } = combined(smbus, 8, bus);
      expect(rc).toBe(forbids ? E.NODEV : 0);
      expect(log.slice(0, 2)).toEqual(forbids ? lines : expect.not.arrayContaining(lines));
    }
    expect(combined(smbus, 0xf7).rc).toBe(0);
    expect(combined([0x02, 0x10, 0x86, 0x43], 8).rc).toBe(0);
  });

  test('what there is no memory for is named', () => {
    const named = new Set<string>();
    for (let n = 1; n <= 8; n++) {
      const host = new AmdHost({ opts: { intremap: 'off' } });
      host.probe();
      host.faults.failNth(n);
      runAlone(host.driver.setup());
      for (const line of host.log) if (line.includes('cannot allocate')) named.add(line);
    }
    expect([...named]).toEqual(
      ['Device Table', 'Command Buffer', 'Event Log', 'PPR Log'].map(
        (what) => `AMD-Vi: Error: cannot allocate ${what}`,
      ),
    );
  });

  test('a unit that Xen cannot take for itself is told of, and without its device there is no set-up', () => {
    const host = new AmdHost();
    Object.assign(host.services, {
      *pciRoDevice(): Co<Rc> {
        return E.BUSY;
      },
    });
    expect(host.probe()).toBe(0);
    expect(host.log).toEqual(['Could not mark config space of 0000:00:00.2 read-only (-16)']);
    expect(runAlone(host.driver.setup())).toBe(E.NODEV);
    expect(host.log.slice(-2)).toEqual([
      'AMD-Vi: Warning: no pdev for 0000:00:00.2',
      'AMD-Vi: Error initialization',
    ]);
  });
});

describe('devices, with `iommu=debug`', () => {
  const debug = (o: AmdHostOptions = {}): AmdHost => new AmdHost({ ...o, opts: { debug: true, ...o.opts } });

  test('each entry that is written or disabled, and each move', () => {
    const host = debug().boot();
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x20);
    const root = (d.iommu.rootMfn * 4096).toString(16);
    const lines = host.lines(() => expect(host.assign(d, host.pdev(0x200))).toBe(0));
    expect(lines).toEqual([
      `AMD-Vi: Setup I/O page table: device id = 0x200, type = 0x1, root table = 0x${root}, domain = 7, paging mode = 3`,
      'AMD-Vi: Re-assign 0000:02:00.0 from d0 to d7',
    ]);
    // Basic quarantine: no table at all.
    expect(host.lines(() => host.deassign(d, host.domIo, host.pdev(0x200)))).toEqual([
      'AMD-Vi: Disable: device id = 0x200, domain = 7, paging mode = 3',
      'AMD-Vi: Re-assign 0000:02:00.0 from d7 to d[IO]',
    ]);
  });

  test('a host bridge that no unit serves is passed over when it is dom0’s', () => {
    const host = debug().boot();
    const bridge = host.addPdev({ bdf: 0x4000 });
    bridge.domain = host.dom0;
    bridge.type = PDEV_TYPE.PCI_HOST_BRIDGE;
    expect(host.lines(() => expect(host.add(bridge)).toBe(0))).toEqual([
      'AMD-Vi: Skipping host bridge 0000:40:00.0',
    ]);
    bridge.domain = host.newDomain(7);
    expect(host.lines(() => expect(host.add(bridge)).toBe(E.NODEV))).toEqual([
      'AMD-Vi: Warning: no IOMMU for 0000:40:00.0; cannot be handed to d7',
    ]);
  });

  test('a device that no unit serves is neither moved nor removed, and sends no message', () => {
    const host = debug().boot();
    const pdev = host.addPdev({ bdf: 0x4000 });
    pdev.domain = host.dom0;
    const d = host.newDomain(7);
    expect(host.lines(() => expect(host.deassign(host.dom0, d, pdev)).toBe(E.NODEV))).toEqual([
      'AMD-Vi: Warning: failed to find IOMMU: 0000:40:00.0 cannot be assigned to d7',
    ]);
    expect(host.lines(() => expect(host.remove(pdev)).toBe(E.NODEV))).toEqual([
      'AMD-Vi: Warning: failed to find IOMMU: 0000:40:00.0 cannot be removed from d0',
    ]);
    const desc = { pdev, nvec: 1, remapIndex: -1, irteInitialized: false };
    const msg = { addressLo: 0xfee0_0000, addressHi: 0, data: 0x31 };
    const send = (): number => runAlone(host.driver.ops.updateIreFromMsi!([desc], 0, msg));
    expect(host.lines(() => expect(send()).toBe(E.INVAL))).toEqual([
      'AMD-Vi: No IOMMU for MSI dev = 0000:40:00.0',
    ]);
  });

  test('a unity map that cannot be made or undone does not keep a device from coming or going', () => {
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ length: 0x2000 })] });
    host.boot();
    const pdev = host.pdev(0x200);
    const { identityMaps } = host.dom0.iommu;
    // The range is dom0's already: once more is only counted. Then it is gone, though the device is still there.
    expect(host.lines(() => expect(host.add(pdev)).toBe(0))).toEqual([]);
    identityMaps.splice(0, 1, { base: 0x7_0001, end: 0x7_0001, access: 'rw', count: 1 });
    expect(host.lines(() => expect(host.add(pdev)).toBe(0))).toEqual([
      'AMD-Vi: Warning: d0: unity mapping failed for 0000:02:00.0',
    ]);
    expect(host.lines(() => expect(host.remove(pdev)).toBe(0))).toEqual([
      'AMD-Vi: Warning: d0: unity unmapping failed for 0000:02:00.0',
    ]);
  });

  test('a unity map that the quarantine table cannot have keeps the device out of quarantine', () => {
    const host = new AmdHost({
      blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ length: 0x2000 })],
      seams: { amdQuarantineMapsReserved: () => true },
    }).boot();
    const pdev = host.pdev(0x200);
    host.domIo.iommu.identityMaps.push({ base: 0x7_0001, end: 0x7_0001, access: 'rw', count: 1 });
    expect(host.lines(() => expect(host.assign(host.domIo, pdev)).toBe(E.ADDRINUSE))).toEqual([
      'AMD-Vi: Warning: 0000:02:00.0: quarantine unity mapping failed',
    ]);
    expect([pdev.arch.rootMfn, pdev.arch.pgtables, pdev.domain]).toEqual([0, [], host.dom0]);
  });

  test('an I/O APIC without unit keeps its entries as they are written', () => {
    const host = debug().boot();
    const io = host.driver.state.ioapics[0]!;
    host.driver.state.ioapics[0] = { ...io, bdf: 0x4000 };
    const write = (): number => runAlone(host.driver.ops.updateIreFromApic!(0, 0, 5, 0x9938, 0x0100_0000));
    expect(host.lines(() => expect(write()).toBe(0))).toEqual([
      'AMD-Vi: Warning: failed to find IOMMU for IO-APIC @ 0000:4000',
    ]);
    expect(host.driver.state.ioapics[0]!.rtes.get(5)).toEqual({ lo: 0x9938, hi: 0x0100_0000 });
  });
});

describe('rings', () => {
  test('a full command ring is told of once, and a unit that takes nothing more ends the simulation', () => {
    const host = new AmdHost().boot();
    const line = 'AMD IOMMU 0000:00:00.2: no cmd slot available';
    const d = host.newDomain(7);
    const flushAll = (times: number): void => {
      for (let i = 0; i < times; i++) runAlone(host.driver.ops.iotlbFlush(d, 0, 1, 3));
    };
    // The unit has executed everything and stands still: its head is said to be where the next command would end.
    const { unit } = host;
    const read32 = unit.read32.bind(unit);
    let full = 3;
    unit.read32 = (offset) => {
      if (offset !== 0x2000 || full === 0) return read32(offset);
      full -= 1;
      return (read32(0x2008) + 16) % 4096;
    };
    expect(host.lines(() => flushAll(1))).toEqual([line]);
    full = 2;
    expect(host.lines(() => flushAll(1))).toEqual([]);
    full = Number.POSITIVE_INFINITY;
    expect(() => flushAll(1)).toThrow('AMD IOMMU 0000:00:00.2 no longer executes commands');
    expect(() => flushAll(1)).toThrow(HostCrash);
  });

  test('a log that does not stop running is not restarted', () => {
    const host = new AmdHost().boot();
    const { unit } = host;
    const read32 = unit.read32.bind(unit);
    let runs = 0;
    // Overflow (bit 0) and EventLogRun (bit 3) stay set.
    unit.read32 = (offset) => {
      if (offset !== 0x2020) return read32(offset);
      runs += 1;
      return 9;
    };
    expect(host.lines(() => runAlone(host.driver.ops.pollFaults()))).toEqual([
      'AMD-Vi: Warning: Log Run bit 8 is not cleared before reset',
    ]);
    expect(runs).toBeGreaterThanOrEqual(1000);
    expect(runs).toBeLessThan(1010);
  });
});
