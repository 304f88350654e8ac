/** Ports of domains, and what keys 'e' and 'q' tell of them. @xen common/event_channel.c, common/keyhandler.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../../src/base/errno.js';
import { dumpDomains, dumpEventChannels } from '../../../src/hypervisor/domain_dump.js';
import { eventChannelOp, evtchnDestroy, freeSharedPages } from '../../../src/hypervisor/event_channel.js';
import { mmuextOp } from '../../../src/hypervisor/mm/page_type.js';
import { type EvtchnOp, VIRQ } from '../../../src/hypervisor/public/event_channel.js';
import { runAlone } from '../../../src/sim/co.js';
import { FRAME_TYPE, OWNER_FREE } from '../../../src/sim/frames.js';
import { makeXen, type TestXen } from '../../helpers/xen.js';

/** The port, or the error. */
function op(xen: TestXen, o: EvtchnOp): number {
  const rc = runAlone(eventChannelOp(xen, o));
  return rc !== 0 ? rc : 'port' in o ? (o.port ?? 0) : 0;
}

const printed = (xen: TestXen, dump: (xen: TestXen) => void): string[] => {
  const before = xen.console.lines().length;
  dump(xen);
  return xen.console.lines().slice(before);
};

describe('event channels', () => {
  test('both ends of a channel know each other; the one that is left can be bound again', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    expect(op(xen, { cmd: 'alloc_unbound', dom: 1, remote: 0 })).toBe(1);
    expect(op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 1 })).toBe(1);
    expect(d.eventChannels.get(1)).toEqual({ state: 'interdomain', remote: 0, port: 1 });
    expect(op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 1 })).toBe(E.INVAL);
    expect(op(xen, { cmd: 'close', domid: 0, port: 1 })).toBe(1);
    expect(d.eventChannels.get(1)).toEqual({ state: 'unbound', remote: 0 });
    expect(op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 1 })).toBe(1);
  });

  test('an unbound port is for one domain alone', () => {
    const xen = makeXen();
    xen.guest(1);
    xen.guest(2);
    op(xen, { cmd: 'alloc_unbound', dom: 1, remote: 2 });
    expect(op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 1 })).toBe(E.INVAL);
    expect(op(xen, { cmd: 'bind_interdomain', domid: 2, remote: 1, remotePort: 1 })).toBe(1);
    expect(op(xen, { cmd: 'bind_interdomain', domid: 2, remote: 9, remotePort: 1 })).toBe(E.SRCH);
  });

  test('what Xen raises is bound once, a timer once by each processor', () => {
    const xen = makeXen();
    xen.guest(1).maxVcpus = 2;
    const bind = (virq: number, vcpu: number): number => op(xen, { cmd: 'bind_virq', domid: 1, virq, vcpu });
    expect([bind(VIRQ.TIMER, 0), bind(VIRQ.TIMER, 1), bind(VIRQ.TIMER, 1)]).toEqual([1, 2, E.EXIST]);
    expect([bind(VIRQ.CONSOLE, 0), bind(VIRQ.CONSOLE, 0)]).toEqual([3, E.EXIST]);
    expect([bind(VIRQ.CONSOLE, 1), bind(VIRQ.TIMER, 2), bind(24, 0)]).toEqual([E.INVAL, E.NOENT, E.INVAL]);
    expect(op(xen, { cmd: 'bind_ipi', domid: 1, vcpu: 2 })).toBe(E.NOENT);
  });

  test('the ports of a dying domain are closed: the other end is left, and its pages are free', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    op(xen, { cmd: 'alloc_unbound', dom: 1, remote: 0 });
    op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 1 });
    const pages = [...d.xenPages!];
    expect(pages.map((mfn) => xen.frames.owner(mfn))).toEqual([1, 1]);
    evtchnDestroy(xen, d);
    freeSharedPages(xen, d);
    expect(xen.hwdom.eventChannels.get(1)).toEqual({ state: 'unbound', remote: 1 });
    expect([d.eventChannels.size, ...pages.map((mfn) => xen.frames.owner(mfn))]).toEqual([
      0,
      OWNER_FREE,
      OWNER_FREE,
    ]);
  });

  test("key 'e': ports in order, each with its state and its other end", () => {
    const xen = makeXen();
    xen.guest(1);
    op(xen, { cmd: 'alloc_unbound', dom: 1, remote: 0 });
    op(xen, { cmd: 'alloc_unbound', dom: 1, remote: 0 });
    op(xen, { cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 2 });
    op(xen, { cmd: 'init_control', domid: 1 });
    op(xen, { cmd: 'bind_virq', domid: 1, virq: VIRQ.TIMER, vcpu: 0 });
    op(xen, { cmd: 'bind_ipi', domid: 1, vcpu: 0 });
    const lines = printed(xen, dumpEventChannels).map((l) => l.replace('(XEN) ', ''));
    expect(lines.slice(-7)).toEqual([
      'Event channel information for domain 1:',
      'Polling vCPUs: {}',
      '    port [p/m/s]',
      '       1 [0/0/  -   ]: s=2 n=0 x=0 d=0',
      '       2 [0/0/  -   ]: s=3 n=0 x=0 d=0 p=1',
      '       3 [0/0/  -   ]: s=5 n=0 x=0 v=0',
      '       4 [0/0/  -   ]: s=6 n=0 x=0',
    ]);
  });

  test("key 'q': an HVM guest has its paging and its populate-on-demand told", () => {
    const xen = makeXen();
    const d = xen.guest(1, { hvm: true });
    d.podEntries = 5;
    const lines = printed(xen, dumpDomains).map((l) => l.replace('(XEN) ', ''));
    expect(lines).toContain('    PoD entries=5 cachesize=0');
    expect(lines.filter((l) => l.startsWith('Notifying guest'))).toEqual([
      'Notifying guest 0:0 (virq 1, port 0)',
      'Notifying guest 1:0 (virq 1, port 0)',
    ]);
  });
});

describe('pages of a PV guest', () => {
  test('one that becomes a page table leaves the table of devices, and comes back when it is RAM again', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    d.iommu.needSync = true;
    const mfn = xen.heap.alloc(0, 1, FRAME_TYPE.writable);
    const calls = (): string[] => xen.vendor.pages.flatMap((p) => (p.op === 'flush' ? [] : [p.op]));
    const pin = (cmd: 'pin_table' | 'unpin_table', page = mfn): number =>
      runAlone(mmuextOp(xen, { cmd, domid: 1, mfn: page }));
    expect([pin('pin_table'), calls()]).toEqual([0, ['unmap']]);
    expect([pin('pin_table'), xen.frames.type(mfn)]).toEqual([E.INVAL, FRAME_TYPE.pagetable]);
    expect([pin('unpin_table'), calls()]).toEqual([0, ['unmap', 'map']]);
    expect(pin('pin_table', mfn + 1)).toBe(E.INVAL);
  });
});
