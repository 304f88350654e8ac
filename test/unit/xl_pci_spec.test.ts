/** Addresses of devices as xl takes them. Expected results were taken from libxlu of 4.18.3, compiled and run. */
import { describe, expect, test } from 'vitest';
import { makePci } from '../../src/toolstack/libxl/schema.js';
import type { DevicePci } from '../../src/toolstack/libxl/types.js';
import { xluPciParseBdf, xluPciParseSpecString, xluRdmParse } from '../../src/toolstack/xlu/pci.js';

const ALL = 0xffff_ffff;
const INVAL = -6;
const FAIL = -3;

interface Spec {
  readonly rc: number;
  readonly pci: DevicePci;
  readonly said: string[];
}
function spec(text: string): Spec {
  const pci = makePci();
  const said: string[] = [];
  const rc = xluPciParseSpecString(pci, text, (t) => said.push(t));
  return { rc, pci, said };
}
const place = (p: DevicePci): unknown[] => [p.domain, p.bus, p.dev, p.func, p.vfuncMask];

describe('FT-F01 BDF in pci=[…], pci-attach and pci-detach', () => {
  test.each([
    ['01:00.0', [0, 1, 0, 0, 1]],
    ['0000:01:00.0', [0, 1, 0, 0, 1]],
    ['1:0.0', [0, 1, 0, 0, 1]],
    ['ffff:ff:1f.7', [0xffff, 0xff, 0x1f, 7, 1]],
    ['01:00.*', [0, 1, 0, 0, ALL]],
    ['01:00.0,', [0, 1, 0, 0, 1]],
    // %x of C takes the x for the beginning of a prefix.
    ['01:00.0x', [0, 1, 0, 0, 1]],
  ])('FT-F01 %s is accepted', (text, where) => {
    const { rc, pci } = spec(text);
    expect([rc, place(pci)]).toEqual([0, where]);
  });

  test.each([
    '',
    'zz:00.0',
    '0:0:1:00.0',
    '10000:01:00.0',
    '1ff:00.0',
    '01:20.0',
    '01:00.8',
    '01:00',
    '01:00.0 ',
    '01:00.0 ,permissive=1',
    '01:00.0junk',
    '-1:00.0',
    '0x1:00.0',
  ])('FT-F01 %j is refused', (text) => {
    expect(spec(text).rc).toBe(INVAL);
  });

  test('FT-F01 a virtual slot goes up to 1f', () => {
    expect(spec('01:00.0@1f').pci.vdevfn).toBe(0xf8);
    expect([spec('01:00.0@20').rc, spec('01:00.0@').rc]).toEqual([INVAL, INVAL]);
  });
});

describe('FT-F01 BDF of pci-assignable-add and -remove', () => {
  test.each(['01:00.0', '0000:01:00.0', '01:00.0junk', '01:00.0@5', '01:00.0,permissive=1', '01:00.*'])(
    'FT-F01 %s is accepted, whatever follows the function',
    (text) => {
      const pci = makePci();
      expect([xluPciParseBdf(pci, text), pci.bus]).toEqual([0, 1]);
    },
  );

  test.each(['junk', '01:00.8', '01:20.0', '1ff:00.0', ''])('FT-F01 %j is refused', (text) => {
    expect(xluPciParseBdf(makePci(), text)).toBe(INVAL);
  });

  test('FT-F01 without a function number the program dies', () => {
    expect([xluPciParseBdf(makePci(), '01:00'), xluPciParseBdf(makePci(), '0000:01:00')]).toEqual([
      'crash',
      'crash',
    ]);
  });
});

describe('FT-F02 an address or a name', () => {
  test('FT-F02 one of them is needed', () => {
    expect([spec('bdf=01:00.0').rc, spec('name=gpu').rc, spec('01:00.0').rc]).toEqual([0, 0, 0]);
    expect(spec('name=gpu').pci.name).toBe('gpu');
  });
  test('FT-F02 both, or none, is an error', () => {
    expect([spec('bdf=01:00.0,name=gpu').rc, spec('01:00.0,name=gpu').rc, spec('permissive=1').rc]).toEqual([
      INVAL,
      INVAL,
      INVAL,
    ]);
  });
});

describe('FT-F03 the keys', () => {
  test.each([
    ['permissive=1', 'permissive', true],
    ['permissive=2', 'permissive', true],
    ['permissive=yes', 'permissive', false],
    ['msitranslate=1', 'msitranslate', true],
    ['power_mgmt=1', 'powerMgmt', true],
    ['seize=1', 'seize', true],
    ['vslot=6', 'vdevfn', 0x30],
    ['rdm_policy=strict', 'rdmPolicy', 'strict'],
    ['rdm_policy=RELAXED', 'rdmPolicy', 'relaxed'],
  ] as const)('FT-F03 %s sets %s to %s', (option, field, value) => {
    const { rc, pci } = spec(`01:00.0,${option}`);
    expect([rc, pci[field]]).toEqual([0, value]);
    const others = { ...pci, [field]: makePci()[field] };
    expect(others).toEqual({ ...makePci(), bus: 1, vfuncMask: 1 });
  });

  test('FT-F03 an unknown key is named', () => {
    const { rc, said } = spec('01:00.0,colour=red');
    expect([rc, said]).toEqual([INVAL, ['Unknown PCI_SPEC_STRING option: colour']]);
  });
  test('FT-F03 an unknown policy is named, with another error number', () => {
    const { rc, said } = spec('01:00.0,rdm_policy=bogus');
    expect([rc, said]).toEqual([FAIL, ['Unknown RDM policy: bogus']]);
  });
  test('FT-F03 a key without a value, or a slot above 1f, is an error', () => {
    expect([spec('01:00.0,permissive').rc, spec('01:00.0,vslot=20').rc]).toEqual([INVAL, INVAL]);
  });
});

describe('FT-F24 rdm=', () => {
  function rdm(text: string): unknown[] {
    const into = { strategy: 'ignore' as const, policy: 'relaxed' as const } as {
      strategy: 'ignore' | 'host';
      policy: 'invalid' | 'strict' | 'relaxed';
    };
    const said: string[] = [];
    const rc = xluRdmParse(into, text, (t) => said.push(t));
    return [rc, into.strategy, into.policy, said];
  }
  test('FT-F24 a valid policy is refused', () => {
    expect(rdm('strategy=host,policy=strict')).toEqual([INVAL, 'host', 'relaxed', []]);
  });
  test('FT-F24 an invalid one is reported and let through, and changes nothing', () => {
    expect(rdm('strategy=host,policy=bogus')).toEqual([0, 'host', 'relaxed', ['Unknown RDM policy: bogus']]);
  });
  test('FT-F24 unknown words are named', () => {
    expect(rdm('strategy=some')).toEqual([INVAL, 'ignore', 'relaxed', ['Unknown RDM strategy option: some']]);
    expect(rdm('colour=red')).toEqual([INVAL, 'ignore', 'relaxed', ['Unknown RDM state option: colour']]);
  });
});
