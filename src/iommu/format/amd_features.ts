/** Extended feature register of an AMD IOMMU (48882, 3.4.6) and its PCI capability (3.2). Bits only. */
import { bits, type Layout } from '../../base/layout.js';

/** In the order in which Xen lists them, which is the manual's from bit 0. */
export const EXT_FEATURE = {
  PREF_SUP: bits(0, 0),
  PPR_SUP: bits(0, 1),
  XT_SUP: bits(0, 2),
  NX_SUP: bits(0, 3),
  GT_SUP: bits(0, 4),
  GAPPI_SUP: bits(0, 5),
  IA_SUP: bits(0, 6),
  GA_SUP: bits(0, 7),
  HE_SUP: bits(0, 8),
  PC_SUP: bits(0, 9),
  HATS: bits(0, 11, 10), // Host Address Translation Size: levels - 4
  GATS: bits(0, 13, 12),
  GLX_SUP: bits(0, 15, 14),
  SMIF_SUP: bits(0, 17, 16),
  SMIF_RC: bits(0, 20, 18),
  GAM_SUP: bits(0, 23, 21),
  DUAL_PPR_LOG_SUP: bits(0, 25, 24),
  DUAL_EVENT_LOG_SUP: bits(0, 29, 28),
  SATS_SUP: bits(0, 31),
  PAS_MAX: bits(1, 4, 0),
  US_SUP: bits(1, 5),
  DEV_TBL_SEG_SUP: bits(1, 7, 6),
  PPR_EARLY_OF_SUP: bits(1, 8),
  PPR_AUTO_RSP_SUP: bits(1, 9),
  MARC_SUP: bits(1, 11, 10),
  BLK_STOP_MRK_SUP: bits(1, 12),
  PERF_OPT_SUP: bits(1, 13),
  MSI_CAP_MMIO_SUP: bits(1, 14),
  GIO_SUP: bits(1, 16),
  HA_SUP: bits(1, 17),
  EPH_SUP: bits(1, 18),
  ATTR_FW_SUP: bits(1, 19),
  HD_SUP: bits(1, 20),
  INV_IOTLB_TYPE_SUP: bits(1, 22),
  VIOMMU_SUP: bits(1, 23),
  VM_GUARD_IO_SUP: bits(1, 24),
  VM_TABLE_SIZE: bits(1, 28, 25),
  GA_UPDATE_DIS_SUP: bits(1, 29),
} as const satisfies Layout;

/** The `IOMMU Attributes` of an IVHD of type 10h, where the table says EFRSup (5.2.2.1). */
export const IVHD_ATTR = {
  HATS: bits(0, 31, 30),
  GATS: bits(0, 29, 28),
  PAS_MAX: bits(0, 12, 8),
  HE_SUP: bits(0, 7),
  GA_SUP: bits(0, 6),
  IA_SUP: bits(0, 5),
  GLX_SUP: bits(0, 4, 3),
  GT_SUP: bits(0, 2),
  NX_SUP: bits(0, 1),
  XT_SUP: bits(0, 0),
} as const satisfies Layout;

/** Capability header (3.2.1): first word of the capability block in config space. */
export const CAP_HEADER = {
  EFR_SUP: bits(0, 27),
  NP_CACHE: bits(0, 26),
  HT_TUNNEL: bits(0, 25),
  IOTLB: bits(0, 24),
  CAP_REV: bits(0, 23, 19),
  CAP_TYPE: bits(0, 18, 16),
  NEXT_PTR: bits(0, 15, 8),
  CAP_ID: bits(0, 7, 0),
} as const satisfies Layout;
/** CAP_HEADER.CAP_TYPE of an IOMMU. */
export const CAP_TYPE_IOMMU = 3;
