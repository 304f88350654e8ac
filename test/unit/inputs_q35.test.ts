import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { formatSbdf, sbdf } from '../../src/base/sbdf.js';
import { readTopology } from '../../src/inputs/topology.js';
import { PciHost } from '../../src/pci/bus.js';
import { RootComplex, requesterAtRoot } from '../../src/pci/dma.js';
import { lspciLine } from '../../src/pci/names.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';
import { q35, q35BootConsole } from '../helpers/q35.js';

const boot = (kind: 'vtd' | 'amd'): PciHost => {
  const events = new EventStream();
  return new PciHost(q35(kind).functions, events, new RootComplex(new Ram(1024), events));
};
const rid = (host: PciHost, bus: number, dev: number, fn: number): number => {
  const f = host.functionAt(sbdf(0, bus, dev, fn))!;
  for (let b = f.bus.parent; b !== undefined; b = b.bus.parent) host.configWrite(b.sbdf, 4, 2, 7);
  host.configWrite(f.sbdf, 4, 2, 7);
  return requesterAtRoot(f, f.rid);
};

describe('the recorded board', () => {
  test('every function that Xen announced at boot answers, in the same places', () => {
    const announced = q35BootConsole().flatMap((l) => /PCI add device (\S+)/.exec(l)?.[1] ?? []);
    const functions = boot('vtd')
      .functions()
      .map((fn) => formatSbdf(fn.sbdf));
    expect(functions.sort()).toEqual(announced);
    const host = boot('vtd');
    for (const fn of host.functions()) expect(host.functionAt(fn.sbdf)).toBe(fn);
  });
  test('config space reads as it was recorded', () => {
    const host = boot('vtd');
    for (const { sbdf: s, config } of q35('vtd').functions) {
      const read = config.map((_, offset) => host.configRead(s, offset, 1));
      expect([formatSbdf(s), Buffer.compare(read, config)]).toEqual([formatSbdf(s), 0]);
    }
  });
  test('the AMD board has its IOMMU function as well, and is otherwise the same', () => {
    const amd = boot('amd')
      .functions()
      .map((fn) => formatSbdf(fn.sbdf));
    const vtd = boot('vtd')
      .functions()
      .map((fn) => formatSbdf(fn.sbdf));
    expect(amd.filter((s) => !vtd.includes(s))).toEqual(['0000:00:0a.0']);
    expect(amd).toHaveLength(31);
  });
  test('lspci names its functions as the recorded one did', () => {
    const host = boot('amd');
    const line = (bus: number, dev: number, fn: number): string =>
      lspciLine(host.functionAt(sbdf(0, bus, dev, fn))!, { ids: 'both' });
    expect([line(1, 0, 0), line(9, 1, 0), line(0, 9, 0), line(0, 10, 0), line(8, 0, 0)]).toEqual([
      '01:00.0 VGA compatible controller [0300]: Red Hat, Inc. Virtio 1.0 GPU [1af4:1050] (rev 01)',
      '09:01.0 Ethernet controller [0200]: Intel Corporation 82540EM Gigabit Ethernet Controller [8086:100e] (rev 03)',
      '00:09.0 Unclassified device [00ff]: Device [1234:11e8] (rev 10)',
      '00:0a.0 IOMMU [0806]: Advanced Micro Devices, Inc. [AMD] Device [1022:0050]',
      '08:00.0 PCI bridge [0604]: Red Hat, Inc. Device [1b36:000e]',
    ]);
  });
  test('requests arrive with the ids of the recordings: own, (secondary bus, 0, 0), or the bridge', () => {
    const host = boot('vtd');
    expect([
      rid(host, 6, 0, 0),
      rid(host, 7, 0, 0),
      rid(host, 9, 2, 0),
      rid(host, 12, 1, 0),
      rid(host, 0, 8, 0),
    ]).toEqual([0x600, 0x700, 0x900, 0xf0, 0x40]);
  });
  test('memory map, units and tables are those of the recordings', () => {
    const host = q35('vtd');
    const usable = host.e820.filter((e) => e.type === 'usable');
    // Xen counts whole pages of usable memory: 3145180 kB.
    const pages = usable.reduce((n, e) => n + Math.floor(e.end / 4096) - Math.ceil(e.start / 4096), 0);
    expect(pages * 4).toBe(3145180);
    expect(String.fromCharCode(...host.dmar!.subarray(0, 4))).toBe('DMAR');
    expect([host.ivrs, q35('amd').dmar]).toEqual([undefined, undefined]);
  });
  test('the NVMe controller shows the virtual functions that the recording enabled', () => {
    const host = boot('vtd');
    const nvme = host.functionAt(sbdf(0, 3, 0, 0))!;
    host.configWrite(nvme.sbdf, 0x130, 2, 2);
    host.configWrite(nvme.sbdf, 0x128, 2, 9);
    expect(nvme.vfs.map((vf) => formatSbdf(vf.sbdf))).toEqual(['0000:03:00.1', '0000:03:00.2']);
    expect(lspciLine(nvme.vfs[0]!, { ids: 'both' })).toBe(
      '03:00.1 Non-Volatile memory controller [0108]: Red Hat, Inc. QEMU NVM Express Controller [1b36:0010] (rev 02)',
    );
  });
  test('the size of one virtual function is the common resource shared out: 64 KiB for four', () => {
    const host = boot('vtd');
    const vfBar0 = 0x120 + 0x24;
    host.configWrite(sbdf(0, 3, 0, 0), vfBar0, 4, 0xffff_ffff);
    expect(host.configRead(sbdf(0, 3, 0, 0), vfBar0, 4)).toBe(0xffff_c004);
  });
  test.each([
    ['{', 'topology.json: no JSON: '],
    ['{"devices": []}', 'topology.json: devices: Too small'],
    ['{"devices": [{"bdf": 1}]}', 'topology.json: devices.0.bdf: Invalid input'],
  ])('a damaged topology is one InputError: %s', (text, problem) => {
    const run = (): unknown => readTopology('topology.json', new TextEncoder().encode(text));
    expect(run).toThrow(InputError);
    expect(run).toThrow(problem);
  });
});
