/** What a mapping may never give: writes to read-only pages, Xen's own pages, anything to the dying or after a failure. */
import { formatSbdf } from '../../base/sbdf.js';
import { unitFrames } from '../machines.js';
import { entryOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';

const hex = (n: number): string => n.toString(16);
const violation = (id: string, what: string): Violation => ({ id, what });

/** @xen arch/x86/mm/p2m-ept.c: mmio_ro_ranges take the write permission */
function readOnlyStays(w: World): Violation | undefined {
  const { xen } = w.machine;
  for (const device of w.layout.devices) {
    const dom = w.domains.find((d) => d.domid === w.pdev(device.sbdf)?.domain?.domid);
    for (const [gfn, mfn] of dom?.mmio ?? []) {
      if (!xen.mmioRo.contains(mfn, mfn)) continue;
      w.count('write to a read-only page');
      if (w.reach(device.sbdf, gfn, true) === mfn)
        return violation('INV-I8', `${formatSbdf(device.sbdf)} may write to read-only frame ${hex(mfn)}`);
    }
  }
  return undefined;
}

/** @xen drivers/passthrough/x86/iommu.c hwdom_iommu_map, vtd/iommu.c intel_iommu_hwdom_init */
function xensPagesStay(w: World): Violation | undefined {
  const { xen } = w.machine;
  const own = [...xen.xenRanges.list().flatMap((r) => [r.s, r.e]), ...unitFrames(w.layout)];
  for (const device of w.layout.devices) {
    for (const rid of w.ownRids(device)) {
      const e = entryOf(w.machine, rid);
      if (e === undefined || e.passThrough) continue;
      const guest = w.domains.find((d) => d.domid === w.pdev(device.sbdf)?.domain?.domid);
      for (const dfn of [...own, ...(guest?.mmio.keys() ?? [])]) {
        const mfn = w.reach(rid, dfn, false);
        if (own.includes(mfn))
          return violation(
            'INV-I9',
            `requester ${hex(rid)} reaches frame ${hex(mfn)}, which is Xen's or a unit's`,
          );
      }
    }
  }
  return undefined;
}

/** The two low bits say whether something is there: read and write on VT-d, present on AMD. */
const isPresent = (words: readonly number[]): boolean => (words[0]! & 3) !== 0;

/** @xen vtd/iommu.c intel_iommu_map_page, amd/iommu_map.c amd_iommu_map_page */
function dyingGetsNothing(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'mmio' || !t.command.add || t.targetDomid === undefined) return undefined;
  const d = w.machine.xen.domains.get(t.targetDomid);
  if (d?.isDying !== true || d.p2m === undefined || !d.iommuEnabled) return undefined;
  w.count('map for the dying');
  const made = t.events.find((e) => e.kind === 'entry' && e.table === 'pte' && isPresent(e.after));
  if (made !== undefined) return violation('INV-I11', `an entry was made for d${d.domid}, which is dying`);
  return t.rc === 0 || t.rc === NO_RIGHT || t.rc === NO_MEMORY
    ? undefined
    : violation('INV-I11', `a map for d${d.domid}, which is dying, said ${t.rc}`);
}
const NO_RIGHT = -1;
const NO_MEMORY = -12;

/** @xen drivers/passthrough/iommu.c iommu_map: what was mapped before the failure is taken back */
function failureLeavesNothing(w: World): Violation | undefined {
  const t = w.last;
  if (t?.command.op !== 'populate' || t.targetDomid === undefined) return undefined;
  for (const e of t.events) {
    const failed = e.kind === 'console' ? FAILED_MAP.exec(e.text) : null;
    if (failed === null) continue;
    const at = Number.parseInt(failed[1]!, 16);
    const first = at - (at % 2 ** t.command.order);
    w.count(first < at ? 'map fails on the way' : 'map fails at once');
    for (const device of w.layout.devices) {
      if (w.pdev(device.sbdf)?.domain?.domid !== t.targetDomid) continue;
      for (let dfn = first; dfn < at; dfn++) {
        if (w.reach(device.sbdf, dfn, false) >= 0)
          return violation('INV-F8', `a map failed at ${hex(at)}, and ${hex(dfn)} of it is there`);
      }
    }
  }
  return undefined;
}
const FAILED_MAP = /IOMMU mapping dfn (?:0x)?([0-9a-f]+) to mfn \S+ failed/;

/** From 4.20. @xen drivers/passthrough/pci.c pci_add_device, pci_remove_device */
function functionsKnowTheirs(w: World): Violation | undefined {
  const { xen } = w.machine;
  if (!xen.seams.pfWithVfsStays() || !xen.seams.vfNeedsPf()) return undefined;
  for (const p of xen.pdevs.values()) {
    if (!p.isVirtfn) continue;
    w.count('virtual function');
    const pf = p.pfPdev;
    const at = pf?.sbdf ?? ((p.seg << 16) | (p.physfn.bus << 8) | p.physfn.devfn) >>> 0;
    if (pf === undefined || xen.pdevs.get(at) !== pf)
      return violation(
        'INV-O12',
        `${formatSbdf(p.sbdf)} is a virtual function of ${formatSbdf(at)}, which is gone`,
      );
  }
  return undefined;
}

export const rightsInvariants: readonly Invariant[] = [
  { id: 'INV-I8', title: 'no device writes to what is read-only', holds: readOnlyStays },
  { id: 'INV-I9', title: "Xen's pages and units' registers are in no table", holds: xensPagesStay },
  { id: 'INV-I11', title: 'a map for a dying domain succeeds and leaves no entry', holds: dyingGetsNothing },
  { id: 'INV-F8', title: 'a map that fails leaves nothing behind', holds: failureLeavesNothing },
  {
    id: 'INV-O12',
    title: 'a virtual function has a physical one that Xen knows',
    holds: functionsKnowTheirs,
  },
];
