/** /proc/iomem: memory, windows of bridges and what devices decode, one inside the other. @linux kernel/resource.c r_show */
import type { Dom0Kernel } from '../kernel/kernel.js';
import { BRIDGE_RESOURCE, IORESOURCE } from '../kernel/pci_dev.js';

/** A range of the firmware's memory map; `end` is the first address behind it. */
export interface MemoryRange {
  readonly start: number;
  readonly end: number;
  readonly type: string;
}

interface Line {
  readonly start: number;
  /** Last address. */
  readonly end: number;
  readonly name: string;
}

/** Deeper levels are shown like this one. @linux MAX_IORES_LEVEL */
const LEVEL_MAX = 5;
const hex = (n: number): string => n.toString(16).padStart(8, '0');

export function iomemText(kernel: Dom0Kernel, memory: readonly MemoryRange[]): string {
  const lines = [...memoryLines(memory), ...pciLines(kernel)];
  lines.sort((a, b) => a.start - b.start || b.end - a.end);
  const around: Line[] = [];
  return lines
    .map((line) => {
      while (around.length > 0 && around.at(-1)!.end < line.end) around.pop();
      const depth = Math.min(around.length, LEVEL_MAX - 1);
      around.push(line);
      return `${'  '.repeat(depth)}${hex(line.start)}-${hex(line.end)} : ${line.name}\n`;
    })
    .join('');
}

const memoryLines = (memory: readonly MemoryRange[]): Line[] =>
  memory.map((e) => ({
    start: e.start,
    end: e.end - 1,
    name: e.type === 'usable' ? 'System RAM' : 'Reserved',
  }));

function pciLines(kernel: Dom0Kernel): Line[] {
  const lines: Line[] = [];
  for (const dev of kernel.pci.devices.values()) {
    for (const [i, r] of dev.resources.entries()) {
      if ((r.flags & IORESOURCE.MEM) === 0 || r.end < r.start || r.end === 0) continue;
      const below = i >= BRIDGE_RESOURCE ? dev.subordinate : undefined;
      if (i >= BRIDGE_RESOURCE && below === undefined) continue;
      const name = below === undefined ? dev.name : `PCI Bus ${busName(below.seg, below.number)}`;
      lines.push({ start: r.start, end: r.end, name });
    }
  }
  return lines;
}

const busName = (seg: number, bus: number): string =>
  `${seg.toString(16).padStart(4, '0')}:${bus.toString(16).padStart(2, '0')}`;
