/**
 * VT-d clauses of advanced fault logging: an option of revisions 1 to 3 of the specification, which 4.0 took away. The
 * sections are those of revision 3.3.
 */
import { describe, expect, test } from 'vitest';
import type { VtdOptions } from '../../src/iommu/hw/vtd/caps.js';
import { caps, IRE, REG, Rig, SIRTP, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0308;
const AFLOG = 0x58;
const SFL = 0x2000_0000;
const EAFL = 0x1000_0000;
const [AFO, APF] = [0x04, 0x08];
const CAP_AFL: readonly [number, number, number, number] = [0, 3, 3, 1];

class Logging extends Rig {
  readonly log = this.frame();
  readonly second = this.frame();
  constructor(options: Partial<VtdOptions> = caps([CAP_AFL])) {
    super(options);
    this.unit.write64(AFLOG, ...words64(this.log));
    this.unit.write32(REG.GCMD, SFL);
    this.on();
    this.unit.write32(REG.GCMD, TE + EAFL);
  }
  get status(): number {
    return this.unit.read32(REG.FSTS);
  }
  /** A refused DMA: nothing is present. */
  refused(dfn: number, rid = RID): void {
    this.unit.translate(rid, dfn, false);
  }
  record(n: number, log = this.log): number[] {
    return [0, 1, 2, 3].map((w) => this.word(log + Math.floor(n / 256), (n % 256) * 4 + w));
  }
}

describe('advanced fault logging: registers (7.2.2, 10.4.4, 10.4.5, up to revision 3)', () => {
  test('CAP.AFL is clear unless it is asked for, and then there is none of it', () => {
    const rig = new Logging({});
    expect(rig.unit.read32(0x08) & 8).toBe(0);
    expect([rig.unit.read32(AFLOG), rig.unit.read32(AFLOG + 4)]).toEqual([0, 0]);
    expect(rig.unit.read32(REG.GSTS)).toBe(0xc000_0000);
    rig.refused(1);
    expect(rig.fault()?.frame).toBe(1);
    expect(rig.record(0)).toEqual([0, 0, 0, 0]);
  });
  test('AFLOG keeps base and size, and its bits 8:0 are reserved', () => {
    const rig = new Logging();
    rig.unit.write64(AFLOG, 0xffff_ffff, 0x12);
    expect([rig.unit.read32(AFLOG), rig.unit.read32(AFLOG + 4)]).toEqual([0xffff_fe00, 0x12]);
  });
  test('SFL sets FLS, EAFL switches AFLS', () => {
    const rig = new Rig(caps([CAP_AFL]));
    rig.unit.write32(REG.GCMD, SFL);
    expect(rig.unit.read32(REG.GSTS)).toBe(SFL);
    rig.unit.write32(REG.GCMD, EAFL);
    expect(rig.unit.read32(REG.GSTS)).toBe(SFL + EAFL);
    rig.unit.write32(REG.GCMD, 0);
    expect(rig.unit.read32(REG.GSTS)).toBe(SFL);
  });
  test('the log is the one that SFL set, not the one in AFLOG', () => {
    const rig = new Logging();
    rig.unit.write64(AFLOG, ...words64(rig.second));
    rig.refused(1);
    expect([rig.record(0)[3], rig.record(0, rig.second)[3]]).toEqual([0x4000_0001, 0]);
  });
  test('without EAFL faults are recorded in registers though a log is set', () => {
    const rig = new Logging();
    rig.unit.write32(REG.GCMD, TE);
    rig.refused(1);
    expect(rig.fault()?.frame).toBe(1);
    expect(rig.record(0)).toEqual([0, 0, 0, 0]);
  });
  test('reset ends it', () => {
    const rig = new Logging();
    rig.unit.reset();
    rig.on();
    rig.refused(1);
    expect(rig.fault()?.frame).toBe(1);
    expect(rig.unit.read32(REG.GSTS)).toBe(0xc000_0000);
    // Switched on again, there is no log that anything could be written to.
    rig.clearFault();
    rig.unit.write32(REG.GCMD, (TE + EAFL) >>> 0);
    rig.refused(2);
    expect(rig.status).toBe(AFO);
    expect(rig.record(0)).toEqual([0, 0, 0, 0]);
  });
});

describe('advanced fault logging: the log (7.2.2, 9.11, up to revision 3)', () => {
  test('a record holds page, requester, reason and direction, and has no F; registers stay as they are', () => {
    const rig = new Logging();
    rig.device(RID);
    rig.refused(2 ** 36 - 3);
    rig.unit.translate(RID, 5, true);
    expect(rig.record(0)).toEqual([0xffff_d000, 0xffff, RID, 0x4000_0006]);
    expect(rig.record(1)).toEqual([0x5000, 0, RID, 5]);
    expect(rig.record(2)).toEqual([0, 0, 0, 0]);
    expect(rig.fault()).toBeUndefined();
  });
  test('a refused interrupt is logged with its index', () => {
    const rig = new Logging();
    rig.unit.write64(REG.IRTA, 0x90_0000, 0);
    rig.unit.write32(REG.GCMD, (TE + EAFL + SIRTP) >>> 0);
    rig.unit.write32(REG.GCMD, (TE + EAFL + IRE) >>> 0);
    rig.unit.remapInterrupt(RID, 0xfee0_0030, 0);
    expect(rig.record(0)).toEqual([0, 0x1_0000, RID, 0x22]);
  });
  test('FPD keeps a fault out of the log', () => {
    const rig = new Logging();
    rig.context(RID, { fpd: 1, root: rig.frame() });
    rig.refused(1);
    expect(rig.record(0)).toEqual([0, 0, 0, 0]);
    expect(rig.status).toBe(0);
  });
  test('the record at index 0 sets APF, and software clears it; the ones after it do not', () => {
    const rig = new Logging();
    rig.refused(1);
    expect(rig.status).toBe(APF);
    rig.unit.write32(REG.FSTS, APF);
    rig.refused(2);
    expect(rig.status).toBe(0);
    expect(rig.record(1)[0]).toBe(0x2000);
  });
  test.each([
    [0, 256],
    [1, 512],
    [3, 2048],
  ])('with FLS %i there are %i records; one more sets AFO and is lost', (fls, records) => {
    const rig = new Logging();
    for (let i = 1; i < 2 ** fls; i++) rig.frame();
    rig.unit.write64(AFLOG, ...words64(rig.log, fls * 0x200));
    rig.unit.write32(REG.GCMD, TE + EAFL + SFL);
    for (let i = 0; i < records; i++) rig.refused(i + 1);
    expect(rig.status).toBe(APF);
    expect(rig.record(records - 1)[0]).toBe(records * 4096);
    rig.refused(0x7_7777);
    expect(rig.status).toBe(APF + AFO);
    expect(rig.record(0)[0]).toBe(0x1000);
  });
  test('while AFO is set nothing is logged; a log set anew begins at its first record', () => {
    const rig = new Logging();
    for (let i = 0; i < 257; i++) rig.refused(i + 1);
    rig.unit.write64(AFLOG, ...words64(rig.second));
    rig.unit.write32(REG.GCMD, TE + EAFL + SFL);
    rig.refused(0x300);
    expect(rig.record(0, rig.second)).toEqual([0, 0, 0, 0]);
    rig.unit.write32(REG.FSTS, AFO + APF);
    rig.refused(0x301);
    expect(rig.record(0, rig.second)[0]).toBe(0x30_1000);
    expect(rig.status).toBe(APF);
  });
  test('the log starts over when translation and interrupt remapping are off', () => {
    const rig = new Logging();
    rig.refused(1);
    rig.unit.write32(REG.GCMD, EAFL);
    rig.unit.write32(REG.GCMD, TE + EAFL);
    rig.refused(2);
    expect(rig.record(0)[0]).toBe(0x2000);
  });
  test('a log beyond memory is written nowhere', () => {
    const rig = new Logging();
    rig.unit.write64(AFLOG, 0, 0x70);
    rig.unit.write32(REG.GCMD, TE + EAFL + SFL);
    rig.refused(1);
    expect(rig.status).toBe(APF);
  });
});

describe('advanced fault logging: events (7.3, up to revision 3)', () => {
  const listening = (): Logging => {
    const rig = new Logging();
    rig.unit.write32(REG.FEDATA, 0x41);
    rig.unit.write32(REG.FEADDR, 0xfee0_0000);
    rig.unit.write32(REG.FECTL, 0);
    return rig;
  };
  test('APF and AFO each raise the fault event, unless a status bit is set already', () => {
    const rig = listening();
    rig.refused(1);
    expect(rig.interrupts).toEqual(['fault fee00000 41']);
    rig.unit.write32(REG.FSTS, APF);
    for (let i = 0; i < 256; i++) rig.refused(i);
    expect(rig.interrupts).toHaveLength(2);
    rig.unit.write32(REG.FSTS, AFO);
    rig.unit.write64(AFLOG, ...words64(rig.second));
    rig.unit.write32(REG.GCMD, TE + EAFL + SFL);
    for (let i = 0; i < 257; i++) rig.refused(i);
    expect(rig.status).toBe(APF + AFO);
    expect(rig.interrupts).toHaveLength(3);
  });
  test('a masked one is pending until its status is cleared', () => {
    const rig = new Logging();
    rig.refused(1);
    expect(rig.unit.read32(REG.FECTL)).toBe(0xc000_0000);
    rig.unit.write32(REG.FSTS, APF);
    expect(rig.unit.read32(REG.FECTL)).toBe(0x8000_0000);
  });
});
