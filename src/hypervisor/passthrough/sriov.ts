/** BARs of virtual functions are sized once, from their physical function. @xen drivers/passthrough/pci.c */
import { assert, panic } from '../../base/assert.js';
import { formatSbdf, hex, type Sbdf } from '../../base/sbdf.js';
import { type Pdev, XENLOG } from '../../iommu/driver/types.js';
import type { Xen } from '../xen.js';
import { EXT_CAP_ID, pciConfRead16, pciConfRead32, pciConfWrite32, pdevFindExtCapability } from './config.js';

const SRIOV_CTRL = 0x08;
const SRIOV_CTRL_VFE = 0x01;
const SRIOV_CTRL_MSE = 0x08;
const SRIOV_BAR = 0x24;
const SRIOV_NUM_BARS = 6;
const BAR_SPACE_IO = 1;
const BAR_MEM_TYPE = 0x6;
const BAR_MEM_TYPE_64 = 0x4;
const BAR_MEM_MASK = 0xffff_fff0;

/** Fills `vfRlen` of a physical function whose virtual ones are still off. @xen pci_add_device */
export function sizeVfBars(xen: Xen, pdev: Pdev): void {
  const pos = pdevFindExtCapability(xen, pdev, EXT_CAP_ID.SRIOV);
  if (pos === 0) return;
  const ctrl = pciConfRead16(xen, pdev.sbdf, pos + SRIOV_CTRL);
  const name = formatSbdf(pdev.sbdf);
  if ((ctrl & (SRIOV_CTRL_VFE | SRIOV_CTRL_MSE)) !== 0) {
    xen.services.printk(
      XENLOG.WARNING,
      `SR-IOV device ${name} has its virtual functions already enabled (${hex(ctrl, 4)})`,
    );
    return;
  }
  const bytes = [...pdev.vfRlen];
  for (let i = 0; i < SRIOV_NUM_BARS; ) {
    const reg = pos + SRIOV_BAR + i * 4;
    if ((pciConfRead32(xen, pdev.sbdf, reg) & BAR_SPACE_IO) !== 0) {
      xen.services.printk(XENLOG.WARNING, `SR-IOV device ${name} with vf BAR${i} in IO space`);
      if (!xen.seams.vfIoBarIsSkipped()) {
        panic(`CPU${xen.cpus.current.id} prints the line above for ever, holding pcidevs_lock`);
      }
      i += 1;
      continue;
    }
    const size = sizeVfMemBar(xen, pdev.sbdf, reg, i === SRIOV_NUM_BARS - 1);
    bytes[i] = size.bytes;
    i += size.slots;
  }
  pdev.vfRlen = bytes;
}

/** Writes all ones and reads back which bits stay. @xen pci_size_mem_bar with PCI_BAR_VF */
function sizeVfMemBar(xen: Xen, at: Sbdf, reg: number, last: boolean): { bytes: number; slots: number } {
  const bar = pciConfRead32(xen, at, reg);
  assert((bar & BAR_SPACE_IO) === 0, 'only memory BARs are sized');
  const is64 = (bar & BAR_MEM_TYPE) === BAR_MEM_TYPE_64;
  pciConfWrite32(xen, at, reg, 0xffff_ffff);
  if (is64 && last) {
    xen.services.printk(XENLOG.WARNING, `SR-IOV device ${formatSbdf(at)} with 64-bit vf BAR in last slot`);
    return { bytes: 0, slots: 1 };
  }
  let hi = 0;
  if (is64) {
    const upper = pciConfRead32(xen, at, reg + 4);
    pciConfWrite32(xen, at, reg + 4, 0xffff_ffff);
    hi = pciConfRead32(xen, at, reg + 4);
    pciConfWrite32(xen, at, reg + 4, upper);
  }
  const lo = (pciConfRead32(xen, at, reg) & BAR_MEM_MASK) >>> 0;
  pciConfWrite32(xen, at, reg, bar);
  if (!is64 && lo !== 0) hi = 0xffff_ffff;
  return { bytes: negate64(lo, hi), slots: is64 ? 2 : 1 };
}

/** Two's complement of a 64-bit value given in halves; sizes beyond 2^53 do not occur. */
function negate64(lo: number, hi: number): number {
  const negLo = -lo >>> 0;
  const negHi = (~hi + (lo === 0 ? 1 : 0)) >>> 0;
  return negHi * 2 ** 32 + negLo;
}
