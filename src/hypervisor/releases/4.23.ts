import { amdFlaws } from '../../iommu/driver/amd/seams.js';
import { everyFlaw } from './every.js';
import type { Release } from './release.js';
import { vtdFlaws } from './vtd.js';

/** The newest: commit c447b7308b of August 2026, between 4.22 and 4.23. */
export const xen4_23: Release = {
  name: '4.23',
  major: 4,
  minor: 23,
  extra: '-unstable',
  behaviour: {},
  flaws: {
    ...amdFlaws,
    ...vtdFlaws,
    ...everyFlaw,
    amdDisableSkipsQuarantinedSource: () => true,
    releaseSetsFailuresAside: () => true,
  },
};
