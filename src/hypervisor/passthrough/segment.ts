/** Segments, device lookup, and who bridges which bus. @xen drivers/passthrough/pci.c */

import { assert } from '../../base/assert.js';
import { bdfOf, type Sbdf, segOf, withDevfn } from '../../base/sbdf.js';
import type { IommuDomain, Pdev } from '../../iommu/driver/types.js';
import { PciSeg, type Xen } from '../xen.js';

const MAX_BUSES = 256;

/** What pcidevs_locked() asserts: this CPU holds the lock. */
export const pcidevsLocked = (xen: Xen): boolean => xen.pcidevsLock.heldByCurrent();

export const getPseg = (xen: Xen, seg: number): PciSeg | undefined => xen.segs.get(seg);

/** The segment, made on first use. @xen alloc_pseg */
export function allocPseg(xen: Xen, seg: number): PciSeg {
  const known = xen.segs.get(seg);
  if (known !== undefined) return known;
  const pseg = new PciSeg(seg);
  xen.segs.set(seg, pseg);
  return pseg;
}

/** Segments in ascending order. @xen pci_segments_iterate */
export function segmentsAscending(xen: Xen): PciSeg[] {
  const segs = [...xen.segs.values()];
  return segs.length > 1 ? segs.sort((a, b) => a.nr - b.nr) : segs;
}

/** Devices of a segment, newest first, as the list in Xen is kept. */
export const alldevsNewestFirst = (pseg: PciSeg): Pdev[] => [...pseg.alldevs.values()].reverse();

/** The device at `sbdf`, of domain `d` only when one is given. @xen pci_get_pdev */
export function pciGetPdev(xen: Xen, d: IommuDomain | undefined, sbdf: Sbdf): Pdev | undefined {
  assert(d !== undefined || pcidevsLocked(xen), 'pcidevs lock is held, or a domain is named');
  const pdev = xen.pdevs.get(sbdf);
  return d === undefined || (pdev !== undefined && pdev.domain === d) ? pdev : undefined;
}

/**
 * The device that answers for a requester id, phantom functions included. Only phantoms whose lowest set function bit
 * equals the stride are found. @xen pci_get_real_pdev
 */
export function pciGetRealPdev(xen: Xen, sbdf: Sbdf): Pdev | undefined {
  let pdev = pciGetPdev(xen, undefined, sbdf);
  let devfn = sbdf & 0xff;
  for (let stride = 4; pdev === undefined && stride > 0; stride >>= 1) {
    if ((devfn & stride) === 0) continue;
    devfn &= ~stride;
    pdev = pciGetPdev(xen, undefined, withDevfn(sbdf, devfn));
    if (pdev !== undefined && stride !== pdev.phantomStride) pdev = undefined;
  }
  return pdev;
}

/** Nobody, dom0 included, may write to this function's configuration space. @xen pci_get_ro_map */
export const isReadOnly = (xen: Xen, sbdf: Sbdf): boolean =>
  xen.segs.get(segOf(sbdf))?.roMap.has(bdfOf(sbdf)) ?? false;

/** Enters the bridge above buses `first` to `last`. @xen alloc_pdev */
export function bus2bridgeSet(xen: Xen, pseg: PciSeg, pdev: Pdev, first: number, last: number): void {
  xen.bus2bridgeLock.checkBeforeWait();
  xen.bus2bridgeLock.acquire();
  for (let bus = first; bus <= last; bus++) pseg.bus2bridge.set(bus, { bus: pdev.bus, devfn: pdev.devfn });
  xen.bus2bridgeLock.release();
}

/** Buses behind a bridge that goes away are those of the bridge above it. @xen free_pdev */
export function bus2bridgeInherit(xen: Xen, pseg: PciSeg, pdev: Pdev, first: number, last: number): void {
  xen.bus2bridgeLock.checkBeforeWait();
  xen.bus2bridgeLock.acquire();
  const above = pseg.bus2bridge.get(pdev.bus);
  for (let bus = first; bus <= last; bus++) {
    if (above === undefined) pseg.bus2bridge.delete(bus);
    else pseg.bus2bridge.set(bus, above);
  }
  xen.bus2bridgeLock.release();
}

/**
 * The topmost PCIe-to-PCI or conventional bridge above `out.bus`: 1 with bus, devfn and the bus below it in `out`,
 * 0 when there is none, -1 when bridges form a loop. @xen find_upstream_bridge
 */
export function findUpstreamBridge(
  xen: Xen,
  seg: number,
  out: { bus: number; devfn: number; secbus: number },
): number {
  const pseg = getPseg(xen, seg);
  if (out.bus === 0) return 0;
  if (pseg === undefined) return -1;
  let bridge = pseg.bus2bridge.get(out.bus);
  if (bridge === undefined) return 0;
  let ret = 1;
  xen.bus2bridgeLock.checkBeforeWait();
  xen.bus2bridgeLock.acquire();
  for (let hops = 0; bridge !== undefined; hops++) {
    out.secbus = out.bus;
    out.devfn = bridge.devfn;
    out.bus = bridge.bus;
    if (hops >= MAX_BUSES) {
      ret = -1;
      break;
    }
    bridge = pseg.bus2bridge.get(out.bus);
  }
  xen.bus2bridgeLock.release();
  return ret;
}
