import { expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { lspciLine } from '../../src/pci/names.js';

const fn = (vendor: number, device: number, classCode: number, revision = 0, name?: string) => ({
  sbdf: sbdf(0, 1, 0, 0),
  vendor,
  device,
  classCode,
  revision,
  ...(name === undefined ? {} : { init: { name } }),
});

// Lines that lspci 3.9 printed on the recorded board.
test.each([
  [
    fn(0x8086, 0x100e, 0x020000, 3),
    'Ethernet controller [0200]: Intel Corporation 82540EM Gigabit Ethernet Controller [8086:100e] (rev 03)',
  ],
  [fn(0x1234, 0x11e8, 0x00ff00, 0x10), 'Unclassified device [00ff]: Device [1234:11e8] (rev 10)'],
  [fn(0x1b36, 0x000e, 0x060400), 'PCI bridge [0604]: Red Hat, Inc. Device [1b36:000e]'],
  [fn(0x1022, 0x0050, 0x080600), 'IOMMU [0806]: Advanced Micro Devices, Inc. [AMD] Device [1022:0050]'],
])('-nn prints %#', (subject, line) => {
  expect(lspciLine(subject, { ids: 'both' })).toBe(`01:00.0 ${line}`);
});

test('names and numbers alone, and the domain in front where asked for', () => {
  const gpu = fn(0x10de, 0x2484, 0x030000, 0xa1);
  expect(lspciLine(gpu)).toBe(
    '01:00.0 VGA compatible controller: NVIDIA Corporation GA104 [GeForce RTX 3070] (rev a1)',
  );
  expect(lspciLine(gpu, { ids: 'numbers', domain: true })).toBe('0000:01:00.0 0300: 10de:2484 (rev a1)');
  expect(lspciLine(fn(0x1234, 0x11e8, 0x00ff00))).toBe(
    '01:00.0 Unclassified device [00ff]: Device 1234:11e8',
  );
  expect(lspciLine(fn(0x1b36, 0xe, 0x060400))).toBe('01:00.0 PCI bridge: Red Hat, Inc. Device 000e');
});

test('the name in the dump wins over the table', () => {
  const line = lspciLine(fn(0x10de, 0x2484, 0x030000, 0, 'NVIDIA Corporation Something Else'));
  expect(line).toBe('01:00.0 VGA compatible controller: NVIDIA Corporation Something Else');
});
