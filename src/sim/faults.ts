/** Fault injection: fail the Nth of the steps that can fail. A site is named, so that a run can count what it reached. */
import { LazyMap } from './lazy_map.js';

export type FaultSite =
  | 'alloc'
  | 'domainAlloc'
  | 'vendorOp'
  | 'flush'
  | 'cmpxchg'
  | 'qmp'
  | 'xenstore'
  | 'sysfs';

export class Faults {
  /** True while something is armed; call sites test it first. */
  on = false;
  private site: FaultSite | 'any' = 'any';
  private left = 0;
  /** Passes from the first failure to a second one; 0 for none. */
  private again = 0;
  /** How often each site was passed while armed. */
  readonly passed = new LazyMap<FaultSite, number>();
  /** What failed, in order. */
  readonly hit: FaultSite[] = [];

  /** The `n`th pass (1 is the next one) of `site` fails; with `again` also the `again`th after it. */
  failNth(n: number, site: FaultSite | 'any' = 'alloc', again = 0): void {
    this.on = true;
    this.site = site;
    this.left = n;
    this.again = again;
  }

  disarm(): void {
    this.on = false;
    this.left = 0;
    this.again = 0;
  }

  /** True when this pass of `site` must fail. Call as `faults.on && faults.take('alloc')`. */
  take(site: FaultSite): boolean {
    this.passed.set(site, (this.passed.get(site) ?? 0) + 1);
    if (this.left === 0 || (this.site !== 'any' && this.site !== site)) return false;
    this.left -= 1;
    if (this.left > 0) return false;
    this.left = this.again;
    this.again = 0;
    this.hit.push(site);
    return true;
  }
}
