/** Capabilities below 0x100, and the walk along both lists. @pciutils ls-caps.c */
import { hex } from '../../base/sbdf.js';
import { CAP, PCI } from '../../pci/registers.js';
import { idName, type LspciDevice } from './lspci_device.js';
import { extendedCapabilities } from './lspci_ecaps.js';
import { express } from './lspci_express.js';
import { hyperTransport } from './lspci_ht.js';
import { field, flags, long, pick, readable, rows } from './lspci_text.js';

/** `list` is where the first one's place stands. */
export function capabilities(d: LspciDevice, level: number, list: number): string {
  let out = '';
  let extended = false;
  let type = -1;
  const seen = new Set<number>();
  let at = (d.read(PCI.STATUS, 2) & 0x10) !== 0 ? d.read(list, 1) & 0xfc : 0;
  while (at !== 0) {
    if (!readable(d, at, 4)) {
      out += '\tCapabilities: <access denied>\n';
      break;
    }
    const id = d.read(at, 1);
    const broken = seen.has(at) ? '<chain looped>\n' : id === 0xff ? '<chain broken>\n' : undefined;
    out += `\tCapabilities: [${hex(at, 2)}] ${broken ?? capability(d, at, id, level)}`;
    if (broken !== undefined) break;
    seen.add(at);
    if (id === CAP.EXP) type = field(d.read(at + 2, 2), 4, 4);
    extended ||= id === CAP.EXP || id === CAP.PCIX;
    at = d.read(at + 1, 1) & 0xfc;
  }
  return extended ? out + extendedCapabilities(d, type, level) : out;
}

/** Those of which lspci knows the name alone. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x00, 'Null'],
  [0x06, 'CompactPCI hot-swap <?>'],
  [0x0b, 'CompactPCI central resource control <?>'],
  [0x0c, 'Hot-plug capable'],
  [0x0e, 'AGP3 <?>'],
  [0x0f, 'Secure device <?>'],
]);

function capability(d: LspciDevice, at: number, id: number, level: number): string {
  const word = d.read(at + 2, 2);
  switch (id) {
    case CAP.PM:
      return powerManagement(d, at, level);
    case 0x02:
      return `AGP version ${field(word, 4, 4).toString(16)}.${(word & 15).toString(16)}\n`;
    case CAP.VPD:
      return `Vital Product Data\n${level > 1 ? rows('Not readable') : ''}`;
    case 0x04:
      return `Slot ID: ${word & 0x1f} slots, ${flags(word, 'First@5')}, chassis ${hex(word >>> 8, 2)}\n`;
    case CAP.MSI:
      return msi(d, at, level);
    case CAP.PCIX:
      return pcix(d, at, level);
    case 0x08:
      return hyperTransport(d, at, level);
    case 0x09:
      return `Vendor Specific Information: ${virtio(d, at, level) ?? `Len=${hex(word & 0xff, 2)} <?>\n`}`;
    case 0x0a:
      return `Debug port: BAR=${word >>> 13} offset=${hex(word & 0x1fff, 4)}\n`;
    case 0x0d:
      return readable(d, at, 8) ? `Subsystem: ${idName(d, d.read(at + 4, 2), d.read(at + 6, 2))}\n` : '';
    case CAP.EXP:
      return express(d, at, level);
    case CAP.MSIX:
      return msix(d, at, level);
    case 0x12:
      return sata(d, at, level);
    case 0x14:
      return `Enhanced Allocation (EA): NumEntries=${word & 0x3f}${d.headerType === 1 ? `, secondary=${d.read(at + 4, 1)}, subordinate=${d.read(at + 5, 1)}` : ''}\n`;
    case CAP.AF:
      return advancedFeatures(d, at, level);
    default:
      return `${NAMES.get(id) ?? `Capability ID 0x${id.toString(16)} [${hex(word, 4)}]`}\n`;
  }
}

function powerManagement(d: LspciDevice, at: number, level: number): string {
  const cap = d.read(at + 2, 2);
  const title = `Power Management version ${cap & 7}\n`;
  if (level < 2) return title;
  const milliamps = [0, 55, 100, 160, 220, 270, 320, 375][field(cap, 6, 3)];
  const events = flags(cap, 'D0@11 D1 D2 D3hot D3cold').replaceAll(' ', ',');
  const kinds = `${flags(cap, 'PMEClk@3 DSI@5 D1@9 D2')} AuxCurrent=${milliamps}mA PME(${events})`;
  if (!readable(d, at + 4, 4)) return title + rows(`Flags: ${kinds}`);
  const control = d.read(at + 4, 2);
  const bridge = d.read(at + 6, 1);
  const data = `DSel=${field(control, 9, 4)} DScale=${field(control, 13, 2)}`;
  return (
    title +
    rows(
      `Flags: ${kinds}`,
      `Status: D${control & 3} ${flags(control, 'NoSoftRst@3 PME-Enable@8')} ${data} ${flags(control, 'PME@15')}`,
      ...(bridge === 0 ? [] : [`Bridge: ${flags(bridge, 'PM@7')} ${flags(~bridge, 'B3@6')}`]),
    )
  );
}

function msi(d: LspciDevice, at: number, level: number): string {
  const word = d.read(at + 2, 2);
  const wide = (word & 0x80) !== 0;
  const count = `Count=${1 << field(word, 4, 3)}/${1 << field(word, 1, 3)}`;
  const title = `MSI: ${flags(word, 'Enable')} ${count} ${flags(word, 'Maskable@8')} ${flags(word, '64bit@7')}\n`;
  const data = at + (wide ? 12 : 8);
  if (level < 2 || !readable(d, data, 2)) return title;
  const where = `${wide ? long(d.read(at + 8, 4)) : ''}${long(d.read(at + 4, 4))}`;
  const masks = (word & 0x100) !== 0 && readable(d, data + 4, 8);
  return (
    title +
    rows(
      `Address: ${where}  Data: ${hex(d.read(data, 2), 4)}`,
      ...(masks ? [`Masking: ${long(d.read(data + 4, 4))}  Pending: ${long(d.read(data + 8, 4))}`] : []),
    )
  );
}

function msix(d: LspciDevice, at: number, level: number): string {
  const word = d.read(at + 2, 2);
  const title = `MSI-X: ${flags(word, 'Enable@15')} Count=${(word & 0x7ff) + 1} ${flags(word, 'Masked@14')}\n`;
  if (level < 2 || !readable(d, at + 4, 8)) return title;
  const place = (reg: number): string => {
    const value = d.read(reg, 4);
    return `BAR=${value & 7} offset=${long(value & ~7)}`;
  };
  return title + rows(`Vector table: ${place(at + 4)}`, `PBA: ${place(at + 8)}`);
}

const SPLITS = [1, 2, 3, 4, 8, 12, 16, 32];

function pcix(d: LspciDevice, at: number, level: number): string {
  const bridge = d.headerType === 1;
  const title = `PCI-X ${bridge ? '' : 'non-'}bridge device\n`;
  if (level < 2 || !readable(d, at + 4, bridge ? 12 : 4)) return title;
  const status = d.read(at + 4, 4);
  const self = `Dev=${hex(field(status, 8, 8), 2)}:${hex(field(status, 3, 5), 2)}.${status & 7}`;
  const word = d.read(at + 2, 2);
  if (bridge) {
    const clock = pick(['conv', '66MHz', '100MHz', '133MHz', '?4', '?5', '?6', '?7'], field(word, 6, 3));
    const names = '64bit 133MHz SCD USC SCO SRD';
    const split = (reg: number): string => {
      const value = d.read(reg, 4);
      return `Capacity=${field(value, 0, 16)} CommitmentLimit=${field(value, 16, 16)}`;
    };
    return (
      title +
      rows(
        `Secondary Status: ${flags(word, names)} Freq=${clock}`,
        `Status: ${self} ${flags(status, names.replace('64bit', '64bit@16'))}`,
        `Upstream: ${split(at + 8)}`,
        `Downstream: ${split(at + 12)}`,
      )
    );
  }
  const designed = `DMMRBC=${512 << field(status, 21, 2)} DMOST=${SPLITS[field(status, 23, 3)]} DMCRS=${8 << field(status, 26, 3)}`;
  return (
    title +
    rows(
      `Command: ${flags(word, 'DPERE ERO')} RBC=${512 << field(word, 2, 2)} OST=${SPLITS[field(word, 4, 3)]}`,
      `Status: ${self} ${flags(status, '64bit@16 133MHz SCD USC')} DC=${field(status, 20, 1) === 1 ? 'bridge' : 'simple'} ${designed} ${flags(status, 'RSCEM@29 266MHz 533MHz')}`,
    )
  );
}

/** Vendor capabilities of virtio devices. @pciutils ls-caps-vendor.c */
function virtio(d: LspciDevice, at: number, level: number): string | undefined {
  const bytes = d.read(at + 2, 1);
  if (d.vendor !== 0x1af4 || d.device < 0x1000 || d.device > 0x107f || bytes < 16) return undefined;
  if (!readable(d, at, bytes)) return undefined;
  const type = d.read(at + 3, 1);
  const name = [undefined, 'CommonCfg', 'Notify', 'ISR', 'DeviceCfg'][type] ?? '<unknown>';
  const place = `BAR=${d.read(at + 4, 1)} offset=${long(d.read(at + 8, 4))} size=${long(d.read(at + 12, 4))}`;
  const multiplier = type === 2 && bytes >= 20 ? ` multiplier=${long(d.read(at + 16, 4))}` : '';
  return `VirtIO: ${name}\n${level > 1 ? rows(place + multiplier) : ''}`;
}

function sata(d: LspciDevice, at: number, level: number): string {
  const word = d.read(at + 2, 2);
  const title = `SATA HBA v${field(word, 4, 4)}.${word & 15}`;
  if (level < 2 || !readable(d, at + 4, 4)) return `${title}\n`;
  const value = d.read(at + 4, 4);
  const bar = value & 15;
  if (bar === 15) return `${title} InCfgSpace\n`;
  if (bar < 4 || bar > 9) return `${title} BAR??${bar}\n`;
  return `${title} BAR${bar - 4} Offset=${long(field(value, 4, 20))}\n`;
}

function advancedFeatures(d: LspciDevice, at: number, level: number): string {
  const title = 'PCI Advanced Features\n';
  if (level < 2 || !readable(d, at + 3, 3)) return title;
  return (
    title +
    rows(
      `AFCap: ${flags(d.read(at + 3, 1), 'TP FLR')}`,
      `AFCtrl: ${flags(d.read(at + 4, 1), 'FLR')}`,
      `AFStatus: ${flags(d.read(at + 5, 1), 'TP')}`,
    )
  );
}
