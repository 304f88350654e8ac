import type { DomainConfig } from '../libxl/types.js';
import type { XluConfig } from '../xlu/cfg.js';
import type { Xl } from './context.js';

/** One configuration being read. */
export interface Parse {
  readonly xl: Xl;
  readonly cfg: XluConfig;
  readonly d: DomainConfig;
  /** Prints to stderr and exits. */
  fail(text: string, code?: number): never;
}
