/** `iommu=`, `dom0-iommu=`, `pci=`, `rmrr=`, `ivmd=`. @xen drivers/passthrough */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { defaultIommuOptions } from '../../src/hypervisor/cmdline.js';
import { parseDom0IommuParam, parseIommuParam } from '../../src/hypervisor/passthrough/iommu_options.js';
import {
  parseIvmdParam,
  parsePciParam,
  parseRmrrParam,
} from '../../src/hypervisor/passthrough/pci_options.js';
import { findRelease, releaseNames, seamsOf } from '../../src/hypervisor/releases/index.js';
import { correct, type Seams, withSeams } from '../../src/hypervisor/seams.js';
import type { ExtraRange, IommuOptions } from '../../src/iommu/driver/types.js';
import { sbdf } from '../helpers/xen.js';

// @xen drivers/passthrough/{iommu,ats}.c, x86/iommu.c, vtd/iommu.c, amd/iommu_init.c; IOMMU_QUARANTINE_BASIC of Kconfig
test('what an empty command line leaves of options', () => {
  expect({ ...defaultIommuOptions() }).toEqual({
    enable: true,
    force: false,
    quarantine: 'basic',
    verbose: false,
    debug: false,
    crashDisable: false,
    igfx: true,
    qinval: true,
    snoop: true,
    superpages: true,
    intremap: 'full',
    intpost: false,
    hapPtShare: true,
    amdPerdevIntremap: true,
    ats: false,
    devIotlbTimeoutMs: 1000,
    hwdomStrict: false,
    hwdomPassthrough: false,
    hwdomInclusive: false,
    hwdomReserved: -1,
    hwdomNone: false,
    nonCoherent: false,
  });
});

/** What an option changes of the defaults. */
function changes(parse: (o: IommuOptions) => number): { rc: number; set: Partial<IommuOptions> } {
  const o = defaultIommuOptions();
  const rc = parse(o);
  const before = defaultIommuOptions();
  const set = Object.fromEntries(
    Object.entries(o).filter(([key, value]) => value !== before[key as keyof IommuOptions]),
  ) as Partial<IommuOptions>;
  return { rc, set };
}

describe('iommu=', () => {
  const table: readonly { text: string; set: Partial<IommuOptions>; rc?: number }[] = [
    ...['off', '0', 'no', 'false', 'disable'].map((text) => ({ text, set: { enable: false } })),
    ...['on', '1', 'yes', 'true', 'enable'].map((text) => ({ text, set: {} })),
    { text: 'force', set: { force: true } },
    { text: 'required=yes', set: { force: true } },
    { text: 'quarantine', set: {} },
    { text: 'no-quarantine', set: { quarantine: 'none' } },
    { text: 'quarantine=0', set: { quarantine: 'none' } },
    { text: 'quarantine=scratch-page', set: { quarantine: 'scratch-page' } },
    { text: 'quarantine=scratch-pages', set: {}, rc: E.INVAL },
    { text: 'quarantine=scratch', set: {}, rc: E.INVAL },
    { text: 'no-igfx', set: { igfx: false } },
    { text: 'qinval=off', set: { qinval: false } },
    { text: 'no-superpages', set: { superpages: false } },
    { text: 'verbose', set: { verbose: true } },
    { text: 'debug', set: { debug: true, verbose: true } },
    { text: 'debug,no-verbose', set: { debug: true } },
    { text: 'no-debug', set: {} },
    { text: 'no-snoop', set: { snoop: false } },
    { text: 'no-intremap', set: { intremap: 'off' } },
    { text: 'intpost', set: { intpost: true } },
    { text: 'crash-disable', set: { crashDisable: true } },
    { text: 'amd-iommu-perdev-intremap=0', set: { amdPerdevIntremap: false } },
    { text: 'dom0-passthrough', set: { hwdomPassthrough: true } },
    { text: 'dom0-strict', set: { hwdomStrict: true } },
    { text: 'sharept=no', set: { hapPtShare: false } },
    { text: 'no-force=1', set: {}, rc: E.INVAL },
    { text: 'force=maybe', set: {}, rc: E.INVAL },
    { text: 'forced', set: {}, rc: E.INVAL },
    { text: '', set: {}, rc: E.INVAL },
    { text: 'bogus,no-igfx', set: { igfx: false }, rc: E.INVAL },
    { text: '1,verbose,debug', set: { debug: true, verbose: true } },
  ];
  test.each(table)('FT-B01 iommu=$text sets $set', ({ text, set, rc }) => {
    expect(changes((o) => parseIommuParam(o, text))).toEqual({ rc: rc ?? 0, set });
  });

  /** Each word with the field that it owns, and the field's value for yes and for no. */
  const words: readonly [string, keyof IommuOptions, unknown, unknown][] = [
    ['force', 'force', true, false],
    ['required', 'force', true, false],
    ['quarantine', 'quarantine', 'basic', 'none'],
    ['igfx', 'igfx', true, false],
    ['qinval', 'qinval', true, false],
    ['superpages', 'superpages', true, false],
    ['verbose', 'verbose', true, false],
    ['snoop', 'snoop', true, false],
    ['intremap', 'intremap', 'full', 'off'],
    ['intpost', 'intpost', true, false],
    ['crash-disable', 'crashDisable', true, false],
    ['debug', 'debug', true, false],
    ['amd-iommu-perdev-intremap', 'amdPerdevIntremap', true, false],
    ['dom0-passthrough', 'hwdomPassthrough', true, false],
    ['dom0-strict', 'hwdomStrict', true, false],
    ['sharept', 'hapPtShare', true, false],
  ];
  test.each(words)('FT-B01 %s is understood in every form of a boolean', (word, field, yes, no) => {
    expectForms(parseIommuParam, word, field, yes, no);
  });
  test('FT-B01 a word that is unknown spoils the result, and nothing before or after it', () => {
    const o = defaultIommuOptions();
    expect(parseIommuParam(o, 'no-igfx,what,quarantine=scratch-page,qinval=maybe,no-snoop')).toBe(E.INVAL);
    expect(o).toMatchObject({ igfx: false, quarantine: 'scratch-page', qinval: true, snoop: false });
  });
});

/** `word` in each form sets `field`, whatever it was before, and nothing is complained about. */
function expectForms(
  parse: (o: IommuOptions, text: string) => number,
  word: string,
  field: keyof IommuOptions,
  yes: unknown,
  no: unknown,
): void {
  const sets = (text: string): unknown[] =>
    [yes, no].map((before) => {
      const o: IommuOptions = { ...defaultIommuOptions(), [field]: before };
      expect([text, parse(o, text)]).toEqual([text, 0]);
      return o[field];
    });
  for (const v of ['', '=1', '=on', '=yes', '=true', '=enable']) expect(sets(word + v)).toEqual([yes, yes]);
  for (const v of ['0', 'off', 'no', 'false', 'disable']) expect(sets(`${word}=${v}`)).toEqual([no, no]);
  expect(sets(`no-${word}`)).toEqual([no, no]);
}

describe('dom0-iommu=', () => {
  const table: readonly { text: string; set: Partial<IommuOptions>; rc?: number }[] = [
    { text: 'passthrough', set: { hwdomPassthrough: true } },
    { text: 'strict', set: { hwdomStrict: true } },
    { text: 'map-inclusive', set: { hwdomInclusive: true } },
    { text: 'map-reserved', set: { hwdomReserved: 1 } },
    { text: 'no-map-reserved', set: { hwdomReserved: 0 } },
    { text: 'none', set: { hwdomNone: true } },
    { text: 'strict,map-reserved=0', set: { hwdomStrict: true, hwdomReserved: 0 } },
    { text: 'relaxed,strict', set: { hwdomStrict: true }, rc: E.INVAL },
    { text: 'no-none', set: {}, rc: E.INVAL },
    { text: 'none=1', set: {}, rc: E.INVAL },
    { text: '', set: {}, rc: E.INVAL },
    // A word of its own ends at a colon or semicolon too; a boolean does not.
    { text: 'none:,none;x', set: { hwdomNone: true } },
    { text: 'strict:', set: {}, rc: E.INVAL },
  ];
  test.each(table)('FT-B02 dom0-iommu=$text sets $set', ({ text, set, rc }) => {
    expect(changes((o) => parseDom0IommuParam(o, text))).toEqual({ rc: rc ?? 0, set });
  });

  const words: readonly [string, keyof IommuOptions, unknown, unknown][] = [
    ['passthrough', 'hwdomPassthrough', true, false],
    ['strict', 'hwdomStrict', true, false],
    ['map-inclusive', 'hwdomInclusive', true, false],
    ['map-reserved', 'hwdomReserved', 1, 0],
  ];
  test.each(words)('FT-B02 %s is understood in every form of a boolean', (word, field, yes, no) => {
    expectForms(parseDom0IommuParam, word, field, yes, no);
  });
});

test('pci= hides errors only when told so', () => {
  const o = { maskSerr: false, maskPerr: false, quirks: true };
  expect([parsePciParam(o, 'no-serr,perr'), o]).toEqual([
    0,
    { maskSerr: true, maskPerr: false, quirks: true },
  ]);
  expect([parsePciParam(o, 'serr,no-perr,no-quirks,x'), o]).toEqual([
    E.INVAL,
    { maskSerr: false, maskPerr: true, quirks: false },
  ]);
  expect([parsePciParam(o, 'quirks'), o.quirks]).toEqual([0, true]);
  expect([parsePciParam(o, 'x'), o.quirks]).toEqual([E.INVAL, true]);
});

describe('rmrr=', () => {
  const parse = (text: string): { rc: number; got: ExtraRange[]; said: string[] } => {
    const got: ExtraRange[] = [];
    const said: string[] = [];
    const rc = parseRmrrParam(got, text, (line) => void said.push(line));
    return { rc, got, said };
  };
  const range = (start: number, frames: number, ...sbdfs: number[]): ExtraRange => ({
    start,
    frames,
    sbdfs,
    option: 'rmrr',
  });
  const nic = sbdf(0, 3, 0, 0);

  test.each([
    { text: '7ffe0=03:00.0', got: [range(0x7ffe0, 1, nic)] },
    { text: '0x7ffe0-0x7ffe3=0:03:00.0', got: [range(0x7ffe0, 4, nic)] },
    { text: '1=1:3:0.0,4:0.1', got: [range(1, 1, sbdf(1, 3, 0, 0), sbdf(1, 4, 0, 1))] },
    { text: '1=3:0.0;2=4:0.0', got: [range(1, 1, nic), range(2, 1, sbdf(0, 4, 0, 0))] },
    { text: '5', got: [] },
  ])('$text is understood', ({ text, got }) => {
    expect(parse(text)).toEqual({ rc: 0, got, said: [] });
  });

  test.each([
    { text: '', rc: E.INVAL, got: 0 },
    { text: 'zz=3:0.0', rc: E.INVAL, got: 0 },
    { text: '1-=3:0.0', rc: E.INVAL, got: 0 },
    { text: '1=3:0', rc: E.INVAL, got: 0 },
    { text: '1=3:0.0 ', rc: E.INVAL, got: 1 },
    { text: '1=3:0.0;2=bad', rc: E.INVAL, got: 1 },
    { text: '1-11=3:0.0', rc: E.TOOBIG, got: 0 },
    { text: '2-1=3:0.0', rc: E.TOOBIG, got: 0 },
    { text: Array.from({ length: 11 }, (_, i) => `${i + 1}=3:0.0`).join(';'), rc: E.TOOBIG, got: 10 },
  ])('$text gives $rc, and $got ranges count', ({ text, rc, got }) => {
    const r = parse(text);
    expect([r.rc, r.got.length]).toEqual([rc, got]);
  });

  test('sixteen pages are the most, and Xen says so', () => {
    expect(parse('1-10=3:0.0').rc).toBe(0);
    expect(parse('1-11=3:0.0').said).toEqual(['[VT-D]RMRR range [1-11] exceeds 16 pages']);
  });
});

describe('ivmd=', () => {
  const parse = (text: string): { rc: number; got: [number, number, number][] } => {
    const got: ExtraRange[] = [];
    const rc = parseIvmdParam(got, text);
    return { rc, got: got.map((r) => [r.start, r.frames, r.sbdfs.length]) };
  };
  test.each([
    { text: '7ffe0', rc: 0, got: [[0x7ffe0, 1, 0]] },
    { text: '10-1f=3:0.0', rc: 0, got: [[16, 16, 1]] },
    { text: '10=3:0.0-3:0.7', rc: 0, got: [[16, 1, 8]] },
    {
      text: '10=3:0.0,4:0.0;20',
      rc: 0,
      got: [
        [16, 1, 1],
        [16, 1, 1],
        [32, 1, 0],
      ],
    },
    { text: '10=1:3:0.0', rc: E.INVAL, got: [] },
    { text: '10=3:0.1-3:0.0', rc: E.INVAL, got: [] },
    { text: '2-1', rc: E.INVAL, got: [] },
    { text: '10x', rc: E.INVAL, got: [[16, 1, 0]] },
  ])('$text gives $rc and $got', ({ text, rc, got }) => {
    expect(parse(text)).toEqual({ rc, got });
  });

  test('eight are the most', () => {
    const r = parse(`1=${Array.from({ length: 9 }, () => '3:0.0').join(',')}`);
    expect([r.rc, r.got.length]).toEqual([E.TOOBIG, 8]);
  });
});

describe('releases', () => {
  test('are found by their short and full names', () => {
    expect(releaseNames).toEqual(['4.17', '4.18', '4.23', '4.17.0', '4.17.7', '4.18.0', '4.18.3']);
    expect(findRelease('4.18')?.name).toBe('4.18.3');
    expect(findRelease('constructor')).toBeUndefined();
  });

  test('fixed leaves the way a release works and takes what it gets wrong', () => {
    const r = findRelease('4.18.0')!;
    expect([seamsOf(r, false).phantomAssignResult(-5), seamsOf(r, true).phantomAssignResult(-5)]).toEqual([
      0, -5,
    ]);
    expect([seamsOf(r, true).hasPciLock(), correct.hasPciLock()]).toEqual([false, true]);
    for (const name of releaseNames) {
      const fixed = seamsOf(findRelease(name)!, true);
      expect(fixed.amdDisableSkipsQuarantinedSource()).toBe(false);
      expect(seamsOf(findRelease(name)!, false).amdDisableSkipsQuarantinedSource()).toBe(true);
    }
  });

  // Read in the sources of each tag; 4.23 is commit c447b7308b.
  const old = ['4.17.0', '4.17.7', '4.18.0', '4.18.3'];
  test.each([
    ['FT-C06 and FT-D01 want CMPXCHG16B', ['4.23'], (s) => s.vtdRequiresCx16?.() ?? true],
    ['the same on AMD', ['4.23'], (s) => s.amdRequiresCx16?.() ?? true],
    ['FT-C25 refuse reserved memory that is RAM', ['4.23'], (s) => s.vtdRmrrMustBeReserved?.() ?? true],
    ['FT-C28 end the fault line with the unit', ['4.23'], (s) => s.vtdFaultSuffix(3) === ' on iommu:3'],
    ['say nothing of the unit', old, (s) => s.vtdFaultSuffix(3) === ''],
    ['FT-C29 report a source that cannot be told', ['4.23'], (s) => s.vtdReportsUnknownMsiSource?.() ?? true],
    ['FT-C03 undo an alias by the wrong id', [...old, '4.23'], (s) => s.vtdAliasUndoDevfn?.(1, 2) === 2],
    [
      'FT-D04 skip phantoms of a quarantined source',
      [...old, '4.23'],
      (s) => s.amdDisableSkipsQuarantinedSource(),
    ],
    ['FT-A06 discard errors of phantoms', ['4.17.0', '4.18.0'], (s) => s.phantomAssignResult(-5) === 0],
    ['FT-A30 refuse a virtual function without its physical one', ['4.23'], (s) => s.vfNeedsPf()],
    ['FT-A32 keep a physical function with virtual ones', ['4.23'], (s) => s.pfWithVfsStays()],
    ['FT-A39 tell the last error', old, (s) => s.releaseResult(-1, -2) === -2],
    ['FT-A39 tell the first error', ['4.23'], (s) => s.releaseResult(-1, -2) === -1],
  ] satisfies [string, string[], (s: Seams) => boolean][])('releases that %s: %j', (_what, which, asks) => {
    const names = releaseNames.filter((n) => n.split('.').length > 2 || n === '4.23');
    expect(names.filter((n) => asks(seamsOf(findRelease(n)!, false))).sort()).toEqual([...which].sort());
  });

  test('cannot be changed once made', () => {
    const seams = withSeams({ hasPciLock: () => false });
    expect([Object.isFrozen(correct), Object.isFrozen(seams), seams.hasPciLock()]).toEqual([
      true,
      true,
      false,
    ]);
  });
});
