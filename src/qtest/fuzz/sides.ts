/** The simulated side of a comparison. */

import { QtestBoard } from '../board.js';
import { parseCommandLine } from '../board_options.js';
import { EDU_DMA_NS } from '../edu.js';
import { qtestCommand } from '../protocol.js';
import { boardArgs } from './layout.js';
import type { Side } from './player.js';

/** A board in this process; with `asQemu` it deviates where QEMU does. */
export function simulatedSide(asQemu = 'on', unit = ''): Side {
  const board = new QtestBoard(parseCommandLine([...boardArgs(unit), '-machine', `q35,as-qemu=${asQemu}`]));
  return {
    send: async (lines) => lines.map((line) => qtestCommand(board, line)),
    dmaDone: async () => board.clock.advance(EDU_DMA_NS),
    reset: async () => board.reset(),
  };
}
