/** What of memory a VT-d unit finds when it walks tables: lines that were written back, and writes that left the buffers. */
import { describe, expect, test } from 'vitest';
import { caps, REG, Rig, SRTP, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0010;
const DFN = 0x12345;
const MFN = 0x777;
const WBF = 0x0800_0000;

describe('a unit that does not snoop (ECAP.C clear, 11.4.3)', () => {
  const mapped = (): { rig: Rig; frame: number; at: number; root: number } => {
    const rig = new Rig({ ...caps([[2, 0, 0, 0]]), unsnooped: true });
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    for (let f = 0; f < 0x120; f++) rig.ram.writeBack(rig.rootFrame + f, 0, 1024);
    rig.on();
    return { rig, root, ...rig.entryAt(root, 4, DFN, 1) };
  };
  test('walks find what was written back, and nothing that was not', () => {
    const { rig, frame, at } = mapped();
    rig.put(frame, at, (MFN + 1) * 4096 + 3, 0);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.unit.write64(0x508, 0, 0x9000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.ram.writeBack(frame, at, 2);
    rig.unit.write64(0x508, 0, 0x9000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN + 1);
  });
  test('a line is 64 bytes: its neighbours go with it, the next line does not', () => {
    const { rig, frame, at } = mapped();
    const line = at - (at % 16);
    rig.put(frame, line, 5 * 4096 + 3, 0);
    rig.put(frame, line + 14, 6 * 4096 + 3, 0);
    rig.put(frame, line + 16, 7 * 4096 + 3, 0);
    rig.ram.writeBack(frame, line + 4, 2);
    const first = DFN - (DFN % 8);
    expect(rig.unit.translate(RID, first, true)).toBe(5);
    expect(rig.unit.translate(RID, first + 7, true)).toBe(6);
    expect(rig.unit.translate(RID, first + 8, true)).toBe(-5);
  });
  test('root and context entries are read past the cache as well', () => {
    const { rig } = mapped();
    rig.put(rig.rootFrame, 0, 0, 0, 0, 0);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.unit.write64(REG.CCMD, 0, 0xa000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.ram.writeBack(rig.rootFrame, 0, 4);
    rig.unit.write64(REG.CCMD, 0, 0xa000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-1);
  });
  test('the queue is coherent all the same: descriptors and status need no write-back', () => {
    const { rig } = mapped();
    rig.queue();
    const status = rig.frame();
    rig.submit(0x25, 0x5aa5, ...words64(status));
    expect(rig.unit.read32(REG.IQH)).toBe(0x10);
    expect(rig.word(status, 0)).toBe(0x5aa5);
  });
  test('other units see every write at once', () => {
    const rig = new Rig().on();
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    expect(rig.ram.unsnooped).toBeUndefined();
  });
});

describe('write buffer flush (CAP.RWBF, 6.8)', () => {
  test('GSTS.WBFS is set until a slow unit is done, and the other status bits stay', () => {
    const rig = new Rig({ ...caps([[0, 4, 4, 1]]), latencyNs: 100 }).on();
    rig.unit.write32(REG.GCMD, TE + WBF);
    expect(rig.unit.read32(REG.GSTS)).toBe(TE + SRTP + WBF);
    rig.clock.advance(100);
    expect(rig.unit.read32(REG.GSTS)).toBe(TE + SRTP);
  });
  const buffering = (): { rig: Rig; root: number } => {
    const rig = new Rig({ ...caps([[0, 4, 4, 1]]), buffered: true });
    const root = rig.device(RID);
    rig.unit.write32(REG.GCMD, WBF);
    rig.on();
    rig.map(root, 4, DFN, MFN);
    return { rig, root };
  };
  test.each([
    ['a flush of the buffer', (rig: Rig) => rig.unit.write32(REG.GCMD, TE + WBF)],
    ['an IOTLB invalidation by register', (rig: Rig) => rig.unit.write64(0x508, 0, 0x9000_0000)],
    ['a context cache invalidation by register', (rig: Rig) => rig.unit.write64(REG.CCMD, 0, 0xa000_0000)],
    ['any descriptor of the queue', (rig: Rig) => rig.queue().submit(4)],
  ])('what the CPU wrote is found by walks after %s', (_says, flush) => {
    const { rig } = buffering();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-5);
    flush(rig);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
  });
  test('each descriptor flushes anew', () => {
    const { rig, root } = buffering();
    rig.queue().submit(0x12);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.map(root, 4, DFN, MFN + 1);
    rig.submit(0x12);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN + 1);
  });
  test('a unit without buffers ignores the command', () => {
    const rig = new Rig({ latencyNs: 100 }).on();
    rig.unit.write32(REG.GCMD, TE + WBF);
    expect(rig.unit.read32(REG.GSTS)).toBe(TE + SRTP);
  });
});
