/** What one run of xl works with: the host, its two streams, and the options that count for every command. */
import type { Dom0, Stdio } from '../dom0.js';
import type { Libxl } from '../libxl/libxl.js';

export interface XlContext extends Stdio {
  readonly dom0: Dom0;
}

/** exit(): ends the command from wherever it is. Caught by `xl` alone. */
export class XlExit extends Error {
  override readonly name = 'XlExit';
  constructor(readonly code: number) {
    super(`exit ${code}`);
  }
}

/** xl.conf, as far as it changes what is simulated. */
export interface GlobalConfig {
  runHotplugScripts: boolean;
  claimMode: boolean;
  maxGrantFrames: number;
  maxMaptrackFrames: number;
  maxGrantVersion: number;
  blkdevStart: string | undefined;
  vifScript: string | undefined;
  vifBridge: string | undefined;
  vifGatewaydev: string | undefined;
  vifBackend: string | undefined;
  autoballoon: boolean;
}

export interface Xl extends XlContext {
  readonly lx: Libxl;
  readonly global: GlobalConfig;
  /** -N, or -n of create. */
  dryrun: boolean;
  /** -f */
  readonly force: boolean;
}
