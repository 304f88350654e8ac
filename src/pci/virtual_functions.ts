/** Virtual functions: what appears when software sets VF Enable (PCIe 9.3.3.3.1). */
import { get } from '../base/layout.js';
import { type PciBus, PciFunction } from './function.js';
import * as R from './registers.js';

/** The functions that `pf` shows with its present NumVFs and VF Enable; none while VF Enable is clear. */
export function virtualFunctions(pf: PciFunction, bus: PciBus): PciFunction[] {
  if (pf.field(pf.sriov, R.SRIOV_VF_ENABLE) === 0) return [];
  const count = Math.min(pf.field(pf.sriov, R.SRIOV_NUM_VFS), pf.field(pf.sriov, R.SRIOV_TOTAL_VFS));
  const config = vfConfig(pf);
  const barBytes = [7, 8, 9, 10, 11, 12].map((i) => pf.init.barBytes?.[i] ?? 0);
  return Array.from(
    { length: count },
    (_, i) =>
      new PciFunction({ sbdf: pf.sbdf, config, barBytes: [0, 0, 0, 0, 0, 0, 0, ...barBytes] }, bus, pf, i),
  );
}

/**
 * A virtual function's space: no ids of its own (PCIe 9.3.4.1.1), no base address registers, and of the capabilities
 * those that every function must have for itself: PCI Express and MSI-X.
 */
function vfConfig(pf: PciFunction): Uint8Array {
  const from = pf.config.words;
  const words = new Int32Array(1024);
  words[0] = -1;
  words[2] = from[2]!;
  words[11] = from[11]!;
  let last = 13;
  let shift = 0;
  for (const cap of pf.config.capabilities) {
    if (cap.extended || (cap.id !== R.CAP.EXP && cap.id !== R.CAP.MSIX)) continue;
    const at = cap.offset >>> 2;
    const length = cap.id === R.CAP.EXP ? 15 : 3;
    for (let w = 0; w < length && at + w < from.length; w++) words[at + w] = from[at + w]!;
    words[at] = words[at]! & ~0xff00;
    // The pointer before it, in the header or in the capability before.
    words[last] = words[last]! | (cap.offset << shift);
    last = at;
    shift = 8;
    words[1] = R.STATUS_CAP_LIST << 16;
    if (cap.id === R.CAP.MSIX) words[at] = words[at]! & 0x3fff_ffff;
    else if (get(words, at, R.EXP_PORT_TYPE) !== 0) words[at] = words[at]! & ~(0xf << 20);
  }
  const bytes = new Uint8Array(4096);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (words[i >>> 2]! >>> ((i & 3) * 8)) & 0xff;
  return bytes;
}
