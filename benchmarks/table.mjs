/** The table that people read: at most 100 columns. */

const time = (ns) => {
  if (ns === null) return '-';
  if (ns >= 1e7) return `${(ns / 1e6).toFixed(1)} ms`;
  if (ns >= 1e4) return `${(ns / 1e3).toFixed(1)} us`;
  return `${ns.toFixed(1)} ns`;
};

export function printHead(withFloor, o) {
  const work = o.quick ? 'little work a round: no measurement' : `medians of ${o.rounds} rounds`;
  console.log(`CPU time for one operation, ${work}${withFloor ? '' : '; no C compiler, so no floor'}`);
  console.log(line('row', 'time', 'floor', 'ratio', 'aim'));
  console.log('-'.repeat(98));
}

export function printRow({ name, ns, floor_ns, ratio, base }) {
  const of = ratio === null ? '-' : `x${ratio.toFixed(2)}`;
  const aim = AIMS.find((a) => a.row.test(name));
  const ok =
    aim === undefined
      ? undefined
      : aim.ratio !== undefined
        ? ratio === null || ratio <= aim.ratio
        : ns <= aim.ns;
  const text = aim === undefined ? '' : aim.ratio !== undefined ? `x${aim.ratio.toFixed(2)}` : time(aim.ns);
  console.log(
    line(
      name,
      time(ns),
      base ?? time(floor_ns),
      of,
      ok === undefined ? '' : `${text} ${ok ? 'met' : 'MISSED'}`,
    ),
  );
}

const line = (name, ns, floor, ratio, aim) =>
  `${name.padEnd(42)}${ns.padStart(11)}${floor.padStart(16)}${ratio.padStart(10)}   ${aim}`.trimEnd();

/** What the project promises. Ratios are against the floor, or against the smallest machine where rows scale. */
const AIMS = [
  { row: /^assign\+deassign, 1 function$/, ratio: 3.75 },
  { row: /^assign\+deassign, 8 functions$/, ratio: 4.4 },
  { row: /^assign\+deassign, quarantine off$/, ratio: 5 },
  { row: /^map\+unmap/, ratio: 3 },
  { row: /^DMA, hit$/, ratio: 1.5 },
  { row: /^DMA, mixed$/, ratio: 1.6 },
  { row: /^DMA, mixed, 64 bytes$/, ratio: 2 },
  { row: /^DMA, miss$/, ratio: 2.75 },
  { row: /, (4096|256) devices$/, ratio: 1.25 },
  { row: /, (16384|65536) devices$/, ratio: 2.5 },
  { row: /, (64|4096) domains$/, ratio: 1.3 },
  { row: /^protocol states/, ratio: 1 },
  { row: /^boot, 8/, ns: 25_000 },
  { row: /^restore/, ns: 3_000 },
  { row: /seeded driver$/, ns: 200 },
  { row: /decoded array$/, ns: 500 },
  { row: /fc\.commands/, ns: 1250 },
];
