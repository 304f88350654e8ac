/** Text of lspci taken apart, and functions of a dump as lspci would see them. */
import type { FunctionDescription } from '../../src/inputs/host_description.js';
import type { LspciDevice } from '../../src/toolstack/shell/lspci_device.js';

/** The lines below the first line of each function, by what that line begins with. */
export function listings(text: string): Map<string, string[]> {
  const out = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of text.split('\n')) {
    const m = /^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) /.exec(line);
    if (m === null) {
      lines.push(line);
      continue;
    }
    lines = out.get(m[1]!) ?? [];
    out.set(m[1]!, lines);
  }
  return out;
}

/** A function of a dump without what a kernel knows about it. */
export function dumpedDevice(f: FunctionDescription): LspciDevice {
  const view = new DataView(f.config.buffer, f.config.byteOffset, f.config.length);
  const read = (reg: number, bytes: number): number =>
    bytes === 1 ? view.getUint8(reg) : bytes === 2 ? view.getUint16(reg, true) : view.getUint32(reg, true);
  const headerType = read(0x0e, 1) & 0x7f;
  return {
    sbdf: f.sbdf,
    vendor: read(0, 2),
    device: read(2, 2),
    classCode: read(8, 4) >>> 8,
    revision: read(8, 1),
    subsystemVendor: headerType === 0 ? read(0x2c, 2) : 0,
    subsystemDevice: headerType === 0 ? read(0x2e, 2) : 0,
    headerType,
    irq: 0,
    driver: undefined,
    modules: [],
    resources: [],
    configBytes: f.config.length,
    read,
  };
}

const BYTES: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** What only the kernel knew, out of the listing of one function: resources and interrupt. */
export function toldByKernel(lines: readonly string[]): Pick<LspciDevice, 'irq' | 'resources'> {
  const resources = Array.from({ length: 7 }, () => ({ start: 0, end: 0, flags: 0 }));
  let irq = 0;
  for (const line of lines) {
    irq = Number(/routed to IRQ (\d+)/.exec(line)?.[1] ?? irq);
    const m = /^\tRegion (\d): (Memory|I\/O ports) at (\w+)(.*)/.exec(line);
    if (m === null) continue;
    const [, size, unit] = /\[size=(\d+)([KMG]?)\]/.exec(m[4]!) ?? [];
    const start = Number.parseInt(m[3]!, 16);
    const memory = 0x200 + (m[4]!.includes('64-bit') ? 4 : 0) + (/[^-]prefetch/.test(m[4]!) ? 8 : 0);
    resources[Number(m[1])] = {
      start,
      end: start + Number(size ?? 1) * (BYTES[unit ?? ''] ?? 1) - 1,
      flags: m[2] === 'Memory' ? memory : 0x101,
    };
  }
  return { irq, resources };
}
