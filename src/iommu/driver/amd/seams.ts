/** The correct answers to what releases and historical bugs get differently, and what single releases replace. */
import { CompletedSeams } from '../completed_seams.js';
import { type AmdSeams, FLUSHF } from '../types.js';

/** HVM domains get 48-bit tables in every release. @xen DEFAULT_DOMAIN_ADDRESS_WIDTH */
const HVM_FRAMES = 2 ** 36;

const correct: AmdSeams = Object.freeze<AmdSeams>({
  amdRequiresCx16: () => true,
  amdDomainFrames: (isHvm, _ramEnd, physEnd) => (isHvm ? HVM_FRAMES : physEnd),
  amdReportsPagingMode: () => true,
  amdUsesUnityRegionOk: () => true,
  amdIgnoresIvmdWithoutIommu: () => true,
  amdDisablesFirmwareIommu: () => true,
  amdEnablesMsiOnce: () => true,
  amdUpdatesIrteInPlace: () => true,
  amdIntremapTableId: (_bdf, reqId) => reqId,
  amdIvmdReadFlag: () => 2,
  amdIotlbSizeFlag: (wanted) => wanted,
  amdCountsUnityPerFunction: () => false,
  amdTearsDownAtFirstFunction: () => false,
  amdFreesInterruptTableTwice: () => false,
  amdClearsFrameZero: () => false,
  amdQuarantineLosesUnity: () => false,
  amdTableForEachDevice: () => true,
  amdReplacesDteAtOnce: () => true,
  amdReassignsDirectly: () => true,
  amdKeepsRangesApart: () => true,
  amdReleasesUnityMaps: () => true,
  amdPrevDomid: (domid) => domid,
  amdQuarantineLevels: (levels) => levels,
  amdQuarantineMapsReserved: () => true,
  amdWasPresent: (lo) => (lo & 1) !== 0,
  amdReplaceFlush: () => FLUSHF.modified,
  amdFillsBeforeLinking: () => true,
  amdSplitKeepsRights: () => true,
  amdWaitsForEver: () => true,
  amdMoveFlushesDevice: () => true,
  amdAsksWhoHasAts: () => true,
});

export const amdSeams = new CompletedSeams(correct);

/** How 4.17 and 4.18, up to 4.18.3, work where the newest works otherwise. */
export const amdBehaviour4_18: Partial<AmdSeams> = Object.freeze<Partial<AmdSeams>>({
  amdRequiresCx16: () => false,
  amdDomainFrames: (isHvm, ramEnd) => (isHvm ? HVM_FRAMES : ramEnd),
  amdReportsPagingMode: () => false,
  amdUsesUnityRegionOk: () => false,
  amdIgnoresIvmdWithoutIommu: () => false,
  amdDisablesFirmwareIommu: () => false,
  amdEnablesMsiOnce: () => false,
  amdUpdatesIrteInPlace: () => false,
});

/** What every release up to the newest gets wrong. */
export const amdFlaws: Partial<AmdSeams> = Object.freeze<Partial<AmdSeams>>({
  amdIntremapTableId: (bdf) => bdf,
  amdIvmdReadFlag: () => 4,
  amdIotlbSizeFlag: () => 0,
  amdCountsUnityPerFunction: () => true,
  amdTearsDownAtFirstFunction: () => true,
  amdFreesInterruptTableTwice: () => true,
  amdClearsFrameZero: () => true,
  amdQuarantineLosesUnity: () => true,
  amdMoveFlushesDevice: () => false,
  amdAsksWhoHasAts: () => false,
});
