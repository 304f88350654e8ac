/** Messages of devices as Xen maps them for guests, and what is left when that fails. @xen arch/x86/irq.c, msi.c of 4.18.3 */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { dumpMsi } from '../../src/hypervisor/irq/dump.js';
import { ptIrqBind } from '../../src/hypervisor/passthrough/hvm.js';
import { physdevOp } from '../../src/hypervisor/physdev.js';
import type { PhysdevOp } from '../../src/hypervisor/public/physdev.js';
import type { Seams } from '../../src/hypervisor/seams.js';
import type { MsiDesc, MsiMsg } from '../../src/iommu/driver/types.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import { endpoint, makeXen, type TestXen } from '../helpers/xen.js';

const NIC = 0x300;
/** Capabilities of 03:00.0: MSI at 0x90, with four vectors, 64 bits and a mask; MSI-X where the helper puts it. */
const [MSI, MSI_CONTROL, MSI_MASK] = [0x90, 0x92, 0xa0];
const COMMAND = 4;

interface HostOptions {
  readonly release?: string;
  readonly hvm?: boolean;
  /** First word of the MSI capability. */
  readonly msi?: number;
  readonly seams?: Partial<Seams>;
}
/** 03:00.0 is d1's; dom0 may use GSIs. */
function host({ release = '4.18', hvm = false, msi = 0x0184_0005, seams = {} }: HostOptions = {}) {
  const xen = makeXen({
    release,
    seams,
    devices: [
      {
        ...endpoint(3, 0),
        msix: 4,
        edit: (c) => {
          c.setUint8(0x81, MSI);
          c.setUint32(MSI, msi, true);
        },
      },
    ],
  });
  xen.hwdom.irqCaps.add(1, 23);
  const d = xen.guest(1, { hvm });
  const pdev = xen.dev(3, 0);
  pdev.domain = d;
  xen.news();
  const read = (reg: number, bytes = 2): number => xen.pci.configRead(NIC, reg, bytes);
  /** What the books and the device hold of interrupts. */
  const state = (): unknown => ({
    pirqs: [...d.pirqs.keys()],
    rights: d.irqCaps.list(),
    dom0: xen.hwdom.irqCaps.list(),
    irqs: [...xen.irqs.descs.keys()],
    messages: [...xen.irqs.msis.values()].flat().length,
    table: pdev.msix?.usedEntries,
    control: [read(MSI_CONTROL), read(pdev.msix!.pos + 2), read(MSI_MASK, 4)],
  });
  return { xen, d, pdev, read, state };
}
type MapOp = Extract<PhysdevOp, { cmd: 'map_pirq' }>;
const DEVICE = { index: -1, bus: 3, devfn: 0 };
const KINDS: Readonly<Record<string, Partial<MapOp>>> = {
  'a line': { type: 'gsi', index: 20 },
  'an MSI': { type: 'msi_seg', ...DEVICE },
  'an MSI-X': { type: 'msi_seg', ...DEVICE, entryNr: 1, tableBase: 0 } as Partial<MapOp>,
};
function map(xen: TestXen, more: Partial<MapOp>): { rc: number; pirq: number } {
  const o: MapOp = { cmd: 'map_pirq', domid: 1, type: 'gsi', index: 20, pirq: -1, ...more };
  return { rc: runAlone(physdevOp(xen, o)), pirq: o.pirq };
}

describe('mapping', () => {
  const right = (irq: number, pirq: number): string =>
    `dom1: could not permit access to IRQ${irq} (pirq ${pirq})`;
  const GRANT = 'Could not grant d0 access to IRQ25 (error -12)';
  test.each([
    ['a line', [right(20, 16)], [E.NOMEM, E.NOMEM]],
    ['an MSI', [GRANT, right(25, 55)], [E.PERM, E.NOMEM, E.NOMEM, E.NOMEM]],
    ['an MSI-X', [GRANT, right(25, 55)], [E.PERM, E.NOMEM, E.NOMEM, E.NOMEM]],
  ])(
    '%s without memory leaves nothing behind, wherever it ends, and works the next time',
    (kind, lines, codes) => {
      const told: string[] = [];
      const results = codes.map((_, i) => {
        const { xen, state } = host();
        const before = state();
        xen.faults.failNth(i + 1, 'alloc');
        const { rc } = map(xen, KINDS[kind]!);
        told.push(...xen.news());
        expect(xen.faults.hit).toEqual(['alloc']);
        expect(state()).toEqual(before);
        expect(map(xen, KINDS[kind]!).rc).toBe(0);
        return rc;
      });
      expect(results).toEqual(codes);
      expect(told).toEqual(lines);
      // There is no further step that takes memory.
      const { xen } = host();
      xen.faults.failNth(codes.length + 1, 'alloc');
      expect([map(xen, KINDS[kind]!).rc, xen.faults.hit]).toEqual([0, []]);
    },
  );

  test.each(Object.keys(KINDS))('%s and unmapping it leaves everything as it was, but for masks', (kind) => {
    const { xen, d, state, read } = host();
    const before = state();
    const { rc, pirq } = map(xen, KINDS[kind]!);
    const irq = d.pirqs.get(pirq)?.irq;
    expect([rc, d.irqCaps.list()]).toEqual([0, [{ s: irq, e: irq }]]);
    expect(runAlone(physdevOp(xen, { cmd: 'unmap_pirq', domid: 1, pirq }))).toBe(0);
    // Nobody unmasks what was masked.
    xen.pci.configWrite(NIC, MSI_MASK, 4, 0);
    expect(state()).toEqual(before);
    expect(read(COMMAND) & 0x400).toBe(0);
  });

  test('a maskable MSI is masked with all vectors that the device has, before it is switched on', () => {
    const { xen, pdev, read } = host();
    expect(map(xen, KINDS['an MSI']!).rc).toBe(0);
    expect(read(MSI_MASK, 4)).toBe(2 ** pdev.msiMaxvec - 1);
    expect([pdev.msiMaxvec, read(MSI_CONTROL) & 1]).toEqual([4, 0]);
  });

  test('the device is told the message: an address of local APICs, and the vector', () => {
    const { xen, d, read } = host();
    const { pirq } = map(xen, KINDS['an MSI']!);
    const { vector } = xen.irqs.desc(d.pirqs.get(pirq)!.irq);
    // Lowest priority, edge, to logical destinations (Intel SDM 3A, 11.11).
    expect([read(MSI + 4, 4) >>> 20, read(MSI + 4, 4) & 0xc, read(MSI + 8, 4)]).toEqual([0xfee, 0xc, 0]);
    expect(read(MSI + 12)).toBe(0x4100 | vector);
    // This Xen has one CPU: its flat id is bit 0 of the destination, bits 19:12.
    expect((read(MSI + 4, 4) >>> 12) & 0xff).toBe(1);
  });

  // PCI 6.8.1: with 32 bits the data follows at 08h, the mask at 0Ch.
  test('a device with 32-bit messages has data and mask a word earlier', () => {
    const { xen, d, read } = host({ msi: 0x0104_0005 });
    const { pirq } = map(xen, KINDS['an MSI']!);
    const { vector } = xen.irqs.desc(d.pirqs.get(pirq)!.irq);
    expect([read(MSI + 4, 4) >>> 20, read(MSI + 8), read(MSI + 12, 4)]).toEqual([
      0xfee,
      0x4100 | vector,
      0xf,
    ]);
  });

  test('a device with one vector has one, and no group', () => {
    const { xen, d } = host({ msi: 0x0180_0005 });
    expect(map(xen, KINDS['an MSI']!).rc).toBe(0);
    expect(map(xen, { type: 'multi_msi', ...DEVICE, entryNr: 2 }).rc).toBe(E.NFILE);
    expect(d.pirqs.size).toBe(1);
  });

  // @xen map_domain_pirq, __pci_enable_msix: the message that was there is switched off first
  test('an interrupt that has a message already gets no second one: -EBUSY, and MSI-X counts no entry', () => {
    const { xen, pdev, read } = host();
    expect(map(xen, KINDS['an MSI']!).rc).toBe(0);
    xen.pci.configWrite(NIC, MSI_CONTROL, 2, read(MSI_CONTROL) | 1);
    xen.news();
    expect(map(xen, { ...KINDS['an MSI-X'], index: 25 }).rc).toBe(E.BUSY);
    expect(xen.news()).toEqual(['MSI already in use on 0000:03:00.0']);
    expect([pdev.msix?.usedEntries, read(MSI_CONTROL) & 1]).toEqual([0, 0]);
  });

  test('when no vector is left there is no interrupt for a message', () => {
    const { xen, state } = host();
    const before = state();
    for (let vector = 0x20; vector <= 0xef; vector++)
      if (!xen.irqs.byVector.has(vector)) xen.irqs.byVector.set(vector, -1);
    expect(map(xen, KINDS['an MSI']!).rc).toBe(E.INVAL);
    expect(state()).toEqual(before);
  });

  // @xen msi_capability_init, msix_capability_init, __pci_disable_msi, pci_intx
  test.each([
    { kind: 'an MSI', on: 0, mapped: [0x184, 0x184], unmapped: [0x184] },
    { kind: 'an MSI', on: 1, mapped: [0x184, 0x185], unmapped: [0x184] },
    { kind: 'an MSI-X', on: 0, mapped: [0xc003, 3], unmapped: [0xc003, 3] },
    { kind: 'an MSI-X', on: 0x8000, mapped: [0xc003, 0x8003], unmapped: [0x8003] },
  ])('what $kind writes to a device where $on is set, mapped and unmapped', (row) => {
    const { xen, pdev, read } = host();
    const control = row.kind === 'an MSI' ? MSI_CONTROL : pdev.msix!.pos + 2;
    xen.pci.configWrite(NIC, control, 2, read(control) | row.on);
    xen.pci.configWrite(NIC, COMMAND, 2, 0x402);
    const seen: number[][] = [];
    xen.events.attach((e) => {
      if (e.kind === 'config' && e.offset !== MSI_MASK) seen.push([e.offset, e.value]);
    });
    const only = (reg: number): number[] => seen.flatMap(([at, value]) => (at === reg ? [value!] : []));
    const { pirq } = map(xen, KINDS[row.kind]!);
    expect([only(control), only(COMMAND)]).toEqual([row.mapped, []]);
    seen.length = 0;
    expect(runAlone(physdevOp(xen, { cmd: 'unmap_pirq', domid: 1, pirq }))).toBe(0);
    // The line of a device works again when its MSI is gone.
    expect([only(control), only(COMMAND)]).toEqual([row.unmapped, row.kind === 'an MSI' ? [2] : []]);
  });

  // @xen arch/x86/msi.c dump_msi
  test.each([
    ['an MSI', 'MSI   ', '1/H /1'],
    ['an MSI without mask', 'MSI   ', '0/  /?'],
    ['an MSI-X', 'MSI-X ', '1/HG/1'],
  ])("key 'M' shows %s that nobody has bound yet", (kind, type, mask) => {
    const { xen } = host({ msi: kind.endsWith('mask') ? 0x0084_0005 : 0x0184_0005 });
    map(xen, KINDS[kind.replace(' without mask', '')]!);
    const vec = xen.irqs.desc(25).vector.toString(16);
    xen.news();
    dumpMsi(xen);
    // The first line is of the IOMMU's own.
    expect(xen.news().filter((l) => !l.startsWith(' IOMMU'))).toEqual([
      'MSI information:',
      ` ${type}  25 vec=${vec} lowest  edge   assert  log lowest dest=00000001 mask=${mask}`,
    ]);
  });

  // @xen arch/x86/msi.c set_msi_affinity with read_msi_msg of 4.14: what stands in the device, but for vector and CPU
  test.each([
    ['64 bits', 0x0184_0005, 8, 12],
    ['32 bits', 0x0104_0005, 0, 8],
  ])(
    'until 4.14 binding takes the message of %s from the device, whatever stands there',
    (_what, msi, high, data) => {
      const { xen, d, read } = host({ hvm: true, msi, seams: { msiIsRemembered: () => false } });
      xen.opts.intremap = 'off';
      const { pirq } = map(xen, KINDS['an MSI']!);
      const { vector } = xen.irqs.desc(d.pirqs.get(pirq)!.irq);
      xen.pci.configWrite(NIC, MSI + 4, 4, 0xfee7_7000);
      if (high > 0) xen.pci.configWrite(NIC, MSI + high, 4, 0x55);
      xen.pci.configWrite(NIC, MSI + data, 2, 0x8399);
      const op = { cmd: 'bind_pt_irq', domid: 1, machineIrq: pirq, irqType: 'msi' } as const;
      expect(runAlone(ptIrqBind(xen, d, op))).toBe(0);
      expect([read(MSI + 4, 4), read(MSI + data)]).toEqual([0xfee0_1000, 0x8300 | vector]);
      if (high > 0) expect(read(MSI + high, 4)).toBe(0x55);
    },
  );

  /** What the device says after its interrupt was bound, when something else had been written there before. */
  test.each([
    ['4.17', true, 0xfee0_0018],
    ['4.18', true, 0xfee0_0018],
    ['4.23', true, 0x1234_5678],
    ['4.23', false, 0xfee0_100c],
  ])(
    'binding writes the message anew; not from 4.21 on where its remapping entry stays (%s, %s)',
    (release, remapped, left) => {
      const { xen, d, read } = host({ release, hvm: true });
      xen.opts.intremap = remapped ? 'full' : 'off';
      Object.assign(xen.ops!, {
        *updateIreFromMsi(descs: readonly MsiDesc[], _nr: number, msg: MsiMsg | undefined): Co<number> {
          descs[0]!.remapIndex = 0;
          if (msg !== undefined) Object.assign(msg, { addressLo: 0xfee0_0018, data: 0 });
          return 0;
        },
      });
      const { pirq } = map(xen, KINDS['an MSI']!);
      expect(read(MSI + 4, 4) >>> 20).toBe(0xfee);
      xen.pci.configWrite(NIC, MSI + 4, 4, 0x1234_5678);
      const bound = runAlone(
        ptIrqBind(xen, d, { cmd: 'bind_pt_irq', domid: 1, machineIrq: pirq, irqType: 'msi' }),
      );
      expect([bound, read(MSI + 4, 4)]).toEqual([0, left]);
    },
  );

  test('MSI-X needs memory decode: without, the device is left switched off', () => {
    const { xen, pdev, read, state } = host();
    xen.pci.configWrite(NIC, COMMAND, 2, 4);
    const before = state();
    expect(map(xen, KINDS['an MSI-X']!).rc).toBe(E.NXIO);
    expect([state(), read(pdev.msix!.pos + 2) & 0x8000]).toEqual([before, 0]);
    xen.pci.configWrite(NIC, COMMAND, 2, 2);
    expect(map(xen, KINDS['an MSI-X']!).rc).toBe(0);
  });

  // pci_restore_msi_state(): message, masks, number of vectors, enable bit last; MSI-X only with memory decode.
  test('what a reset made the device forget is written again', () => {
    const { d, pdev, read, xen } = host();
    const restore = { cmd: 'restore_msi_ext', seg: 0, bus: 3, devfn: 0 } as const;
    const { pirq } = map(xen, KINDS['an MSI']!);
    const { vector } = xen.irqs.desc(d.pirqs.get(pirq)!.irq);
    for (const reg of [MSI + 4, MSI + 12, MSI_MASK]) xen.pci.configWrite(NIC, reg, 4, 0);
    xen.pci.configWrite(NIC, MSI_CONTROL, 2, 0);
    expect(runAlone(physdevOp(xen, restore))).toBe(0);
    // Vector 0 of four is masked by Xen until somebody binds it.
    expect([
      read(MSI + 4, 4) >>> 20,
      read(MSI + 12),
      read(MSI_MASK, 4) & 1,
      read(MSI_CONTROL) & 0x71,
    ]).toEqual([0xfee, 0x4100 | vector, 1, 1]);
    xen.cpus.current.domid = 3;
    expect(runAlone(physdevOp(xen, restore))).toBe(E.PERM);
    xen.cpus.current.domid = 0;
    expect(pdev.msix).toBeDefined();
  });

  test('restoring MSI-X needs memory decode', () => {
    const { pdev, read, xen } = host();
    const restore = { cmd: 'restore_msi_ext', seg: 0, bus: 3, devfn: 0 } as const;
    const control = (): number => read(pdev.msix!.pos + 2) & 0xc000;
    expect(map(xen, KINDS['an MSI-X']!).rc).toBe(0);
    xen.pci.configWrite(NIC, pdev.msix!.pos + 2, 2, 0);
    expect([runAlone(physdevOp(xen, restore)), control()]).toEqual([0, 0x8000]);
    xen.pci.configWrite(NIC, pdev.msix!.pos + 2, 2, 0);
    xen.pci.configWrite(NIC, COMMAND, 2, 4);
    expect([runAlone(physdevOp(xen, restore)), control()]).toEqual([E.NXIO, 0]);
  });

  test('an entry beyond the MSI-X table is refused', () => {
    const { xen } = host();
    const entry = (entryNr: number) => map(xen, { ...KINDS['an MSI-X'], entryNr }).rc;
    expect([entry(4), entry(3)]).toEqual([E.INVAL, 0]);
  });

  test('without a segment in the request the device is one of segment 0', () => {
    const { xen } = host();
    const bus = 0x1_0003;
    expect(map(xen, { ...KINDS['an MSI'], bus }).rc).toBe(E.NODEV);
    expect(map(xen, { ...KINDS['an MSI'], type: 'msi', bus }).rc).toBe(0);
  });
});

describe('a group of MSIs', () => {
  const GROUP = { type: 'multi_msi', ...DEVICE, entryNr: 4 } as const;
  test('is unmapped by its first; the others are refused with a line', () => {
    const { xen, d, pdev } = host();
    const { pirq } = map(xen, GROUP);
    expect([d.pirqs.size, pdev.msiIrqs.length]).toEqual([4, 4]);
    const unmap = (n: number) => runAlone(physdevOp(xen, { cmd: 'unmap_pirq', domid: 1, pirq: n }));
    expect([1, 2, 3].map((i) => unmap(pirq + i))).toEqual([E.BUSY, E.BUSY, E.BUSY]);
    expect(xen.news()).toEqual([1, 2, 3].map((i) => `dom1: trying to unmap secondary MSI pirq ${pirq + i}`));
    expect(unmap(pirq)).toBe(0);
    expect([d.pirqs.size, d.irqCaps.isEmpty(), pdev.msiIrqs, [...xen.irqs.msis.values()].flat()]).toEqual([
      0,
      true,
      [],
      [],
    ]);
  });

  test('has its vectors side by side, and says in the device how many they are', () => {
    const { xen, d, read } = host();
    const { pirq } = map(xen, GROUP);
    const irqs = [0, 1, 2, 3].map((i) => d.pirqs.get(pirq + i)!.irq);
    expect(irqs).toEqual([25, 26, 27, 28]);
    expect((read(MSI_CONTROL) >>> 4) & 7).toBe(2);
    expect(new Set(irqs.map((irq) => xen.irqs.desc(irq).vector)).size).toBe(4);
    expect(d.irqCaps.list()).toEqual([{ s: 25, e: 28 }]);
  });
});
