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
