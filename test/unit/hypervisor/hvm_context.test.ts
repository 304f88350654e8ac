/** What Xen says of an HVM guest's state. */
import { describe, expect, test } from 'vitest';
import { E } from '../../../src/base/errno.js';
import { hvmLoad, hvmSave } from '../../../src/hypervisor/hvm_context.js';
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
