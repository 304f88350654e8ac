/** The frames of a domain, in pieces of 2^n. */
import type { Domain, Extent } from './domain.js';

/** A page that is being stolen belongs to nobody. @xen get_page */
export const ownsFrame = (d: Domain, mfn: number): boolean =>
  d.extents.some((x) => mfn >= x.mfn && mfn < x.mfn + 2 ** x.order);

/** Takes 2^order frames out of the piece that has them, which is halved as often as needed; false where none has. */
export function takeExtent(d: Domain, mfn: number, order: number): boolean {
  const at = d.extents.findIndex((x) => mfn >= x.mfn && mfn < x.mfn + 2 ** x.order);
  if (at < 0) return false;
  let whole = d.extents[at]!;
  d.extents.splice(at, 1);
  while (whole.order > order) {
    const half: Extent = { mfn: whole.mfn, order: whole.order - 1 };
    const upper: Extent = { mfn: whole.mfn + 2 ** half.order, order: half.order };
    const keep = mfn >= upper.mfn ? half : upper;
    d.extents.push(keep);
    whole = keep === half ? upper : half;
  }
  return true;
}
