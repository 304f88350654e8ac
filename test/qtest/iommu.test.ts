/** What QEMU's intel-iommu-test and iommu-intel-test ask of a board, clause by clause, through the same protocol. */
import { describe, expect, test } from 'vitest';
import { BoardRig, UNIT } from './board_rig.js';
import { IOVA, L4, MODES, QUEUE, ready, TARGET, TESTDEV_BAR, trigger } from './translation_modes.js';

const bits = (value: bigint, hi: number, lo: number): number =>
  Number((value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n));

describe('registers of a unit with scalable mode and first-level translation', () => {
  const rig = new BoardRig('-M q35 -device intel-iommu,scalable-mode=on,fsts=on');
  const cap = rig.reg(0x08);
  const ecap = rig.reg(0x10);

  test('CAP is what QEMU 11 has: fault records at 0x220, one of them, 64 Ki domains, page-selective flushes', () => {
    expect(cap).toBe(0x81d2008c222f0606n);
    expect([bits(cap, 33, 24) * 16, bits(cap, 47, 40) + 1, bits(cap, 2, 0)]).toEqual([0x220, 1, 6]);
    expect([bits(cap, 39, 39), bits(cap, 53, 48), bits(cap, 37, 34)]).toEqual([1, 18, 3]);
  });
  test('SAGAW offers 39 and 48 bits and MGAW is 48', () => {
    expect(bits(cap, 12, 8)).toBe(0b110);
    expect(bits(cap, 21, 16)).toBe(47);
  });
  test('ECAP has the queue, interrupt remapping, scalable mode and first-level tables, IOTLB at 0xf0', () => {
    expect(ecap).toBe(0x0000_8800_00f0_0f4an);
    expect([bits(ecap, 1, 1), bits(ecap, 3, 3), bits(ecap, 43, 43), bits(ecap, 47, 47)]).toEqual([
      1, 1, 1, 1,
    ]);
    expect(bits(ecap, 17, 8) * 16).toBe(0xf0);
  });
  test('a system reset gives every register its first value back, and says so by an event', () => {
    const before = rig.say(`read ${UNIT} 0x230`);
    rig.write('l', UNIT + 0x3c, 0x55);
    rig.write('q', UNIT + 0x20, 0x1234_5000);
    rig.write('l', UNIT + 0x18, 0x4000_0000);
    expect(rig.say(`read ${UNIT} 0x230`)).not.toBe(before);
    const [event, reply] = rig.reset() as [{ event: string }, { return: object }];
    expect(event.event).toBe('RESET');
    expect(reply.return).toEqual({});
    expect(rig.say(`read ${UNIT} 0x230`)).toBe(before);
  });
});

test('the default unit of QEMU 7.2 has its capabilities, and older property names mean the same', () => {
  const old = new BoardRig('-M q35 -device intel-iommu,intremap=on,aw-bits=48');
  expect([old.reg(8), old.reg(0x10)]).toEqual([0x00d2_008c_222f_0606n, 0xf0_0f4an]);
  const named = new BoardRig('-M q35 -device intel-iommu,x-scalable-mode=on,x-flts=on');
  expect(named.reg(0x10)).toBe(0x0000_8800_00f0_0f4an);
  // With second-level tables alone, supervisor requests too.
  const second = new BoardRig('-M q35 -device intel-iommu,x-scalable-mode=on');
  expect([second.reg(8), second.reg(0x10)]).toEqual([0x00d2_008c_222f_0606n, 0x4800_80f0_0f4an]);
});

describe.each(MODES)('iommu-testdev through $name', (mode) => {
  test('a write lands where the tables lead, and nowhere else', () => {
    const { rig } = ready(mode);
    expect(trigger(rig, IOVA, mode.lands)).toBe(0);
    expect(rig.say(`read ${mode.lands} 4`)).toBe('0x78563412');
    expect(rig.read('l', UNIT + 0x34)).toBe(0n);
  });
  test('a look at another address finds something else', () => {
    const { rig } = ready(mode);
    expect(trigger(rig, IOVA, mode.lands + 64)).toBe(0xdead_0004);
  });
});

describe('iommu-testdev itself', () => {
  test('a trigger that was not armed, or has no length, moves nothing', () => {
    const { rig } = ready(MODES[0]!);
    rig.read('l', TESTDEV_BAR);
    expect(rig.read('l', TESTDEV_BAR + 0x10)).toBe(0xdead_0005n);
    expect(trigger(rig, IOVA, IOVA, 0)).toBe(0xdead_0001);
  });
  test('space and secure bit must agree', () => {
    const { rig } = ready(MODES[0]!);
    rig.write('l', TESTDEV_BAR + 0x0c, 4);
    rig.write('l', TESTDEV_BAR + 0x18, 0b1011);
    rig.write('l', TESTDEV_BAR + 0x14, 1);
    rig.read('l', TESTDEV_BAR);
    expect(rig.read('l', TESTDEV_BAR + 0x10)).toBe(0xdead_0006n);
  });
  test('a refused write is told apart, and the unit records who asked for what', () => {
    const { rig, devfn } = ready(MODES[1]!);
    expect(trigger(rig, 0x7000_0000, TARGET)).toBe(0xdead_0002);
    expect(rig.read('q', UNIT + 0x220)).toBe(0x7000_0000n);
    expect(rig.read('q', UNIT + 0x228)).toBe(0x8000_0005_0000_0000n | BigInt(devfn));
    expect(rig.read('l', UNIT + 0x34)).toBe(2n);
  });
  test('a translation that was used stays in the IOTLB until it is invalidated by the queue', () => {
    const { rig } = ready(MODES[1]!);
    expect(trigger(rig, IOVA, TARGET + 0x567)).toBe(0);
    const leaf = L4 + 0x3000 + (Math.floor(IOVA / 4096) % 512) * 8;
    rig.write('q', leaf, BigInt(TARGET + 0x1000) | 3n);
    expect(trigger(rig, IOVA, TARGET + 0x567)).toBe(0);
    // Page-selective for domain 0, then a wait that writes its status.
    rig.write('q', QUEUE, 0x32);
    rig.write('q', QUEUE + 8, Math.floor(IOVA / 4096) * 4096);
    rig.write('q', QUEUE + 16, 0x5aa5_0000_0025n);
    rig.write('q', QUEUE + 24, QUEUE + 0x1000);
    rig.write('q', UNIT + 0x88, 0x20);
    expect(rig.read('q', UNIT + 0x80)).toBe(0x20n);
    expect(rig.read('l', QUEUE + 0x1000)).toBe(0x5aa5n);
    expect(trigger(rig, IOVA, TARGET + 0x1567)).toBe(0);
  });
});
