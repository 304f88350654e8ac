/** Fault lines, slow units, device caches, dumps and interrupt entries, as Xen prints and programs them. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { FLUSHF, type MsiDesc, PDEV_TYPE, type Pdev } from '../../src/iommu/driver/types.js';
import {
  ioApicWriteRemapRte,
  msiFreeRemapEntries,
  msiMsgWriteRemapRte,
  setMsiSourceId,
} from '../../src/iommu/driver/vtd/intremap.js';
import { printIommuRegs } from '../../src/iommu/driver/vtd/utils.js';
import { ATSR_ALL_PORTS, SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { QEMU_CAP, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import { at, drhd, scope, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

function host(o: VtdHostOptions = {}) {
  const h = new VtdHost(o);
  const pdev = h.endpoint(at(2, 0));
  h.boot();
  h.s.console.length = 0;
  return { h, pdev, d1: h.domain(1) };
}
const poll = (h: VtdHost): string[] => {
  h.s.console.length = 0;
  runAlone(h.driver.pollFaults());
  return h.s.console;
};

describe('fault lines', () => {
  test('FT-C28 a write without right: two lines, and the device is charged', () => {
    const { h } = host();
    h.dma(2, 0, 0, 0x800_0000);
    expect(poll(h)).toEqual([
      '[VT-D]DMAR:[DMA Write] Request device [0000:02:00.0] fault addr 8000000000',
      '[VT-D]DMAR: reason 05 - PTE Write access is not set',
    ]);
    expect(h.s.charged).toEqual(['0000:02:00.0']);
    expect(poll(h)).toEqual([]);
  });

  test('FT-C28 an absent entry, and a bus without table', () => {
    const { h, pdev } = host();
    h.assign(h.s.domIo, pdev);
    h.dma(2, 0, 0, 0x7d001);
    expect(poll(h)).toEqual([
      '[VT-D]DMAR:[DMA Write] Request device [0000:02:00.0] fault addr 7d001000',
      '[VT-D]DMAR: reason 02 - Present bit in context entry is clear',
    ]);
    h.dma(9, 0, 0, 0, false);
    expect(poll(h)).toEqual([
      '[VT-D]DMAR:[DMA Read] Request device [0000:09:00.0] fault addr 0',
      '[VT-D]DMAR: reason 01 - Present bit in root entry is clear',
    ]);
  });

  test('FT-C28 the newest release adds the unit', () => {
    const { h } = host({ seams: { vtdFaultSuffix: (unit) => ` on iommu:${unit}` } });
    h.dma(2, 0, 0, 1, false);
    expect(poll(h)[1]).toBe('[VT-D]DMAR: reason 06 - PTE Read access is not set on iommu:0');
  });

  test('FT-C28 verbose: the entries on the way follow, as recorded', () => {
    const { h, pdev } = host({ opts: { verbose: true } });
    const root = h.s.hwdom.iommu.pgdMfn;
    h.map(h.s.hwdom, 0xfeda0, 0xfeda0);
    h.dma(2, 0, 0, 0xfed90, false);
    const [, , ...entries] = poll(h);
    const hex = (frame: number): string => (frame * 4096).toString(16);
    expect(entries.slice(0, 3)).toEqual([
      'print_vtd_entries: iommu #0 dev 0000:02:00.0 gmfn fed90',
      `    root_entry[02] = ${hex(h.contextTable(2)).slice(0, -1)}1`,
      `    context[00] = 2_${hex(root).slice(0, -1)}1`,
    ]);
    expect(entries[3]).toMatch(/^ {4}l4\[000\] = 53[0-9a-f]{4}003 rw$/);
    expect(entries[4]).toMatch(/^ {4}l3\[003\] = 53[0-9a-f]{4}003 rw$/);
    expect(entries[5]).toMatch(/^ {4}l2\[1f6\] = 53[0-9a-f]{4}003 rw$/);
    expect(entries[6]).toBe('    l1[190] = 40000000000000 --');

    h.assign(h.s.domIo, pdev);
    h.dma(2, 0, 0, 1);
    expect(poll(h).slice(-2)).toEqual(['    context[00] = 0_0', '    ctxt_entry[00] not present']);
    h.dma(9, 0, 0, 1);
    expect(poll(h).slice(-2)).toEqual(['    root_entry[09] = 0', '    root_entry[09] not present']);
  });

  test('FT-C28 interrupt faults name the index, other reasons are unknown', () => {
    const { h } = host();
    const record = (reason: number, hi: number): void => {
      const { regs } = h.units[0]!;
      const fro = 0x220 / 4;
      regs[fro] = 0x1_2345;
      regs[fro + 1] = hi;
      regs[fro + 2] = 0x0200;
      regs[fro + 3] = 0x8000_0000 | reason;
      regs[0x34 / 4] = 2;
    };
    record(0x22, 0x0017_0000);
    expect(poll(h)).toEqual([
      '[VT-D]INTR-REMAP: Request device [0000:02:00.0] fault index 17',
      '[VT-D]INTR-REMAP: reason 22 - Present field in the IRTE entry is clear',
    ]);
    record(0x30, 0);
    expect(poll(h)).toEqual([
      '[VT-D]UNKNOWN: Request device [0000:02:00.0] fault addr 12000',
      '[VT-D]UNKNOWN: reason 30 - Unknown',
    ]);
  });

  test.each([
    ...[
      'Software',
      'Present bit in root entry is clear',
      'Present bit in context entry is clear',
      'Invalid context entry',
      'Access beyond MGAW',
      'PTE Write access is not set',
      'PTE Read access is not set',
      'Next page table ptr is invalid',
      'Root table address invalid',
      'Context table ptr is invalid',
      'non-zero reserved fields in RTP',
      'non-zero reserved fields in CTP',
      'non-zero reserved fields in PTE',
      'Blocked a DMA translation request',
    ].map((text, i) => [i, 'DMAR', text] as const),
    ...[
      'Detected reserved fields in the decoded interrupt-remapped request',
      'Interrupt index exceeded the interrupt-remapping table size',
      'Present field in the IRTE entry is clear',
      'Error accessing interrupt-remapping table pointed by IRTA_REG',
      'Detected reserved fields in the IRTE entry',
      'Blocked a compatibility format interrupt request',
      'Blocked an interrupt request due to source-id verification failure',
    ].map((text, i) => [0x20 + i, 'INTR-REMAP', text] as const),
    ...[0x0e, 0x1f, 0x27, 0xff].map((reason) => [reason, 'UNKNOWN', 'Unknown'] as const),
  ])('FT-C28 reason %i is of kind %s: %s', (reason, kind, text) => {
    const { h } = host();
    const { regs } = h.units[0]!;
    regs.set([0x1_2000, 0x0003_0004, 0x0208, (0xc000_0000 | reason) >> 0], 0x220 / 4);
    regs[0x34 / 4] = 2;
    const what = { DMAR: 'DMAR:[DMA Read]', 'INTR-REMAP': 'INTR-REMAP:', UNKNOWN: 'UNKNOWN:' }[kind];
    const where = kind === 'INTR-REMAP' ? 'fault index 3' : 'fault addr 3000400012000';
    expect(poll(h)).toEqual([
      `[VT-D]${what} Request device [0000:02:01.0] ${where}`,
      `[VT-D]${kind}: reason ${reason.toString(16).padStart(2, '0')} - ${text}`,
    ]);
  });

  test('FT-C28 several records are read in order, and overflow is cleared', () => {
    const { h } = host({ cap: [QEMU_CAP[0], QEMU_CAP[1] | (3 << 8)] });
    for (let dfn = 1; dfn <= 6; dfn++) h.dma(2, 0, 0, dfn);
    expect(
      poll(h)
        .filter((l) => l.includes('fault addr'))
        .map((l) => l.slice(-4)),
    ).toEqual(['1000', '2000', '3000', '4000']);
    expect(h.units[0]!.read32(0x34) & 1).toBe(0);
  });
});

describe('slow units', () => {
  test('FT-C15 a queue that takes 250 ms is complained about twice, and nothing fails', () => {
    const { h, pdev, d1 } = host({ latencyNs: 1000 });
    h.units[0]!.latencyNs = 125e6;
    expect(h.assign(d1, pdev)).toBe(0);
    const lines = h.s.console;
    expect(lines[0]).toBe('[VT-D] IOMMU#0: QI wait descriptor taking too long');
    expect(lines[1]).toMatch(/^ IQA = 53[0-9a-f]{4}000$/);
    expect(lines[2]).toMatch(/^ IQH = /);
    expect(lines[3]).toMatch(/^ IQT = /);
    // Xen divides nanoseconds by ten million.
    expect(lines[4]).toBe('[VT-D] IOMMU#0: QI wait descriptor took 25ms');
    // Patience has grown to 300 ms.
    expect(lines.length).toBe(5);
    expect(h.entry(2, 0).did).toBe(1);
  });

  test('FT-C15 invalidation by register has a second of patience', () => {
    const { h, pdev, d1 } = host({ opts: { qinval: false } });
    h.units[0]!.latencyNs = 1.5e9;
    expect(h.assign(d1, pdev)).toBe(0);
    expect(h.s.console).toEqual([
      '[VT-D] IOMMU#0: context flush taking too long',
      '[VT-D] IOMMU#0: context flush took 150ms',
      '[VT-D] IOMMU#0: iotlb flush taking too long',
      '[VT-D] IOMMU#0: iotlb flush took 150ms',
    ]);
  });

  test('a unit that never completes hangs Xen; here the host is dead', () => {
    const { h, pdev, d1 } = host({ latencyNs: 1 });
    h.units[0]!.latencyNs = 1e15;
    expect(() => h.assign(d1, pdev)).toThrow('never completes an invalidation');
  });
});

describe('device caches', () => {
  const ATS_CAP = { 52: 0x40, 64: 0x10, 66: 0x02, 256: 0x0f, 258: 1, 260: 0x1f };
  const ats = (o: VtdHostOptions = {}) => {
    const h = new VtdHost({
      ecap: [QEMU_ECAP[0] | 4, 0],
      structures: [drhd([]), { kind: 'atsr', flags: ATSR_ALL_PORTS, reserved: 0, segment: 0, scopes: [] }],
      ...o,
      opts: { ats: true, ...o.opts },
    });
    h.s.addFunction(at(2, 0), 0x1234_10ec, ATS_CAP);
    const pdev = h.endpoint(at(2, 0));
    h.boot();
    return { h, pdev, d1: h.domain(1) };
  };

  test('FT-C14 ATS is switched on, the entry lets the device use it, and each IOTLB flush reaches it', () => {
    const { h, pdev, d1 } = ats();
    expect(h.s.confRead(at(2, 0), 0x106, 2)).toBe(0x8000);
    expect(pdev).toMatchObject({ atsCapPos: 0x100, atsQueueDepth: 31, atsEnabled: true });
    expect(h.entry(2, 0).tt).toBe(1);
    h.s.record();
    h.assign(d1, pdev);
    // The entry is the guest's already when the old id is flushed: no device of that id is left.
    expect(h.descriptors()).toEqual(['20000000031 0', 'e2 0']);
    h.s.log.length = 0;
    runAlone(h.driver.iotlbFlush(d1, 0x123, 1, FLUSHF.modified));
    runAlone(h.driver.iotlbFlush(d1, 0x120, 16, FLUSHF.modified));
    runAlone(h.driver.iotlbFlush(d1, 0, 3, FLUSHF.modified));
    expect(h.descriptors()).toEqual([
      '100f2 123000',
      '200001f0003 123000',
      '100f2 120004',
      '200001f0003 127001',
      '100e2 0',
      '200001f0003 7ffffffffffff001',
    ]);
  });

  test('FT-C14 devices that hold the flushed id get it, all of them, and no others', () => {
    const { h, pdev, d1 } = ats();
    const others = [at(3, 0), at(4, 0)].map((where) => {
      h.s.addFunction(where, 0x1234_10ec, ATS_CAP);
      return h.endpoint(where);
    });
    const d2 = h.domain(2);
    h.assign(d1, pdev);
    h.assign(d2, others[0]!);
    h.assign(d1, others[1]!);
    h.s.record();
    const flushed = (d: typeof d1, dfn: number, count: number): string[] => {
      h.s.log.length = 0;
      expect(runAlone(h.driver.iotlbFlush(d, dfn, count, FLUSHF.modified))).toBe(0);
      return h.descriptors().map((x) => x.replace(/^(\w+)001f0003/, 'device $1'));
    };
    // The device enabled last comes first.
    expect(flushed(d1, 0x55, 1)).toEqual(['100f2 55000', 'device 400 55000', 'device 200 55000']);
    expect(flushed(d2, 0x55, 1)).toEqual(['200f2 55000', 'device 300 55000']);
    expect(flushed(d2, 0, 3)).toEqual(['200e2 0', 'device 300 7ffffffffffff001']);
  });

  test('FT-C14 quarantining switches it off again', () => {
    const { h, pdev } = ats();
    h.assign(h.s.domIo, pdev);
    expect(h.s.confRead(at(2, 0), 0x106, 2)).toBe(0);
    expect(pdev.atsEnabled).toBe(false);
    h.s.record();
    runAlone(h.driver.iotlbFlush(h.s.hwdom, 0x123, 1, FLUSHF.modified));
    expect(h.descriptors().every((x) => !x.includes('1f0003'))).toBe(true);
  });

  /** A flush for a guest while its device takes two and a half seconds to answer. */
  const late = (seams: NonNullable<VtdHostOptions['seams']>) => {
    const { h, pdev, d1 } = ats({ seams });
    h.assign(d1, pdev);
    h.s.console.length = 0;
    const [unit] = h.units;
    unit!.devicesBusy = true;
    h.s.clock.after(2.5e9, () => unit!.devicesAnswer());
    return { h, pdev, d1, rc: runAlone(h.driver.iotlbFlush(d1, 0x123, 1, FLUSHF.modified)) };
  };

  test('FT-C14 Xen waits for a device as long as it takes', () => {
    const { h, pdev, d1, rc } = late({});
    expect(rc).toBe(0);
    expect(h.s.clock.nowNs).toBeGreaterThanOrEqual(2.5e9);
    expect(pdev).toMatchObject({ broken: false, domain: d1 });
    expect(h.s.console[0]).toContain('QI dev wait descriptor taking too long');
  });

  test('FT-C14 a device given up on is broken, keeps its owner, and can be taken from it', () => {
    const { h, pdev, d1, rc } = late({ vtdGivesUpOnDevice: () => true });
    expect(rc).toBe(E.TIMEDOUT);
    expect(pdev).toMatchObject({ broken: true, domain: d1, atsEnabled: false });
    expect(d1.crashed).toBe('pci.c iommu_dev_iotlb_flush_timeout');
    expect(h.s.console).toContain('dom1: ATS device 0000:02:00.0 flush failed');
    expect(h.s.confRead(at(2, 0), 0x106, 2)).toBe(0);
    h.assign(h.s.domIo, pdev);
    expect(pdev.domain).toBe(h.s.domIo);
  });

  test('FT-C14 not without the option, without an ATSR, or without the capability', () => {
    expect(ats({ opts: { ats: false } }).pdev.atsEnabled).toBe(false);
    expect(ats({ structures: [drhd([])] }).pdev.atsEnabled).toBe(false);
    const { h } = ats();
    const plain = h.endpoint(at(3, 0));
    expect(h.locked(() => runAlone(h.driver.enableDevice(plain)))).toBe(0);
    const far = h.s.addPdev(0x1_0200, PDEV_TYPE.PCIE_ENDPOINT);
    expect(h.locked(() => runAlone(h.driver.enableDevice(far)))).toBe(E.NODEV);
  });
});

describe('dumps', () => {
  test('FT-C32 key o: levels, then each page', () => {
    const { h, d1 } = host();
    h.map(d1, 0x7b00, 0x7b00);
    h.map(d1, 0x7b01, 0x4_0000, 0, 1 << 6);
    h.map(d1, 0x8000, 0x5_0000, 9);
    runAlone(h.driver.dumpPageTables(d1));
    expect(h.s.console).toEqual([
      '[VT-D] d1 table has 4 levels',
      '   dfn: 00007b00 mfn: 00007b00 rw',
      '   dfn: 00007b01 mfn: 00040000 r-',
      '  dfn: 00008000 mfn: 00050000 rw',
    ]);
  });

  const IOAPIC = { ...scope(SCOPE_TYPE.IOAPIC, 0xff, [0, 0]) };
  test('FT-C32 key V: units, interrupt entries and redirection entries', () => {
    const { h, pdev } = host({ structures: [drhd([IOAPIC], { all: true })], ioapicIds: [0] });
    // Pin 1 edge, vector 38h, lowest priority to CPU 0; pin 17 masked and never used.
    runAlone(ioApicWriteRemapRte(h.driver.vtd, 0, 0, 1, 0x0000_0938, 0x0100_0000));
    runAlone(ioApicWriteRemapRte(h.driver.vtd, 0, 0, 17, 0x0001_0000, 0));
    const desc: MsiDesc = { pdev, remapIndex: -1, irteInitialized: false };
    const msg = { addressLo: 0xfee0_100c, addressHi: 0, data: 0x41b0 };
    expect(runAlone(msiMsgWriteRemapRte(h.driver.vtd, [desc], 0, msg))).toBe(0);
    expect(msg).toEqual({ addressLo: 0xfee0_0058, addressHi: 0, data: 0 });
    runAlone(h.driver.dumpInfo());
    expect(h.s.console).toEqual([
      '',
      'iommu 0: nr_pt_levels = 4.',
      '  Queued Invalidation: supported and enabled.',
      '  Interrupt Remapping: supported and enabled.',
      '  Interrupt Posting: not supported.',
      '  Interrupt remapping table (nr_entry=0x10000. Only dump P=1 entries here):',
      'R means remapped format, P means posted format.',
      'R:       SVT  SQ   SID  V  AVL FPD      DST DLM TM RH DM P',
      'P:       SVT  SQ   SID  V  AVL FPD              PDA  URG P',
      'R:  0000:  1   0  ff00 38    0   0 00000100   1  0  1  1 1',
      'R:  0001:  1   0  ff00 00    0   0 00000000   0  0  0  0 1',
      'R:  0002:  1   0  0200 b0    0   0 00000100   1  0  1  1 1',
      '',
      'Redirection table of IOAPIC 0:',
      '  #entry IDX FMT MASK TRIG IRR POL STAT DELI  VECTOR',
      '   01:  0000   1    0   0   0   0    0    0     38',
      '   11:  0001   1    1   0   0   0    0    0     00',
    ]);
  });

  test('FT-C32 key V without queue and remapping', () => {
    const { h } = host({ opts: { qinval: false } });
    runAlone(h.driver.dumpInfo());
    expect(h.s.console).toEqual([
      '',
      'iommu 0: nr_pt_levels = 4.',
      '  Queued Invalidation: supported.',
      '  Interrupt Remapping: supported.',
      '  Interrupt Posting: not supported.',
    ]);
  });

  test('registers of a unit', () => {
    const { h } = host();
    printIommuRegs(h.driver.vtd.drhds[0]!.iommu!);
    expect(h.s.console.slice(0, 6)).toEqual([
      '---- print_iommu_regs ----',
      ' drhd->address = fed90000',
      ' VER = 10',
      ' CAP = d2008c222f0606',
      ' n_fault_reg = 1',
      ' fault_recording_offset = 220',
    ]);
    expect(h.s.console).toContain(' GSTS = c7000000');
    expect(h.s.console.length).toBe(18);
  });
});

describe('interrupt entries', () => {
  const irte = (): Int32Array => new Int32Array(4);
  /** `svt sq sid` that an entry demands. */
  const source = (h: VtdHost, pdev: Pdev): string => {
    const t = irte();
    const rc = setMsiSourceId(h.driver.vtd, pdev, t);
    return rc !== 0
      ? `${rc}`
      : `${(t[2]! >>> 18) & 3} ${(t[2]! >>> 16) & 3} ${(t[2]! & 0xffff).toString(16)}`;
  };

  test('FT-C29 phantom functions are told apart by fewer bits: stride 1, 2, 4', () => {
    const { h, pdev } = host();
    const sources = [0, 1, 2, 4].map((stride) => {
      pdev.phantomStride = stride;
      return source(h, pdev);
    });
    expect(sources).toEqual(['1 0 200', '1 3 200', '1 2 200', '1 1 200']);
  });

  test('FT-C29 a conventional device is known by its bridge, or by the buses behind a PCIe-to-PCI bridge', () => {
    const { h } = host();
    const dev = h.s.addPdev(at(9, 1), PDEV_TYPE.PCI);
    expect(source(h, dev)).toBe('1 0 908');
    h.s.bus2bridge.set(9, { bus: 8, devfn: 0 });
    h.s.addPdev(at(8, 0), PDEV_TYPE.PCIE2PCI_BRIDGE);
    expect(source(h, dev)).toBe('2 0 809');
    h.s.pdevs.get(at(8, 0))!.type = PDEV_TYPE.LEGACY_PCI_BRIDGE;
    expect(source(h, dev)).toBe('1 0 800');
    h.s.bus2bridge.set(8, { bus: 9, devfn: 0 });
    expect(source(h, dev)).toBe(String(E.NXIO));
    expect(source(h, h.s.addPdev(at(7, 0), PDEV_TYPE.UNKNOWN))).toBe(String(E.OPNOTSUPP));
  });

  test('FT-C29 a source that cannot be told is an error from 4.21 on; before, nobody is checked', () => {
    const program = (reports: boolean): { rc: number; entry: number } => {
      const { h } = host({ seams: { vtdReportsUnknownMsiSource: () => reports } });
      const odd = h.s.addPdev(at(7, 0), PDEV_TYPE.UNKNOWN);
      const msg = { addressLo: 0xfee0_100c, addressHi: 0, data: 0x41b0 };
      const desc = { pdev: odd, remapIndex: -1, irteInitialized: false };
      const rc = runAlone(msiMsgWriteRemapRte(h.driver.vtd, [desc], 0, msg));
      const table = h.driver.vtd.drhds[0]!.iommu!.intremap.mfn;
      return { rc, entry: h.s.ram.read32(table * 4096 + 8) };
    };
    expect(program(true).rc).toBe(E.OPNOTSUPP);
    expect(program(false)).toEqual({ rc: 0, entry: 0 });
  });

  test('an MSI goes through its entry from its own device only, and not after it was freed', () => {
    const { h, pdev } = host();
    const desc = { pdev, remapIndex: -1, irteInitialized: false };
    const msg = { addressLo: 0xfee0_100c, addressHi: 0, data: 0x41b0 };
    h.s.record();
    runAlone(msiMsgWriteRemapRte(h.driver.vtd, [desc], 0, msg));
    expect(h.descriptors()).toEqual(['14 0']);
    expect(h.units[0]!.remapInterrupt(0x200, msg.addressLo, msg.data)).toMatchObject({ vector: 0xb0 });
    expect(h.units[0]!.remapInterrupt(0x300, msg.addressLo, msg.data)).toBe(-0x26);
    runAlone(msiFreeRemapEntries(h.driver.vtd, [desc]));
    expect(h.units[0]!.remapInterrupt(0x200, msg.addressLo, msg.data)).toBe(-0x22);
    expect(h.driver.vtd.drhds[0]!.iommu!.intremap.num).toBe(0);
  });

  test('a group of MSIs takes a run of entries; releases take it where the free run ends', () => {
    const group = (seams: VtdHostOptions['seams']): number[] => {
      const { h, pdev } = host(seams === undefined ? {} : { seams });
      const descs = Array.from({ length: 4 }, () => ({ pdev, remapIndex: -1, irteInitialized: false }));
      const msg = { addressLo: 0xfee0_100c, addressHi: 0, data: 0x41b0 };
      runAlone(msiMsgWriteRemapRte(h.driver.vtd, descs, 0, msg));
      return descs.map((d) => d.remapIndex);
    };
    expect(group(undefined)).toEqual([0, 1, 2, 3]);
    expect(group({ vtdMsiGroupFirst: (last) => last })).toEqual([3, 4, 5, 6]);
  });
});

describe('quirks', () => {
  test("FT-C30 a WLAN device takes the management engine's phantom function with it", () => {
    const h = new VtdHost({
      prepare: (s) => {
        s.addFunction(at(0, 0), 0x0044_8086);
        s.addFunction(at(0, 22), 0x1234_8086);
        s.addFunction(at(2, 0), 0x4238_8086);
      },
    });
    const wlan = h.endpoint(at(2, 0));
    const other = h.endpoint(at(3, 0));
    h.s.addPdev(at(0, 22), PDEV_TYPE.PCIE_ENDPOINT);
    h.boot();
    const d1 = h.domain(1);
    expect(h.entry(0, 0xb7).did).toBe(0);
    h.assign(d1, wlan);
    expect(h.entry(0, 0xb7)).toMatchObject({ p: 1, did: 1 });
    h.assign(d1, other);
    h.reassign(d1, h.s.domIo, other);
    expect(h.entry(0, 0xb7).p).toBe(1);
    h.reassign(d1, h.s.domIo, wlan);
    expect(h.entry(0, 0xb7).p).toBe(0);
  });

  test('chipset functions are kept from raising platform errors', () => {
    const h = new VtdHost();
    h.s.addFunction(at(0, 20), 0x342e_8086);
    h.s.addFunction(at(0, 3), 0x3408_8086, { 256: 1, 258: 1 });
    h.s.addFunction(at(0, 1), 0x1900_8086);
    for (const dev of [at(0, 20), at(0, 3), at(0, 1)]) h.s.addPdev(dev, PDEV_TYPE.PCIE_BRIDGE);
    h.boot();
    expect(h.s.console.filter((l) => /signaling|DMIBAR/.test(l))).toEqual([
      'Masked VT-d error signaling on 0000:00:14.0',
      'Masked UR signaling on 0000:00:03.0',
      'Bogus DMIBAR 0 on 0000:00:01.0',
    ]);
    expect(h.s.confRead(at(0, 20), 0x1ac, 4)).toBe(0x8000_0000);
    expect(h.s.confRead(at(0, 3), 0x108, 4)).toBe(0x10_0000);
  });
});
