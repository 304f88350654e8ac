import { expect, test } from 'vitest';
import { Machine } from '../../src/machine.js';
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
