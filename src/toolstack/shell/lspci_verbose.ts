/** The indented lines of `lspci -v`, `-vv` and `-vvv`. @pciutils lspci.c show_verbose */
import { hex } from '../../base/sbdf.js';
import { PCI } from '../../pci/registers.js';
import { capabilities } from './lspci_caps.js';
import { type LspciDevice, subsystemLine } from './lspci_device.js';
import { devsel, flags, long, size } from './lspci_text.js';

/** `level` is the number of v's. */
export function showVerbose(d: LspciDevice, level: number): string {
  const slot = d.slot === undefined ? '' : `\tPhysical Slot: ${d.slot}\n`;
  const known = subsystemLine(d);
  if (d.headerType > 2) return `${known}\t!!! Unknown header type ${hex(d.headerType, 2)}\n${slot}`;
  return known + slot + (level > 1 ? control(d) : summary(d)) + bist(d) + header(d, level);
}

function header(d: LspciDevice, level: number): string {
  if (d.headerType === 2)
    return regions(d, 1, level) + cardbus(d, level) + capabilities(d, level, CARDBUS_CAPABILITY_LIST);
  const own =
    d.headerType === 1
      ? regions(d, 2, level) + bridge(d, level)
      : regions(d, 6, level) + rom(d, PCI.ROM_ADDRESS);
  return own + capabilities(d, level, PCI.CAPABILITY_LIST);
}

/** `-v`: one line. */
function summary(d: LspciDevice): string {
  const command = d.read(PCI.COMMAND, 2);
  const status = d.read(PCI.STATUS, 2);
  const master = (command & 4) !== 0;
  const words = [
    ...(master ? ['bus master'] : []),
    ...((command & 0x20) !== 0 ? ['VGA palette snoop'] : []),
    ...((command & 0x80) !== 0 ? ['stepping'] : []),
    ...((command & 0x200) !== 0 ? ['fast Back2Back'] : []),
    ...((status & 0x20) !== 0 ? ['66MHz'] : []),
    ...((status & 0x40) !== 0 ? ['user-definable features'] : []),
    `${devsel(status)} devsel`,
    ...(master ? [`latency ${d.read(0x0d, 1)}`] : []),
    ...(d.irq !== 0 ? [`IRQ ${d.irq}`] : []),
  ];
  return `\tFlags: ${words.join(', ')}\n`;
}

/** `-vv`: command and status bit by bit, latency, interrupt. */
function control(d: LspciDevice): string {
  const command = d.read(PCI.COMMAND, 2);
  const status = d.read(PCI.STATUS, 2);
  const names = 'I/O Mem BusMaster SpecCycle MemWINV VGASnoop ParErr Stepping SERR FastB2B DisINTx';
  const aborts = '>TAbort@11 <TAbort <MAbort >SERR <PERR';
  let out = `\tControl: ${flags(command, names)}\n`;
  out += `\tStatus: ${flags(status, 'Cap@4 66MHz UDF FastB2B ParErr')} DEVSEL=${devsel(status)} ${flags(status, aborts)} ${flags(status, 'INTx@3')}\n`;
  if ((command & 4) !== 0) {
    const [least, most] = d.headerType === 0 ? [d.read(0x3e, 1), d.read(0x3f, 1)] : [0, 0];
    const wishes = [
      ...(least !== 0 ? [`${least * 250}ns min`] : []),
      ...(most !== 0 ? [`${most * 250}ns max`] : []),
    ];
    const line = d.read(0x0c, 1);
    out += `\tLatency: ${d.read(0x0d, 1)}${wishes.length > 0 ? ` (${wishes.join(', ')})` : ''}`;
    out += `${line !== 0 ? `, Cache Line Size: ${line * 4} bytes` : ''}\n`;
  }
  const pin = d.read(PCI.INTERRUPT_PIN, 1);
  if (pin === 0 && d.irq === 0) return out;
  return `${out}\tInterrupt: pin ${pin === 0 ? '?' : String.fromCharCode(0x40 + pin)} routed to IRQ ${d.irq}\n`;
}

function bist(d: LspciDevice): string {
  const value = d.read(0x0f, 1);
  if ((value & 0x80) === 0) return '';
  return (value & 0x40) !== 0 ? '\tBIST is running\n' : `\tBIST result: ${hex(value & 15, 2)}\n`;
}

/** The kernel's resources; one that the device itself does not hold (of a virtual function) is virtual. */
function regions(d: LspciDevice, count: number, level: number): string {
  const command = d.read(PCI.COMMAND, 2);
  let out = '';
  d.resources.slice(0, count).forEach((r, i) => {
    if (r.flags === 0) return;
    const io = (r.flags & 0x100) !== 0;
    const at = PCI.BASE_ADDRESS_0 + 4 * i;
    const low = d.read(at, 4);
    const high = !io && (low & 7) === 4 && i < count - 1 ? d.read(at + 4, 4) : 0;
    const unheld = r.start !== 0 && low === 0 && high === 0 && !io;
    const ignored = low !== 0 || high !== 0 ? '<ignored>' : '<unassigned>';
    const enabled = (command & (io ? 1 : 2)) !== 0;
    const state = unheld ? ' [virtual]' : enabled ? '' : ' [disabled]';
    out += level > 1 ? `\tRegion ${i}: ` : '\t';
    if (io) out += `I/O ports at ${r.start !== 0 || enabled ? hex(r.start, 4) : ignored}`;
    else {
      const kind = `${(r.flags & 6) === 4 ? '64' : '32'}-bit, ${(r.flags & 8) !== 0 ? '' : 'non-'}prefetchable`;
      out += `Memory at ${r.start !== 0 ? hex(r.start, 8) : ignored} (${kind})`;
    }
    out += `${state}${size(r.end > r.start ? r.end - r.start + 1 : 0)}\n`;
  });
  return out;
}

function rom(d: LspciDevice, at: number): string {
  const r = d.resources[6];
  const held = d.read(at, 4);
  const start = r === undefined || r.flags === 0 ? 0 : r.start - (r.start % 2048);
  const bytes = r === undefined || r.flags === 0 || r.end <= r.start ? 0 : r.end - r.start + 1;
  if (start === 0 && held === 0 && bytes === 0) return '';
  const holds = held >>> 11 !== 0;
  const unheld = start !== 0 && !holds;
  const where = start !== 0 ? hex(start, 8) : holds ? '<ignored>' : '<unassigned>';
  const enabled = !unheld && (held & 1) !== 0;
  const off = !enabled ? ' [disabled]' : (d.read(PCI.COMMAND, 2) & 2) === 0 ? ' [disabled by cmd]' : '';
  return `\tExpansion ROM at ${where}${unheld ? ' [virtual]' : ''}${off}${size(bytes)}\n`;
}

/** Bus numbers stand at the same place in both kinds of bridges. */
function buses(d: LspciDevice): string {
  const at = (reg: number): string => hex(d.read(reg, 1), 2);
  return `\tBus: primary=${at(0x18)}, secondary=${at(0x19)}, subordinate=${at(0x1a)}, sec-latency=${d.read(0x1b, 1)}\n`;
}

function bridge(d: LspciDevice, level: number): string {
  let out = buses(d) + windows(d, level);
  if (level > 1) {
    const status = d.read(0x1e, 2);
    out += `\tSecondary status: ${flags(status, '66MHz@5 FastB2B@7 ParErr')} DEVSEL=${devsel(status)} ${flags(status, '>TAbort@11 <TAbort <MAbort <SERR <PERR')}\n`;
  }
  out += rom(d, PCI.ROM_ADDRESS1);
  if (level > 1) {
    const value = d.read(PCI.BRIDGE_CONTROL, 2);
    out += `\tBridgeCtl: ${flags(value, 'Parity SERR NoISA VGA VGA16 MAbort >Reset FastB2B')}\n`;
    out += `\t\t${flags(value, 'PriDiscTmr@8 SecDiscTmr DiscTmrStat DiscTmrSERREn')}\n`;
  }
  return out;
}

/** What is open is the kernel's window and told without its width; a closed one is the registers'. */
function windows(d: LspciDevice, level: number): string {
  const ioWide = (d.read(0x1c, 1) & 15) === 1;
  const ioUpper = (reg: number): number => (ioWide ? d.read(reg, 2) * 0x1_0000 : 0);
  const io = [
    (d.read(0x1c, 1) & 0xf0) * 256 + ioUpper(0x30),
    (d.read(0x1d, 1) & 0xf0) * 256 + ioUpper(0x32),
  ] as const;
  const word = (reg: number): number => (d.read(reg, 2) & 0xfff0) * 0x1_0000;
  const wide = (d.read(0x24, 2) & 15) === 1;
  const upper = (reg: number): number => (wide ? d.read(reg, 4) * 2 ** 32 : 0);
  const prefetch = [word(0x24) + upper(0x28), word(0x26) + upper(0x2c)] as const;
  const none = ([base, limit]: readonly [number, number]): boolean => base === 0 && limit === 0;
  let out = '';
  if (!none(io)) out += window('I/O', io[0], io[1] + 0xfff, [16, ioWide ? 32 : 16], level);
  out += window('Memory', word(0x20), word(0x22) + 0xf_ffff, [32, 32], level);
  if (!none(prefetch))
    out += window('Prefetchable memory', prefetch[0], prefetch[1] + 0xf_ffff, [32, wide ? 64 : 32], level);
  return out;
}

function window(
  name: string,
  base: number,
  limit: number,
  [openBits, closedBits]: readonly [number, number],
  level: number,
): string {
  const open = base > 0 && base <= limit;
  const bits = open ? openBits : closedBits;
  const digits = bits / 4;
  const range = base <= limit || level > 2 ? ` ${address(base, digits)}-${address(limit, digits)}` : '';
  const state = open ? size(limit - base + 1) : ' [disabled]';
  return `\t${name} behind bridge:${range}${state} [${bits}-bit]\n`;
}

const address = (value: number, digits: number): string =>
  digits > 8 ? `${long(Math.floor(value / 2 ** 32))}${long(value % 2 ** 32)}` : hex(value, digits);

const CARDBUS_CAPABILITY_LIST = 0x14;

/** Header type 2: two windows of memory and two of ports, each a base and a limit of 32 bits. @pciutils show_htype2 */
function cardbus(d: LspciDevice, level: number): string {
  const command = d.read(PCI.COMMAND, 2);
  const control = d.read(PCI.BRIDGE_CONTROL, 2);
  let out = buses(d);
  for (const i of [0, 1]) {
    const [base, limit] = [d.read(0x1c + 8 * i, 4), d.read(0x20 + 8 * i, 4) + 0xfff];
    const prefetch = ((control >>> (8 + i)) & 1) !== 0 ? ' (prefetchable)' : '';
    const off = (command & 2) === 0 ? ' [disabled]' : '';
    if (base <= limit || level > 2)
      out += `\tMemory window ${i}: ${long(base)}-${long(limit)}${off}${prefetch}\n`;
  }
  for (const i of [0, 1]) {
    const mask = (d.read(0x2c + 8 * i, 4) & 1) !== 0 ? ~3 : 0xfffc;
    const base = (d.read(0x2c + 8 * i, 4) & mask) >>> 0;
    const limit = ((d.read(0x30 + 8 * i, 4) & mask) >>> 0) + 3;
    const off = (command & 1) === 0 ? ' [disabled]' : '';
    if (base <= limit || level > 2) out += `\tI/O window ${i}: ${long(base)}-${long(limit)}${off}\n`;
  }
  if ((d.read(0x16, 2) & 0x4000) !== 0) out += '\tSecondary status: SERR\n';
  if (level > 1)
    out += `\tBridgeCtl: ${flags(control, 'Parity SERR ISA VGA MAbort@5 >Reset 16bInt PostWrite@10')}\n`;
  const ports = d.read(0x44, 2);
  return ports === 0 ? out : `${out}\t16-bit legacy interface ports at ${hex(ports, 4)}\n`;
}
