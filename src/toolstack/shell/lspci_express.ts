/** The PCI Express capability of `lspci -vv`. @pciutils ls-caps.c cap_express */
import { hex } from '../../base/sbdf.js';
import { EXP_TYPE } from '../../pci/registers.js';
import type { LspciDevice } from './lspci_device.js';
import { field, flags, pick, readable, rows } from './lspci_text.js';

const T = EXP_TYPE;
const PORT_TYPES: ReadonlyMap<number, string> = new Map([
  [T.ENDPOINT, 'Endpoint'],
  [T.LEGACY_ENDPOINT, 'Legacy Endpoint'],
  [T.ROOT_PORT, 'Root Port'],
  [T.UPSTREAM, 'Upstream Port'],
  [T.DOWNSTREAM, 'Downstream Port'],
  [T.PCIE_TO_PCI, 'PCI-Express to PCI/PCI-X Bridge'],
  [T.PCI_TO_PCIE, 'PCI/PCI-X to PCI-Express Bridge'],
  [T.RC_ENDPOINT, 'Root Complex Integrated Endpoint'],
  [T.RC_EVENT_COLLECTOR, 'Root Complex Event Collector'],
]);
const is = (type: number, ...types: readonly number[]): boolean => types.includes(type);

export function express(d: LspciDevice, at: number, level: number): string {
  const head = d.read(at + 2, 2);
  const type = field(head, 4, 4);
  const hasSlot = is(type, T.ROOT_PORT, T.DOWNSTREAM, T.PCI_TO_PCIE);
  const slot = hasSlot && (head & 0x100) !== 0;
  const root = is(type, T.ROOT_PORT, T.RC_EVENT_COLLECTOR);
  const link = !is(type, T.RC_ENDPOINT, T.RC_EVENT_COLLECTOR);
  const name = PORT_TYPES.get(type) ?? `Unknown type ${type}`;
  let out = `Express ${level > 1 ? `(v${head & 15}) ` : ''}${name}${hasSlot ? ` (${flags(head, 'Slot@8')})` : ''}, MSI ${hex(field(head, 9, 5), 2)}\n`;
  if (level < 2 || !readable(d, at + 4, root ? 32 : slot ? 24 : 16)) return out;
  out += device(d, at, type);
  if (link) out += linkRows(d, at, type);
  if (slot) out += slotRows(d, at);
  if (root) out += rootRows(d, at);
  if ((head & 15) < 2 || !readable(d, at + 0x24, slot ? 24 : 16)) return out;
  out += device2(d, at, type);
  return link ? out + link2(d, at, type) : out;
}

const L0S = ['<64ns', '<128ns', '<256ns', '<512ns', '<1us', '<2us', '<4us', 'unlimited'];
const L1 = ['<1us', '<2us', '<4us', '<8us', '<16us', '<32us', '<64us', 'unlimited'];

/** Watts of a slot. Beyond 239 W the values are steps of 25. */
function powerLimit(value: number, scale: number): string {
  if (scale === 0 && value === 0xff) return '>600W';
  const watts = scale === 0 && value >= 0xf0 ? 250 + 25 * (value - 0xf0) : value;
  return `${Number((watts / 10 ** scale).toPrecision(6))}W`;
}

function device(d: LspciDevice, at: number, type: number): string {
  const cap = d.read(at + 4, 4);
  const endpoint = is(type, T.ENDPOINT, T.LEGACY_ENDPOINT);
  const resets = endpoint || type === T.RC_ENDPOINT;
  const latency = endpoint ? `, Latency L0s ${L0S[field(cap, 6, 3)]}, L1 ${L1[field(cap, 9, 3)]}` : '';
  const payload = `MaxPayload ${128 << field(cap, 0, 3)} bytes, PhantFunc ${2 ** field(cap, 3, 2) - 1}`;
  const words = [
    flags(cap, 'ExtTag@5'),
    ...(endpoint || is(type, T.UPSTREAM, T.PCIE_TO_PCI) ? [flags(cap, 'AttnBtn@12 AttnInd PwrInd')] : []),
    flags(cap, 'RBE@15'),
    ...(resets ? [flags(cap, 'FLReset@28')] : []),
    ...(is(type, T.ENDPOINT, T.UPSTREAM, T.PCIE_TO_PCI)
      ? [`SlotPowerLimit ${powerLimit(field(cap, 18, 8), field(cap, 26, 2))}`]
      : []),
  ];
  const control = d.read(at + 8, 2);
  const orders = [
    flags(control, 'RlxdOrd@4 ExtTag@8 PhantFunc AuxPwr NoSnoop'),
    ...(type === T.PCIE_TO_PCI ? [flags(control, 'BrConfRtry@15')] : []),
    ...(resets && field(cap, 28, 1) === 1 ? [flags(control, 'FLReset@15')] : []),
  ];
  return rows(
    `DevCap:\t${payload}${latency}`,
    `\t${words.join(' ')}`,
    `DevCtl:\t${flags(control, 'CorrErr NonFatalErr FatalErr UnsupReq')}`,
    `\t${orders.join(' ')}`,
    `\tMaxPayload ${128 << field(control, 5, 3)} bytes, MaxReadReq ${128 << field(control, 12, 3)} bytes`,
    `DevSta:\t${flags(d.read(at + 10, 2), 'CorrErr NonFatalErr FatalErr UnsupReq AuxPwr TransPend')}`,
  );
}

const SPEEDS = ['unknown', '2.5GT/s', '5GT/s', '8GT/s', '16GT/s', '32GT/s', '64GT/s'];

/** A port shows its slot's link, which may be narrower than it could be; that is no fault of it. */
function compared(type: number, now: number, best: number): string {
  if (now > best) return ' (overdriven)';
  return now === best || is(type, T.ROOT_PORT, T.DOWNSTREAM, T.PCI_TO_PCIE) ? '' : ' (downgraded)';
}

function linkRows(d: LspciDevice, at: number, type: number): string {
  const cap = d.read(at + 0x0c, 4);
  const [speed, width, aspm] = [field(cap, 0, 4), field(cap, 4, 6), field(cap, 10, 2)];
  const exits = [
    ...((aspm & 1) !== 0 ? [`L0s ${L0S[field(cap, 12, 3)]}`] : []),
    ...((aspm & 2) !== 0 ? [`L1 ${L1[field(cap, 15, 3)]}`] : []),
  ].join(', ');
  const control = d.read(at + 0x10, 2);
  const rcb = is(type, T.ROOT_PORT, T.ENDPOINT, T.LEGACY_ENDPOINT, T.PCIE_TO_PCI)
    ? ` RCB ${(control & 8) !== 0 ? 128 : 64} bytes,`
    : '';
  const enabled = pick(['Disabled', 'L0s Enabled', 'L1 Enabled', 'L0s L1 Enabled'], control & 3);
  const status = d.read(at + 0x12, 2);
  const [nowSpeed, nowWidth] = [field(status, 0, 4), field(status, 4, 6)];
  const support = pick(['not supported', 'L0s', 'L1', 'L0s L1'], aspm);
  return rows(
    `LnkCap:\tPort #${field(cap, 24, 8)}, Speed ${pick(SPEEDS, speed, 'unknown')}, Width x${width}, ASPM ${support}${aspm === 0 ? '' : `, Exit Latency ${exits}`}`,
    `\t${flags(cap, 'ClockPM@18 Surprise LLActRep BwNot ASPMOptComp')}`,
    `LnkCtl:\tASPM ${enabled};${rcb} ${flags(control, 'Disabled@4 CommClk@6')}`,
    `\t${flags(control, 'ExtSynch@7 ClockPM AutWidDis BWInt AutBWInt')}`,
    `LnkSta:\tSpeed ${pick(SPEEDS, nowSpeed, 'unknown')}${compared(type, nowSpeed, speed)}, Width x${nowWidth}${compared(type, nowWidth, width)}`,
    `\t${flags(status, 'TrErr@10 Train SlotClk DLActive BWMgmt ABWMgmt')}`,
  );
}

function slotRows(d: LspciDevice, at: number): string {
  const cap = d.read(at + 0x14, 4);
  const control = d.read(at + 0x18, 2);
  const status = d.read(at + 0x1a, 2);
  const indicator = (low: number): string => pick(['Unknown', 'On', 'Blink', 'Off'], field(control, low, 2));
  return rows(
    `SltCap:\t${flags(cap, 'AttnBtn PwrCtrl MRL AttnInd PwrInd HotPlug@6 Surprise@5')}`,
    `\tSlot #${field(cap, 19, 13)}, PowerLimit ${powerLimit(field(cap, 7, 8), field(cap, 15, 2))}; ${flags(cap, 'Interlock@17 NoCompl')}`,
    `SltCtl:\tEnable: ${flags(control, 'AttnBtn PwrFlt MRL PresDet CmdCplt HPIrq LinkChg@12')}`,
    `\tControl: AttnInd ${indicator(6)}, PwrInd ${indicator(8)}, ${flags(control, 'Power@10 Interlock')}`,
    `SltSta:\tStatus: ${flags(status, 'AttnBtn PowerFlt MRL@5 CmdCplt@4 PresDet@6 Interlock')}`,
    `\tChanged: ${flags(status, 'MRL@2 PresDet LinkState@8')}`,
  );
}

function rootRows(d: LspciDevice, at: number): string {
  const status = d.read(at + 0x20, 4);
  return rows(
    `RootCap: ${flags(d.read(at + 0x1e, 2), 'CRSVisible')}`,
    `RootCtl: ${flags(d.read(at + 0x1c, 2), 'ErrCorrectable ErrNon-Fatal ErrFatal PMEIntEna CRSVisible')}`,
    `RootSta: PME ReqID ${hex(field(status, 0, 16), 4)}, ${flags(status, 'PMEStatus@16 PMEPending')}`,
  );
}

const RANGES: ReadonlyMap<number, string> = new Map([
  [0, 'Not Supported'],
  [1, 'Range A'],
  [2, 'Range B'],
  [3, 'Range AB'],
  [6, 'Range BC'],
  [7, 'Range ABC'],
  [14, 'Range BCD'],
  [15, 'Range ABCD'],
]);
const TIMEOUTS: ReadonlyMap<number, string> = new Map([
  [0, '50us to 50ms'],
  [1, '50us to 100us'],
  [2, '1ms to 10ms'],
  [5, '16ms to 55ms'],
  [6, '65ms to 210ms'],
  [9, '260ms to 900ms'],
  [10, '1s to 3.5s'],
  [13, '4s to 13s'],
  [14, '17s to 64s'],
]);

/** Whether a base address register decodes memory. */
const hasMemory = (d: LspciDevice): boolean =>
  d.resources.slice(0, 6).some((r) => r.flags !== 0 && (r.flags & 0x100) === 0);

function device2(d: LspciDevice, at: number, type: number): string {
  const cap = d.read(at + 0x24, 4);
  const bridges = is(type, T.ROOT_PORT, T.UPSTREAM, T.DOWNSTREAM);
  const prefixes = field(cap, 21, 1) === 1 ? `, MaxEETLPPrefixes ${field(cap, 22, 2) || 4}` : '';
  const obff = pick(['Not Supported', 'Via message', 'Via WAKE#', 'Via message/WAKE#'], field(cap, 18, 2));
  const reduction = ['Not Supported', 'Dev Specific', 'Form Factor Dev Specific', 'Reserved'];
  const lines = ['Not Supported', '64byte cachelines', '128byte cachelines', 'Reserved'];
  const hints = ['TPHComp- ExtTPHComp-', 'TPHComp+ ExtTPHComp-', '', 'TPHComp+ ExtTPHComp+'];
  const extras = [
    flags(cap, 'FRS@31'),
    ...(type === T.ROOT_PORT ? [`LN System CLS ${pick(lines, field(cap, 14, 2))},`] : []),
    ...(is(type, T.ROOT_PORT, T.ENDPOINT) ? [pick(hints, field(cap, 12, 2))] : []),
    ...(is(type, T.ROOT_PORT, T.DOWNSTREAM) ? [flags(cap, 'ARIFwd@5')] : []),
  ];
  const atomics = [
    ...(bridges ? [flags(cap, 'Routing@6')] : []),
    ...(type === T.ROOT_PORT || hasMemory(d) ? [flags(cap, '32bit@7 64bit 128bitCAS')] : []),
  ];
  const range = RANGES.get(field(cap, 0, 4)) ?? 'Unknown';
  const out = rows(
    `DevCap2: Completion Timeout: ${range}, ${flags(cap, 'TimeoutDis@4 NROPrPrP@10 LTR')}`,
    `\t ${flags(cap, '10BitTagComp@16 10BitTagReq')} OBFF ${obff}, ${flags(cap, 'ExtFmt@20 EETLPPrefix')}${prefixes}`,
    `\t EmergencyPowerReduction ${pick(reduction, field(cap, 24, 2))}, ${flags(cap, 'EmergencyPowerReductionInit@26')}`,
    `\t ${extras.join(' ')}`,
    ...(bridges || hasMemory(d) ? [`\t AtomicOpsCap: ${atomics.join(' ')}`] : []),
  );
  return out + control2(d, at, type);
}

function control2(d: LspciDevice, at: number, type: number): string {
  const control = d.read(at + 0x28, 2);
  const timeout = TIMEOUTS.get(field(control, 0, 4)) ?? 'Unknown';
  const obff = pick(['Disabled', 'Via message A', 'Via message B', 'Via WAKE#'], field(control, 13, 2));
  const forwards = is(type, T.ROOT_PORT, T.DOWNSTREAM) ? ` ${flags(control, 'ARIFwd@5')}` : '';
  const atomics = [
    ...(is(type, T.ROOT_PORT, T.ENDPOINT, T.RC_ENDPOINT, T.LEGACY_ENDPOINT)
      ? [flags(control, 'ReqEn@6')]
      : []),
    ...(is(type, T.ROOT_PORT, T.UPSTREAM, T.DOWNSTREAM) ? [flags(control, 'EgressBlck@7')] : []),
  ];
  const state = flags(control, 'TimeoutDis@4 LTR@10 10BitTagReq@12');
  return rows(
    `DevCtl2: Completion Timeout: ${timeout}, ${state} OBFF ${obff},${forwards}`,
    ...(atomics.length > 0 ? [`\t AtomicOpsCtl: ${atomics.join(' ')}`] : []),
  );
}

const DEEMPHASIS = ['-6dB', '-3.5dB'];
const PRESETS = [
  '-6dB de-emphasis, 0dB preshoot',
  '-3.5dB de-emphasis, 0dB preshoot',
  '-4.4dB de-emphasis, 0dB preshoot',
  '-2.5dB de-emphasis, 0dB preshoot',
  '0dB de-emphasis, 0dB preshoot',
  '0dB de-emphasis, 1.9dB preshoot',
  '0dB de-emphasis, 2.5dB preshoot',
  '-6.0dB de-emphasis, 3.5dB preshoot',
  '-3.5dB de-emphasis, 3.5dB preshoot',
  '0dB de-emphasis, 3.5dB preshoot',
];
const FULL_SWING = '800-1200mV(full-swing)/400-700mV(half-swing)';
const REDUCED = '200-400mV(full-swing)/100-200mV(half-swing)';
const MARGINS = ['Normal Operating Range', FULL_SWING, REDUCED, REDUCED, REDUCED, REDUCED];
/** By the highest bit of the vector of supported speeds. */
const UP_TO = ['2.5GT/s', '2.5-5GT/s', '2.5-8GT/s', '2.5-16GT/s', '2.5-32GT/s', 'RsvdP', 'RsvdP'];

function link2(d: LspciDevice, at: number, type: number): string {
  // Only function 0 of an endpoint speaks for the link.
  const speaks = !(is(type, T.ENDPOINT, T.LEGACY_ENDPOINT) && (d.sbdf & 0xff) !== 0);
  const cap = speaks ? d.read(at + 0x2c, 4) : 0;
  let out = '';
  if (cap !== 0) {
    const speeds = field(cap, 1, 7);
    const upTo = speeds === 0 ? 'Unknown' : UP_TO[31 - Math.clz32(speeds)]!;
    out += rows(
      `LnkCap2: Supported Link Speeds: ${upTo}, ${flags(cap, 'Crosslink@8 Retimer@23 2Retimers DRS@31')}`,
    );
  }
  if (speaks) out += linkControl2(d.read(at + 0x30, 2), type);
  const status = d.read(at + 0x32, 2);
  const crosslink = pick(
    ['unsupported', 'Upstream Port', 'Downstream Port'],
    field(status, 8, 2),
    'incomplete',
  );
  const ready = is(type, T.ROOT_PORT, T.DOWNSTREAM, T.PCI_TO_PCIE) && field(cap, 31, 1) === 1;
  const away = 'Link Down - ';
  const components = [`${away}Not Determined`, `${away}Not Present`, `${away}Present`];
  const component =
    [...components, undefined, 'Link Up - Present', 'Link Up - Present and DRS Received'][
      field(status, 12, 3)
    ] ?? 'Reserved';
  return (
    out +
    rows(
      `LnkSta2: Current De-emphasis Level: ${DEEMPHASIS[status & 1]}, ${flags(status, 'EqualizationComplete@1 EqualizationPhase1')}`,
      `\t ${flags(status, 'EqualizationPhase2@3 EqualizationPhase3 LinkEqualizationRequest')}`,
      `\t ${flags(status, 'Retimer@6 2Retimers')} CrosslinkRes: ${crosslink}${ready ? `, ${flags(status, 'DRS@15')}` : ''}`,
      ...(ready ? [`\t DownstreamComp: ${component}`] : []),
    )
  );
}

function linkControl2(control: number, type: number): string {
  const speed = pick(['2.5GT/s', ...SPEEDS.slice(1)], field(control, 0, 4));
  const choice = type === T.DOWNSTREAM ? `, Selectable De-emphasis: ${DEEMPHASIS[field(control, 6, 1)]}` : '';
  return rows(
    `LnkCtl2: Target Link Speed: ${speed}, ${flags(control, 'EnterCompliance@4 SpeedDis')}${choice}`,
    `\t Transmit Margin: ${pick(MARGINS, field(control, 7, 3))}, ${flags(control, 'EnterModifiedCompliance@10 ComplianceSOS')}`,
    `\t Compliance Preset/De-emphasis: ${pick(PRESETS, field(control, 12, 4))}`,
  );
}
