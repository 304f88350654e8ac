/** A machine from its description to running guests, and back to where it was. */
import { assignOp, createDomain, endpoint, hostBridge, hostOf, must } from './machines.mjs';

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

export const bootRows = [
  {
    name: 'boot, 8 devices, 8 domains',
    operations: 3000,
    prepare(lib) {
      const host = describe(lib);
      let last;
      return {
        run(n) {
          let pdevs = 0;
          for (let i = 0; i < n; i++) {
            last = boot(lib, host);
            pdevs += last.xen.pdevs.size;
          }
          return pdevs;
        },
        check(pdevs, _floor, n) {
          if (pdevs !== n * (DEVICES + 1)) throw new Error(`${pdevs} devices in ${n} machines`);
          if (last.translate(0, 1 << 3, 0x800, true) !== 0x800)
            throw new Error('dom0 does not reach its memory');
          must('assign', last.hypercalls.domctl(assignOp(3, 1 << 3)));
        },
      };
    },
  },
  {
    name: 'restore after an assignment',
    operations: 20_000,
    prepare(lib) {
      const machine = boot(lib, describe(lib));
      const before = machine.snapshot();
      const to = assignOp(3, 1 << 3);
      return {
        run(n) {
          let rc = 0;
          for (let i = 0; i < n; i++) {
            rc |= machine.hypercalls.domctl(to);
            machine.restore(before);
          }
          return rc;
        },
        check(rc) {
          must('assign', rc); // -EBUSY had it stayed with the guest
          if (machine.xen.pdevs.get(1 << 3).domain.domid !== 0)
            throw new Error('the device stayed with the guest');
          if (machine.translate(0, 1 << 3, 0x800, true) !== 0x800)
            throw new Error('dom0 does not reach its memory');
          machine.restore(before);
        },
      };
    },
  },
];
