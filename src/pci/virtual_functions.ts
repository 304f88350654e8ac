/** Virtual functions: what appears when software sets VF Enable (PCIe 9.3.3.3.1). */
import type { Capability } from './capabilities.js';
import { type PciBus, PciFunction } from './function.js';
import * as R from './registers.js';

/** The functions that `pf` shows with its present NumVFs and VF Enable; none while VF Enable is clear. */
export function virtualFunctions(pf: PciFunction, bus: PciBus): readonly PciFunction[] {
  if (pf.field(pf.sriov, R.SRIOV_VF_ENABLE) === 0) return [];
  const count = Math.min(pf.field(pf.sriov, R.SRIOV_NUM_VFS), pf.field(pf.sriov, R.SRIOV_TOTAL_VFS));
  const config = vfConfig(pf);
  return Array.from({ length: count }, (_, i) => new PciFunction({ sbdf: pf.sbdf, config }, bus, pf, i));
}

/** Words of a capability that a virtual function has too, 0 for others. */
function lengthOf(cap: Capability): number {
  if (cap.extended) return cap.id === R.EXT_CAP.ARI && cap.offset === 0x100 ? 2 : 0;
  return cap.id === R.CAP.EXP ? 15 : cap.id === R.CAP.MSIX ? 3 : cap.id === R.CAP.PM ? 2 : 0;
}

/**
 * A virtual function's space: no ids of its own (PCIe 9.3.4.1.1), no base address registers, and of the capabilities
 * those that every function has for itself: PCI Express, MSI-X, power management and ARI.
 */
function vfConfig(pf: PciFunction): Uint8Array {
  const from = pf.config.save();
  const words = new Int32Array(1024);
  words[0] = -1;
  words[2] = from[2]!;
  words[11] = from[11]!;
  let last = 13;
  let shift = 0;
  for (const cap of pf.config.capabilities) {
    const length = lengthOf(cap);
    if (length === 0) continue;
    const at = cap.offset >>> 2;
    for (let w = 0; w < length && at + w < from.length; w++) words[at + w] = from[at + w]!;
    // ARI is the only one of its list: it has to be at its beginning.
    if (cap.extended) {
      words[at] = words[at]! & 0xf_ffff;
      continue;
    }
    words[at] = words[at]! & ~0xff00;
    // The pointer before it, in the header or in the capability before.
    words[last] = words[last]! | (cap.offset << shift);
    last = at;
    shift = 8;
    words[1] = R.STATUS_CAP_LIST << 16;
    if (cap.id === R.CAP.MSIX) words[at] = words[at]! & 0x3fff_ffff;
    else if (cap.id === R.CAP.PM) words[at + 1] = words[at + 1]! & ~3;
  }
  const bytes = new Uint8Array(4096);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (words[i >>> 2]! >>> ((i & 3) * 8)) & 0xff;
  for (const { offset, value } of pf.init.virtual?.registers ?? []) bytes[offset] = value;
  return bytes;
}
