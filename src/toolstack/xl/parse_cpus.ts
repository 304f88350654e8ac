/** cpus= and cpus_soft=: sets of physical CPUs. @xen tools/xl/xl_parse.c update_cpumap_range */
import { strtol } from '../xlu/cnum.js';
import { type Xl, XlExit } from './context.js';
import type { Parse } from './parse_context.js';

/** `4`, `2-5`; undefined when it is neither. @xen parse_range */
function parseRange(text: string): { from: number; to: number } | undefined {
  const from = strtol(text, 0, 10);
  if (from.end === 0 || from.overflow) return undefined;
  let to = from;
  if (text[from.end] === '-') {
    to = strtol(text, from.end + 1, 10);
    if (to.end === from.end + 1 || to.overflow || to.value < from.value) return undefined;
  }
  return to.end === text.length ? { from: from.value, to: to.value } : undefined;
}

/** `all,^3`, `node:0`: CPU numbers, rising. Exits on nonsense. */
export function parseCpuRange(p: Pick<Parse, 'xl' | 'fail'>, text: string): number[] {
  const host = p.xl.lx.physinfo();
  // libxl's maps are whole bytes.
  const size = Math.ceil((host.maxCpuId + 1) / 8) * 8;
  const set = new Set<number>();
  for (const item of text.split(',').filter((w) => w !== '')) {
    const not = item.startsWith('^');
    const rest = not ? item.slice(1) : item;
    const nodes = /^nodes?:/.exec(rest);
    const range = nodes === null ? rest : rest.slice(nodes[0].length);
    if (range === 'all') {
      if (not) p.fail('Can\'t combine "^" and "all".\n');
      for (let i = 0; i < size; i++) set.add(i);
      continue;
    }
    const r = parseRange(range) ?? p.fail(`Invalid pcpu range: ${range}.\n`);
    for (let i = r.from; i <= Math.min(r.to, size); i++) {
      // Everything is on node 0.
      const cpus = nodes === null ? [i] : i === 0 ? Array.from({ length: host.nrCpus }, (_, c) => c) : [];
      for (const cpu of cpus) {
        if (not) set.delete(cpu);
        else if (cpu < size) set.add(cpu);
      }
    }
  }
  return [...set].sort((a, b) => a - b);
}

/**
 * Sets of CPUs as the global masks leave them: all there are, since xl.conf has no masks in the simulator. Exits when
 * none is left. @xen tools/xl/xl_vcpu.c apply_global_affinity_masks
 */
export function applyGlobalMasks(xl: Xl, maps: readonly (readonly number[])[]): void {
  if (maps.every((map) => map.length > 0)) return;
  xl.err('vcpu hard affinity map is empty\n');
  throw new XlExit(1);
}
