/** Commands for machines and releases that have what these need, and a bit of the hardware. */
import { busOf, devfnOf, type Sbdf, segOf } from '../base/sbdf.js';
import { PCI_DEV_FLAG } from '../hypervisor/public/physdev.js';
import { runAlone } from '../sim/co.js';
import type { Command } from './commands.js';
import type { TestDevice } from './machines.js';
import type { WorldState } from './world_state.js';

type Special = Extract<Command, { op: 'addVf' | 'ats' }>;

export function runSpecial(w: WorldState, c: Special, device: TestDevice | undefined): number | undefined {
  if (device === undefined) return undefined;
  if (c.op === 'addVf') return addVf(w, device, c.pf);
  const owner = w.domains.find((d) => d.domid === w.pdev(device.sbdf)?.domain?.domid);
  const pages = [...(owner?.memory.keys() ?? [])];
  const dfn = pages[c.page % Math.max(pages.length, 1)] ?? 0x100;
  if (w.deviceTlbs.ask(w.machine, device, dfn) >= 0) w.count('device keeps a translation');
  return undefined;
}

/** A device that is not there yet comes back as a virtual function of another one, which is none itself. */
function addVf(w: WorldState, device: TestDevice, pf: number): number | undefined {
  const { devices } = w.layout;
  const of = devices[pf % devices.length]!;
  if (of === device || w.pdev(device.sbdf) !== undefined || w.pdev(of.sbdf)?.isVirtfn === true)
    return undefined;
  return runAlone(
    w.machine.hypercalls.physdevOp({
      cmd: 'pci_device_add',
      seg: segOf(device.sbdf),
      bus: busOf(device.sbdf),
      devfn: devfnOf(device.sbdf),
      flags: PCI_DEV_FLAG.VIRTFN,
      physfn: { bus: busOf(of.sbdf), devfn: devfnOf(of.sbdf) },
    }),
  );
}

/** The hardware's MSI-X MASKALL bit, as a device that was not reset leaves it. */
export function maskAll(w: WorldState, at: Sbdf, on: boolean): undefined {
  const pos = w.pdev(at)?.msix?.pos;
  if (pos === undefined) return;
  const { pci } = w.machine.hw;
  const control = pci.configRead(at, pos + 2, 2);
  pci.configWrite(at, pos + 2, 2, on ? control | 0x4000 : control & ~0x4000);
}
