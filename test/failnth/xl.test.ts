/** Every step of `xl` that can fail does, in turn: in sysfs, xenstore, QEMU, Xen's allocations and the IOMMU driver. */
import { describe, expect, test } from 'vitest';
import { untilNoneIsLeft } from '../../src/check/fail_nth.js';
import { runAlone } from '../../src/sim/co.js';
import type { FaultSite } from '../../src/sim/faults.js';
import { DOMID } from '../../src/sim/frames.js';
import { restoreSnapshot, takeSnapshot } from '../../src/sim/snapshot.js';
import { type XlHost, xlHost } from '../unit/xl_host.js';

const BDF = '02:00.0';
const SBDF = 0x200;
const HVM = 'name="g"\ntype="hvm"\nmemory=16\nvnc=0\npassthrough="enabled"\n';
const PV = 'name="g"\ntype="pv"\nmemory=16\nkernel="/h1/vmlinuz"\npassthrough="enabled"\n';
const sites = ['alloc', 'vendorOp', 'cmpxchg', 'flush', 'domainAlloc', 'qmp', 'xenstore', 'sysfs'] as const;

interface Case {
  readonly title: string;
  readonly before: (h: XlHost) => void;
  readonly step: (h: XlHost) => number;
  /** Kinds of steps that can fail, on the board with VT-d and on that with AMD-Vi. */
  readonly fails: readonly [vtd: string, amd: string];
  /** What the command ends with when no step fails, 0 if not named. */
  readonly exit?: number;
}
const add = (h: XlHost): number => h.xl('pci-assignable-add', BDF).exit;
const xl =
  (...argv: string[]) =>
  (h: XlHost): number =>
    h.xl(...argv).exit;
const cases: Case[] = [
  {
    title: 'pci-assignable-add',
    before: () => {},
    step: add,
    fails: ['alloc vendorOp flush xenstore sysfs', 'vendorOp xenstore sysfs'],
  },
  {
    title: 'pci-assignable-remove',
    before: add,
    step: xl('pci-assignable-remove', BDF),
    fails: ['vendorOp cmpxchg xenstore sysfs', 'vendorOp xenstore sysfs'],
  },
  {
    title: 'pci-assignable-remove -r',
    before: add,
    step: xl('pci-assignable-remove', '-r', BDF),
    fails: ['vendorOp cmpxchg xenstore sysfs', 'vendorOp xenstore sysfs'],
  },
  ...[HVM, PV].flatMap((text): Case[] => {
    const kind = text === HVM ? 'HVM' : 'PV';
    // QEMU is asked for HVM guests alone.
    const qmp = text === HVM ? 'qmp ' : '';
    const leaves: Case['fails'] = [
      `alloc vendorOp flush ${qmp}xenstore sysfs`,
      `alloc vendorOp ${qmp}xenstore sysfs`,
    ];
    // A PV guest is asked through xenstore; this one has no kernel that answers.
    const shuts: Pick<Case, 'fails' | 'exit'> =
      text === HVM ? { fails: ['', ''], exit: 0 } : { fails: ['xenstore', 'xenstore'], exit: 1 };
    const guest = (h: XlHost): void => {
      add(h);
      h.create(text);
    };
    const attached = (h: XlHost): void => {
      guest(h);
      h.xl('pci-attach', 'g', BDF);
    };
    return [
      {
        title: `create with a device, ${kind}`,
        before: add,
        step: (h) => h.create(`${text}pci=["${BDF}"]\n`).exit,
        fails: [
          `alloc vendorOp cmpxchg domainAlloc ${qmp}xenstore sysfs`,
          `alloc vendorOp domainAlloc ${qmp}xenstore sysfs`,
        ],
      },
      {
        title: `pci-attach, ${kind}`,
        before: guest,
        step: xl('pci-attach', 'g', BDF),
        fails: [`alloc vendorOp cmpxchg ${qmp}xenstore sysfs`, `alloc vendorOp ${qmp}xenstore sysfs`],
      },
      { title: `pci-detach, ${kind}`, before: attached, step: xl('pci-detach', 'g', BDF), fails: leaves },
      {
        title: `pci-detach -f, ${kind}`,
        before: attached,
        step: xl('pci-detach', '-f', 'g', BDF),
        fails: leaves,
      },
      { title: `destroy, ${kind}`, before: attached, step: xl('destroy', 'g'), fails: leaves },
      {
        title: `create, ${kind}`,
        before: add,
        step: (h) => h.create(text).exit,
        fails: [`alloc domainAlloc ${qmp}xenstore`, `alloc domainAlloc ${qmp}xenstore`],
      },
      { title: `shutdown, ${kind}`, before: attached, step: xl('shutdown', '-F', 'g'), ...shuts },
      { title: `reboot, ${kind}`, before: attached, step: xl('reboot', '-F', 'g'), ...shuts },
      {
        title: `rename, ${kind}`,
        before: attached,
        step: xl('rename', 'g', 'h'),
        fails: ['xenstore', 'xenstore'],
      },
      { title: `pause, ${kind}`, before: attached, step: xl('pause', 'g'), fails: ['', ''] },
      { title: `unpause, ${kind}`, before: attached, step: xl('unpause', 'g'), fails: ['', ''] },
      ...[
        ['list'],
        ['info'],
        ['dmesg'],
        ['domid', 'g'],
        ['domname', '1'],
        ['pci-list', 'g'],
        ['pci-assignable-list'],
        ['debug-keys', 'Q'],
      ].map((argv) => ({
        title: `${argv[0]}, ${kind}`,
        before: attached,
        step: xl(...argv),
        fails: ['', ''] as const,
      })),
    ];
  }),
];

/** What must hold whatever has failed. */
function flaws(h: XlHost): string[] {
  const { hw, xen } = h.machine;
  const found: string[] = [];
  const pdev = xen.pdevs.get(SBDF);
  const owner = pdev?.domain;
  if (owner === undefined) found.push('the device has no owner');
  else if (owner !== xen.domIo && xen.domains.get(owner.domid) !== owner) found.push('its owner is gone');
  else if (!owner.pdevList.toArray().includes(pdev!)) found.push('its owner does not list it');
  if (hw.cpus.list.some((cpu) => cpu.holdsLocks)) found.push('a lock is held');
  for (const d of xen.domains.values()) {
    if (d.domid === 0 || d === owner) continue;
    for (const x of d.extents)
      if (owner !== xen.hwdom && h.machine.translate(0, SBDF, x.mfn, true) === x.mfn)
        found.push(`the device reaches d${d.domid}`);
  }
  return found;
}

/** What is left when everything is taken apart. */
interface Rest {
  readonly freeFrames: number;
  readonly interrupts: number;
  readonly deviceModels: number;
}
const restOf = ({ machine: { hw, xen }, dom0 }: XlHost): Rest => ({
  freeFrames: hw.heap.freeFrames,
  interrupts: [...xen.irqs.descs.keys()].filter((irq) => irq > xen.nrIrqsGsi).length,
  deviceModels: dom0.deviceModels.size,
});

/** The guest goes, then the device comes home. */
function takeApart(h: XlHost): string[] {
  h.machine.hw.faults.disarm();
  for (let i = 0; i < 3; i++)
    for (const d of h.machine.xen.domains.keys()) if (d !== 0) h.xl('destroy', String(d));
  const { xen } = h.machine;
  const found = flaws(h);
  const owner = xen.pdevs.get(SBDF)?.domain;
  if (owner !== xen.domIo && owner !== xen.hwdom) found.push(`d${owner?.domid} has the device at the end`);
  const left = [...xen.domains.keys()].filter((id) => id !== 0 && id < DOMID.FIRST_RESERVED);
  if (left.length > 0) found.push(`domains ${left.join(', ')} are left`);
  return found;
}

describe.each(['vtd', 'amd'] as const)('%s', (board) => {
  test.each(cases)(
    '$title leaves no device with the wrong owner, whatever fails',
    ({ before, step, fails, exit = 0 }) => {
      const h = xlHost({ board });
      before(h);
      const { dom0, guests, machine } = h;
      const start = takeSnapshot({ machine, dom0, guests }, { constants: [machine.host, machine.xen.seams] });
      expect(step(h)).toBe(exit);
      runAlone(dom0.settle());
      takeApart(h);
      const clean = restOf(h);
      const told: string[] = [];
      const failed = new Map<FaultSite, number>();
      for (const site of sites) {
        const n = untilNoneIsLeft(
          (nth) => {
            restoreSnapshot(start);
            const hits = machine.hw.faults.hit.length;
            machine.hw.faults.failNth(nth, site);
            let ended = 0;
            try {
              ended = step(h);
              runAlone(dom0.settle());
              const wrong = [...flaws(h), ...takeApart(h)];
              const rest = restOf(h);
              if (rest.freeFrames < clean.freeFrames)
                wrong.push(`${clean.freeFrames - rest.freeFrames} frames are lost`);
              if (rest.interrupts > clean.interrupts) wrong.push('interrupts are left');
              if (rest.deviceModels > clean.deviceModels) wrong.push('a device model is left');
              if (wrong.length > 0) told.push(`${site} ${nth}: exit ${ended}: ${wrong.join('; ')}`);
            } catch (e) {
              told.push(`${site} ${nth}: ${String(e)}`);
            }
            return machine.hw.faults.hit.length > hits;
          },
          site === 'alloc' ? 60 : undefined,
        );
        if (n > 0) failed.set(site, n);
      }
      expect(told).toEqual([]);
      expect([...failed.keys()].join(' ')).toBe(fails[board === 'vtd' ? 0 : 1]);
    },
  );
});
