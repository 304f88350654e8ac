/** `lspci -m` and `-mm`: for programs to read. @pciutils lspci.c show_machine */
import { formatBdf, formatSbdf, hex, segOf } from '../../base/sbdf.js';
import { className, namesOf } from '../../pci/names.js';
import { idName, type LspciDevice } from './lspci_device.js';

export interface MachineForm {
  readonly ids: 'names' | 'numbers' | 'both';
  /** `-v`: a line for each field. */
  readonly verbose: boolean;
  /** `-mm`, where the address is called a slot. */
  readonly twice: boolean;
  /** `-D` */
  readonly domain: boolean;
  /** `-k` */
  readonly kernel: boolean;
}

export function showMachine(d: LspciDevice, form: MachineForm): string {
  const address = form.domain || segOf(d.sbdf) !== 0 ? formatSbdf(d.sbdf) : formatBdf(d.sbdf);
  const names = [className(d.classCode, form.ids), ...namesOf(d, form.ids)];
  const sub = subsystemNames(d, form);
  const revision = d.revision === 0 ? undefined : hex(d.revision, 2);
  const progIf = hex(d.classCode & 0xff, 2);
  if (!form.verbose) {
    const more = `${revision === undefined ? '' : ` -r${revision}`} -p${progIf}`;
    return `${address}${names.map(quoted).join('')}${more}${(sub ?? ['', '']).map(quoted).join('')}\n`;
  }
  const fields: (readonly [string, string | undefined])[] = [
    [form.twice ? 'Slot' : 'Device', address],
    ['Class', names[0]],
    ['Vendor', names[1]],
    ['Device', names[2]],
    ['SVendor', sub?.[0]],
    ['SDevice', sub?.[1]],
    ['PhySlot', d.slot],
    ['Rev', revision],
    ['ProgIf', progIf],
    ['Driver', form.kernel ? d.driver : undefined],
    ...(form.kernel ? d.modules : []).map((m) => ['Module', m] as const),
  ];
  return fields.map(([name, value]) => (value === undefined ? '' : `${name}:\t${value}\n`)).join('');
}

function subsystemNames(d: LspciDevice, { ids }: MachineForm): readonly string[] | undefined {
  const [vendor, device] = [d.subsystemVendor, d.subsystemDevice];
  if (vendor === 0 || vendor === 0xffff) return undefined;
  const init = { name: idName(d, vendor, device) };
  return namesOf({ sbdf: d.sbdf, vendor, device, classCode: 0, revision: 0, init }, ids);
}

/** As print_shell_escaped does. */
const quoted = (text: string): string => ` "${text.replace(/["\\]/g, '\\$&')}"`;
