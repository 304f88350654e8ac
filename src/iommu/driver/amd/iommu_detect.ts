/** A unit from its IVHD, its PCI capability and its feature register. @xen drivers/passthrough/amd/iommu_detect.c */
import { E, type Rc } from '../../../base/errno.js';
import { type Field, get } from '../../../base/layout.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { AMD_REG } from '../../format/amd.js';
import { CAP_HEADER, CAP_TYPE_IOMMU, EXT_FEATURE, IVHD_ATTR } from '../../format/amd_features.js';
import { IVHD_TYPE, IVRS_INFO } from '../../format/ivrs.js';
import { iommuInitDomid } from '../domid.js';
import { XENLOG } from '../types.js';
import { AmdUnit, type AmdVi, amdDebug, amdError, hash, say } from './state.js';
import { BLOCK, u8, u16, u32, u64 } from './table_bytes.js';

const PCI_CAP_ID_MSI = 5;
/** Of the longer form, which is asked for whatever the type. @xen sizeof(struct acpi_ivrs_hardware) */
const IVHD_BYTES = 40;

/** Makes a unit of the IVHD at `at`, if config space agrees. @xen amd_iommu_detect_one_acpi */
export function* amdIommuDetectOneAcpi(amd: AmdVi, at: number): Co<Rc> {
  const t = amd.table;
  if (u16(t, at + BLOCK.LENGTH) < IVHD_BYTES) {
    amdError(amd, 'invalid IVHD block length');
    return E.NODEV;
  }
  const bdf = u16(t, at + BLOCK.DEVICE_ID);
  const capOffset = u16(t, at + 6);
  const base = u64(t, at + 8);
  if (bdf === 0 || capOffset === 0 || base === 0) {
    amdError(amd, 'invalid IVHD block');
    return E.NODEV;
  }
  const seg = u16(t, at + 16);
  const unit = new AmdUnit(amd.s, amd.units.length, seg, bdf, capOffset, base, u8(t, at + BLOCK.FLAGS));
  featuresFromTable(amd, unit, at);
  const sbdf = sbdfOf(seg, bdf);
  unit.capHeader = amd.s.confRead(sbdf, capOffset, 4) | 0;
  if (((unit.capHeader >>> CAP_HEADER.CAP_TYPE.lo) & CAP_HEADER.CAP_TYPE.mask) !== CAP_TYPE_IOMMU)
    return E.NODEV;
  unit.msiPos = amd.s.pciFindCap(sbdf, PCI_CAP_ID_MSI);
  if (unit.msiPos === 0) return E.NODEV;
  amdDebug(amd, `Found MSI capability block at ${hash(unit.msiPos)}`);
  if (amd.opts.quarantine !== 'none') unit.domidMap = iommuInitDomid(DOMID.INVALID);
  const rc = yield* amd.s.pciRoDevice(sbdf);
  if (rc !== 0)
    amd.s.printk(XENLOG.ERR, `Could not mark config space of ${formatSbdf(sbdf)} read-only (${rc})`);
  amd.units.push(unit);
  return 0;
}

/** What the IVHD says of the unit's features; type 10h has only a digest of them. */
function featuresFromTable(amd: AmdVi, unit: AmdUnit, at: number): void {
  const t = amd.table;
  const f = unit.features;
  const efrSup = (amd.acpiInfo & IVRS_INFO.EFR_SUP) !== 0;
  if (amd.ivhdType !== IVHD_TYPE.BASIC) {
    f[0] = u32(t, at + 24);
    f[1] = u32(t, at + 28);
  } else if (efrSup) {
    const attr = Int32Array.of(u32(t, at + 20));
    const copy = (from: Field, to: Field): void => {
      f[to.word] = f[to.word]! | (get(attr, 0, from) << to.lo);
    };
    copy(IVHD_ATTR.XT_SUP, EXT_FEATURE.XT_SUP);
    copy(IVHD_ATTR.NX_SUP, EXT_FEATURE.NX_SUP);
    copy(IVHD_ATTR.GT_SUP, EXT_FEATURE.GT_SUP);
    copy(IVHD_ATTR.GLX_SUP, EXT_FEATURE.GLX_SUP);
    copy(IVHD_ATTR.IA_SUP, EXT_FEATURE.IA_SUP);
    copy(IVHD_ATTR.GA_SUP, EXT_FEATURE.GA_SUP);
    copy(IVHD_ATTR.PAS_MAX, EXT_FEATURE.PAS_MAX);
    copy(IVHD_ATTR.GATS, EXT_FEATURE.GATS);
    copy(IVHD_ATTR.HATS, EXT_FEATURE.HATS);
  } else if (amd.units.length === 0)
    amdDebug(amd, 'EFRSup not set in ACPI table; will fall back to hardware');
  if (efrSup) limitLevels(amd, unit);
}

function limitLevels(amd: AmdVi, unit: AmdUnit): void {
  amd.maxPagingMode = Math.min(amd.maxPagingMode, 4 + get(unit.features, 0, EXT_FEATURE.HATS));
}

/** Reads the feature register where the table did not tell, and lists what it says. @xen get_iommu_features */
export function getIommuFeatures(amd: AmdVi, unit: AmdUnit): void {
  const f = unit.features;
  if ((amd.acpiInfo & IVRS_INFO.EFR_SUP) === 0) {
    if ((unit.capHeader & (1 << CAP_HEADER.EFR_SUP.lo)) === 0) return;
    f[0] = unit.mmio.read32(AMD_REG.EXT_FEATURE);
    f[1] = unit.mmio.read32(AMD_REG.EXT_FEATURE + 4);
    limitLevels(amd, unit);
  }
  const first = amd.units[0]!;
  if (unit !== first && f[0] === first.features[0] && f[1] === first.features[1]) return;
  say(amd, 'AMD-Vi: IOMMU Extended Features:');
  const gt = get(f, 0, EXT_FEATURE.GT_SUP) === 1;
  for (const [field, text, needsGt] of FEATURES) {
    if (needsGt === true && !gt) continue;
    const value = get(f, 0, field);
    if (field.mask > 1) say(amd, `- ${text}: ${hash(value)}`);
    else if (value === 1) say(amd, `- ${text}`);
  }
}

/** In the order of the list; the third column marks what only guest translation makes meaningful. */
const FEATURES: readonly (readonly [Field, string, boolean?])[] = [
  [EXT_FEATURE.PREF_SUP, 'Prefetch Pages Command'],
  [EXT_FEATURE.PPR_SUP, 'Peripheral Page Service Request'],
  [EXT_FEATURE.XT_SUP, 'x2APIC'],
  [EXT_FEATURE.NX_SUP, 'NX bit'],
  [EXT_FEATURE.GAPPI_SUP, 'Guest APIC Physical Processor Interrupt'],
  [EXT_FEATURE.IA_SUP, 'Invalidate All Command'],
  [EXT_FEATURE.GA_SUP, 'Guest APIC'],
  [EXT_FEATURE.HE_SUP, 'Hardware Error Registers'],
  [EXT_FEATURE.PC_SUP, 'Performance Counters'],
  [EXT_FEATURE.HATS, 'Host Address Translation Size'],
  [EXT_FEATURE.GATS, 'Guest Address Translation Size', true],
  [EXT_FEATURE.GLX_SUP, 'Guest CR3 Root Table Level', true],
  [EXT_FEATURE.PAS_MAX, 'Maximum PASID', true],
  [EXT_FEATURE.SMIF_SUP, 'SMI Filter Register'],
  [EXT_FEATURE.SMIF_RC, 'SMI Filter Register Count'],
  [EXT_FEATURE.GAM_SUP, 'Guest Virtual APIC Modes'],
  [EXT_FEATURE.DUAL_PPR_LOG_SUP, 'Dual PPR Log'],
  [EXT_FEATURE.DUAL_EVENT_LOG_SUP, 'Dual Event Log'],
  [EXT_FEATURE.SATS_SUP, 'Secure ATS'],
  [EXT_FEATURE.US_SUP, 'User / Supervisor Page Protection'],
  [EXT_FEATURE.DEV_TBL_SEG_SUP, 'Device Table Segmentation'],
  [EXT_FEATURE.PPR_EARLY_OF_SUP, 'PPR Log Overflow Early Warning'],
  [EXT_FEATURE.PPR_AUTO_RSP_SUP, 'PPR Automatic Response'],
  [EXT_FEATURE.MARC_SUP, 'Memory Access Routing and Control'],
  [EXT_FEATURE.BLK_STOP_MRK_SUP, 'Block StopMark Message'],
  [EXT_FEATURE.PERF_OPT_SUP, 'Performance Optimization'],
  [EXT_FEATURE.MSI_CAP_MMIO_SUP, 'MSI Capability MMIO Access'],
  [EXT_FEATURE.GIO_SUP, 'Guest I/O Protection'],
  [EXT_FEATURE.HA_SUP, 'Host Access'],
  [EXT_FEATURE.EPH_SUP, 'Enhanced PPR Handling'],
  [EXT_FEATURE.ATTR_FW_SUP, 'Attribute Forward'],
  [EXT_FEATURE.HD_SUP, 'Host Dirty'],
  [EXT_FEATURE.INV_IOTLB_TYPE_SUP, 'Invalidate IOTLB Type'],
  [EXT_FEATURE.VIOMMU_SUP, 'Virtualized IOMMU'],
  [EXT_FEATURE.VM_GUARD_IO_SUP, 'VMGuard I/O Support'],
  [EXT_FEATURE.VM_TABLE_SIZE, 'VM Table Size'],
  [EXT_FEATURE.GA_UPDATE_DIS_SUP, 'Guest Access Bit Update Disable'],
];
