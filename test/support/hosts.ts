/** Two small hosts, one a vendor: a root port with a device that has phantom functions, and a conventional bus. */
import { sbdf } from '../../src/base/sbdf.js';
import { buildFunctions, type FunctionSpec } from '../../src/inputs/build.js';
import { defaultE820 } from '../../src/inputs/e820.js';
import type { HostDescription } from '../../src/inputs/host_description.js';
import { encodeDmar, fixChecksum } from '../../src/iommu/format/dmar.js';
import { IVHD_DEV, IVHD_TYPE, makeIvrs, SPECIAL } from '../../src/iommu/format/ivrs.js';

const MEMORY = 2 ** 30;

/** Devices that histories name; the last one is absent. */
export const DEVICES = {
  gpu: sbdf(0, 1, 0, 0),
  nic: sbdf(0, 0, 3, 0),
  oldA: sbdf(0, 2, 1, 0),
  oldB: sbdf(0, 2, 2, 0),
  absent: sbdf(0, 5, 0, 0),
} as const;

const FUNCTIONS: readonly FunctionSpec[] = [
  { sbdf: sbdf(0, 0, 0, 0), kind: 'host-bridge' },
  { sbdf: sbdf(0, 0, 1, 0), kind: 'root-port', secondary: 1 },
  { sbdf: sbdf(0, 0, 2, 0), kind: 'pci-bridge', secondary: 2 },
  { sbdf: DEVICES.nic, kind: 'pcie-endpoint' },
  { sbdf: DEVICES.gpu, kind: 'pcie-endpoint', classCode: 0x030000, phantomBits: 1 },
  { sbdf: DEVICES.oldA, kind: 'pci-device' },
  { sbdf: DEVICES.oldB, kind: 'pci-device' },
];
/** AMD's IOMMU is a PCI function too. */
const AMD_IOMMU: FunctionSpec = { sbdf: sbdf(0, 0, 0, 2), kind: 'amd-iommu' };

const host = (vendor: 'intel' | 'amd'): HostDescription => ({
  name: `small-${vendor}`,
  functions: buildFunctions(vendor === 'amd' ? [...FUNCTIONS, AMD_IOMMU] : FUNCTIONS),
  e820: defaultE820(MEMORY),
  cpu: { vendor, count: 2, model: 'test', khz: 3_000_000, hap: true, hap2m: true, hap1g: true, cx16: true },
  dom0: {
    memoryBytes: MEMORY / 4,
    vcpus: 2,
    hostname: 'dom0',
    kernelRelease: '6.1.0',
    kernelCmdline: '',
    pciback: 'none',
    files: {},
  },
});

function dmar(): Uint8Array {
  const text = { oemId: 'TEST  ', oemTableId: 'TEST    ', creatorId: 'TEST' };
  const numbers = {
    revision: 1,
    checksum: 0,
    oemRevision: 1,
    creatorRevision: 1,
    hostAddressWidth: 38,
    flags: 0,
  };
  const scope = { type: 1, flags: 0, reserved: 0, enumerationId: 0, startBus: 0, path: [{ dev: 3, fn: 0 }] };
  const table = encodeDmar({
    signature: 'DMAR',
    ...text,
    ...numbers,
    reserved: new Uint8Array(10),
    structures: [
      { kind: 'drhd', flags: 1, size: 0, segment: 0, base: 0xfed9_0000, scopes: [] },
      // The network card must reach one page of the firmware whoever owns it.
      { kind: 'rmrr', reserved: 0, segment: 0, base: 0xe_0000, limit: 0xe_0fff, scopes: [scope] },
    ],
  });
  return fixChecksum(table);
}

function ivrs(): Uint8Array {
  const all = [
    { type: IVHD_DEV.START, id: 0, data: 0 },
    { type: IVHD_DEV.END, id: 0xffff, data: 0 },
  ];
  // The southbridge's I/O APIC, without which Xen does without the IOMMU.
  const ioapic = { type: IVHD_DEV.SPECIAL, id: 0, data: 0, usedId: 0xa0, byte4: 0, byte7: SPECIAL.IOAPIC };
  const entries = [...all, ioapic];
  const where = { deviceId: 2, capOffset: 0xa0, base: 0xfeb8_0000, segment: 0 };
  return makeIvrs([{ kind: 'ivhd', type: IVHD_TYPE.BASIC, flags: 0, ...where, info: 0, attr: 0, entries }]);
}

/** Made anew for each machine, so that one cannot disturb the other. */
export const HOSTS: Readonly<Record<'intel' | 'amd', () => HostDescription>> = {
  intel: () => ({ ...host('intel'), dmar: dmar() }),
  amd: () => ({ ...host('amd'), ivrs: ivrs() }),
};
