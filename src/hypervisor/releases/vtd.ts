/** What releases replace of the VT-d driver's seams. */
import type { VtdSeams } from '../../iommu/driver/types.js';

/** How 4.17 and 4.18, up to 4.18.3, work where the newest works otherwise. */
export const vtdBehaviour4_18: Partial<VtdSeams> = Object.freeze<Partial<VtdSeams>>({
  vtdRequiresCx16: () => false,
  vtdRmrrMustBeReserved: () => false,
  vtdReadsSatc: () => false,
  vtdReportsUnknownMsiSource: () => false,
  vtdAllocatesAtsUnit: () => true,
});

/** What they get wrong, and the newest does not. */
export const vtdFlaws4_18: Partial<VtdSeams> = Object.freeze<Partial<VtdSeams>>({
  vtdNoticesMissingContextTable: () => false,
});

/** What every release up to the newest gets wrong. */
export const vtdFlaws: Partial<VtdSeams> = Object.freeze<Partial<VtdSeams>>({
  vtdAliasUndoDevfn: (_own, bridge) => bridge,
  vtdClearsUnsetLeaf: () => true,
  vtdAliasFollowsQuarantine: () => false,
  vtdFreesIdOfRefused: () => false,
  vtdWritesBackScratch: () => false,
  vtdMoveFlushesDevice: () => false,
  vtdUnmapGoesOn: () => false,
  vtdCountsUnitFirst: () => false,
  vtdMsiGroupFirst: (last) => last,
});
