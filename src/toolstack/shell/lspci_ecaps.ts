/** Capabilities from 0x100 on: the walk, and those of virtualization and errors. @pciutils ls-ecaps.c */
import { hex } from '../../base/sbdf.js';
import { EXP_TYPE, EXT_CAP } from '../../pci/registers.js';
import type { LspciDevice } from './lspci_device.js';
import {
  baseAddressSizes,
  clockTime,
  dataObjects,
  eventCollector,
  l1Substates,
  rootLinks,
  secondary,
  virtualChannel,
} from './lspci_ecaps_link.js';
import { field, flags, long, readable, rows } from './lspci_text.js';

export function extendedCapabilities(d: LspciDevice, type: number, level: number): string {
  let out = '';
  const seen = new Set<number>();
  let at = 0x100;
  do {
    if (!readable(d, at, 4)) break;
    const head = d.read(at, 4);
    if (head === 0 || head === 0xffff_ffff) break;
    out += `\tCapabilities: [${hex(at, 3)}${level > 1 ? ` v${field(head, 16, 4)}` : ''}] `;
    if (seen.has(at)) return `${out}<chain looped>\n`;
    seen.add(at);
    out += extended(d, at, head & 0xffff, type, level);
    at = (head >>> 20) & 0xffc;
  } while (at !== 0);
  return out;
}

/** A capability with fields: its title, how many bytes of it they take, and what they say. */
interface Shape {
  readonly title: string;
  readonly bytes: number;
  readonly fields: (d: LspciDevice, at: number, type: number, level: number) => string;
}
const SHAPES: ReadonlyMap<number, Shape> = new Map<number, Shape>([
  [EXT_CAP.AER, { title: 'Advanced Error Reporting', bytes: 44, fields: errors }],
  [0x02, { title: 'Virtual Channel', bytes: 0x1c, fields: virtualChannel }],
  [0x09, { title: 'Virtual Channel', bytes: 0x1c, fields: virtualChannel }],
  [0x05, { title: 'Root Complex Link', bytes: 16, fields: rootLinks }],
  [0x07, { title: 'Root Complex Event Collector Endpoint Association', bytes: 12, fields: eventCollector }],
  [EXT_CAP.ACS, { title: 'Access Control Services', bytes: 8, fields: accessControl }],
  [EXT_CAP.ARI, { title: 'Alternative Routing-ID Interpretation (ARI)', bytes: 8, fields: routing }],
  [EXT_CAP.ATS, { title: 'Address Translation Service (ATS)', bytes: 8, fields: translation }],
  [EXT_CAP.SRIOV, { title: 'Single Root I/O Virtualization (SR-IOV)', bytes: 0x40, fields: sriov }],
  [EXT_CAP.PRI, { title: 'Page Request Interface (PRI)', bytes: 16, fields: pageRequests }],
  [0x15, { title: 'Physical Resizable BAR', bytes: 4, fields: baseAddressSizes }],
  [0x17, { title: 'Transaction Processing Hints', bytes: 8, fields: hints }],
  [EXT_CAP.LTR, { title: 'Latency Tolerance Reporting', bytes: 8, fields: latency }],
  [0x19, { title: 'Secondary PCI Express', bytes: 16, fields: secondary }],
  [EXT_CAP.PASID, { title: 'Process Address Space ID (PASID)', bytes: 8, fields: pasid }],
  [0x1d, { title: 'Downstream Port Containment', bytes: 12, fields: containment }],
  [0x1e, { title: 'L1 PM Substates', bytes: 16, fields: l1Substates }],
  [0x1f, { title: 'Precision Time Measurement', bytes: 12, fields: clockTime }],
  [0x24, { title: 'Virtual Resizable BAR', bytes: 4, fields: baseAddressSizes }],
  [0x2e, { title: 'Data Object Exchange', bytes: 0x18, fields: dataObjects }],
]);
/** Those of which lspci knows the name alone. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x00, 'Null'],
  [0x04, 'Power Budgeting <?>'],
  [0x06, 'Root Complex Internal Link <?>'],
  [0x08, 'Multi-Function Virtual Channel <?>'],
  [0x0a, 'Root Complex Register Block <?>'],
  [0x11, 'Multi-Root I/O Virtualization <?>'],
  [0x12, 'Multicast'],
  [0x16, 'Dynamic Power Allocation <?>'],
  [0x1a, 'Protocol Multiplexing <?>'],
  [0x1c, 'LN Requester <?>'],
  [0x20, 'PCI Express over M_PHY <?>'],
  [0x21, 'FRS Queueing <?>'],
  [0x22, 'Readiness Time Reporting <?>'],
  [0x25, 'Data Link Feature <?>'],
  [0x26, 'Physical Layer 16.0 GT/s <?>'],
  [0x27, 'Lane Margining at the Receiver <?>'],
  [0x28, 'Hierarchy ID <?>'],
  [0x29, 'Native PCIe Enclosure Management <?>'],
]);

function extended(d: LspciDevice, at: number, id: number, type: number, level: number): string {
  const shape = SHAPES.get(id);
  if (shape !== undefined) {
    const all = level > 1 && readable(d, at, shape.bytes);
    return `${shape.title}\n${all ? shape.fields(d, at, type, level) : ''}`;
  }
  if (id === 0x03) {
    const bytes = [7, 6, 5, 4, 3, 2, 1, 0].map((i) => hex(d.read(at + 4 + i, 1), 2));
    return `Device Serial Number ${bytes.join('-')}\n`;
  }
  const head = d.read(at + 4, 4);
  const rest = `Rev=${field(head, 16, 4)} Len=`;
  if (id === 0x0b)
    return `Vendor Specific Information: ID=${hex(head & 0xffff, 4)} ${rest}${hex(field(head, 20, 12), 3)} <?>\n`;
  if (id === 0x23)
    return `Designated Vendor-Specific: Vendor=${hex(head & 0xffff, 4)} ID=${hex(d.read(at + 8, 2), 4)} ${rest}${field(head, 20, 12)} <?>\n`;
  return `${NAMES.get(id) ?? `Extended Capability ID 0x${id.toString(16)}`}\n`;
}

const UNCORRECTABLE = 'DLP@4 SDES TLP@12 FCP CmpltTO CmpltAbrt UnxCmplt RxOF MalfTLP ECRC UnsupReq ACSViol';
const CORRECTABLE = 'RxErr BadTLP@6 BadDLLP Rollover Timeout@12 AdvNonFatalErr';

function errors(d: LspciDevice, at: number, type: number): string {
  const cap = d.read(at + 24, 4);
  const log = [28, 32, 36, 40].map((reg) => long(d.read(at + reg, 4)));
  const out = rows(
    `UESta:\t${flags(d.read(at + 4, 4), UNCORRECTABLE)}`,
    `UEMsk:\t${flags(d.read(at + 8, 4), UNCORRECTABLE)}`,
    `UESvrt:\t${flags(d.read(at + 12, 4), UNCORRECTABLE)}`,
    `CESta:\t${flags(d.read(at + 16, 4), CORRECTABLE)}`,
    `CEMsk:\t${flags(d.read(at + 20, 4), CORRECTABLE)}`,
    `AERCap:\tFirst Error Pointer: ${hex(cap & 31, 2)}, ${flags(cap, 'ECRCGenCap@5 ECRCGenEn ECRCChkCap ECRCChkEn')}`,
    `\t${flags(cap, 'MultHdrRecCap@9 MultHdrRecEn TLPPfxPres HdrLogCap')}`,
    `HeaderLog: ${log.join(' ')}`,
  );
  const root = type === EXP_TYPE.ROOT_PORT || type === EXP_TYPE.RC_EVENT_COLLECTOR;
  if (!root || !readable(d, at + 44, 12)) return out;
  const status = d.read(at + 48, 4);
  return (
    out +
    rows(
      `RootCmd: ${flags(d.read(at + 44, 4), 'CERptEn NFERptEn FERptEn')}`,
      `RootSta: ${flags(status, 'CERcvd MultCERcvd UERcvd MultUERcvd')}`,
      `\t ${flags(status, 'FirstFatal@4 NonFatalMsg FatalMsg')} IntMsg ${field(status, 27, 5)}`,
      `ErrorSrc: ERR_COR: ${hex(d.read(at + 52, 2), 4)} ERR_FATAL/NONFATAL: ${hex(d.read(at + 54, 2), 4)}`,
    )
  );
}

function accessControl(d: LspciDevice, at: number): string {
  const names = 'SrcValid TransBlk ReqRedir CmpltRedir UpstreamFwd EgressCtrl DirectTrans';
  return rows(`ACSCap:\t${flags(d.read(at + 4, 2), names)}`, `ACSCtl:\t${flags(d.read(at + 6, 2), names)}`);
}

function routing(d: LspciDevice, at: number): string {
  const [cap, control] = [d.read(at + 4, 2), d.read(at + 6, 2)];
  return rows(
    `ARICap:\t${flags(cap, 'MFVC ACS')}, Next Function: ${cap >>> 8}`,
    `ARICtl:\t${flags(control, 'MFVC ACS')}, Function Group: ${field(control, 4, 3)}`,
  );
}

function translation(d: LspciDevice, at: number): string {
  const control = d.read(at + 6, 2);
  return rows(
    `ATSCap:\tInvalidate Queue Depth: ${hex(d.read(at + 4, 2) & 0x1f, 2)}`,
    `ATSCtl:\t${flags(control, 'Enable@15')}, Smallest Translation Unit: ${hex(control & 0x1f, 2)}`,
  );
}

function pageRequests(d: LspciDevice, at: number): string {
  return rows(
    `PRICtl: ${flags(d.read(at + 4, 2), 'Enable Reset')}`,
    `PRISta: ${flags(d.read(at + 6, 2), 'RF UPRGI Stopped@8')}`,
    `Page Request Capacity: ${long(d.read(at + 8, 4))}, Page Request Allocation: ${long(d.read(at + 12, 4))}`,
  );
}

function pasid(d: LspciDevice, at: number): string {
  const cap = d.read(at + 4, 2);
  return rows(
    `PASIDCap: ${flags(cap, 'Exec@1 Priv')}, Max PASID Width: ${hex(field(cap, 8, 5), 2)}`,
    `PASIDCtl: ${flags(d.read(at + 6, 2), 'Enable Exec Priv')}`,
  );
}

function sriov(d: LspciDevice, at: number): string {
  const word = (reg: number): number => d.read(at + reg, 2);
  const cap = d.read(at + 4, 4);
  const regions: string[] = [];
  for (let i = 0; i < 6; i++) {
    const low = d.read(at + 0x24 + 4 * i, 4);
    if (low === 0 || low === 0xffff_ffff) continue;
    const wide = (low & 6) === 4;
    const where = `${wide ? long(d.read(at + 0x28 + 4 * i, 4)) : ''}${long(low & ~15)}`;
    const bits = (low & 6) === 0 ? '32' : '64';
    regions.push(
      `Region ${i}: Memory at ${where} (${bits}-bit, ${(low & 8) !== 0 ? '' : 'non-'}prefetchable)`,
    );
    if (wide) i += 1;
  }
  const array = d.read(at + 0x3c, 4);
  return rows(
    `IOVCap:\t${flags(cap, 'Migration 10BitTagReq@2')} Interrupt Message Number: ${hex(field(cap, 21, 11), 3)}`,
    `IOVCtl:\t${flags(word(8), 'Enable Migration Interrupt MSE ARIHierarchy 10BitTagReq')}`,
    `IOVSta:\t${flags(word(10), 'Migration')}`,
    `Initial VFs: ${word(12)}, Total VFs: ${word(14)}, Number of VFs: ${word(16)}, Function Dependency Link: ${hex(d.read(at + 0x12, 1), 2)}`,
    `VF offset: ${word(0x14)}, stride: ${word(0x16)}, Device ID: ${hex(word(0x1a), 4)}`,
    `Supported Page Size: ${long(d.read(at + 0x1c, 4))}, System Page Size: ${long(d.read(at + 0x20, 4))}`,
    ...regions,
    `VF Migration: offset: ${long(array & ~7)}, BIR: ${array & 7}`,
  );
}

function hints(d: LspciDevice, at: number): string {
  const cap = d.read(at + 4, 4);
  const table = [
    'No steering table available',
    'Steering table in TPH capability structure',
    'Steering table in MSI-X table',
    'Reserved steering table location',
  ];
  return rows(
    ...((cap & 2) !== 0 ? ['Interrupt vector mode supported'] : []),
    ...((cap & 4) !== 0 ? ['Device specific mode supported'] : []),
    ...((cap & 0x100) !== 0 ? ['Extended requester support'] : []),
    table[field(cap, 9, 2)]!,
  );
}

function latency(d: LspciDevice, at: number): string {
  const ns = (reg: number): number => {
    const value = d.read(at + reg, 2);
    return (value & 0x3ff) * 2 ** (5 * field(value, 10, 3));
  };
  return rows(`Max snoop latency: ${ns(4)}ns`, `Max no snoop latency: ${ns(6)}ns`);
}

function containment(d: LspciDevice, at: number): string {
  const [cap, control, status] = [d.read(at + 4, 2), d.read(at + 6, 2), d.read(at + 8, 2)];
  return rows(
    `DpcCap:\tINT Msg #${cap & 0x1f}, ${flags(cap, 'RPExt@5 PoisonedTLP SwTrigger')} RP PIO Log ${field(cap, 8, 4)}, ${flags(cap, 'DL_ActiveErr@12')}`,
    `DpcCtl:\tTrigger:${control & 3} ${flags(control, 'Cmpl@2 INT ErrCor PoisonedTLP SwTrigger DL_ActiveErr')}`,
    `DpcSta:\t${flags(status, 'Trigger')} Reason:${hex(field(status, 1, 2), 2)} ${flags(status, 'INT@3 RPBusy')} TriggerExt:${hex(field(status, 5, 2), 2)} RP PIO ErrPtr:${hex(field(status, 8, 5), 2)}`,
    `Source:\t${hex(d.read(at + 10, 2), 4)}`,
  );
}
