/** A page table of its own for a quarantined device. @xen drivers/passthrough/amd/iommu_map.c */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import type { Pdev } from '../types.js';
import { setIommuPdePresent } from './iommu_map.js';
import { getDmaRequestorId } from './requestor.js';
import { type AmdVi, amdWarn, getIvrsMappings } from './state.js';
import { amdIommuReserveDomainUnityMap } from './unity.js';

const IR_IW = (1 << 29) | (1 << 30);

/**
 * Makes every empty entry of a table lead to one page: one table per level, each entry of it alike. Levels count from
 * 0, the leaf page, upwards; `pages` holds the frame of each, 0 while there is none. @xen fill_qpt
 */
function fillQpt(amd: AmdVi, table: number, level: number, pages: number[]): Rc {
  for (let i = 0; i < 512; i++) {
    const at = amd.s.ram.peek(table) * FRAME_WORDS + i * 2;
    const lo = amd.s.ram.words[at]!;
    const next = (lo >>> 9) & 7;
    if ((lo & 1) === 0) {
      if (pages[level] === 0) {
        const fresh = amd.s.allocPgtable(amd.s.domIo);
        if (fresh === 0) return E.NOMEM;
        pages[level] = fresh;
        const rc = level > 0 ? fillQpt(amd, fresh, level - 1, pages) : 0;
        setIommuPdePresent(amd, table, i, fresh, level, IR_IW);
        if (rc !== 0) return rc;
      } else setIommuPdePresent(amd, table, i, pages[level]!, level, IR_IW);
    } else if (level > 0 && next !== 0) {
      const below = (amd.s.ram.words[at + 1]! & 0xf_ffff) * 0x10_0000 + (lo >>> 12);
      const rc = fillQpt(amd, below, level - 1, pages);
      if (rc !== 0) return rc;
    }
  }
  return 0;
}

/**
 * Before a device enters quarantine: nothing to do in basic mode without unity maps; else its table is made, or its
 * page cleared when it has been here before. @xen amd_iommu_quarantine_init
 */
export function* amdIommuQuarantineInit(amd: AmdVi, pdev: Pdev, scratchPage: boolean): Co<Rc> {
  const { domIo } = amd.s;
  const hd = domIo.iommu;
  const ivrs = getIvrsMappings(amd, pdev.seg)!;
  const reserved = amd.seams.amdQuarantineMapsReserved();
  const maps = reserved ? ivrs.unityMaps(getDmaRequestorId(ivrs, pdev.sbdf & 0xffff)) : [];
  assert(amd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  assert(hd.rootMfn === 0 && hd.pgtables.length === 0, 'd[IO] has no table of its own');
  if (!scratchPage && maps.length === 0) return 0;
  assert(pdev.arch.pseudoDomid !== DOMID.INVALID, 'a quarantined device has a pseudo domain id');

  if (pdev.arch.rootMfn !== 0) {
    if (pdev.arch.leafMfn !== 0 || amd.seams.amdClearsFrameZero()) amd.s.ram.clearFrame(pdev.arch.leafMfn);
    return 0;
  }
  pdev.arch.rootMfn = amd.s.allocPgtable(domIo);
  if (pdev.arch.rootMfn === 0) return E.NOMEM;

  // d[IO] has the table for a moment, for the identity mapping to work on.
  hd.rootMfn = pdev.arch.rootMfn;
  let rc = yield* amdIommuReserveDomainUnityMap(amd, domIo, maps, 0);
  amd.s.identityMapTeardown(domIo);
  hd.rootMfn = 0;

  if (rc !== 0) amdWarn(amd, `${formatSbdf(pdev.sbdf)}: quarantine unity mapping failed`);
  else if (scratchPage) {
    const pages = [0, 0, 0, 0, 0, 0];
    rc = fillQpt(amd, pdev.arch.rootMfn, amd.seams.amdQuarantineLevels(hd.pagingMode) - 1, pages);
    pdev.arch.leafMfn = pages[0]!;
  }
  pdev.arch.pgtables.push(...hd.pgtables.splice(0));
  if (rc !== 0) yield* amdIommuQuarantineTeardown(amd, pdev);
  return rc;
}

/** @xen amd_iommu_quarantine_teardown */
export function* amdIommuQuarantineTeardown(amd: AmdVi, pdev: Pdev): Co<void> {
  const { domIo } = amd.s;
  assert(amd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (pdev.arch.rootMfn === 0) return;
  assert(domIo.iommu.pgtables.length === 0, 'd[IO] has no table of its own');
  domIo.iommu.pgtables.push(...pdev.arch.pgtables.splice(0));
  let rc: Rc;
  do rc = yield* amd.s.freePgtables(domIo);
  while (rc === E.RESTART);
  pdev.arch.rootMfn = 0;
  pdev.arch.leafMfn = 0;
}
