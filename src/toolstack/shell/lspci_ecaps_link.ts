/** Extended capabilities of links, clocks and sizes. @pciutils ls-ecaps.c */
import { hex } from '../../base/sbdf.js';
import type { LspciDevice } from './lspci_device.js';
import { field, flags, long, pick, readable, rows } from './lspci_text.js';

const PORT_ARBITERS = ['Fixed', 'WRR32', 'WRR64', 'WRR128', '??4', '??5', '??6', '??7'];
const CHANNEL_ARBITERS = ['Fixed', 'WRR32', 'WRR64', 'WRR128', 'TWRR128', 'WRR256', '??6', '??7'];

/** Which of them there are; reserved ones only when there. */
const arbiters = (names: readonly string[], cap: number): string =>
  names
    .flatMap((name, i) =>
      name.startsWith('?') && field(cap, i, 1) === 0 ? [] : [flags(cap, `${name}@${i}`)],
    )
    .join(' ');

export function virtualChannel(d: LspciDevice, at: number): string {
  const [cap1, cap2] = [d.read(at + 4, 4), d.read(at + 8, 4)];
  const clock = pick(['100ns'], field(cap1, 8, 2), `??${field(cap1, 8, 2)}`);
  const control = d.read(at + 12, 2);
  const table = field(cap2, 24, 8);
  let out = rows(
    `Caps:\tLPEVC=${field(cap1, 4, 3)} RefClk=${clock} PATEntryBits=${1 << field(cap1, 10, 2)}`,
    `Arb:\t${arbiters(PORT_ARBITERS, cap2)}`,
    `Ctrl:\tArbSelect=${PORT_ARBITERS[field(control, 1, 3)]}`,
    `Status:\t${flags(d.read(at + 14, 2), 'InProgress')}`,
    ...(table === 0 ? [] : [`Port Arbitration Table [${(at + 16 * table).toString(16)}] <?>`]),
  );
  for (let i = 0; i <= field(cap1, 0, 3); i++) {
    const pos = at + 16 + 12 * i;
    if (!readable(d, pos, 12)) {
      out += rows(`VC${i}:\t<unreadable>`);
      continue;
    }
    const [cap, word] = [d.read(pos, 4), d.read(pos + 4, 4)];
    const offset = field(cap, 24, 8);
    out += rows(
      `VC${i}:\tCaps:\tPATOffset=${hex(offset, 2)} MaxTimeSlots=${field(cap, 16, 7) + 1} ${flags(cap, 'RejSnoopTrans@15')}`,
      `\tArb:\t${arbiters(CHANNEL_ARBITERS, cap)}`,
      `\tCtrl:\t${flags(word, 'Enable@31')} ID=${field(word, 24, 3)} ArbSelect=${CHANNEL_ARBITERS[field(word, 17, 3)]} TC/VC=${hex(word & 0xff, 2)}`,
      `\tStatus:\t${flags(d.read(pos + 10, 2), 'NegoPending@1 InProgress@0')}`,
      ...(offset === 0 ? [] : ['\tPort Arbitration Table <?>']),
    );
  }
  return out;
}

export function rootLinks(d: LspciDevice, at: number): string {
  const self = d.read(at + 4, 4);
  const kind = self & 0xff;
  const element = pick(['Config', 'Egress', 'Internal'], kind, `??${kind}`);
  let out = rows(
    `Desc:\tPortNumber=${hex(field(self, 24, 8), 2)} ComponentID=${hex(field(self, 16, 8), 2)} EltType=${element}`,
  );
  for (let i = 0; i < field(self, 8, 8); i++) {
    const pos = at + 16 + 16 * i;
    if (!readable(d, pos, 16)) return out + rows(`Link${i}:\t<unreadable>`);
    const [word, low, high] = [d.read(pos, 4), d.read(pos + 8, 4), d.read(pos + 12, 4)];
    const config = (word & 2) !== 0;
    const target = `TargetPort=${hex(field(word, 24, 8), 2)} TargetComponent=${hex(field(word, 16, 8), 2)}`;
    const bus = hex(field(low, 20, low & 7 || 8), 2);
    const where = config
      ? `${bus}:${hex(field(low, 15, 5), 2)}.${field(low, 12, 3)}  CfgSpace=${long(high)}${long(low)}`
      : `${long(high)}${long(low)}`;
    out += rows(
      `Link${i}:\tDesc:\t${target} ${flags(word, 'AssocRCRB@2')} LinkType=${config ? 'Config' : 'MemMapped'} ${flags(word, 'LinkValid')}`,
      `\tAddr:\t${where}`,
    );
  }
  return out;
}

export function eventCollector(d: LspciDevice, at: number, _type: number, level: number): string {
  const map = d.read(at + 4, 4);
  const runs: string[] = [];
  for (let from = 0; from < 32; from++) {
    if (field(map, from, 1) === 0) continue;
    let to = from;
    while (to < 31 && field(map, to + 1, 1) === 1) to += 1;
    // A run that reaches device 31 is never closed there.
    runs.push(to > from && to < 31 ? `${from}-${to}` : `${from}`);
    from = to;
  }
  const none = level > 2 ? '00000000 [none]' : '[none]';
  const members = runs.length === 0 ? none : `RCiEP at Device(s): ${runs.join(', ')}`;
  if (field(d.read(at, 4), 16, 4) < 2) return rows(`RCiEPBitmap: ${members}`);
  const buses = d.read(at + 8, 4);
  const [next, last] = [field(buses, 8, 8), field(buses, 16, 8)];
  const empty = last === 0 && next === 0xff;
  const range = empty ? (level > 2 ? 'ff-00 [none]' : '[none]') : `${hex(next, 2)}-${hex(last, 2)}`;
  return rows(`RCiEPBitmap: ${members}`, `AssociatedBusNumbers: ${range}`);
}

export function secondary(d: LspciDevice, at: number): string {
  const errors = d.read(at + 8, 2);
  const lanes = Array.from({ length: 16 }, (_, i) => i).filter((i) => field(errors, i, 1) === 1);
  return rows(
    `LnkCtl3: ${flags(d.read(at + 4, 2), 'LnkEquIntrruptEn@1 PerformEqu@0')}`,
    `LaneErrStat: ${lanes.length === 0 ? '0' : `LaneErr at lane: ${lanes.join(' ')}`}`,
  );
}

/** Microseconds. */
function powerOn(scale: number, value: number): string {
  const unit = [2, 10, 100][scale];
  return unit === undefined ? '<error>' : `${unit * value}us`;
}

export function l1Substates(d: LspciDevice, at: number): string {
  const names = 'PCI-PM_L1.2 PCI-PM_L1.1 ASPM_L1.2 ASPM_L1.1';
  const [cap, control, control2] = [d.read(at + 4, 4), d.read(at + 8, 4), d.read(at + 12, 4)];
  const deep = (cap & 5) !== 0;
  const restore = `PortCommonModeRestoreTime=${field(cap, 8, 8)}us`;
  const scale = field(control, 29, 3);
  const ns = scale > 5 ? '<error>' : `${field(control, 16, 10) * 2 ** (5 * scale)}ns`;
  const threshold = (cap & 4) !== 0 ? ` LTR1.2_Threshold=${ns}` : '';
  const on = deep ? ` T_PwrOn=${powerOn(control2 & 3, field(control2, 3, 5))}` : '';
  return rows(
    `L1SubCap: ${flags(cap, `${names} L1_PM_Substates`)}`,
    ...(deep ? [`\t  ${restore} PortTPowerOnTime=${powerOn(field(cap, 16, 2), field(cap, 19, 5))}`] : []),
    `L1SubCtl1: ${flags(control, names)}`,
    ...(deep ? [`\t   T_CommonMode=${field(control, 8, 8)}us${threshold}`] : []),
    `L1SubCtl2:${on}`,
  );
}

export function clockTime(d: LspciDevice, at: number): string {
  const [cap, control] = [d.read(at + 4, 4), d.read(at + 8, 4)];
  const granularity = (value: number, none: string): string =>
    value === 0 ? none : value === 0xff ? 'Greater than 254ns' : `${value}ns`;
  return rows(
    `PTMCap: ${flags(cap, 'Requester: Responder: Root:')}`,
    `PTMClockGranularity: ${granularity(field(cap, 8, 8), 'Unimplemented')}`,
    `PTMControl: ${flags(control, 'Enabled: RootSelected:')}`,
    `PTMEffectiveGranularity: ${granularity(field(control, 8, 8), 'Unknown')}`,
  );
}

/** Sizes are powers of two, from 1 MB. */
const sizeName = (log: number): string =>
  log < 44 ? `${2 ** (log % 10)}${['MB', 'GB', 'TB', 'PB', 'EB'][Math.floor(log / 10)]}` : '<unknown>';

export function baseAddressSizes(d: LspciDevice, at: number): string {
  let out = '';
  let count = 1;
  for (let i = 0; i < count; i++) {
    const pos = at + 4 + 8 * i;
    if (!readable(d, pos, 8)) return out + rows('<unreadable>');
    const [cap, control] = [d.read(pos, 4), d.read(pos + 4, 4)];
    if (i === 0) count = field(control, 5, 3);
    if (count < 1 || count > 6)
      return rows(`<error in resizable BAR: num_bars=${count} is out of specification>`);
    const sizes: string[] = [];
    for (let n = 0; n < 28; n++) if (field(cap, 4 + n, 1) === 1) sizes.push(` ${sizeName(n)}`);
    for (let n = 0; n < 16; n++) if (field(control, 16 + n, 1) === 1) sizes.push(` ${sizeName(28 + n)}`);
    const supported = sizes.length === 0 ? '' : `, supported:${sizes.join('')}`;
    out += rows(`BAR ${control & 7}: current size: ${sizeName(field(control, 8, 6))}${supported}`);
  }
  return out;
}

export function dataObjects(d: LspciDevice, at: number): string {
  const cap = d.read(at + 4, 4);
  const status = d.read(at + 12, 4);
  // `Error` stands for two bits, either of which shows it.
  const error = (status & 3) !== 0 ? '+' : '-';
  return rows(
    `DOECap: ${flags(cap, 'IntSup')}`,
    ...((cap & 1) !== 0 ? [`\tInterrupt Message Number ${hex(field(cap, 1, 11), 3)}`] : []),
    `DOECtl: ${flags(d.read(at + 8, 4), 'IntEn@1')}`,
    `DOESta: ${flags(status, 'Busy IntSta')} Error${error} ${flags(status, 'ObjectReady@31')}`,
  );
}
