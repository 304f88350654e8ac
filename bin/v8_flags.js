/**
 * V8 inlines at most 920 bytes of bytecode into one function, and of small functions until it has 4,600. The simulator is
 * made of many small functions, as Xen is, and gains a sixth on the assignment path and a quarter on the page tables
 * from more (docs/benchmarks.md).
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--max-inlined-bytecode-size-cumulative=8000');
setFlagsFromString('--max-inlined-bytecode-size-absolute=9200');
