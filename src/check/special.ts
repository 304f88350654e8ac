/** Commands for machines and releases that have what these need, and a bit of the hardware. */
import { busOf, devfnOf, type Sbdf, segOf } from '../base/sbdf.js';
import { PCI_DEV_FLAG } from '../hypervisor/public/physdev.js';
import { runAlone } from '../sim/co.js';
import type { Command } from './commands.js';
import { findExtended } from './device_tlb.js';
import type { TestDevice } from './machines.js';
import { entryOf, translationOf } from './tables_now.js';
import type { WorldState } from './world_state.js';

type Special = Extract<Command, { op: 'addVf' | 'ats' | 'launch' | 'reset' }>;

export function runSpecial(w: WorldState, c: Special, device: TestDevice | undefined): number | undefined {
  if (device === undefined) return undefined;
  if (c.op === 'addVf') return addVf(w, device, c.pf);
  if (c.op === 'reset') return reset(w, device, c.bus);
  const owner = w.domains.find((d) => d.domid === w.pdev(device.sbdf)?.domain?.domid);
  const pages = [...(owner?.memory.keys() ?? [])];
  const dfn = pages[c.page % Math.max(pages.length, 1)] ?? 0x100;
  if (c.op === 'launch') return launch(w, device, c.rid, dfn, c.write);
  if (w.deviceTlbs.ask(w.machine, device, dfn) >= 0) w.count('device keeps a translation');
  return undefined;
}

/** Of requests to pages of guests alone: where dom0's go is nobody's concern. */
function launch(w: WorldState, device: TestDevice, which: number, dfn: number, write: boolean): undefined {
  const { machine } = w;
  const rids = w.ownRids(device);
  const rid = rids[which % rids.length]!;
  const entry = entryOf(machine, rid);
  const unit = machine.units.indexOf(machine.unitFor(rid)!);
  const mfn = w.reach(rid, dfn, write);
  if (entry === undefined || unit < 0 || mfn < 0 || translationOf(machine, rid, dfn)?.mfn !== mfn) return;
  const owner = machine.hw.frames.owner(mfn);
  if (owner !== w.pdev(device.sbdf)?.domain?.domid || owner === 0) return;
  w.count('request on its way');
  w.inFlight.launch({ unit, rid, dfn, mfn, did: entry.did, owner, write, since: 'an earlier command' });
}

const DEVCTL = 8;
const INITIATE_FLR = 0x8000;
const BRIDGE_CONTROL = 0x3e;
const SECONDARY_BUS_RESET = 0x40;

/** A reset of the function, or of all behind its bridge, as dom0 does it; it may be a bus master again after. */
function reset(w: WorldState, device: TestDevice, bus: boolean): undefined {
  const { pci } = w.machine.hw;
  const fn = pci.functionAt(device.sbdf);
  const bridge = fn?.bus.parent?.sbdf;
  if (fn === undefined || (bus && bridge === undefined)) return;
  if (bus) {
    const control = pci.configRead(bridge!, BRIDGE_CONTROL, 2);
    pci.configWrite(bridge!, BRIDGE_CONTROL, 2, control | SECONDARY_BUS_RESET);
    pci.configWrite(bridge!, BRIDGE_CONTROL, 2, control & ~SECONDARY_BUS_RESET);
  } else if (fn.exp !== 0)
    pci.configWrite(
      device.sbdf,
      fn.exp + DEVCTL,
      2,
      pci.configRead(device.sbdf, fn.exp + DEVCTL, 2) | INITIATE_FLR,
    );
  w.count(bus ? 'bus reset' : 'function reset');
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

/** Some step of what comes next will fail. */
export function armFault(
  w: WorldState,
  c: Extract<Command, { op: 'fail' | 'failFlush' | 'failTwo' }>,
): undefined {
  const { faults } = w.machine.hw;
  if (c.op === 'fail') faults.failNth(c.nth, c.site);
  else if (c.op === 'failFlush') faults.failNth(c.nth, 'flush');
  else faults.failNth(c.nth, 'vendorOp', c.gap);
}

const SRIOV = 0x10;
/** Control: VF Enable and VF MSE. */
const SRIOV_CONTROL = 8;
const VFS_ON = 0x09;
const TOTAL_VFS = 0x0e;
const NUM_VFS = 0x10;

/** The driver of a physical function makes its virtual ones. @linux drivers/pci/iov.c sriov_enable */
export function switchVfsOn({ machine, layout }: WorldState, pf: Sbdf): void {
  const { pci } = machine.hw;
  if (!layout.devices.some((d) => d.physfn === pf)) return;
  const at = findExtended(pci, pf, SRIOV);
  pci.configWrite(pf, at + NUM_VFS, 2, pci.configRead(pf, at + TOTAL_VFS, 2));
  pci.configWrite(pf, at + SRIOV_CONTROL, 2, pci.configRead(pf, at + SRIOV_CONTROL, 2) | VFS_ON);
}
