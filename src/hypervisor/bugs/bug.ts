/** The shape of an entry in the museum of bugs. */
import type { Seams } from '../seams.js';

/** A mistake that Xen once had (or still has), as the seams that bring it back and the place where it shows. */
export interface Bug {
  /** `XSA-449`; a letter follows where one advisory holds several mistakes. Open findings: `R1`, `V1`... */
  readonly id: string;
  readonly title: string;
  readonly year: number;
  /** Releases that had it, as the history of Xen tells. */
  readonly releases: string;
  /** What goes wrong, in two or three sentences. */
  readonly mechanism: string;
  /** What the fix changed, in one sentence. */
  readonly fix: string;
  /** Commit of the fix, or where an open finding was seen. */
  readonly source: string;
  /** The seams it replaces. */
  readonly seams: Partial<Seams>;
  /** Invariants that may show it. */
  readonly breaks: readonly string[];
  /** The machine on which it shows. */
  readonly environment: BugEnvironment;
}

/** What a search for a bug needs to be given; everything else is found. */
export interface BugEnvironment {
  readonly vendor: 'vtd' | 'amd';
  /** Properties of the random machine, by their names in check/machines. */
  readonly machine?: Readonly<Record<string, unknown>>;
  /** Kinds of commands it takes, by their names in check/commands; all when left out. */
  readonly ops?: readonly string[];
  /** It takes two vCPUs: hypercalls, by their names in check/calls, of which any two may be the ones. */
  readonly calls?: readonly string[];
}
