/** Where a device's DMA goes once its guest is gone: the three modes, with and without d[IO] in between. */
import { expect, test } from 'vitest';
import { Machine } from '../../src/machine.js';
import { runAlone } from '../../src/sim/co.js';
import { DOMID } from '../../src/sim/frames.js';
import { DEVICES, HOSTS } from '../support/hosts.js';

/** The firmware's page that the network card needs, and the guest's only page. */
const RESERVED = 0xe_0000;
const GUEST_PAGE = 0x1000;

/**
 * A host with a guest that had the card and was destroyed; with `given`, d[IO] had it before, and `then` happened there.
 */
function afterDestroy(
  options: string,
  given: boolean,
  then?: (m: Machine) => void,
  vendor: 'intel' | 'amd' = 'intel',
): Machine {
  const m = Machine.boot(HOSTS[vendor](), { cmdline: options });
  const domctl = (op: Parameters<typeof m.hypercalls.domctl>[0]): number => runAlone(m.hypercalls.domctl(op));
  for (const fn of m.hw.pci.functions()) {
    const at = { seg: 0, bus: (fn.sbdf >> 8) & 255, devfn: fn.devfn, flags: 0 };
    runAlone(m.hypercalls.physdevOp({ cmd: 'pci_device_add', ...at }));
  }
  m.hw.pci.configWrite(DEVICES.nic, 4, 2, 6);
  const create = {
    cmd: 'createdomain' as const,
    domid: 0,
    flags: { hvm: true, hap: true, iommu: true },
    iommuNoSharept: false,
    maxVcpus: 1,
    handle: '',
  };
  expect(domctl(create)).toBe(0);
  const { domid } = create;
  domctl({ cmd: 'max_mem', domid, maxKb: 1 << 16 });
  const op = { cmd: 'populate_physmap' as const, domid, gfns: [1], order: 0 };
  expect(runAlone(m.hypercalls.memoryOp(op))).toBe(1);
  // The relaxed flag, so that the reserved page does not bar the device from the guest.
  const assign = (to: number): number =>
    domctl({ cmd: 'assign_device', domid: to, dev: 0, machineSbdf: DEVICES.nic, flags: 1 });
  if (given) expect(assign(DOMID.IO)).toBe(0);
  then?.(m);
  expect(assign(domid)).toBe(0);
  const inGuest = m.dma(DEVICES.nic, { address: GUEST_PAGE, bytes: 64, write: true });
  expect([inGuest.status, m.hw.frames.owner(inGuest.mfn)]).toEqual(['done', domid]);
  expect(domctl({ cmd: 'destroydomain', domid })).toBe(0);
  return m;
}
/** The frame that a write reaches, 'fault', or 'let through' to where no memory answers, as the reserved page. */
function reaches(m: Machine, address: number): number | 'fault' | 'let through' {
  const hit = m.dma(DEVICES.nic, { address, bytes: 64, write: true });
  if (hit.status === 'done') return hit.mfn;
  return hit.status === 'masterAbort' ? 'let through' : 'fault';
}
/** Address of a page of dom0's, where its table has it. */
function pageOfDom0(m: Machine): number {
  let mfn = 0x1000;
  while (m.hw.frames.owner(mfn) !== 0) mfn++;
  return mfn * 4096;
}

test('FT-B19 none: a device that d[IO] never had is dom0 again, and reaches its memory', () => {
  const m = afterDestroy('iommu=no-quarantine', false);
  const page = pageOfDom0(m);
  expect([reaches(m, page), reaches(m, RESERVED)]).toEqual([page / 4096, 'let through']);
});

test('FT-B19 none: a device that d[IO] had returns there, to no entry: all faults, its reserved page too', () => {
  const m = afterDestroy('iommu=no-quarantine', true);
  expect([reaches(m, pageOfDom0(m)), reaches(m, RESERVED)]).toEqual(['fault', 'fault']);
});

test.each([true, false])('FT-B19 basic: all faults but the reserved page; d[IO] before: %s', (given) => {
  const m = afterDestroy('iommu=quarantine', given);
  expect([reaches(m, pageOfDom0(m)), reaches(m, GUEST_PAGE)]).toEqual(['fault', 'fault']);
  expect([reaches(m, RESERVED), reaches(m, RESERVED + 4096)]).toEqual(['let through', 'fault']);
});

test('FT-B19 scratch: what the device wrote there before is gone when it comes back', () => {
  const dirty = (m: Machine): void => {
    const page = reaches(m, GUEST_PAGE) as number;
    for (let i = 0; i < 1024; i++) m.hw.ram.write32(page * 4096 + i * 4, 0x5a5a_5a5a);
  };
  const m = afterDestroy('iommu=quarantine=scratch-page', true, dirty);
  const page = reaches(m, GUEST_PAGE) as number;
  const words = Array.from({ length: 1024 }, (_, i) => m.hw.ram.read32(page * 4096 + i * 4));
  expect(new Set(words)).toEqual(new Set([0]));
});

test.each([true, false])('FT-B19 scratch: one page of its own, zero when entered; before: %s', (given) => {
  const m = afterDestroy('iommu=quarantine=scratch-page', given);
  const page = reaches(m, GUEST_PAGE);
  expect(page).toBeTypeOf('number');
  expect([reaches(m, pageOfDom0(m)), reaches(m, 2 ** 38)]).toEqual([page, page]);
  expect(reaches(m, RESERVED)).toBe('let through');
  const words = Array.from({ length: 1024 }, (_, i) => m.hw.ram.read32((page as number) * 4096 + i * 4));
  expect(words.every((w) => w === 0)).toBe(true);
});

/** dom0's page and the guest's old one, by mode and by whether d[IO] had the card before: as on VT-d. */
test.each([
  { options: 'iommu=no-quarantine', given: false, dom0: 'dom0', scratch: false },
  { options: 'iommu=no-quarantine', given: true, dom0: 'fault', scratch: false },
  { options: 'iommu=quarantine', given: false, dom0: 'fault', scratch: false },
  { options: 'iommu=quarantine', given: true, dom0: 'fault', scratch: false },
  { options: 'iommu=quarantine=scratch-page', given: false, dom0: 'page', scratch: true },
  { options: 'iommu=quarantine=scratch-page', given: true, dom0: 'page', scratch: true },
])('FT-B19 AMD-Vi, $options, d[IO] before: $given', ({ options, given, dom0, scratch }) => {
  const m = afterDestroy(options, given, undefined, 'amd');
  const address = pageOfDom0(m);
  const hit = reaches(m, address);
  expect(hit === 'fault' ? 'fault' : hit === address / 4096 ? 'dom0' : 'page').toBe(dom0);
  if (!scratch) return;
  expect(reaches(m, GUEST_PAGE)).toBe(hit);
  const words = Array.from({ length: 1024 }, (_, i) => m.hw.ram.read32((hit as number) * 4096 + i * 4));
  expect(new Set(words)).toEqual(new Set([0]));
});
