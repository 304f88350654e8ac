/** Does a hypercall cost more when there are more devices, or more guests? Random device, quarantine off. */
import { assignOp, createDomain, deassignOp, hostBridge, hostOf, must, XorShift } from './machines.mjs';

/** `count` endpoints, eight functions to a slot, from 00:01.0 on; the last ones give way to the host bridge's slot. */
function machineWith(lib, count) {
  const functions = [hostBridge(lib)];
  for (let bdf = 8; functions.length < count + 1 && bdf < 0x1_0000; bdf++) {
    functions.push({ sbdf: bdf, kind: 'pcie-endpoint' });
  }
  return lib.Machine.boot(hostOf(lib, functions), { cmdline: 'iommu=no-quarantine' });
}

/** The first of so many numbers that follow one another: a list of them would take cache lines of its own. */
function firstOf(numbers) {
  if (numbers.some((x, i) => x !== numbers[0] + i))
    throw new Error('they are not numbered one after the other');
  return numbers[0];
}

/** Pairs of a random device and a random guest. */
function pairs(machine, devices, domids) {
  const firstDevice = firstOf(devices);
  const firstDomid = firstOf(domids);
  const { length: deviceCount } = devices;
  const { length: domainCount } = domids;
  const { hypercalls } = machine;
  const rng = new XorShift();
  const to = assignOp(0, 0);
  const from = deassignOp(0, 0);
  return {
    run(n) {
      let rc = 0;
      for (let i = 0; i < n; i++) {
        to.machineSbdf = from.machineSbdf = firstDevice + (rng.next() % deviceCount);
        to.domid = from.domid = firstDomid + (rng.next() % domainCount);
        rc |= hypercalls.domctl(to) | hypercalls.domctl(from);
      }
      return rc;
    },
    check(rc) {
      must('assign and deassign', rc);
      for (const at of devices)
        if (machine.xen.pdevs.get(at).domain.domid !== 0) throw new Error('not all came back');
    },
  };
}

/** Every guest's table exists before the clock runs. */
function useAll(machine, device, domids) {
  for (const domid of domids) {
    must('assign', machine.hypercalls.domctl(assignOp(domid, device)));
    must('deassign', machine.hypercalls.domctl(deassignOp(domid, device)));
  }
}

const DEVICES = [10, 256, 4096, 16384, 65536];
const DOMAINS = [1, 64, 4096];

export const scalingRows = [
  {
    name: 'assign+deassign by devices',
    sizes: DEVICES.map((n) => `${n} devices`),
    operations: 60_000,
    prepare: (lib) =>
      DEVICES.map((count) => {
        const machine = machineWith(lib, count);
        const devices = [...machine.xen.pdevs.keys()].filter((at) => at !== 0);
        const domids = Array.from({ length: 16 }, () => createDomain(machine));
        useAll(machine, devices[0], domids);
        return pairs(machine, devices, domids);
      }),
  },
  {
    name: 'assign+deassign by domains',
    sizes: DOMAINS.map((n) => `${n} domains`),
    operations: 60_000,
    prepare: (lib) =>
      DOMAINS.map((count) => {
        const machine = machineWith(lib, 10);
        const devices = [...machine.xen.pdevs.keys()].filter((at) => at !== 0);
        const domids = Array.from({ length: count }, () => createDomain(machine));
        useAll(machine, devices[0], domids);
        return pairs(machine, devices, domids);
      }),
  },
];
