/** What devices keep of translations, with ATS. @xen drivers/passthrough/ats.c, vtd/x86/ats.c, vtd/iommu.c, amd/iommu_cmd.c */
import { bdfOf, formatSbdf } from '../../base/sbdf.js';
import { AmdIommu } from '../../iommu/driver/amd/driver.js';
import { VtdDriver } from '../../iommu/driver/vtd/iommu.js';
import { atsEnabled } from '../device_tlb.js';
import { entryOf, translationOf } from '../tables_now.js';
import type { World } from '../world.js';
import type { Invariant, Violation } from './invariant.js';

const violation = (what: string): Violation => ({ id: 'INV-F4', what });

function staleDeviceTlb(w: World): Violation | undefined {
  for (const device of w.layout.devices) {
    const rid = device.sbdf;
    const unit = w.machine.unitFor(device.sbdf);
    const kept = w.deviceTlbs.kept.get(rid);
    if (kept === undefined || unit === undefined || !atsEnabled(w.machine, device)) continue;
    for (const [dfn, mfn] of kept) {
      if (translationOf(w.machine, rid, dfn)?.mfn === mfn || unit.translated(bdfOf(rid), mfn, false) !== mfn)
        continue;
      const owner = w.machine.hw.frames.owner(mfn);
      return violation(
        `${formatSbdf(device.sbdf)} still goes to frame ${mfn.toString(16)} of d${owner} for bus frame ${dfn.toString(16)}, by a translation that it kept: ${w.steps.of(rid)}`,
      );
    }
  }
  return undefined;
}

/** A device that is announced again has its ATS switched on even in quarantine, where it has no entry: no harm. */
function offBeforeItGoes(w: World): Violation | undefined {
  const t = w.last;
  if (t === undefined || t.command.op === 'add') return undefined;
  for (const { rid, entry } of t.entriesBefore) {
    const device = w.layout.devices.find((d) => d.sbdf === rid);
    if (entry === undefined || device === undefined || entryOf(w.machine, rid) !== undefined) continue;
    if (w.unsettled.has(device.sbdf) || w.lost.has(device.sbdf)) continue;
    if (atsEnabled(w.machine, device))
      return violation(`the entry of ${formatSbdf(device.sbdf)} was taken, and its ATS is on`);
  }
  return undefined;
}

function listedOnce(w: World): Violation | undefined {
  const { driver } = w.machine.xen;
  const units =
    driver instanceof VtdDriver
      ? driver.vtd.drhds.map((drhd) => drhd.iommu)
      : driver instanceof AmdIommu
        ? driver.state.units
        : [];
  for (const unit of units) {
    const listed = unit?.atsDevices ?? [];
    if (new Set(listed).size !== listed.length) return violation('a device is twice among those with ATS');
  }
  return undefined;
}

export const deviceTlbInvariants: readonly Invariant[] = [
  {
    id: 'INV-F4',
    title: 'a device forgets translations with the unit, and loses ATS with its entry',
    holds: (w) => staleDeviceTlb(w) ?? offBeforeItGoes(w) ?? listedOnce(w),
  },
];
