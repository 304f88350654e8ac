/** Map and unmap of one page at the driver's door. Floor: floor/pagetable.c, with the same pages in the same order. */
import { assignOp, createDomain, endpoint, hostBridge, hostOf, must, XorShift } from './machines.mjs';

const READ_WRITE = (1 << 6) | (1 << 7);

function prepare(lib, order, flush) {
  const machine = lib.Machine.boot(hostOf(lib, [hostBridge(lib), endpoint(lib, 1)]));
  const domid = createDomain(machine);
  must('assign', machine.hypercalls.domctl(assignOp(domid, lib.sbdf(0, 1, 0, 0))));
  const { ops, domains } = machine.xen;
  const d = domains.get(domid);
  const acc = { flags: 0 };
  const map = (dfn, mfn, o) => must('map', ops.mapPage(d, dfn, mfn, READ_WRITE | o, acc));
  // One resident page in each table, so that tables stay.
  for (let i = 0; i < 64; i++) map(i * 512 + 511, 4096 + i * 7, 0);
  if (order > 0) for (let i = 0; i < 4; i++) map((i + 8) * 2 ** 18, 2 ** 19, 0);
  const rng = new XorShift();
  const pages = 2 ** order;
  return {
    run(n) {
      let sum = 0;
      rng.state = 0x12345;
      for (let i = 0; i < n; i++) {
        const r = rng.next();
        const dfn =
          order > 0
            ? ((r & 3) + 8) * 2 ** 18 + (1 + ((r >>> 8) % 510)) * 512
            : (r & 63) * 512 + ((r >>> 11) % 500);
        acc.flags = 0;
        if (ops.mapPage(d, dfn, ((r >>> 3) & 0xf_ffff) * pages, READ_WRITE | order, acc) !== 0) return -1;
        if (flush && acc.flags !== 0) ops.iotlbFlush(d, dfn, pages, acc.flags);
        acc.flags = 0;
        if (ops.unmapPage(d, dfn, order, acc) !== 0) return -1;
        if (flush) ops.iotlbFlush(d, dfn, pages, acc.flags);
        sum += acc.flags;
      }
      return sum;
    },
    check(sum, floorSum, n) {
      if (sum !== 2 * n || (floorSum !== undefined && floorSum !== sum))
        throw new Error(`flags add up to ${sum}`);
    },
  };
}

const row = (name, twin, order, flush) => ({
  name: `map+unmap ${name}`,
  floor: ['pagetable', twin],
  operations: 300_000,
  prepare: (lib) => prepare(lib, order, flush),
});

export const pagetableRows = [
  row('4K', '4k', 0, false),
  row('4K, with flush', '4kflush', 0, true),
  row('2M', '2m', 9, false),
  row('2M, with flush', '2mflush', 9, true),
];
