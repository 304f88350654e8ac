/**
 * All entries of one function: its own, and for conventional PCI those under which bridges forward its requests.
 * @xen drivers/passthrough/vtd/iommu.c domain_context_mapping, domain_context_unmap
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { iommuAllocDomid, iommuFreeDomid } from '../domid.js';
import { type IommuDomain, PDEV_TYPE, type Pdev, XENLOG } from '../types.js';
import { atsDevice, disableAtsDevice, enableAtsDevice } from './ats.js';
import {
  deviceDomid,
  devicePgtable,
  domainContextMappingOne,
  domainContextUnmapOne,
  MAP,
  PREV_PRESENT,
  quarantineSkip,
} from './context.js';
import { anyPdevBehindIommu, checkCleanupDomidMap } from './did.js';
import { acpiFindMatchedDrhdUnit } from './drhd.js';
import { pciVtdQuirk } from './quirks.js';
import { hasRmrr } from './rmrr.js';
import { type DrhdUnit, VTDPREFIX, type Vtd, type VtdIommu } from './state.js';

const { PCIE_ENDPOINT, PCI } = PDEV_TYPE;
/** Is there an entry under the function's own id? */
export const hasEntry = (pdev: Pdev): boolean => pdev.type === PCIE_ENDPOINT || pdev.type === PCI;

/** How carefully entries must be replaced. */
function mappingMode(vtd: Vtd, d: IommuDomain, pdev: Pdev, drhd: DrhdUnit | undefined): number {
  const mode = vtd.rmrrs.length > 0 && hasRmrr(vtd, pdev.seg, pdev.sbdf & 0xffff) ? MAP.withRmrr : 0;
  const from = pdev.domain;
  if (from === undefined || from === d || from.domid === DOMID.IO) return mode;
  if (from.isDying) return mode | MAP.ownerDying;
  // Only the non-atomic way of writing an entry asks.
  if (!vtd.writesInSteps || drhd === undefined || pdev.phantomStride !== 0) return mode;
  return anyPdevBehindIommu(vtd, from, pdev, drhd.iommu!) ? mode : mode | MAP.singleDevice;
}

function debugLine(vtd: Vtd, d: IommuDomain, what: string, pdev: Pdev, devfn: number, verb: string): void {
  const sbdf = formatSbdf(sbdfOf(pdev.seg, (pdev.bus << 8) | devfn));
  vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}${vtd.s.pd(d)}:${what} ${sbdf} ${verb}`.trimEnd());
}

/** The device's pseudo id, dealt on first use. @returns -ENOSPC when all are dealt */
function ensurePseudoDomid(vtd: Vtd, pdev: Pdev, drhd: DrhdUnit): Rc {
  if (pdev.arch.pseudoDomid !== DOMID.INVALID || vtd.opts.quarantine === 'none') return 0;
  const { pcidevsLock } = vtd.s;
  pdev.arch.pseudoDomid = iommuAllocDomid(pcidevsLock, vtd.pseudoCursor, drhd.iommu!.pseudoDomids!);
  return pdev.arch.pseudoDomid === DOMID.INVALID ? E.NOSPC : 0;
}

/**
 * Points every entry of `devfn` of `pdev` (itself or a phantom) to `domain`.
 * @returns 0; -EPERM host bridge to a guest; -ENODEV no unit; -ENOSPC, -EBUSY no id; -ENOMEM; -ENXIO loop of
 * bridges; -EOPNOTSUPP alias and reserved range; -ESRCH, -EILSEQ foreign entry; -EINVAL unknown kind; -EIO flush.
 * @xen domain_context_mapping
 */
export function* domainContextMapping(vtd: Vtd, domain: IommuDomain, devfn: number, pdev: Pdev): Co<Rc> {
  const drhd = acpiFindMatchedDrhdUnit(vtd, pdev);
  const origDomid = pdev.arch.pseudoDomid;
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  const mode = mappingMode(vtd, domain, pdev, drhd);

  let ret = 0;
  if (!hasEntry(pdev)) {
    ret = bridgeMapping(vtd, domain, devfn, pdev);
    if (ret === E.PERM) return ret;
  } else if (drhd === undefined) return E.NODEV;
  else {
    const pgdMfn = devicePgtable(domain, pdev);
    ret = ensurePseudoDomid(vtd, pdev, drhd);
    if (ret !== 0) return ret;
    ret =
      pdev.type === PCI
        ? yield* mapConventional(vtd, domain, drhd, devfn, pdev, pgdMfn, mode)
        : yield* mapEndpoint(vtd, domain, drhd, devfn, pdev, pgdMfn, mode);
  }
  if (ret === 0 && devfn === pdev.devfn && pdev.arch.vtdMayQuirk) pciVtdQuirk(vtd, pdev);
  if (ret !== 0 && drhd !== undefined && origDomid === DOMID.INVALID) {
    iommuFreeDomid(vtd.s.pcidevsLock, pdev.arch.pseudoDomid, drhd.iommu!.pseudoDomids!);
    pdev.arch.pseudoDomid = DOMID.INVALID;
  }
  return ret;
}

/** Bridges have no entry of their own: they are nobody's device but Xen's and dom0's. */
function bridgeMapping(vtd: Vtd, domain: IommuDomain, devfn: number, pdev: Pdev): Rc {
  switch (pdev.type) {
    case PDEV_TYPE.PCI_HOST_BRIDGE:
      if (vtd.opts.debug) debugLine(vtd, domain, 'Hostbridge: skip', pdev, devfn, 'map');
      if (domain !== vtd.s.hwdom) return E.PERM;
      return 0;
    case PDEV_TYPE.PCIE_BRIDGE:
    case PDEV_TYPE.PCIE2PCI_BRIDGE:
    case PDEV_TYPE.LEGACY_PCI_BRIDGE:
      return 0;
    default:
      return E.INVAL;
  }
}

function* mapEndpoint(
  vtd: Vtd,
  domain: IommuDomain,
  drhd: DrhdUnit,
  devfn: number,
  pdev: Pdev,
  pgdMfn: number,
  mode: number,
): Co<Rc> {
  if (vtd.opts.debug) debugLine(vtd, domain, 'PCIe: map', pdev, devfn, '');
  const iommu = drhd.iommu!;
  const domid = deviceDomid(domain, pdev);
  const ret = yield* domainContextMappingOne(domain, iommu, pdev.bus, devfn, pdev, domid, pgdMfn, mode);
  if (ret < 0) return ret;
  if (vtd.opts.ats && devfn === pdev.devfn && atsDevice(vtd, pdev, drhd) > 0) {
    enableAtsDevice(vtd, pdev, iommu);
  }
  return 0;
}

/** Own entry first, then the ids of the bridges above. */
function* mapConventional(
  vtd: Vtd,
  domain: IommuDomain,
  drhd: DrhdUnit,
  devfn: number,
  pdev: Pdev,
  pgdMfn: number,
  mode: number,
): Co<Rc> {
  if (vtd.opts.debug) debugLine(vtd, domain, 'PCI: map', pdev, devfn, '');
  const iommu = drhd.iommu!;
  const domid = deviceDomid(domain, pdev);
  const own = yield* domainContextMappingOne(domain, iommu, pdev.bus, devfn, pdev, domid, pgdMfn, mode);
  if (own < 0) return own;
  const prevPresent = own === PREV_PRESENT;

  const found = findUpstreamBridge(vtd, pdev, devfn);
  if (found === 0) return 0;
  // Copied: mapping may wait, and the scratch be used by another CPU then.
  const { bus: aliasBus, devfn: aliasDevfn, secbus } = vtd.bridge;
  let ret = 0;
  if (found < 0) ret = E.NXIO;
  // The bridge's entry cannot go to two owners, and a reserved range may not become unreachable.
  else if (prevPresent && (mode & MAP.withRmrr) !== 0 && domain !== pdev.domain) ret = E.OPNOTSUPP;
  // No device is passed for aliases: the bridge's owner is not the one that counts.
  const none = undefined;
  if (ret === 0) {
    ret = yield* domainContextMappingOne(domain, iommu, aliasBus, aliasDevfn, none, domid, pgdMfn, mode);
  }
  // Behind a PCIe-to-PCI bridge requests may come from function 0 of device 0 of the secondary bus.
  if (
    ret === 0 &&
    vtd.seams.vtdMapsSecondaryBus() &&
    isPcie2pci(vtd, pdev.seg, aliasBus, aliasDevfn) &&
    (secbus !== pdev.bus || pdev.devfn !== 0)
  ) {
    ret = yield* domainContextMappingOne(domain, iommu, secbus, 0, none, domid, pgdMfn, mode);
  }
  if (ret !== 0 && vtd.seams.vtdUndoesAliasFailure()) {
    const undo = found < 0 ? devfn : vtd.seams.vtdAliasUndoDevfn(devfn, aliasDevfn);
    yield* undoAliasFailure(vtd, domain, iommu, undo, pdev, prevPresent);
  }
  return ret;
}

/** Back to the owner, or to no entry. The id that the refused domain was dealt goes back; W2: it does not. */
function* undoAliasFailure(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  devfn: number,
  pdev: Pdev,
  prevPresent: boolean,
): Co<void> {
  if (!prevPresent) yield* domainContextUnmap(vtd, domain, devfn, pdev);
  else if (pdev.domain !== undefined && pdev.domain !== domain) {
    const rc = yield* domainContextMapping(vtd, pdev.domain, devfn, pdev);
    if (rc === 0 && devfn === pdev.devfn && vtd.seams.vtdFreesIdOfRefused())
      checkCleanupDomidMap(vtd, domain, pdev, iommu);
  }
}

/** Fills `vtd.bridge`. @returns 1 found, 0 none, -1 loop. @xen find_upstream_bridge */
export function findUpstreamBridge(vtd: Vtd, pdev: Pdev, devfn: number): number {
  vtd.bridge.bus = pdev.bus;
  vtd.bridge.devfn = devfn;
  vtd.bridge.secbus = 0;
  return vtd.s.findUpstreamBridge(pdev.seg, vtd.bridge);
}
const isPcie2pci = (vtd: Vtd, seg: number, bus: number, devfn: number): boolean =>
  vtd.s.pdevType(sbdfOf(seg, (bus << 8) | devfn)) === PDEV_TYPE.PCIE2PCI_BRIDGE;

/**
 * Empties every entry of `devfn` of `pdev`, if it has any.
 * @returns 0; -EPERM host bridge of a guest; -ENODEV no unit; -EINVAL unknown kind. A failure of the entries
 * themselves is not among them. @xen domain_context_unmap
 */
export function* domainContextUnmap(vtd: Vtd, domain: IommuDomain, devfn: number, pdev: Pdev): Co<Rc> {
  const drhd = acpiFindMatchedDrhdUnit(vtd, pdev);
  if (!hasEntry(pdev)) return bridgeUnmapping(vtd, domain, devfn, pdev);
  if (drhd === undefined) return E.NODEV;
  const ret =
    pdev.type === PCI
      ? yield* unmapConventional(vtd, domain, drhd, devfn, pdev)
      : yield* unmapEndpoint(vtd, domain, drhd, devfn, pdev);
  if (ret === 0 && pdev.devfn === devfn && !quarantineSkip(domain, pdev.arch.rootMfn)) {
    checkCleanupDomidMap(vtd, domain, pdev, drhd.iommu!);
  }
  return 0;
}

function bridgeUnmapping(vtd: Vtd, domain: IommuDomain, devfn: number, pdev: Pdev): Rc {
  switch (pdev.type) {
    case PDEV_TYPE.PCI_HOST_BRIDGE:
      if (vtd.opts.debug) debugLine(vtd, domain, 'Hostbridge: skip', pdev, devfn, 'unmap');
      return domain === vtd.s.hwdom ? 0 : E.PERM;
    case PDEV_TYPE.PCIE_BRIDGE:
    case PDEV_TYPE.PCIE2PCI_BRIDGE:
    case PDEV_TYPE.LEGACY_PCI_BRIDGE:
      return 0;
    default:
      return E.INVAL;
  }
}

function* unmapEndpoint(vtd: Vtd, domain: IommuDomain, drhd: DrhdUnit, devfn: number, pdev: Pdev): Co<Rc> {
  if (vtd.opts.debug) debugLine(vtd, domain, 'PCIe: unmap', pdev, devfn, '');
  const ret = yield* domainContextUnmapOne(domain, drhd.iommu!, pdev.bus, devfn);
  if (ret === 0 && vtd.opts.ats && devfn === pdev.devfn && atsDevice(vtd, pdev, drhd) > 0) {
    disableAtsDevice(vtd, pdev, drhd.iommu!);
  }
  return ret;
}

function* unmapConventional(
  vtd: Vtd,
  domain: IommuDomain,
  drhd: DrhdUnit,
  devfn: number,
  pdev: Pdev,
): Co<Rc> {
  if (vtd.opts.debug) debugLine(vtd, domain, 'PCI: unmap', pdev, devfn, '');
  const iommu = drhd.iommu!;
  let ret = yield* domainContextUnmapOne(domain, iommu, pdev.bus, devfn);
  const goesOn = vtd.seams.vtdUnmapGoesOn();
  if (ret !== 0 && !goesOn) return ret;
  const found = findUpstreamBridge(vtd, pdev, devfn);
  if (found === 0) return ret;
  if (found < 0) {
    if (domain.isDying || domain === vtd.s.hwdom || domain === vtd.s.domIo) return E.NXIO;
    vtd.s.domainCrash(domain, 'vtd/iommu.c domain_context_unmap');
    return 0;
  }
  const { bus: aliasBus, devfn: aliasDevfn, secbus } = vtd.bridge;
  const alias = yield* domainContextUnmapOne(domain, iommu, aliasBus, aliasDevfn);
  if (ret === 0) ret = alias;
  if ((ret === 0 || goesOn) && isPcie2pci(vtd, pdev.seg, aliasBus, aliasDevfn)) {
    const secondary = yield* domainContextUnmapOne(domain, iommu, secbus, 0);
    if (ret === 0) ret = secondary;
  }
  return ret;
}
