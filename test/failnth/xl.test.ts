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
}
const add = (h: XlHost): number => h.xl('pci-assignable-add', BDF).exit;
const cases: Case[] = [
  { title: 'pci-assignable-add', before: () => {}, step: add },
  {
    title: 'pci-assignable-remove -r',
    before: add,
    step: (h) => h.xl('pci-assignable-remove', '-r', BDF).exit,
  },
  ...[HVM, PV].flatMap((text): Case[] => {
    const kind = text === HVM ? 'HVM' : 'PV';
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
      },
      { title: `pci-attach, ${kind}`, before: guest, step: (h) => h.xl('pci-attach', 'g', BDF).exit },
      { title: `pci-detach, ${kind}`, before: attached, step: (h) => h.xl('pci-detach', 'g', BDF).exit },
      { title: `destroy, ${kind}`, before: attached, step: (h) => h.xl('destroy', 'g').exit },
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
  if (hw.cpus.list.some((cpu) => cpu.held.length > 0)) found.push('a lock is held');
  for (const d of xen.domains.values()) {
    if (d.domid === 0 || d === owner) continue;
    for (const x of d.extents)
      if (owner !== xen.hwdom && h.machine.translate(0, SBDF, x.mfn, true) === x.mfn)
        found.push(`the device reaches d${d.domid}`);
  }
  return found;
}

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
  test.each(cases)('$title leaves no device with the wrong owner, whatever fails', ({ before, step }) => {
    const h = xlHost({ board });
    before(h);
    const { dom0, guests, machine } = h;
    const start = takeSnapshot({ machine, dom0, guests }, { constants: [machine.host, machine.xen.seams] });
    const told: string[] = [];
    const failed = new Map<FaultSite, number>();
    for (const site of sites) {
      const n = untilNoneIsLeft((nth) => {
        restoreSnapshot(start);
        const hits = machine.hw.faults.hit.length;
        machine.hw.faults.failNth(nth, site);
        let exit = 0;
        try {
          exit = step(h);
          runAlone(dom0.settle());
          const wrong = [...flaws(h), ...takeApart(h)];
          if (wrong.length > 0) told.push(`${site} ${nth}: exit ${exit}: ${wrong.join('; ')}`);
        } catch (e) {
          told.push(`${site} ${nth}: ${String(e)}`);
        }
        return machine.hw.faults.hit.length > hits;
      }, 60);
      if (n > 0) failed.set(site, n);
    }
    expect(told).toEqual([]);
    expect(failed.size).toBeGreaterThan(1);
  });
});
