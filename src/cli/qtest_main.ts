/** What bin/xpsim-qemu-system-x86_64 starts. */
import { standIn } from './qtest.js';

standIn(process.argv.slice(2));
