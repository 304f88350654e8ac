/** What a dump of a running machine shows that power-on does not. */
import { KnownBy } from '../base/same.js';
import type { FunctionDescription } from './host_description.js';

const CAP_MSI = 0x05;
const CAP_MSIX = 0x11;
const EXT_CAP_SRIOV = 0x10;
/** VF Enable and VF MSE. */
const VFS_ON = 0x09;
/** Capabilities fit between 0x40 and 0xff, four bytes each at least; extended ones between 0x100 and 0xfff. */
const CHAIN_MAX = 48;
const EXT_CHAIN_MAX = 480;

/** Offset of a capability in 256 bytes of config space, 0 when there is none. */
function findCap(config: Uint8Array, id: number): number {
  if (config.length < 256 || (config[6]! & 0x10) === 0) return 0;
  let at = config[0x34]! & 0xfc;
  for (let n = 0; n < CHAIN_MAX && at >= 0x40; n++) {
    if (config[at] === id) return at;
    at = config[at + 1]! & 0xfc;
  }
  return 0;
}

/** Offset of the SR-IOV capability, 0 when there is none, or when its registers are cut off. */
export function findSriov(config: Uint8Array): number {
  let at = 0x100;
  for (let n = 0; n < EXT_CHAIN_MAX && at >= 0x100 && at + 0x40 <= config.length; n++) {
    if (config[at]! + config[at + 1]! * 256 === EXT_CAP_SRIOV) return at;
    at = ((config[at + 2]! >>> 4) | (config[at + 3]! << 4)) & 0xffc;
  }
  return 0;
}

/** NumVFs. */
function virtualFunctions(config: Uint8Array, sriov: number): number {
  return config[sriov + 0x10]! + config[sriov + 0x11]! * 256;
}

const known = new KnownBy((functions: readonly FunctionDescription[]) => functions.map(poweredOn));

/** All functions of a machine that has just been switched on. */
export const allPoweredOn = (functions: readonly FunctionDescription[]): readonly FunctionDescription[] =>
  known.of(functions);

/**
 * The function as it is before any driver ran: no message-signalled interrupts enabled (PCI 3.0, 6.8), and no virtual
 * functions (PCIe 9.3.3.3, 9.3.3.7). ARI, which Linux enables as it
 * scans, here and in the ports, is as in the dump. Returns the same object when nothing has to change.
 */
export function poweredOn(f: FunctionDescription): FunctionDescription {
  const msi = findCap(f.config, CAP_MSI);
  const msix = findCap(f.config, CAP_MSIX);
  const sriov = findSriov(f.config);
  const msiOn = msi !== 0 && (f.config[msi + 2]! & 1) !== 0;
  const msixOn = msix !== 0 && (f.config[msix + 3]! & 0xc0) !== 0;
  const vfsOn =
    sriov !== 0 && ((f.config[sriov + 8]! & VFS_ON) !== 0 || virtualFunctions(f.config, sriov) > 0);
  if (!msiOn && !msixOn && !vfsOn) return f;
  const config = f.config.slice();
  if (msiOn) config[msi + 2] = config[msi + 2]! & ~1;
  if (msixOn) config[msix + 3] = config[msix + 3]! & ~0xc0;
  if (vfsOn) {
    config[sriov + 8] = config[sriov + 8]! & ~VFS_ON;
    config.fill(0, sriov + 0x10, sriov + 0x12);
  }
  return { ...f, config };
}
