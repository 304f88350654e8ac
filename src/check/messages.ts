/** Interrupts of devices: the toolstack maps and binds them, devices send messages of their own and of others. */
import { bdfOf, busOf, devfnOf, type Sbdf, segOf } from '../base/sbdf.js';
import type { Domain, Pirq } from '../hypervisor/domain.js';
import { allDpciSoftirqs } from '../hypervisor/passthrough/dpci.js';
import type { PhysdevOp } from '../hypervisor/public/physdev.js';
import { runAlone } from '../sim/co.js';
import { DOMID } from '../sim/frames.js';
import type { Command } from './commands.js';
import type { TestDevice } from './machines.js';
import type { MessageCommand } from './message_commands.js';
import type { WorldState } from './world_state.js';

/** Interrupts that are messages, of all guests. */
const mapped = (w: WorldState): { d: Domain; pirq: Pirq }[] =>
  [...w.machine.xen.domains.values()].flatMap((d) =>
    d.domid === 0 ? [] : [...d.pirqs.values()].flatMap((pirq) => (pirq.msi ? [{ d, pirq }] : [])),
  );

/** 0 or an errno; undefined where nothing was asked of Xen. */
export function runMessage(
  w: WorldState,
  c: MessageCommand,
  device: TestDevice | undefined,
): number | undefined {
  if (c.op === 'unmapMsi' || c.op === 'bindMsi') {
    const all = mapped(w);
    const one = all[c.which % all.length];
    return one === undefined ? undefined : c.op === 'unmapMsi' ? unmap(w, one) : bind(w, one, c.on);
  }
  if (device === undefined || !hasMessages(w, device.sbdf)) return undefined;
  if (c.op === 'mapMsi') return map(w, c, device.sbdf);
  if (c.op === 'forge') return forge(w, device.sbdf, c.data);
  raise(w, c, device);
  return undefined;
}

const hasMessages = (w: WorldState, at: Sbdf): boolean => {
  const p = w.pdev(at);
  return p === undefined || p.msiMaxvec > 0 || p.msix !== undefined;
};

function map(w: WorldState, c: Extract<MessageCommand, { op: 'mapMsi' }>, at: Sbdf): number | undefined {
  const owner = w.pdev(at)?.domain?.domid;
  const named = w.domains[c.dom % Math.max(w.domains.length, 1)]?.domid;
  const domid = c.owner && owner !== undefined && owner < DOMID.FIRST_RESERVED ? owner : named;
  if (domid === undefined) return undefined;
  const known = mapped(w);
  const again = c.again === 0 ? undefined : known[(c.again - 1) % known.length];
  const op: Extract<PhysdevOp, { cmd: 'map_pirq' }> = {
    cmd: 'map_pirq',
    domid,
    type: c.kind === 'multi' ? 'multi_msi' : 'msi_seg',
    index: again?.pirq.irq ?? -1,
    pirq: -1,
    bus: segOf(at) * 0x1_0000 + busOf(at),
    devfn: devfnOf(at),
    ...(c.kind === 'msi' ? {} : { entryNr: c.nr }),
  };
  const rc = runAlone(w.machine.hypercalls.physdevOp(op));
  w.mapped = { domid, owner };
  return rc;
}

function unmap(w: WorldState, { d, pirq }: { d: Domain; pirq: Pirq }): number {
  const op = { cmd: 'unmap_pirq' as const, domid: d.domid, pirq: pirq.pirq };
  return runAlone(w.machine.hypercalls.physdevOp(op));
}

/** HVM: the device model asks for it. PV: the guest does, by an event channel. */
function bind(w: WorldState, { d, pirq }: { d: Domain; pirq: Pirq }, on: boolean): number | undefined {
  const { hypercalls } = w.machine;
  if (d.isHvm) {
    const cmd = on ? ('bind_pt_irq' as const) : ('unbind_pt_irq' as const);
    const op = { cmd, domid: d.domid, machineIrq: pirq.pirq, irqType: 'msi' as const, gvec: 0x30, gflags: 0 };
    return runAlone(hypercalls.domctl(op));
  }
  // A guest that does not run asks for nothing.
  if (d.isShutDown || d.isDying) return undefined;
  const cpu = w.machine.hw.cpus.current;
  const port = [...d.eventChannels].find(([, c]) => c.state === 'pirq' && c.pirq === pirq.pirq)?.[0];
  if (!on && port === undefined) return undefined;
  const before = cpu.domid;
  cpu.domid = d.domid;
  try {
    return runAlone(
      hypercalls.eventChannelOp(
        on ? { cmd: 'bind_pirq', pirq: pirq.pirq, flags: 0 } : { cmd: 'close', port: port! },
      ),
    );
  } finally {
    cpu.domid = before;
  }
}

function raise(w: WorldState, c: Extract<MessageCommand, { op: 'raise' }>, device: TestDevice): void {
  const rids = [...w.ridsOf(device), ...device.sharedRids];
  const rid = rids[c.rid % rids.length]!;
  const message = w.messages[c.which % w.messages.length];
  if (message === undefined) return;
  const irq = w.machine.raise(segOf(rid), bdfOf(rid), message.address, message.data, c.rounds);
  w.count(irq < 0 ? 'message refused' : 'message arrives');
  if (irq >= 0) w.raised = { rid, irq };
}

const MSI_ADDRESS = 4;
const MSI_DATA = 12;

/** What a device keeps in its registers is its own affair, whoever may write to them. */
function forge(w: WorldState, at: Sbdf, data: number): undefined {
  const { pci } = w.machine.hw;
  const pos = w.machine.xen.irqs.msis.get(at)?.find((e) => e.type === 'msi')?.pos;
  if (pos === undefined) return;
  pci.configWrite(at, pos + MSI_ADDRESS, 4, 0xfee0_0000);
  pci.configWrite(at, pos + MSI_DATA, 2, data);
}

/** Learns what devices were given; CPUs come to what they have put off while time goes by. */
export function afterCommand(w: WorldState, c: Command): void {
  if (c.op === 'clock') allDpciSoftirqs(w.machine.xen);
  for (const entries of w.machine.xen.irqs.msis.values()) {
    for (const entry of entries.flatMap((e) => e.group)) {
      const { addressLo: address, data } = entry.sent;
      if (address !== 0 && !w.messages.some((m) => m.address === address && m.data === data))
        w.messages.push({ address, data });
    }
  }
}
