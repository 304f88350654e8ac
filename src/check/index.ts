/** The property kit, public as `xen-passthrough-sim/check`: machines, commands, invariants, runs and their replay. */
export { arbCommand, arbCommandOf, arbFault, type Command, commandOps, showCommand } from './commands.js';
export { requireCoverage, usualCoverage } from './coverage.js';
export {
  checkHistories,
  type HistoryOptions,
  type HistoryResult,
  invariants,
  runHistory,
} from './histories.js';
export type { Invariant, Violation } from './invariants/invariant.js';
export { arbMachine, layOut, type MachineSpec, type Vendor } from './machines.js';
export { AssignProtocol } from './protocol/assign_protocol.js';
export { exploreStates, type StateModel, type StateSpace } from './protocol/explore_states.js';
export { Timeline } from './timeline.js';
export { formatToken, parseToken, type Replay } from './token.js';
export { type IsolationOptions, isolation } from './verdict.js';
export { World, type WorldOptions } from './world.js';
