/** Key 'Q'. @xen drivers/passthrough/pci.c dump_pci_devices, msi.c pdev_dump_msi */
import { formatSbdf, hex } from '../../base/sbdf.js';
import type { Pdev } from '../../iommu/driver/types.js';
import { type Co, hold } from '../../sim/co.js';
import type { Xen } from '../xen.js';
import { alldevsNewestFirst, segmentsAscending } from './segment.js';

export function* dumpPciDevices(xen: Xen): Co<void> {
  xen.console.printAlways('==== PCI devices ====');
  using _pcidevs = yield* hold(xen.pcidevsLock);
  for (const pseg of segmentsAscending(xen)) {
    xen.console.printAlways(`==== segment ${hex(pseg.nr, 4)} ====`);
    for (const pdev of alldevsNewestFirst(pseg)) xen.console.printAlways(line(xen, pdev));
  }
}

function line(xen: Xen, pdev: Pdev): string {
  const owner =
    pdev.domain === xen.domIo ? `DomIO:${pdev.arch.pseudoDomid.toString(16)}` : xen.services.pd(pdev.domain);
  const msis = pdev.msiIrqs.length === 0 ? '' : ` - MSIs < ${pdev.msiIrqs.map((irq) => `${irq} `).join('')}>`;
  return `${formatSbdf(pdev.sbdf)} - ${owner} - node ${String(pdev.node).padEnd(3)}${msis}`;
}
