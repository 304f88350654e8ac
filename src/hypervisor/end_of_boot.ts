/**
 * What Xen says once dom0 is built: of the memory that is left, of its own log levels, and to whom its console belongs.
 * @xen common/page_alloc.c heap_init_late, drivers/char/console.c console_endboot
 */
import { XENLOG } from '../iommu/driver/types.js';
import type { CmdlineResult } from './cmdline.js';
import type { Xen } from './xen.js';

const PAGE = 4096;
/** Dom0 hears of it when less memory than this is free. */
const LOW_MEM_DEFAULT = 64 * 2 ** 20;

/** Init sections of the image whose build id `XenVersion` gives. @xen arch/x86/setup.c init_done */
const INIT_KB = 656;

/** @xen common/warning.c, drivers/char/console.c warning_sync_console */
const SYNC_WARNING: readonly string[] = [
  '***************************************************',
  'WARNING: CONSOLE OUTPUT IS SYNCHRONOUS',
  'This option is intended to aid debugging of Xen by ensuring',
  'that all output is synchronously delivered on the serial line.',
  'However it can introduce SIGNIFICANT latencies and affect',
  'timekeeping. It is NOT recommended for production use!',
  '***************************************************',
  '3... 2... 1... ',
];

export function endOfBoot(xen: Xen, o: CmdlineResult): void {
  const print = (text: string): void => xen.console.printk(XENLOG.WARNING, text);
  print(
    `Initial low memory virq threshold set at 0x${lowMemoryPages(xen.heap.freeFrames).toString(16)} pages.`,
  );
  if (o.scrubsInBackground) print('Scrubbing Free RAM in background');
  print(`Std. Loglevel: ${xen.console.levels('host')}`);
  print(`Guest Loglevel: ${xen.console.levels('guest')}`);
  if (o.syncConsole) for (const line of SYNC_WARNING) print(line);
  print("*** Serial input to DOM0 (type 'CTRL-a' three times to switch input)");
  print(`Freed ${INIT_KB}kB init memory`);
}

/** In whole powers of two, where `low_mem_virq_limit=` is silent. @xen setup_low_mem_virq */
function lowMemoryPages(freeFrames: number): number {
  const free = freeFrames * PAGE;
  const bytes = free <= LOW_MEM_DEFAULT ? free / 2 : LOW_MEM_DEFAULT;
  return 2 ** Math.floor(Math.log2(Math.max(bytes, PAGE) / PAGE));
}
