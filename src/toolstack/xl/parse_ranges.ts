/** ioports=, irqs=, iomem=: what a guest may touch beside its devices. @xen tools/xl/xl_parse.c parse_config_data */
import { scanHex, strtol } from '../xlu/cnum.js';
import type { Parse } from './parse_context.js';

const UINT32_MAX = 0xffff_ffff;

export function parseRanges(p: Parse): void {
  const { cfg, d } = p;
  const texts = (key: string, what: string): string[] => {
    const items = cfg.getList(key);
    if (typeof items === 'number') return [];
    return items.map((item, i) => {
      if (item.kind === 'string') return item.text;
      const n = key === 'ioports' ? `#${i}` : String(i);
      return p.fail(`xl: Unable to get element ${n} in ${what} list\n`);
    });
  };
  d.bInfo.ioports = texts('ioports', 'ioport').map((t) => ioport(p, t));
  d.bInfo.irqs = texts('irqs', 'irq').map((t) => irq(p, t));
  d.bInfo.iomem = texts('iomem', 'iomem').map((t) => iomem(p, t));
}

function ioport(p: Parse, text: string): { first: number; number: number } {
  const from = strtol(text, 0, 16);
  const bad = `xl: Invalid argument parsing ioport: ${text}\n`;
  if (from.end === 0) p.fail(bad);
  if (from.value >= UINT32_MAX) p.fail(`xl: ioport ${from.value.toString(16)} too big\n`);
  let last = from.value;
  if (text[from.end] === '-') {
    const to = strtol(text, from.end + 1, 16);
    if (to.end === from.end + 1 || to.end !== text.length) p.fail(bad);
    if (to.value >= UINT32_MAX) p.fail(`xl: ioport ${to.value.toString(16)} too big\n`);
    last = to.value;
  } else if (from.end !== text.length) p.xl.err(bad);
  return { first: from.value, number: (last - from.value + 1 + 2 ** 32) % 2 ** 32 };
}

function irq(p: Parse, text: string): number {
  const n = strtol(text, 0, 10);
  if (n.end === 0 || n.end !== text.length) p.fail(`xl: Invalid argument parsing irq: ${text}\n`);
  if (n.value >= UINT32_MAX) p.fail(`xl: irq ${n.value.toString(16)} too big\n`);
  return n.value;
}

/** `START,COUNT[@GFN]` in hex. */
function iomem(p: Parse, text: string): { start: number; number: number; gfn: number } {
  const bad = `xl: Invalid argument parsing iomem: ${text}\n`;
  const start = scanHex(text, 0) ?? p.fail(bad);
  if (text[start.end] !== ',') p.fail(bad);
  const number = scanHex(text, start.end + 1) ?? p.fail(bad);
  let gfn = -1;
  let end = number.end;
  if (text[end] === '@') {
    const g = scanHex(text, end + 1);
    if (g !== undefined) {
      gfn = g.value;
      end = g.end;
    }
  }
  if (end !== text.length) p.fail(bad);
  return { start: start.value, number: number.value, gfn };
}
