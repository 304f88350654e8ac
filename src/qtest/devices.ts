/**
 * The PCI functions of the test board: configuration space and base address registers of what QEMU's tests ask for by
 * name. Ids and sizes are those the tests look for; whatever moves data is in edu.ts and iommu_testdev.ts.
 */

/** What a device is before it sits in a slot. */
export interface DeviceModel {
  readonly vendor: number;
  readonly device: number;
  /** Class, sub-class and interface. */
  readonly classCode: number;
  readonly revision: number;
  /** Bytes of memory behind base address register n. */
  readonly bars?: readonly (number | undefined)[];
  readonly kind: 'plain' | 'edu' | 'testdev' | 'port';
}

/** By the name of `-device`. */
export const DEVICE_MODELS: ReadonlyMap<string, DeviceModel> = new Map([
  [
    'edu',
    {
      vendor: 0x1234,
      device: 0x11e8,
      classCode: 0x00ff00,
      revision: 0x10,
      bars: [0x10_0000],
      kind: 'edu',
    },
  ],
  [
    'iommu-testdev',
    { vendor: 0x1b36, device: 0x0005, classCode: 0x00ff00, revision: 0, bars: [0x1000], kind: 'testdev' },
  ],
  [
    'VGA',
    {
      vendor: 0x1234,
      device: 0x1111,
      classCode: 0x030000,
      revision: 2,
      bars: [0x100_0000, undefined, 0x1000],
      kind: 'plain',
    },
  ],
  [
    'secondary-vga',
    {
      vendor: 0x1234,
      device: 0x1111,
      classCode: 0x038000,
      revision: 2,
      bars: [0x100_0000, undefined, 0x1000],
      kind: 'plain',
    },
  ],
  ['ioh3420', { vendor: 0x8086, device: 0x3420, classCode: 0x060400, revision: 2, kind: 'port' }],
  ['pcie-root-port', { vendor: 0x1b36, device: 0x000c, classCode: 0x060400, revision: 0, kind: 'port' }],
]);

/** What a q35 has soldered on: host bridge, LPC, SATA, SMBus. */
export const Q35_CHIPSET: readonly { devfn: number; model: DeviceModel }[] = [
  { devfn: 0x00, model: { vendor: 0x8086, device: 0x29c0, classCode: 0x060000, revision: 0, kind: 'plain' } },
  { devfn: 0xf8, model: { vendor: 0x8086, device: 0x2918, classCode: 0x060100, revision: 2, kind: 'plain' } },
  { devfn: 0xfa, model: { vendor: 0x8086, device: 0x2922, classCode: 0x010601, revision: 2, kind: 'plain' } },
  { devfn: 0xfb, model: { vendor: 0x8086, device: 0x2930, classCode: 0x0c0500, revision: 2, kind: 'plain' } },
];

const EXP_AT = 0x40;

/** Power-on configuration space. A port has a PCI Express capability of type root port. */
export function configOf(model: DeviceModel, multifunction: boolean): Uint8Array {
  const bytes = new Uint8Array(model.kind === 'port' ? 4096 : 256);
  const put = (at: number, size: number, value: number): void => {
    for (let i = 0; i < size; i++) bytes[at + i] = (value >>> (8 * i)) & 0xff;
  };
  put(0x00, 2, model.vendor);
  put(0x02, 2, model.device);
  put(0x08, 4, model.classCode * 256 + model.revision);
  put(0x0e, 1, (model.kind === 'port' ? 1 : 0) | (multifunction ? 0x80 : 0));
  if (model.kind === 'port') {
    put(0x06, 2, 0x10);
    put(0x34, 1, EXP_AT);
    put(EXP_AT, 2, 0x10);
    put(EXP_AT + 2, 2, 0x42); // version 2, root port
  }
  return bytes;
}
