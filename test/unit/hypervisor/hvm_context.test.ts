/** What Xen says of an HVM guest's state. */
import { describe, expect, test } from 'vitest';
import { E } from '../../../src/base/errno.js';
import { hvmLoad, hvmSave } from '../../../src/hypervisor/hvm_context.js';
import { setUpcallVector } from '../../../src/hypervisor/hvm_op.js';
import { makeXen } from '../../helpers/xen.js';

describe('gethvmcontext and sethvmcontext', () => {
  test('each kind has a line, and each virtual CPU one of the kinds that are its own', () => {
    const xen = makeXen({});
    xen.console.setLevels('guest', 'all');
    const d = xen.guest(1, { hvm: true });
    d.maxVcpus = 2;
    xen.news();
    expect(hvmSave(xen, d)).toBe(0);
    const lines = xen.news();
    expect(lines.slice(0, 4)).toEqual([
      'HVM d1v0 save: CPU',
      'HVM d1v1 save: CPU',
      'HVM d1 save: PIC',
      'HVM d1 save: IOAPIC',
    ]);
    expect([lines.length, lines.at(-1)]).toEqual([19 + 9, 'HVM d1v1 save: CPU_MSR']);
    expect(hvmLoad(xen, d, { cmd: 'sethvmcontext', domid: 1, records: [['CPU', 0]] })).toBe(0);
    expect(xen.news()).toEqual(['HVM1 restore: CPU 0']);
  });

  test('a PV guest has none', () => {
    const xen = makeXen({});
    const d = xen.guest(1);
    expect([hvmSave(xen, d), hvmLoad(xen, d, { cmd: 'sethvmcontext', domid: 1, records: [] })]).toEqual([
      E.INVAL,
      E.INVAL,
    ]);
  });
});

// arch/x86/hvm/hvm.c hvmop_set_evtchn_upcall_vector
describe('the vector of the upcall', () => {
  const guest = (release: string) => {
    const xen = makeXen({ release });
    xen.console.setLevels('guest', 'all');
    const d = xen.guest(1, { hvm: true });
    d.maxVcpus = 2;
    xen.news();
    return { xen, d };
  };
  test('is refused where it cannot be', () => {
    const { xen, d } = guest('4.17');
    expect([
      setUpcallVector(xen, d, 0, 0x0f),
      setUpcallVector(xen, d, 2, 0xf3),
      setUpcallVector(xen, xen.guest(2), 0, 0xf3),
    ]).toEqual([E.INVAL, E.NOENT, E.INVAL]);
  });
  test.each([
    ['4.17', ['d1v0: upcall vector f3', 'd1v1: upcall vector f3']],
    ['4.18', ['d1v0: upcall vector f3', 'd1v1: upcall vector f3']],
    ['4.23', ['d1v0: upcall vector f3']],
  ])('%s tells of it', (release, lines) => {
    const { xen, d } = guest(release);
    expect([setUpcallVector(xen, d, 0, 0xf3), setUpcallVector(xen, d, 1, 0xf3)]).toEqual([0, 0]);
    expect(xen.news()).toEqual(lines);
  });
});
