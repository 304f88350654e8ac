/**
 * DMA through the unit: context cache, IOTLB, page walk. Floor: floor/translate.c, which has the same tables, the same
 * random numbers and so the same checksum.
 */
import { assignOp, createDomain, hostBridge, hostOf, must, XorShift } from './machines.mjs';

const READ_WRITE = (1 << 6) | (1 << 7);
const DATA_FIRST = 8192;
const DATA_FRAMES = 16384;

/** Eight requesters on one table of 2^20 pages, which lead all over 64 MiB. */
function prepare(lib, kind) {
  const rids = Array.from({ length: 8 }, (_, i) => 0x0300 + i * 0x108);
  const functions = rids.map((rid) => ({ sbdf: rid, kind: 'pcie-endpoint' }));
  const machine = lib.Machine.boot(hostOf(lib, [hostBridge(lib), ...functions]));
  const domid = createDomain(machine, 5);
  for (const rid of rids) must('assign', machine.hypercalls.domctl(assignOp(domid, rid)));
  const { ops, domains } = machine.xen;
  const d = domains.get(domid);
  const acc = { flags: 0 };
  for (let dfn = 0; dfn < 2 ** 20; dfn++) {
    const mfn = DATA_FIRST + ((Math.imul(dfn, 2654435761) >>> 18) % DATA_FRAMES);
    must('map', ops.mapPage(d, dfn, mfn, READ_WRITE, acc));
  }
  for (let i = 0; i < DATA_FRAMES; i++) machine.hw.ram.write32((DATA_FIRST + i) * 4096, 0);
  const unit = machine.units[0];
  const { root } = machine.hw;
  const rng = new XorShift();
  const buffer = new Int32Array(16);
  const loops = {
    hit(n) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += unit.translate(0x0300, rng.next() & 255, false);
      return sum;
    },
    miss(n) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += unit.translate(0x0300, rng.next() & 0xf_ffff, false);
      return sum;
    },
    mixed(n) {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        const r = rng.next();
        sum += unit.translate(rids[(r >>> 21) & 7], r >>> 24 < 230 ? r & 63 : r & 0xf_ffff, false);
      }
      return sum;
    },
    mixed64(n) {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        const r = rng.next();
        const dfn = r >>> 24 < 230 ? r & 63 : r & 0xf_ffff;
        sum += root.readWords(0, rids[(r >>> 21) & 7], dfn * 4096 + (r & 0xfc0), buffer, 0, 16);
        sum += buffer[0] & 0xff;
      }
      return sum;
    },
  };
  loops.mixed(200_000); // the IOTLB as a busy machine leaves it
  return {
    run(n) {
      rng.state = 0x12345;
      return loops[kind](n);
    },
    check(sum, floorSum) {
      if (floorSum !== undefined && floorSum !== sum)
        throw new Error(`frames add up to ${sum}, in C to ${floorSum}`);
      if (!(sum > 0)) throw new Error('some request was refused');
    },
  };
}

const row = (name, kind, operations) => ({
  name: `DMA, ${name}`,
  floor: ['translate', kind],
  operations,
  prepare: (lib) => prepare(lib, kind),
});

export const translateRows = [
  row('hit', 'hit', 4_000_000),
  row('mixed', 'mixed', 2_000_000),
  row('mixed, 64 bytes', 'mixed64', 2_000_000),
  row('miss', 'miss', 1_000_000),
];
