/**
 * A quarantined device's own table: its reserved ranges, and with scratch pages one page behind every other address.
 * @xen drivers/passthrough/vtd/iommu.c intel_iommu_quarantine_init, quarantine_teardown
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { getFrame } from '../../../base/layout.js';
import { formatSbdf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { type Pdev, XENLOG } from '../types.js';
import { cleanupDomidMap, contextSetDomainId } from './did.js';
import { acpiFindMatchedDrhdUnit } from './drhd.js';
import {
  allocTable,
  PTE_NUM,
  PTE_PROT,
  pteHi,
  pteLo,
  ptePresent,
  pteSuperpage,
  storePte,
  tableBase,
  tablePeek,
} from './pte.js';
import { rmrrCovers, rmrrMapping } from './rmrr.js';
import { type DrhdUnit, VTDPREFIX, type Vtd } from './state.js';

/** Levels of a 48-bit table. */
const LEVELS = 4;

/** Gives the pages of the device's own table back. @xen quarantine_teardown */
export function* quarantineTeardown(vtd: Vtd, pdev: Pdev, drhd: DrhdUnit | undefined): Co<void> {
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (pdev.arch.rootMfn === 0) return;
  const { domIo } = vtd.s;
  assert(domIo.iommu.pgtables.length === 0, 'd[IO] has no tables of its own');
  // The lists change places: the other one is empty.
  const none = domIo.iommu.pgtables;
  domIo.iommu.pgtables = pdev.arch.pgtables;
  pdev.arch.pgtables = none;
  while ((yield* vtd.s.freePgtables(domIo)) === E.RESTART);
  pdev.arch.rootMfn = 0;
  if (drhd !== undefined) cleanupDomidMap(drhd.iommu!, pdev.arch.pseudoDomid);
}

/**
 * Prepares the device's own table, or clears its scratch page when it has one already. Without reserved ranges and
 * scratch pages no table is kept: the entry will be absent.
 * @returns -ENODEV no unit, -ENOMEM, -EBUSY no id, or what mapping a reserved range returns.
 * @xen intel_iommu_quarantine_init
 */
export function* intelIommuQuarantineInit(vtd: Vtd, pdev: Pdev, scratchPage: boolean): Co<Rc> {
  const { s } = vtd;
  const hd = s.domIo.iommu;
  assert(s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  assert(hd.pgdMfn === 0 && hd.pgtables.length === 0, 'd[IO] has no tables of its own');
  const { arch } = pdev;
  if (arch.rootMfn !== 0) {
    // V5: without scratch pages there is no leaf, and the field still names frame 0.
    if (arch.leafMfn !== 0 || vtd.seams.vtdClearsUnsetLeaf()) s.ram.clearFrame(arch.leafMfn);
    return 0;
  }
  const drhd = acpiFindMatchedDrhdUnit(vtd, pdev);
  if (drhd === undefined) return E.NODEV;
  const root = allocTable(vtd, s.domIo, false);
  if (root === 0) return E.NOMEM;

  let rc = contextSetDomainId(vtd, undefined, arch.pseudoDomid, drhd.iommu!);
  let rmrrFound = false;
  // The root is lent to d[IO] for the time of mapping.
  hd.pgdMfn = root;
  for (let i = 0; i < vtd.rmrrs.length && rc === 0; i++) {
    const rmrr = vtd.rmrrs[i]!;
    if (!rmrrCovers(rmrr, pdev.seg, pdev.sbdf & 0xffff)) continue;
    if (!vtd.seams.vtdQuarantineMapsReserved()) continue;
    rmrrFound = true;
    rc = yield* rmrrMapping(vtd, s.domIo, 'rw', rmrr, 0);
    if (rc !== 0) {
      s.printk(XENLOG.ERR, `${VTDPREFIX}${formatSbdf(pdev.sbdf)}: RMRR quarantine mapping failed`);
    }
  }
  s.identityMapTeardown(s.domIo);
  hd.pgdMfn = 0;
  arch.rootMfn = root;

  if (rc === 0 && scratchPage) {
    const pages = [vtd.seams.vtdOwnScratchPage() ? 0 : leafOfAnother(vtd, pdev), 0, 0, 0];
    rc = fillQpt(vtd, root, LEVELS - 1, pages);
    if (vtd.opts.nonCoherent && vtd.seams.vtdWritesBackScratch())
      for (const mfn of hd.pgtables) s.syncCache(mfn, 0, FRAME_WORDS);
    arch.leafMfn = pages[0]!;
  }
  const none = arch.pgtables;
  assert(none.length === 0, 'a device without a table has no pages');
  arch.pgtables = hd.pgtables;
  hd.pgtables = none;
  if (rc !== 0 || (!scratchPage && !rmrrFound)) yield* quarantineTeardown(vtd, pdev, drhd);
  return rc;
}

/** The scratch page that another device of the segment has, 0 for none. */
function leafOfAnother(vtd: Vtd, pdev: Pdev): number {
  for (const other of vtd.s.pdevsOf(pdev.seg))
    if (other !== pdev && other.arch.leafMfn !== 0) return other.arch.leafMfn;
  return 0;
}

/** Points what is empty to one table per level and, at the end, to one page. `pages` holds them. @xen fill_qpt */
function fillQpt(vtd: Vtd, table: number, level: number, pages: number[]): Rc {
  const { ram } = vtd.s;
  for (let i = 0; i < PTE_NUM; i++) {
    const at = tablePeek(vtd, table) + i * 2;
    const lo = ram.words[at]!;
    if (!ptePresent(lo)) {
      if (pages[level] === 0) {
        pages[level] = allocTable(vtd, vtd.s.domIo, false);
        if (pages[level] === 0) return E.NOMEM;
        const rc = level > 0 ? fillQpt(vtd, pages[level]!, level - 1, pages) : 0;
        if (rc !== 0) return rc;
      }
      const base = tableBase(vtd, table);
      const hi = ram.words[base + i * 2 + 1]! | pteHi(pages[level]!);
      storePte(vtd, table, base, i, pteLo(pages[level]!, PTE_PROT), hi);
    } else if (level > 0 && !pteSuperpage(lo)) {
      const rc = fillQpt(vtd, getFrame(ram.words, at), level - 1, pages);
      if (rc !== 0) return rc;
    }
  }
  return 0;
}
