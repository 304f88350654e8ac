import { expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { Machine } from '../../src/machine.js';
import { DOMID, FRAME_TYPE } from '../../src/sim/frames.js';
import { q35, q35BootConsole } from '../helpers/q35.js';

const CMDLINE =
  'iommu=1,verbose,debug loglvl=all guest_loglvl=all com1=115200 console=com1 dom0_mem=1G dom0_max_vcpus=1 sync_console noreboot';

test('the recorded VT-d board boots and prints the lines of VT-d as Xen did', () => {
  const m = Machine.boot(q35('vtd'), { release: '4.17', cmdline: CMDLINE });
  const ours = [...m.hypercalls.readConsole(false)];
  const about = /VT-?[dD]|I\/O virt|Dom0 mode|Interrupt remapping/;
  expect(ours.filter((l) => about.test(l))).toEqual(q35BootConsole().filter((l) => about.test(l)));
});

test('the recorded AMD board boots and translates for dom0', () => {
  const m = Machine.boot(q35('amd'), { release: '4.17', cmdline: CMDLINE });
  const ours = [...m.hypercalls.readConsole(false)];
  expect(ours).toContain('(XEN) I/O virtualisation enabled');
  expect(ours.filter((l) => l.includes('AMD-Vi')).length).toBeGreaterThan(3);
});

/** What a device of dom0 reaches of dom0, a guest, free memory and Xen, by mode and from the release on. */
const MODES = [
  { options: '', reaches: 'dom0 guest free' },
  { options: 'dom0-iommu=strict', reaches: 'dom0' },
  { options: 'dom0-iommu=passthrough', reaches: 'dom0 guest free xen' },
  // Both at once: strict wins.
  { options: 'dom0-iommu=passthrough,strict', reaches: 'dom0' },
  { options: 'iommu=dom0-passthrough', reaches: 'dom0 guest free xen' },
] as const;
test.each((['vtd', 'amd'] as const).flatMap((vendor) => MODES.map((mode) => ({ vendor, ...mode }))))(
  'FT-B12 FT-C21 $vendor with "$options": a device of dom0 reaches $reaches',
  ({ vendor, options, reaches }) => {
    const m = Machine.boot(q35(vendor), { cmdline: `${options} dom0_mem=512M` });
    const nic = sbdf(0, 2, 0, 0);
    m.hw.pci.configWrite(nic, 4, 2, 6);
    const frames = {
      dom0: m.xen.hwdom.extents[0]!.mfn,
      guest: m.xen.heap.alloc(0, 7, FRAME_TYPE.writable),
      free: m.xen.heap.alloc(0, 7, FRAME_TYPE.writable),
      xen: m.xen.xenRanges.list()[0]!.s,
    };
    m.xen.heap.release(frames.free, 0);
    const reached = Object.entries(frames).filter(
      ([, mfn]) => m.dma(nic, { address: mfn * 4096, bytes: 64, write: true }).status !== 'fault',
    );
    expect(reached.map(([who]) => who).join(' ')).toBe(reaches);
  },
);

test.each(['vtd', 'amd'] as const)('a strict dom0 has its own memory mapped, and no more: %s', (vendor) => {
  const m = Machine.boot(q35(vendor), { cmdline: 'dom0-iommu=strict dom0_mem=1G' });
  const nic = sbdf(0, 2, 0, 0);
  m.hw.pci.configWrite(nic, 4, 2, 6);
  const reached = (frame: number): string =>
    m.dma(nic, { address: frame * 4096, bytes: 64, write: true }).status;
  for (const x of m.xen.hwdom.extents)
    expect([reached(x.mfn), reached(x.mfn + 2 ** x.order - 1)]).toEqual(['done', 'done']);
  const free = m.xen.heap.alloc(0, DOMID.XEN, FRAME_TYPE.xenheap);
  expect(reached(free)).toBe('fault');
});
