/** What QEMU's q35-test, ioh3420-test and display-vga-test ask of a board. */
import { describe, expect, test } from 'vitest';
import { BoardRig } from './board_rig.js';

const MIB = 0x10_0000;
const [SMBASE, SMRAM, ESMRAMC] = [0x9c, 0x9d, 0x9e] as const;
const [D_OPEN, D_CLS, D_LCK, G_SMRAME, T_EN] = [0x40, 0x20, 0x10, 0x08, 0x01] as const;

describe('system management memory of a q35', () => {
  test('D_OPEN can be set until D_LCK is, and again after a reset', () => {
    const rig = new BoardRig('-M q35');
    const open = (on: boolean): boolean => {
      const was = rig.configRead(0, SMRAM, 'b');
      rig.configWrite(0, SMRAM, 'b', on ? was | D_OPEN : was & ~D_OPEN);
      return (rig.configRead(0, SMRAM, 'b') & D_OPEN) !== 0;
    };
    expect([open(false), open(true)]).toEqual([false, true]);
    rig.configWrite(0, SMRAM, 'b', rig.configRead(0, SMRAM, 'b') | D_LCK);
    expect(rig.configRead(0, SMRAM, 'b') & D_OPEN).toBe(0);
    expect(open(true)).toBe(false);
    rig.reset();
    expect([open(false), open(true)]).toEqual([false, true]);
  });

  test.each([
    ['1 MiB', 0, 1, ''],
    ['2 MiB', 1, 2, ''],
    ['8 MiB', 2, 8, ''],
    ['an extended 16 MiB', 3, 16, ' -global mch.extended-tseg-mbytes=16'],
  ])('TSEG of %s hides exactly the end of memory', (_says, code, mbytes, more) => {
    const rig = new BoardRig(`-M q35 -m 128M${more}`);
    rig.configWrite(0, ESMRAMC, 'b', (rig.configRead(0, ESMRAMC, 'b') & ~6) | (code << 1) | T_EN);
    rig.configWrite(0, SMRAM, 'b', D_CLS | G_SMRAME);
    rig.configWrite(0, SMRAM, 'b', D_CLS | G_SMRAME | D_LCK);
    const first = (128 - mbytes) * MIB;
    expect(rig.read('b', first - 1)).toBe(0n);
    rig.write('b', first - 1, 1);
    expect(rig.read('b', first - 1)).toBe(1n);
    expect(rig.read('b', first)).toBe(0xffn);
    rig.write('b', first, 1);
    expect(rig.read('b', first)).toBe(0xffn);
    expect(rig.configRead(0, ESMRAMC, 'b') & 6).toBe(code << 1);
  });

  test('memory at SMBASE is plain until it was asked for and locked, and after a reset', () => {
    const rig = new BoardRig('-M q35');
    rig.write('b', 0x30000, 0x32);
    for (let v = 0; v < 0xff; v++) {
      rig.configWrite(0, SMBASE, 'b', v);
      expect(rig.configRead(0, SMBASE, 'b')).toBe(0);
    }
    rig.configWrite(0, SMBASE, 'b', 0xff);
    expect(rig.configRead(0, SMBASE, 'b')).toBe(1);
    expect(rig.read('b', 0x30000)).toBe(0x32n);
    rig.configWrite(0, SMBASE, 'b', 2);
    for (let v = 0; v <= 0xff; v++) {
      rig.configWrite(0, SMBASE, 'b', v);
      expect(rig.configRead(0, SMBASE, 'b')).toBe(2);
      rig.write('b', 0x30000, 0x44);
      expect(rig.read('b', 0x30000)).toBe(0xffn);
    }
    expect(rig.read('b', 0x4_ffff)).toBe(0xffn);
    expect(rig.read('b', 0x5_0000)).toBe(0n);
    rig.reset();
    expect(rig.read('b', 0x30000)).toBe(0x32n);
    expect(rig.configRead(0, SMBASE, 'b')).toBe(0);
  });
});

describe('devices by their names', () => {
  test('ioh3420 at 1c.0 is a root port there', () => {
    const rig = new BoardRig('-machine q35 -device ioh3420,bus=pcie.0,addr=1c.0');
    expect(rig.scan().get('8086:3420')).toBe(0xe0);
    expect(rig.configRead(0xe0, 0x0e, 'b') & 0x7f).toBe(1);
    expect(rig.configRead(0xe0, rig.configRead(0xe0, 0x34, 'b') + 2, 'w') & 0xf0).toBe(0x40);
  });
  test.each(['VGA', 'secondary-vga', 'pcie-root-port', 'edu'])('%s starts in the first free slot', (name) => {
    const rig = new BoardRig(`-vga none -device ${name}`);
    expect(rig.configRead(0x08, 0, 'l')).not.toBe(0xffff_ffff);
    expect(rig.configRead(0x10, 0, 'l')).toBe(0xffff_ffff);
  });
  test('without -vga none there is a VGA of class 03 already', () => {
    const rig = new BoardRig('-M q35');
    expect(rig.scan().get('1234:1111')).toBe(0x08);
    expect(rig.configRead(0x08, 0x0b, 'b')).toBe(3);
  });
  test.each([
    ['-device cirrus-vga', /not a valid device model/],
    ['-M virt', /unsupported machine/],
    ['-m 9999999', /1 MiB to 64 GiB/],
    ['-M q35,as-qemu=everything', /names no quirk/],
    ['-device intel-iommu,aw-bits=40', /aw-bits/],
    ['-device intel-iommu,pt=perhaps', /neither on nor off/],
    ['-device edu,addr=1f.0', /taken/],
    ['-device edu,addr=99', /no slot/],
    ['-M', /needs an argument/],
    ['disk.img', /images/],
  ])('%s is refused in one line', (line, why) => {
    expect(() => new BoardRig(line)).toThrow(why);
  });
});
