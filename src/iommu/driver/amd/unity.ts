/** Unity maps in domains, and their report to the toolstack. @xen drivers/passthrough/amd/iommu_map.c */
import { E, type Rc } from '../../../base/errno.js';
import { sbdfOf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import type { GrdmFn, IommuDomain, P2mAccess } from '../types.js';
import type { UnityMap } from './ivrs_mappings.js';
import { findIommuForDevice } from './requestor.js';
import { type AmdVi, getIvrsMappings } from './state.js';

const PAGE = 4096;
const ACCESS: readonly P2mAccess[] = ['n', 'r', 'w', 'rw'];

/** d[IO] is exempt, except while a quarantine table is being made in its name. @xen amd_iommu_reserve_domain_unity_map */
export function* amdIommuReserveDomainUnityMap(
  amd: AmdVi,
  d: IommuDomain,
  maps: readonly UnityMap[],
  flag: number,
): Co<Rc> {
  if (d === amd.s.domIo && (d.iommu.rootMfn === 0 || amd.seams.amdQuarantineLosesUnity())) return 0;
  for (let i = 0; i < maps.length; i++) {
    const m = maps[i]!;
    const access = ACCESS[(m.read ? 1 : 0) + (m.write ? 2 : 0)]!;
    const rc = yield* amd.s.identityMapping(d, access, m.addr / PAGE, lastFrame(m), flag);
    if (rc !== 0) return rc;
  }
  return 0;
}

/** Goes on after an error; what was not mapped is none. @xen amd_iommu_reserve_domain_unity_unmap */
export function* amdIommuReserveDomainUnityUnmap(
  amd: AmdVi,
  d: IommuDomain,
  maps: readonly UnityMap[],
): Co<Rc> {
  if (d === amd.s.domIo) return 0;
  let rc = 0;
  for (let i = 0; i < maps.length; i++) {
    const m = maps[i]!;
    const ret = yield* amd.s.identityMapping(d, 'x', m.addr / PAGE, lastFrame(m), 0);
    if (ret !== 0 && ret !== E.NOENT && rc === 0) rc = ret;
  }
  return rc;
}

const lastFrame = (m: UnityMap): number => (m.addr + m.length) / PAGE - 1;

/**
 * Each reserved range with each device it concerns. `fn` with a count of 0 asks whether the device is of interest.
 * Ranges for all devices are told once. @xen amd_iommu_get_reserved_device_memory
 */
export function amdIommuGetReservedDeviceMemory(amd: AmdVi, fn: GrdmFn): Rc {
  const ivrs = getIvrsMappings(amd, 0);
  if (ivrs === undefined) return 0;
  let global: 'pending' | 'processing' | 'done' = 'pending';
  for (let bdf = 0; bdf < amd.ivrsBdfEntries; bdf++) {
    const sbdf = sbdfOf(0, bdf);
    let unit = amd.units[ivrs.unit(bdf)];
    if (unit === undefined) {
      if (amd.s.pciGetPdev(sbdf) !== undefined) unit = findIommuForDevice(amd, 0, bdf);
      if (unit === undefined) continue;
    }
    const req = ivrs.requestor[bdf]!;
    if (fn(0, 0, sbdf) !== 0) {
      // With all devices asked for, those that share an alias are told of once.
      if (bdf !== req && ivrs.unit(req) >= 0 && fn(0, 0, sbdfOf(0, req)) !== 0) continue;
      if (global === 'pending') global = 'processing';
    }
    const x = unit.exclusion;
    if (x.enable && (x.allowAll ? global === 'processing' : ivrs.allowExclusion(bdf))) {
      const first = Math.floor(x.base / PAGE);
      const rc = fn(first, Math.floor(x.limit / PAGE) + 1 - first, sbdf);
      if (rc < 0) return rc;
    }
    for (const m of ivrs.unityMaps(bdf)) {
      if (m.global && global !== 'processing') continue;
      const rc = fn(m.addr / PAGE, m.length / PAGE, sbdf);
      if (rc < 0) return rc;
    }
    if (global === 'processing') global = 'done';
  }
  return 0;
}
