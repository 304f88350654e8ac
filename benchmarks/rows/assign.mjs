/** A device goes to a guest and back, by hypercall. Floor: floor/assign.c, on the same machine. */
import { assignOp, createDomain, deassignOp, endpoint, hostBridge, hostOf, must } from './machines.mjs';

/** Ten devices, the third with phantom functions at stride 1, and sixteen guests. */
function boot(lib, cmdline) {
  const functions = [hostBridge(lib)];
  for (let i = 0; i < 10; i++) functions.push(endpoint(lib, i + 1, i === 2 ? 3 : 0));
  const machine = lib.Machine.boot(hostOf(lib, functions), { cmdline });
  for (let i = 1; i <= 16; i++) createDomain(machine, i);
  return machine;
}

/** One device between a guest and `home`, which is where it is before and after. */
function pairs(machine, sbdf, home) {
  const { hypercalls, xen } = machine;
  const to = assignOp(1, sbdf);
  const from = deassignOp(1, sbdf);
  return {
    run(n) {
      let rc = 0;
      for (let i = 0; i < n; i++) rc |= hypercalls.domctl(to) | hypercalls.domctl(from);
      return rc;
    },
    check(rc) {
      must('assign and deassign', rc);
      if (xen.pdevs.get(sbdf).domain.domid !== home) throw new Error('the device did not come back');
      must('assign', hypercalls.domctl(to));
      if (machine.translate(0, sbdf & 0xffff, 0x123, false) >= 0) throw new Error('the guest has no memory');
      if (xen.pdevs.get(sbdf).domain.domid !== 1) throw new Error('the device did not move');
      must('deassign', hypercalls.domctl(from));
    },
  };
}

function row(name, twin, bus, quarantine) {
  return {
    name,
    floor: ['assign', twin],
    operations: twin === 'phantom8' ? 40_000 : 150_000,
    prepare(lib) {
      const machine = boot(lib, quarantine ? '' : 'iommu=no-quarantine');
      const home = quarantine ? lib.DOMID.IO : 0;
      for (let b = 1; b <= 10 && quarantine; b++) {
        must('quarantine', machine.hypercalls.domctl(assignOp(home, lib.sbdf(0, b, 0, 0))));
      }
      return pairs(machine, lib.sbdf(0, bus, 0, 0), home);
    },
  };
}

export const assignRows = [
  row('assign+deassign, 1 function', 'one', 1, true),
  row('assign+deassign, 8 functions', 'phantom8', 3, true),
  row('assign+deassign, quarantine off', 'noquarantine', 4, false),
];
