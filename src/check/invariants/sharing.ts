/** What devices have in common: reserved ranges, and ids behind bridges. */
import { formatSbdf } from '../../base/sbdf.js';
import { didToDomainId } from '../../iommu/driver/vtd/did.js';
import { VtdDriver } from '../../iommu/driver/vtd/iommu.js';
import { DOMID } from '../../sim/frames.js';
import { entryOf } from '../tables_now.js';
import type { World } from '../world.js';
import { FRAME_ZERO_MARK } from '../world_state.js';
import type { Violation } from './invariant.js';

const violation = (id: string, what: string): Violation => ({ id, what });

/** VT-d: a range that two guests reach is memory they share, unless both were told. */
export function rangeOfOneGuest(w: World): Violation | undefined {
  const { reserved } = w.layout;
  if (reserved === undefined || w.layout.spec.vendor !== 'vtd') return undefined;
  const holders = reserved.sbdfs.flatMap((at) => {
    const domid = w.pdev(at)?.domain?.domid;
    const guest = domid !== undefined && domid > 0 && domid < DOMID.FIRST_RESERVED;
    return guest && !w.relaxed.has(at) ? [{ at, domid }] : [];
  });
  const [first] = holders;
  const other = holders.find((h) => h.domid !== first!.domid);
  return other === undefined
    ? undefined
    : violation(
        'INV-I1',
        `${formatSbdf(first!.at)} of d${first!.domid} and ${formatSbdf(other.at)} of d${other.domid} share a reserved range`,
      );
}

/** VT-d: once a device behind a bridge was given away, the ids it is seen under have its entry. */
export function aliasesWentAlong(w: World): Violation | undefined {
  const t = w.last;
  if (
    (t?.command.op !== 'assign' && t?.command.op !== 'quarantine') ||
    t.rc !== 0 ||
    w.layout.spec.vendor !== 'vtd'
  )
    return undefined;
  const own = t.target === undefined ? undefined : entryOf(w.machine, t.target.sbdf);
  if (own === undefined || w.pdev(t.target!.sbdf)?.domain?.domid !== t.targetDomid) return undefined;
  if (t.events.every((e) => e.kind !== 'entry' || e.table !== 'context')) return undefined;
  for (const rid of t.target!.sharedRids) {
    const e = entryOf(w.machine, rid);
    if (e?.root !== own.root || e.did !== own.did)
      return violation(
        'INV-I4',
        `${formatSbdf(t.target!.sbdf)} is also seen as ${rid.toString(16)}, which was not given away with it`,
      );
  }
  return undefined;
}

/** Frame 0 is nobody's: what stands there stays there. */
export function frameZeroStays(w: World): Violation | undefined {
  return w.machine.hw.ram.read32(0) === FRAME_ZERO_MARK
    ? undefined
    : violation('INV-Q3', 'machine frame 0 was cleared, which is no scratch page');
}

/**
 * VT-d units that deal ids out: their count returns to its base. No assignment that was refused, and no device that
 * left, keeps an id for a domain which has nothing behind the unit; one that could not be taken cleanly does so until
 * the domain dies.
 */
export function idsReturn(w: World): Violation | undefined {
  const { driver, domIo, domXen, hwdom, pdevs } = w.machine.xen;
  if (!(driver instanceof VtdDriver) || w.unsettled.size > 0 || w.lost.size > 0) return undefined;
  for (const { iommu } of driver.vtd.drhds) {
    for (const domid of iommu?.domidMap ?? []) {
      if (domid < 0 || domid === DOMID.INVALID || domid === hwdom.domid || w.strained.has(domid)) continue;
      const unit = w.machine.units[iommu!.index];
      const used = [...pdevs.values()].some(
        (p) =>
          p.arch.pseudoDomid === domid ||
          (p.domain?.domid === domid &&
            p.domain !== domIo &&
            p.domain !== domXen &&
            w.machine.unitFor(p.sbdf) === unit),
      );
      if (!used)
        return violation(
          'INV-D6',
          `d${domid} keeps a domain id of unit ${iommu!.index}, where it has no device`,
        );
    }
  }
  return undefined;
}

/** VT-d units that deal ids out: the id in the entry of a device is that of its owner, and leads back to it. */
export function idsLeadBack(w: World): Violation | undefined {
  const { driver, domIo, domXen, hwdom } = w.machine.xen;
  if (!(driver instanceof VtdDriver) || !w.layout.spec.fewIds) return undefined;
  for (const device of w.layout.devices) {
    const p = w.pdev(device.sbdf);
    const e = entryOf(w.machine, device.sbdf);
    if (p?.domain === undefined || e === undefined || w.unsettled.has(p.sbdf) || w.lost.has(p.sbdf)) continue;
    if (device.sharedRids.length > 0) continue;
    const unit = w.machine.unitFor(device.sbdf);
    const iommu = driver.vtd.drhds.find((d) => w.machine.units[d.iommu!.index] === unit)?.iommu;
    const owner = p.domain === domXen ? hwdom : p.domain;
    const due = owner === domIo ? p.arch.pseudoDomid : owner.domid;
    const found = iommu === undefined ? due : didToDomainId(iommu, e.did);
    if (found !== due)
      return violation(
        'INV-D3',
        `${formatSbdf(p.sbdf)} has domain id ${e.did}, which the unit's map gives to ${found}, not to ${due}`,
      );
  }
  return undefined;
}
