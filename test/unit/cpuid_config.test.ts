/** `cpuid=` of a guest's configuration. @xen tools/libs/light/libxl_cpuid.c, xl_parse.c */
import { describe, expect, test } from 'vitest';
import { type CpuidPolicy, parseCpuidFlag, parseCpuidLine } from '../../src/toolstack/libxl/cpuid.js';
import { xlHost } from './xl_host.js';

const fresh = (): CpuidPolicy => ({ cpuid: [], msr: [] });
function flags(...texts: string[]): CpuidPolicy {
  const policy = fresh();
  expect(texts.map((t) => parseCpuidFlag(policy, t))).toEqual(texts.map(() => 0));
  return policy;
}
const bits = (at: Readonly<Record<number, string>>): string =>
  Array.from({ length: 32 }, (_, i) => at[31 - i] ?? 'x').join('');

describe('names', () => {
  test('a feature is one bit of its leaf', () => {
    expect(flags('rdtscp=0').cpuid).toEqual([{ leaf: 0x8000_0001, edx: bits({ 27: '0' }) }]);
    expect(flags('tsc-adjust=k').cpuid).toEqual([{ leaf: 7, subleaf: 0, ebx: bits({ 1: 'k' }) }]);
  });
  test('several of one leaf share its entry', () => {
    expect(flags('sse3=1', 'apic=0', 'lm=x').cpuid).toEqual([
      { leaf: 1, ecx: bits({ 0: '1' }), edx: bits({ 9: '0' }) },
      { leaf: 0x8000_0001, edx: bits({}) },
    ]);
  });
  test('numbers have as many bits as their field, and a family is split over two', () => {
    expect(flags('nc=3').cpuid[0]!.ecx).toBe(`${'x'.repeat(24)}00000011`);
    expect(flags('stepping=0x5').cpuid[0]!.eax).toBe(`${'x'.repeat(28)}0101`);
    expect(flags('family=6').cpuid[0]!.eax).toBe(`xxxx00000000xxxxxxxx0110xxxxxxxx`);
    expect(flags('model=0x2a').cpuid[0]!.eax).toBe(`${'x'.repeat(12)}0010${'x'.repeat(8)}1010xxxx`);
  });
  test('some are in a model specific register', () => {
    const { cpuid, msr } = flags('rdcl-no=1', 'its-no=s');
    expect(cpuid).toEqual([]);
    expect(msr).toEqual([{ index: 0x10a, policy: `xk${'x'.repeat(61)}1` }]);
  });
  test.each([
    ['rdtscp', 1],
    ['nosuch=1', 2],
    ['rdtscp=y', 3],
    ['rdcl-no=2', 3],
  ])('%s is refused with number %i', (text, e) => {
    expect(parseCpuidFlag(fresh(), text)).toBe(e);
  });
});

const ONES = '1'.repeat(32);
test('registers are given whole, by leaf and subleaf', () => {
  const policy = fresh();
  expect(parseCpuidLine(policy, `7,0:eax=${ONES},ebx=${bits({})}`)).toBe(0);
  expect(policy.cpuid).toEqual([{ leaf: 7, subleaf: 0, eax: ONES, ebx: bits({}) }]);
  const wrong = ['x:eax=1', '1,:eax=1', '1', '1:rax=1', '1:eax=1'];
  expect(wrong.map((text) => parseCpuidLine(fresh(), text))).toEqual([1, 2, 3, 4, 5]);
});

const HVM = 'name="h"\ntype="hvm"\nmemory=160\n';
test('the configuration says it again, empty lists with a line of their own', () => {
  const h = xlHost({ release: '4.17', files: { '/cfg': `${HVM}cpuid="host,rdtscp=0"\n` } });
  expect(h.xl('-N', 'create', '/cfg').out).toContain(
    `        "video_memkb": -1,
        "cpuid": {
            "cpuid": [
                {
                    "leaf": 2147483649,
                    "edx": "xxxx0xxxxxxxxxxxxxxxxxxxxxxxxxxx"
                }
            ],
            "msr": [

            ]
        },
`
      .split('\n')
      .slice(1)
      .join('\n'),
  );
  h.xl('create', '/cfg');
  expect(h.xl('list', '-l', 'h').out).toContain('"edx": "xxxx0xxxxxxxxxxxxxxxxxxxxxxxxxxx"');
});
test('what is wrong is told, with its number', () => {
  const h = xlHost({ files: { '/cfg': `${HVM}cpuid="host,nosuch=1,lm"\n` } });
  expect(h.xl('-N', 'create', '/cfg').err).toContain(
    'while parsing CPUID flag: "nosuch=1":\n  error #2: unknown CPUID flag name\n' +
      'while parsing CPUID flag: "lm":\n  error #1: missing "=" in key=value\n',
  );
  const list = xlHost({ files: { '/cfg': `${HVM}cpuid=["1:eax=1"]\n` } });
  expect(list.xl('-N', 'create', '/cfg').err).toContain(
    'while parsing CPUID line: "1:eax=1":\n' +
      '  error #5: policy string must be exactly 32 characters long\n',
  );
});
