/** Devices with a translation cache of their own: its switch in config space. @xen drivers/passthrough/ats.c, ats.h */
import { panic } from '../../../base/assert.js';
import { formatSbdf } from '../../../base/sbdf.js';
import type { Pdev } from '../types.js';
import type { AmdUnit, AmdVi } from './state.js';

const PCI_EXT_CAP_ID_ATS = 0xf;
const ATS_REG_CAP = 4;
const ATS_REG_CTL = 6;
const ATS_QUEUE_DEPTH_MASK = 0x1f;
const ATS_ENABLE = 0x8000;

/** Position of the capability, 0 where there is none or `ats` is off. @xen pci_ats_device */
export const pciAtsDevice = (amd: AmdVi, pdev: Pdev): number =>
  amd.opts.ats ? amd.s.pciFindExtCap(pdev.sbdf, PCI_EXT_CAP_ID_ATS) : 0;

/** @xen pci_ats_enabled */
export function pciAtsEnabled(amd: AmdVi, pdev: Pdev): boolean {
  const pos = amd.s.pciFindExtCap(pdev.sbdf, PCI_EXT_CAP_ID_ATS);
  if (pos === 0) panic('Xen BUG at drivers/passthrough/ats.h');
  return (amd.s.confRead(pdev.sbdf, pos + ATS_REG_CTL, 2) & ATS_ENABLE) !== 0;
}

/** @xen enable_ats_device */
export function enableAtsDevice(amd: AmdVi, pdev: Pdev, unit: AmdUnit): void {
  const pos = amd.s.pciFindExtCap(pdev.sbdf, PCI_EXT_CAP_ID_ATS);
  if (pos === 0) panic(`Xen BUG at drivers/passthrough/ats.c: ${formatSbdf(pdev.sbdf)}`);
  const control = amd.s.confRead(pdev.sbdf, pos + ATS_REG_CTL, 2);
  if ((control & ATS_ENABLE) !== 0 && unit.atsDevices.includes(pdev)) return;
  if ((control & ATS_ENABLE) === 0) amd.s.confWrite(pdev.sbdf, pos + ATS_REG_CTL, 2, control | ATS_ENABLE);
  pdev.atsCapPos = pos;
  pdev.atsEnabled = true;
  const depth = amd.s.confRead(pdev.sbdf, pos + ATS_REG_CAP, 2) & ATS_QUEUE_DEPTH_MASK;
  pdev.atsQueueDepth = depth === 0 ? ATS_QUEUE_DEPTH_MASK + 1 : depth;
  unit.atsDevices.unshift(pdev);
}

/** @xen disable_ats_device */
export function disableAtsDevice(amd: AmdVi, pdev: Pdev, unit: AmdUnit): void {
  const capPos = pdev.atsCapPos;
  if (capPos === 0) panic('Xen BUG at drivers/passthrough/ats.c');
  const control = amd.s.confRead(pdev.sbdf, capPos + ATS_REG_CTL, 2);
  amd.s.confWrite(pdev.sbdf, capPos + ATS_REG_CTL, 2, control & ~ATS_ENABLE);
  pdev.atsEnabled = false;
  const at = unit.atsDevices.indexOf(pdev);
  if (at >= 0) unit.atsDevices.splice(at, 1);
}
