/** Finding out what a unit can do. @xen drivers/passthrough/vtd/iommu.c iommu_alloc */
import { E, type Rc } from '../../../base/errno.js';
import { get } from '../../../base/layout.js';
import { DOMID } from '../../../sim/frames.js';
import type { MmioDevice } from '../../../sim/mmio.js';
import { CAP, ECAP, VTD_REG } from '../../format/vtd.js';
import { iommuInitDomid } from '../domid.js';
import { type CpuFacts, XENLOG } from '../types.js';
import { convertDomid, initDomidMap } from './did.js';
import { hasRegisterBasedInvalidation } from './qinval.js';
import { type DrhdUnit, hexq, regVirtual, VTDPREFIX, type Vtd, VtdIommu } from './state.js';
import { printIommuRegs } from './utils.js';

/** What answers where no unit is: the bus aborts, and reads return ones. */
class NoDevice implements MmioDevice {
  read32(): number {
    return 0xffff_ffff;
  }
  write32(): void {}
  write64(): void {}
}

function decode(iommu: VtdIommu): void {
  const caps = new Int32Array([iommu.capLo, iommu.capHi, iommu.ecapLo, iommu.ecapHi]);
  iommu.ndoms = 1 << (4 + 2 * get(caps, 0, CAP.ND));
  iommu.cachingMode = get(caps, 0, CAP.CM) === 1;
  iommu.readDrain = get(caps, 0, CAP.DRD) === 1;
  iommu.writeDrain = get(caps, 0, CAP.DWD) === 1;
  iommu.drain = (iommu.writeDrain ? 0x40 : 0) | (iommu.readDrain ? 0x80 : 0);
  iommu.pageSelective = get(caps, 0, CAP.PSI) === 1;
  iommu.maxAmask = get(caps, 0, CAP.MAMV);
  iommu.sagaw = get(caps, 0, CAP.SAGAW);
  iommu.rwbf = get(caps, 0, CAP.RWBF) === 1;
  iommu.faultRegs = get(caps, 0, CAP.NFR) + 1;
  iommu.faultRegOffset = (get(caps, 0, CAP.FRO_HI) * 256 + get(caps, 0, CAP.FRO_LO)) * 16;
  iommu.sps2m = (get(caps, 0, CAP.SLLPS) & 1) === 1;
  iommu.sps1g = (get(caps, 0, CAP.SLLPS) & 2) === 2;
  iommu.queuedInval = get(caps, 2, ECAP.QI) === 1;
  iommu.devIotlb = get(caps, 2, ECAP.DT) === 1;
  iommu.intrRemap = get(caps, 2, ECAP.IR) === 1;
  iommu.intrPost = get(caps, 0, CAP.PI) === 1;
  iommu.eim = get(caps, 2, ECAP.EIM) === 1;
  iommu.passThrough = get(caps, 2, ECAP.PT) === 1;
  iommu.snoopControl = get(caps, 2, ECAP.SC) === 1;
  iommu.coherent = get(caps, 2, ECAP.C) === 1;
  iommu.iotlbOffset = get(caps, 2, ECAP.IRO) * 16;
}

function readCapabilities(iommu: VtdIommu): void {
  iommu.capLo = iommu.reg.read32(VTD_REG.CAP) | 0;
  iommu.capHi = iommu.reg.read32(VTD_REG.CAP + 4) | 0;
  iommu.ecapLo = iommu.reg.read32(VTD_REG.ECAP) | 0;
  iommu.ecapHi = iommu.reg.read32(VTD_REG.ECAP + 4) | 0;
  iommu.version = iommu.reg.read32(VTD_REG.VER);
  decode(iommu);
}

/** Makes `drhd.iommu`. @returns -ENODEV for what is no unit, or one that Xen cannot drive. @xen iommu_alloc */
export function iommuAlloc(vtd: Vtd, drhd: DrhdUnit): Rc {
  const { s, opts } = vtd;
  const region = s.mmio.find(drhd.address);
  const reg = region !== undefined && region.base === drhd.address ? region.device : new NoDevice();
  const iommu = new VtdIommu(vtd, drhd, vtd.nrIommus++, reg);
  readCapabilities(iommu);
  if (!opts.qinval && !hasRegisterBasedInvalidation(iommu)) {
    s.printk(XENLOG.WARNING, `${VTDPREFIX}IOMMU ${iommu.index}: cannot disable Queued Invalidation`);
    opts.qinval = true;
  }
  if (opts.verbose) {
    const address = drhd.address.toString(16);
    s.printk(XENLOG.WARNING, `${VTDPREFIX}drhd->address = ${address} iommu->reg = ${regVirtual(iommu)}`);
    const cap = hexq(iommu.capLo, iommu.capHi);
    s.printk(XENLOG.WARNING, `${VTDPREFIX}cap = ${cap} ecap = ${hexq(iommu.ecapLo, iommu.ecapHi)}`);
  }
  const ones = (lo: number, hi: number): boolean => (lo & hi) === -1;
  if (ones(iommu.capLo, iommu.capHi) || ones(iommu.ecapLo, iommu.ecapHi)) return E.NODEV;

  quirkIommuCaps(s.cpu, iommu);
  if (!isSupported(iommu)) {
    s.printk(XENLOG.ERR, `${VTDPREFIX}IOMMU: unsupported`);
    printIommuRegs(iommu);
    return E.NODEV;
  }
  const rc = choosePtLevels(vtd, iommu);
  if (rc !== 0) return rc;
  if (!iommu.coherent) opts.nonCoherent = true;
  initDomidMap(iommu);
  // Full-width ids in caching mode: the pseudo id whose complement is 0 stays unused.
  const reserved = iommu.domidMap === undefined ? convertDomid(iommu, 0) : 0;
  iommu.pseudoDomids = iommuInitDomid(reserved === 0 ? DOMID.INVALID : reserved);
  drhd.iommu = iommu;
  return 0;
}

/** Units of Sandy Bridge say that they have superpages, and do not. @xen drivers/passthrough/vtd/quirks.c quirk_iommu_caps */
function quirkIommuCaps(cpu: CpuFacts, iommu: VtdIommu): void {
  if (cpu.vendor !== 'intel' || !SANDY_BRIDGE.includes(cpu.intelModel ?? 0)) return;
  iommu.sps2m = false;
  iommu.sps1g = false;
}
const SANDY_BRIDGE: readonly number[] = [0x2a, 0x2d];

const isSupported = (iommu: VtdIommu): boolean =>
  iommu.faultRegOffset + iommu.faultRegs * 16 <= 4096 &&
  iommu.ndoms <= 0x1_0000 &&
  !(hasRegisterBasedInvalidation(iommu) && iommu.iotlbOffset >= 4096);

/** Three or four levels, whichever is more. */
function choosePtLevels(vtd: Vtd, iommu: VtdIommu): Rc {
  const { sagaw } = iommu;
  if ((sagaw & 6) === 0) {
    vtd.s.printk(XENLOG.ERR, `${VTDPREFIX}IOMMU: unsupported sagaw ${sagaw.toString(16)}`);
    printIommuRegs(iommu);
    return E.NODEV;
  }
  if (sagaw >> 3 !== 0) {
    const also = vtd.opts.hwdomPassthrough ? ', disabling passthrough' : '';
    if (!vtd.sagawWarned) {
      vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} Unhandled bits in SAGAW 0x${sagaw.toString(16)}${also}`);
    }
    vtd.sagawWarned = true;
    vtd.opts.hwdomPassthrough = false;
  }
  iommu.nrPtLevels = (sagaw & 4) !== 0 ? 4 : 3;
  vtd.minPtLevels = Math.min(vtd.minPtLevels, iommu.nrPtLevels);
  return 0;
}
