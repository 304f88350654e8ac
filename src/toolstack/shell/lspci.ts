/** lspci over any machine: dom0's devices, or what a guest sees on its bus. @pciutils lspci.c, ls-tree.c */
import { formatBdf, hex, segOf } from '../../base/sbdf.js';
import { deviceName, lspciLine } from '../../pci/names.js';
import type { Stdio } from '../dom0.js';
import { type LspciDevice, subsystemLine } from './lspci_device.js';
import { matches, parseFilter } from './lspci_filter.js';
import { showMachine } from './lspci_machine.js';
import { showVerbose } from './lspci_verbose.js';
import { options } from './program.js';

export function lspci(devices: readonly LspciDevice[], argv: readonly string[], io: Stdio): number {
  const o = options(argv, 'vnkDxtbs:d:mqQ');
  if (o.unknown !== undefined || o.args.length > 0) {
    io.err(`lspci: ${o.unknown === undefined ? 'Too many arguments' : `invalid option -- '${o.unknown}'`}\n`);
    return 1;
  }
  // Only addresses and interrupts are told as the bus sees them.
  if (o.flags.has('b') && o.flags.has('v')) {
    io.err('lspci: -b: with -v this option is not simulated\n');
    return 1;
  }
  const filter = parseFilter(o.values.get('s') ?? [], o.values.get('d') ?? []);
  if (typeof filter === 'string') {
    io.err(`lspci: ${filter}\n`);
    return 1;
  }
  const sorted = [...devices].sort((a, b) => a.sbdf - b.sbdf);
  const shown = sorted.filter((d) => matches(d, filter));
  const many = argv.join(' ').match(/n/g)?.length ?? 0;
  const letters = argv
    .slice(1)
    .filter((a) => /^-[a-zA-Z]+$/.test(a))
    .join('');
  const count = (c: string): number => letters.split(c).length - 1;
  if (o.flags.has('t')) {
    io.out(tree(shown, count('v') > 0));
    return 0;
  }
  const numbers = count('n') >= 2 ? 'both' : count('n') === 1 && many > 0 ? 'numbers' : 'names';
  const domain = o.flags.has('D') || sorted.some((d) => segOf(d.sbdf) !== 0);
  if (count('m') > 0) {
    const [verbose, twice, kernel] = [count('v') > 0, count('m') > 1, o.flags.has('k')];
    const form = { ids: numbers, verbose, twice, kernel, domain: o.flags.has('D') } as const;
    for (const d of shown) {
      const more = count('x') > 0 ? dump(d, count('x')) : '';
      io.out(`${showMachine(d, form)}${more}${verbose || more !== '' ? '\n' : ''}`);
    }
    return 0;
  }
  for (const d of shown.map((s) => ({ ...s, ids: numbers }) as const)) {
    const line = lspciLine(d, { ids: numbers, domain });
    const verbose = count('v');
    io.out(`${line}${verbose > 0 ? progIf(d) : ''}\n`);
    if (verbose > 0) io.out(showVerbose(d, verbose));
    else if (o.flags.has('k')) io.out(subsystemLine(d));
    if (verbose > 0 || o.flags.has('k')) io.out(driverLines(d));
    if (count('x') > 0) io.out(dump(d, count('x')));
    if (verbose > 0 || count('x') > 0) io.out('\n');
  }
  return 0;
}

const PROG_IFS: ReadonlyMap<number, string> = new Map([
  [0x010180, 'ISA Compatibility mode-only controller, supports bus mastering'],
  [0x010601, 'AHCI 1.0'],
  [0x010802, 'NVM Express'],
  [0x030000, 'VGA controller'],
  [0x060400, 'Normal decode'],
  [0x060401, 'Subtractive decode'],
  [0x0c0320, 'EHCI'],
  [0x0c0330, 'XHCI'],
]);
function progIf(d: LspciDevice): string {
  const name = PROG_IFS.get(d.classCode);
  if (name === undefined && (d.classCode & 0xff) === 0) return '';
  return ` (prog-if ${hex(d.classCode & 0xff, 2)}${name === undefined ? '' : ` [${name}]`})`;
}

const driverLines = (d: LspciDevice): string =>
  (d.driver === undefined ? '' : `\tKernel driver in use: ${d.driver}\n`) +
  (d.modules.length === 0 ? '' : `\tKernel modules: ${d.modules.join(', ')}\n`);

/** `-x` 64 bytes, `-xxx` 256, `-xxxx` everything. */
function dump(d: LspciDevice, level: number): string {
  const bytes = Math.min(d.configBytes, level >= 4 ? 4096 : level === 3 ? 256 : 64);
  let out = '';
  for (let at = 0; at < bytes; at += 16) {
    const row = Array.from({ length: 16 }, (_, i) => hex(d.read(at + i, 1), 2));
    out += `${hex(at, 2)}: ${row.join(' ')}\n`;
  }
  return out;
}

/** `-t`: what is printed before a device turns into bars and blanks on the lines below it. */
function tree(devices: readonly LspciDevice[], verbose: boolean): string {
  const byBus = new Map<number, LspciDevice[]>();
  for (const d of devices) byBus.set(d.sbdf >>> 8, [...(byBus.get(d.sbdf >>> 8) ?? []), d]);
  const behind = new Set(
    devices.filter((d) => d.headerType === 1).map((d) => (segOf(d.sbdf) << 8) | d.read(0x19, 1)),
  );
  const roots = [...byBus.keys()].filter((b) => !behind.has(b)).sort((a, b) => a - b);
  const lines: string[] = [];
  let line = '';
  const printLine = (text: string): void => {
    lines.push(text.replace(/ +$/, ''));
    line = [...text].map((c) => (c === '+' || c === '|' ? '|' : ' ')).join('');
  };
  const device = (d: LspciDevice, column: number): void => {
    let text = `${line.slice(0, column)}${formatBdf(d.sbdf).slice(3)}`;
    if (d.headerType === 1) {
      const [secondary, last] = [d.read(0x19, 1), d.read(0x1a, 1)];
      text += `-[${hex(secondary, 2)}${last === secondary ? '' : `-${hex(last, 2)}`}]--`;
      line = text;
      bus(byBus.get((segOf(d.sbdf) << 8) | secondary) ?? [], text.length);
      return;
    }
    printLine(verbose ? `${text}  ${deviceName(d)}` : text);
  };
  const bus = (list: readonly LspciDevice[], column: number): void => {
    if (list.length === 0) printLine(line.slice(0, column));
    list.forEach((d, i) => {
      const mark = list.length === 1 ? '--' : i === list.length - 1 ? '\\-' : '+-';
      line = line.slice(0, column).padEnd(column) + mark;
      device(d, column + 2);
    });
  };
  roots.forEach((b, i) => {
    const mark = roots.length === 1 ? '-' : i === roots.length - 1 ? ' \\-' : i === 0 ? '-+-' : ' +-';
    line = `${mark}[${hex(b >>> 8, 4)}:${hex(b & 0xff, 2)}]-`;
    bus(byBus.get(b)!, line.length);
  });
  return lines.map((l) => `${l}\n`).join('');
}
