/** From the IVRS to a driver, at the time Xen reads ACPI tables. @xen drivers/passthrough/amd/pci_amd_iommu.c acpi_ivrs_init */
import { E, type Errno } from '../../../base/errno.js';
import { runAlone } from '../../../sim/co.js';
import type { XenServices } from '../types.js';
import { AmdIommu } from './driver.js';
import { detectIommuAcpi, getSupportedIvhdType } from './ivrs_table.js';
import { AmdVi } from './state.js';

/**
 * Finds the units that the table describes; they are started by `setup()`. Boot has one CPU, so nothing waits.
 * @param table the IVRS, header included
 * @returns the driver, or -ENODEV when Xen cannot use the table
 */
export function acpiIvrsInit(services: XenServices, table: Uint8Array): AmdIommu | Errno {
  const amd = new AmdVi(services, table);
  const type = getSupportedIvhdType(amd);
  if (type < 0) return E.NODEV;
  amd.ivhdType = type;
  if (runAlone(detectIommuAcpi(amd)) !== 0 || amd.units.length === 0) return E.NODEV;
  return new AmdIommu(amd);
}
