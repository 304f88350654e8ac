/** The blocks of `xpsim check`, spread over worker threads. */
import { type Block, type BlockResult, runBlock } from '../check/blocks.js';
import type { CheckWork } from './check_worker.js';

/** Lets signals in. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Runs `blocks` in their order, as many at once as there are workers, until one fails or `stopped` says so. What comes
 * back is what one worker alone would have found: nothing after the first block that fails.
 */
export async function runPool(
  work: CheckWork,
  blocks: readonly Block[],
  workers: number,
  stopped: () => boolean,
  tell: (result: BlockResult) => void,
): Promise<BlockResult[]> {
  const results: BlockResult[] = [];
  let next = 0;
  let failed = Number.POSITIVE_INFINITY;
  const lane = async (run: (block: Block) => BlockResult | Promise<BlockResult>): Promise<void> => {
    for (;;) {
      await breathe();
      const block = blocks[next++];
      if (block === undefined || stopped() || block.index > failed) return;
      const r = await run(block);
      results.push(r);
      if (r.failure !== undefined) failed = Math.min(failed, r.block);
      tell(r);
    }
  };
  const threads = Math.min(workers, blocks.length);
  if (threads < 2) await lane((block) => runBlock(work.plan, block, work.host));
  else {
    const { Piscina } = await import('piscina');
    const filename = new URL('./check_worker.js', import.meta.url).href;
    const pool = new Piscina({ filename, minThreads: threads, maxThreads: threads, workerData: work });
    try {
      await Promise.all(Array.from({ length: threads }, () => lane((block) => pool.run(block))));
    } finally {
      await pool.destroy();
    }
  }
  return results.filter((r) => r.block <= failed).sort((a, b) => a.block - b.block);
}
