/** All rows, in the order of the table. */
import { assignRows } from './rows/assign.mjs';
import { bootRows } from './rows/boot.mjs';
import { commandRows } from './rows/commands.mjs';
import { pagetableRows } from './rows/pagetable.mjs';
import { scalingRows } from './rows/scaling.mjs';
import { stateRows } from './rows/states.mjs';
import { translateRows } from './rows/translate.mjs';

/** @type {import('./harness.mjs').Row[]} */
export const rows = [
  ...assignRows,
  ...pagetableRows,
  ...translateRows,
  ...bootRows,
  ...commandRows,
  ...stateRows,
  ...scalingRows,
];
