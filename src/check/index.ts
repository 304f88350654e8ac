/** The property kit, public as `xen-passthrough-sim/check`: machines, commands, invariants, runs and their replay. */
export { arbCommand, type Command, showCommand } from './commands.js';
export {
  checkHistories,
  type HistoryOptions,
  type HistoryResult,
  invariants,
  runHistory,
} from './histories.js';
export type { Invariant, Violation } from './invariants/invariant.js';
export { arbMachine, layOut, type MachineSpec, type Vendor } from './machines.js';
export { formatToken, parseToken, type Replay } from './token.js';
export { World, type WorldOptions } from './world.js';
