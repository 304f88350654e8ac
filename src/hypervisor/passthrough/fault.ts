/** A device that faults too often loses its bus mastership. @xen drivers/passthrough/pci.c */
import { sbdfOf } from '../../base/sbdf.js';
import type { Pdev } from '../../iommu/driver/types.js';
import { type Co, hold } from '../../sim/co.js';
import type { Xen } from '../xen.js';
import { PCI, pciConfRead16, pciConfWrite16 } from './config.js';
import { pciGetRealPdev } from './segment.js';

/** @xen PT_FAULT_THRESHOLD */
const FAULT_THRESHOLD = 10;
/** A gap longer than this halves the count. */
const FAULT_GAP_NS = 10_000_000;

/** One fault of a requester id is counted. @xen pci_check_disable_device */
export function* pciCheckDisableDevice(xen: Xen, seg: number, bus: number, devfn: number): Co<void> {
  const pdev = yield* countFault(xen, seg, bus, devfn);
  if (pdev === undefined) return;
  // The owner may be the one who misbehaves: nobody asks it.
  const command = pciConfRead16(xen, pdev.sbdf, PCI.COMMAND);
  pciConfWrite16(xen, pdev.sbdf, PCI.COMMAND, command & ~PCI.COMMAND_MASTER);
}

/** The device once it has reached the threshold, else nothing. */
function* countFault(xen: Xen, seg: number, bus: number, devfn: number): Co<Pdev | undefined> {
  const now = xen.clock.nowNs;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = pciGetRealPdev(xen, sbdfOf(seg, (bus << 8) | devfn));
  if (pdev === undefined) return undefined;
  if (now < pdev.faultTime || now - pdev.faultTime > FAULT_GAP_NS) pdev.faultCount >>= 1;
  pdev.faultTime = now;
  pdev.faultCount += 1;
  return pdev.faultCount < FAULT_THRESHOLD ? undefined : pdev;
}
