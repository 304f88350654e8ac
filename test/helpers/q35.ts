/** The recorded board as a host description, in its two editions. */
import fs from 'node:fs';
import path from 'node:path';
import { readAcpiTable } from '../../src/inputs/acpi.js';
import { readE820 } from '../../src/inputs/e820.js';
import type { FunctionDescription, HostDescription } from '../../src/inputs/host_description.js';
import { readLspci } from '../../src/inputs/lspci.js';
import { readTopology } from '../../src/inputs/topology.js';
import { ROOT } from '../support/built.js';

const file = (name: string): Uint8Array => fs.readFileSync(path.join(ROOT, 'fixtures/q35', name));

/** Lines that Xen printed while the VT-d board booted, `(XEN) ` in front. */
export const q35BootConsole = (): string[] =>
  new TextDecoder().decode(file('boot-console.txt')).trimEnd().split('\n');

export type Q35Kind = 'vtd' | 'amd';

export interface Q35Options {
  /** CPUs; some recordings ran with one. */
  readonly cpus?: number;
  /** Linux command line of dom0. */
  readonly kernelCmdline?: string;
  readonly files?: Readonly<Record<string, string>>;
}

export function q35(kind: Q35Kind, options: Q35Options = {}): HostDescription {
  return {
    name: `q35-${kind}`,
    functions: functionsOf(kind),
    e820: readE820('e820', file('e820')),
    cpu: {
      // The VT-d recordings ran on a CPU of AMD make.
      vendor: 'amd',
      count: options.cpus ?? 2,
      model: kind === 'vtd' ? 'QEMU TCG CPU version 2.5+' : 'AMD EPYC Processor',
      khz: 2_596_126,
      hap: true,
      hap2m: true,
      hap1g: true,
      cx16: true,
      paddrBits: 40,
      hwCaps:
        kind === 'vtd'
          ? [0x1fcbf3fd, 0xf6d8320b, 0xec500800, 0x77, 5, 0x01884329, 0x20c, 0]
          : [0x178bf3fd, 0xf6d83203, 0x2c500800, 0x77, 5, 0x00880129, 0, 0],
    },
    ...(kind === 'vtd'
      ? {
          dmar: readAcpiTable('DMAR', 'DMAR', file('DMAR')),
          vtdUnits: [{ base: 0xfed9_0000, cap: [0x222f_0606, 0x00d2_008c], ecap: [0x00f0_0f4a, 0] }],
        }
      : { ivrs: readAcpiTable('IVRS', 'IVRS', file('IVRS')) }),
    dom0: {
      memoryBytes: 2 ** 30,
      vcpus: 1,
      hostname: 'dom0',
      kernelRelease: '6.1.0-56-amd64',
      kernelCmdline: options.kernelCmdline ?? 'console=hvc0 earlyprintk=xen loglevel=7 net.ifnames=0',
      pciback: 'module',
      files: options.files ?? {},
    },
  };
}

function functionsOf(kind: Q35Kind): FunctionDescription[] {
  const functions = readTopology('topology.json', file('topology.json'));
  if (kind === 'vtd') return functions;
  const iommu = readLspci('iommu-00-0a.0.txt', file('iommu-00-0a.0.txt')).functions;
  return [...functions, ...iommu].sort((a, b) => a.sbdf - b.sbdf);
}
