/** The correct answers to what releases and historical bugs get differently. */
import type { VtdSeams } from '../types.js';

export const vtdSeams: VtdSeams = Object.freeze<VtdSeams>({
  vtdRequiresCx16: () => true,
  vtdRmrrMustBeReserved: () => true,
  vtdReadsSatc: () => true,
  vtdNoticesMissingContextTable: () => true,
  vtdAliasUndoDevfn: (own) => own,
  vtdReportsUnknownMsiSource: () => true,
  vtdClearsUnsetLeaf: () => false,
  vtdMsiGroupFirst: (last, vectors) => last - (vectors - 1),
});
