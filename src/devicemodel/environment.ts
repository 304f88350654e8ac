/** What QEMU stands on in dom0: Xen through hypercalls, files (sysfs above all), pseudo terminals. */
import type { Errno, Rc } from '../base/errno.js';
import type { Hypercalls } from '../hypervisor/public/hypercalls.js';
import type { Co } from '../sim/co.js';
import type { EventStream } from '../sim/events.js';
import type { Faults } from '../sim/faults.js';

/** Results and errors as open(2), pread(2) and their like give them. */
export interface QemuFiles {
  readFile(path: string): string | Errno;
  append(path: string, text: string): Rc;
  remove(path: string): Rc;
  pread(path: string, offset: number, bytes: number): Uint8Array | Errno;
  pwrite(path: string, offset: number, data: Uint8Array): Co<Rc>;
}

export interface QemuHost {
  readonly hv: Hypercalls;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly fs: QemuFiles;
  /** The terminal that opening /dev/ptmx gives: its path. */
  openPty(): string;
}

export interface QemuProcess {
  readonly pid: number;
  readonly argv: readonly string[];
}
