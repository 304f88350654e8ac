/** The correct answers to what releases and historical bugs get differently. */
import { E } from '../../../base/errno.js';
import { CompletedSeams } from '../completed_seams.js';
import { FLUSHF, type VtdSeams } from '../types.js';

const correct: VtdSeams = Object.freeze<VtdSeams>({
  vtdRequiresCx16: () => true,
  vtdRmrrMustBeReserved: () => true,
  vtdReadsSatc: () => true,
  vtdNoticesMissingContextTable: () => true,
  vtdAliasUndoDevfn: (own) => own,
  vtdReportsUnknownMsiSource: () => true,
  vtdClearsUnsetLeaf: () => false,
  vtdMsiGroupFirst: (last, vectors) => last - (vectors - 1),
  vtdLegacyBridgeByBus: () => false,
  vtdUnmapGoesOn: () => true,
  vtdAliasFollowsQuarantine: () => true,
  vtdFreesIdOfRefused: () => true,
  vtdFreesIdOfFailed: () => true,
  vtdMoveFlushesDevice: () => true,
  vtdCountsUnitFirst: () => true,
  vtdGivesUpOnDevice: () => false,
  vtdHidesSilentDevice: () => false,
  vtdReassignsDirectly: () => true,
  vtdRmrrFollowsContext: () => false,
  vtdRmrrUnmapEnds: (rc) => rc !== 0 && rc !== E.NOENT,
  vtdSkipsLevelsOfShared: () => true,
  vtdGivenRoot: (pgdMfn) => pgdMfn,
  vtdQuarantineMapsReserved: () => true,
  vtdOwnScratchPage: () => true,
  vtdUnmapFlush: () => FLUSHF.modified,
  vtdFlushAllOrder: () => -1,
  vtdUndoesAliasFailure: () => true,
  vtdMaySplitRmrr: (relaxed) => relaxed,
  vtdMapsSecondaryBus: () => true,
  vtdWritesBack: () => true,
  vtdWritesBackScratch: () => true,
  vtdAllocatesAtsUnit: () => false,
});

export const vtdSeams = new CompletedSeams(correct);
