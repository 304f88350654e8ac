/** A machine from its description to running guests, and back to where it was. */
import { cpuNs } from '../harness.mjs';
import { assignOp, createDomain, deassignOp, endpoint, hostBridge, hostOf, must } from './machines.mjs';

const DEVICES = 8;
const DOMAINS = 8;

/** The default machine: one VT-d unit, eight devices, eight guests. */
const describe = (lib) =>
  hostOf(lib, [hostBridge(lib), ...Array.from({ length: DEVICES }, (_, i) => endpoint(lib, 0, 0, i + 1))]);

function boot(lib, host) {
  const machine = lib.Machine.boot(host);
  for (let i = 1; i <= DOMAINS; i++) createDomain(machine, i);
  return machine;
}

/** Pairs between two looks at the clock. */
const BATCH = 500;

/**
 * A device goes to a guest and back, and the machine to its snapshot; batches of the same pairs without the return take
 * turns with those, and the difference is the restore.
 */
function restoring(lib) {
  const machine = boot(lib, describe(lib));
  const { hypercalls } = machine;
  const device = 1 << 3;
  must('quarantine', hypercalls.domctl(assignOp(lib.DOMID.IO, device)));
  const before = machine.snapshot();
  const to = assignOp(3, device);
  const from = deassignOp(3, device);
  let took = 0;
  const pairs = (n) => {
    let rc = 0;
    for (let i = 0; i < n; i++) rc |= hypercalls.domctl(to) | hypercalls.domctl(from);
    return rc;
  };
  const pairsAndBack = (n) => {
    let rc = 0;
    for (let i = 0; i < n; i++) {
      rc |= hypercalls.domctl(to) | hypercalls.domctl(from);
      machine.restore(before);
    }
    return rc;
  };
  return {
    run(n) {
      let rc = 0;
      took = 0;
      for (let done = 0; done < n; done += BATCH) {
        const many = Math.min(BATCH, n - done);
        const start = cpuNs();
        rc |= pairs(many);
        const middle = cpuNs();
        rc |= pairsAndBack(many);
        took += cpuNs() - middle - (middle - start);
      }
      return rc;
    },
    took: () => took,
    check(rc) {
      must('assign and deassign', rc);
      must('assign', hypercalls.domctl(to));
      machine.restore(before);
      if (machine.xen.pdevs.get(device).domain.domid !== lib.DOMID.IO)
        throw new Error('the device stayed with the guest');
      if (machine.translate(0, 2 << 3, 0x800, true) !== 0x800)
        throw new Error('dom0 does not reach its memory');
    },
  };
}

/** Machines one after another; each gives its memory to the next one where `disposes`. */
function booting(lib, disposes) {
  const host = describe(lib);
  let last;
  return {
    run(n) {
      let pdevs = 0;
      for (let i = 0; i < n; i++) {
        // Builds from before machines gave their memory back have no dispose().
        if (disposes) last?.dispose?.();
        last = boot(lib, host);
        pdevs += last.xen.pdevs.size;
      }
      return pdevs;
    },
    check(pdevs, _floor, n) {
      if (pdevs !== n * (DEVICES + 1)) throw new Error(`${pdevs} devices in ${n} machines`);
      if (last.translate(0, 1 << 3, 0x800, true) !== 0x800) throw new Error('dom0 does not reach its memory');
      must('assign', last.hypercalls.domctl(assignOp(3, 1 << 3)));
    },
  };
}

export const bootRows = [
  {
    name: 'boot, 8 devices, 8 domains',
    operations: 3000,
    prepare: (lib) => booting(lib, true),
  },
  {
    name: 'boot, memory made anew',
    operations: 3000,
    prepare: (lib) => booting(lib, false),
  },
  {
    name: 'restore after an assignment and back',
    operations: 20_000,
    prepare: restoring,
  },
];
