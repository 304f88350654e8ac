/** The remapping unit that `-device intel-iommu,…` asks for: capability registers from property names of any version. */
import { CAP, ECAP } from '../iommu/format/vtd.js';
import type { VtdOptions } from '../iommu/hw/vtd/caps.js';
import { word64 } from '../iommu/hw/vtd/caps.js';
import { VTD_QUIRKS } from '../iommu/hw/vtd/quirks.js';
import { commandLineError } from './board_options.js';
import type { Quirk } from './quirks.js';

/** One meaning, and the names it has had. */
const ALIASES = {
  scalable: ['scalable-mode', 'x-scalable-mode'],
  firstStage: ['fsts', 'flts', 'x-flts', 'x-fsts'],
  fs1gp: ['fs1gp'],
  caching: ['caching-mode'],
  interrupts: ['intremap'],
  deviceTlbs: ['device-iotlb'],
  snoop: ['snoop-control'],
  eim: ['eim'],
  passThrough: ['pt'],
  /** Ours alone: no QEMU logs faults in memory. */
  advancedLogging: ['x-advanced-fault-logging'],
} as const;

/** A property that is `on` or `off`; `byDefault` when it is neither named nor decided (`auto`). */
function flag(p: ReadonlyMap<string, string>, names: readonly string[], byDefault: boolean): boolean {
  for (const name of names) {
    const v = p.get(name);
    if (v === undefined || v === 'auto') continue;
    if (v === 'on' || v === 'true' || v === 'yes') return true;
    if (v === 'off' || v === 'false' || v === 'no') return false;
    throw commandLineError(`intel-iommu: ${name}=${v} is neither on nor off`);
  }
  return byDefault;
}

const WIDTHS: readonly (readonly [string, number, number])[] = [
  ['39', 38, 0b00010],
  ['48', 47, 0b00110],
  ['57', 56, 0b01110],
];

/** Shape of the unit at 0xfed90000: register offsets and limits of QEMU's, one fault record. */
export function unitOptions(p: ReadonlyMap<string, string>, quirks: ReadonlySet<Quirk>): VtdOptions {
  const width = WIDTHS.find(([bits]) => bits === (p.get('aw-bits') ?? '48'));
  if (width === undefined) throw commandLineError('intel-iommu: aw-bits is 39, 48 or 57');
  const scalable = flag(p, ALIASES.scalable, false);
  const on = (names: readonly string[], byDefault = false): number => (flag(p, names, byDefault) ? 1 : 0);
  const ir = on(ALIASES.interrupts, true);
  return {
    index: 0,
    segment: 0,
    version: 0x10,
    haw: Number(width[0]),
    collapseFaults: true,
    quirks: new Set(VTD_QUIRKS.filter((q) => quirks.has(q))),
    cap: word64(CAP, {
      // Only a QEMU that is young enough to forget translations with the root table has first-level tables.
      ESRTPS: scalable && !quirks.has('root-table-flush-unsaid') ? on(ALIASES.firstStage) : 0,
      FL1GP: scalable ? on(ALIASES.fs1gp, true) && on(ALIASES.firstStage) : 0,
      DRD: 1,
      DWD: 1,
      MAMV: 18,
      PSI: 1,
      SLLPS: 3,
      FRO_LO: 0x22,
      MGAW: width[1],
      SAGAW: width[2],
      CM: on(ALIASES.caching),
      AFL: on(ALIASES.advancedLogging),
      ND: 6,
    }),
    ecap: word64(ECAP, {
      SMTS: scalable ? 1 : 0,
      // QEMU offers one kind of tables only, and supervisor requests with the second level alone.
      SLTS: scalable ? 1 - on(ALIASES.firstStage) : 0,
      SRS: scalable ? 1 - on(ALIASES.firstStage) : 0,
      FLTS: scalable ? on(ALIASES.firstStage) : 0,
      MHMV: ir * 15,
      IRO: 0xf,
      SC: on(ALIASES.snoop),
      PT: on(ALIASES.passThrough, true),
      EIM: ir & on(ALIASES.eim),
      IR: ir,
      DT: on(ALIASES.deviceTlbs),
      QI: 1,
    }),
  };
}
