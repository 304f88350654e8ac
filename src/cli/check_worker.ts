/** A worker thread of `xpsim check`: runs one block after the other of the plan that it was started with. */
import { workerData } from 'piscina';
import { type Block, type BlockResult, type Plan, runBlock } from '../check/blocks.js';
import type { HostDescription } from '../inputs/host_description.js';

export interface CheckWork {
  readonly plan: Plan;
  readonly host: HostDescription | undefined;
}

export default function work(block: Block): BlockResult {
  const { plan, host } = workerData as CheckWork;
  return runBlock(plan, block, host);
}
