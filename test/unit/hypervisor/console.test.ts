import { describe, expect, test } from 'vitest';
import { parseCmdline } from '../../../src/hypervisor/cmdline.js';
import { Console } from '../../../src/hypervisor/console.js';
import { type LogLevel, XENLOG } from '../../../src/iommu/driver/types.js';
import { Clock } from '../../../src/sim/clock.js';
import { EventStream } from '../../../src/sim/events.js';

function make(threshold?: number): { console: Console; clock: Clock; news: () => string[] } {
  const clock = new Clock();
  const console = new Console(new EventStream(), clock, threshold);
  return {
    console,
    clock,
    news() {
      const lines = [...console.lines()];
      console.clear();
      return lines;
    },
  };
}

/** Which of the eight levels are printed, by name. */
function printed(console: Console): string[] {
  const levels = Object.entries(XENLOG) as [string, LogLevel][];
  for (const [name, level] of levels) console.printk(level, name);
  const lines = console.lines().map((l) => l.replace('(XEN) ', ''));
  console.clear();
  return lines;
}

describe('levels', () => {
  test('a release build prints up to INFO of its own, and warnings of guests at a limited rate', () => {
    expect(printed(make().console)).toEqual(['ERR', 'WARNING', 'INFO', 'G_ERR', 'G_WARNING']);
    expect(printed(make(2).console)).toEqual(['ERR', 'WARNING', 'G_ERR', 'G_WARNING']);
  });

  test.each([
    ['none', 0, []],
    ['error', 0, ['ERR']],
    ['warning', 0, ['ERR', 'WARNING']],
    ['info', 0, ['ERR', 'WARNING', 'INFO']],
    ['debug', 0, ['ERR', 'WARNING', 'INFO', 'DEBUG']],
    ['all', 0, ['ERR', 'WARNING', 'INFO', 'DEBUG']],
    ['error/all', 0, ['ERR', 'WARNING', 'INFO', 'DEBUG']],
    ['all/none', 0, ['ERR', 'WARNING', 'INFO', 'DEBUG']],
    ['infos', -22, ['ERR', 'WARNING', 'INFO']],
    ['nonsense', -22, ['ERR', 'WARNING']],
    ['constructor', -22, ['ERR', 'WARNING']],
    ['', 0, ['ERR', 'WARNING']],
  ])('loglvl=%s gives %i', (spec, rc, lines) => {
    const { console } = make();
    expect(console.setLevels('host', spec)).toBe(rc);
    expect(printed(console).filter((l) => !l.startsWith('G_'))).toEqual(lines);
  });

  test('guest_loglvl= leaves the host alone', () => {
    const { console } = make();
    console.setLevels('guest', 'all');
    expect(printed(console)).toEqual(['ERR', 'WARNING', 'INFO', 'G_ERR', 'G_WARNING', 'G_INFO', 'G_DEBUG']);
  });
});

describe('the rate limit', () => {
  test('lets ten messages through, then one in five seconds, and counts what it swallowed', () => {
    const { console, clock, news } = make();
    for (let i = 0; i < 13; i++) console.printk(XENLOG.G_ERR, `m${i}`);
    expect(news()).toHaveLength(10);
    clock.advance(4.999e9);
    console.printk(XENLOG.G_ERR, 'too early');
    expect(news()).toEqual([]);
    clock.advance(1e6);
    console.printk(XENLOG.G_ERR, 'due');
    expect(news()).toEqual(['(XEN) printk: 4 messages suppressed.', '(XEN) due']);
    console.printk(XENLOG.ERR, 'the host never waits');
    expect(news()).toEqual(['(XEN) the host never waits']);
  });

  test('saves up at most ten', () => {
    const { console, clock, news } = make();
    clock.advance(3600e9);
    for (let i = 0; i < 12; i++) console.printk(XENLOG.G_ERR, 'x');
    expect(news()).toHaveLength(10);
  });
});

describe('the ring', () => {
  test('begins with 16 KiB and loses its oldest bytes first', () => {
    const { console } = make();
    const line = 'x'.repeat(93);
    for (let i = 0; i < 200; i++) console.printk(XENLOG.ERR, line);
    const all = console.lines();
    // 16384 bytes are 163 whole lines of 100 and 84 bytes of one more, newlines included.
    expect(all).toHaveLength(164);
    expect(all[0]).toBe('x'.repeat(83));
    expect(all[1]).toBe(`(XEN) ${line}`);
  });

  test.each([
    { asked: 0, cpus: 1, loglvl: 'all', kib: 16 },
    { asked: 0, cpus: 4, loglvl: 'all', kib: 32 },
    { asked: 0, cpus: 12, loglvl: 'info', kib: 64 },
    { asked: 20_000, cpus: 64, loglvl: 'all', kib: 32 },
    { asked: 4096, cpus: 64, loglvl: 'all', kib: 16 },
  ])('$asked bytes asked for on $cpus CPUs with loglvl=$loglvl: $kib KiB', ({ asked, cpus, loglvl, kib }) => {
    const { console } = make();
    console.setLevels('host', loglvl);
    expect(console.allocateRing(asked, cpus)).toBe(kib);
  });
});

describe('the command line', () => {
  const parse = (line: string) => {
    const { console, news } = make();
    const options = parseCmdline(line, console);
    return { options, complaints: news().map((l) => l.replace('(XEN) ', '')), console };
  };

  test('what Xen does not know it says so of', () => {
    expect(parse('iomu=1 com1=115200 console=com1 no-smt nosuch').complaints).toEqual([
      'parameter "iomu" unknown!',
      'parameter "nosuch" unknown!',
    ]);
    expect(parse('ivrs_ioapic[2]=00:14.0 nosuch[1]=2').complaints).toEqual([
      'parameter "nosuch[1]" unknown!',
    ]);
    expect(parse('constructor=1 __proto__').complaints).toHaveLength(2);
  });

  test.each([
    ['iommu=bogus', 'parameter "iommu" has invalid value "bogus", rc=-22!'],
    ['ats=maybe', 'parameter "ats" has invalid value "maybe", rc=-1!'],
    ['no-loglvl=all', 'parameter "no-loglvl" has invalid value "all", rc=-22!'],
    ['pci-phantom=2:0,3', 'parameter "pci-phantom" has invalid value "2:0,3", rc=-22!'],
    ['iommu_dev_iotlb_timeout=5x', 'parameter "iommu_dev_iotlb_timeout" has invalid value "5x", rc=-22!'],
    ['conring_size=1Gx', 'parameter "conring_size" has invalid value "1Gx", rc=-22!'],
    ['dom0_mem=lots', 'parameter "dom0_mem" has invalid value "lots", rc=-22!'],
    ['dom0_max_vcpus=1-2-3', 'parameter "dom0_max_vcpus" has invalid value "1-2-3", rc=-22!'],
  ])('%s is complained about', (word, complaint) => {
    expect(parse(`${word} loglvl=none`).complaints).toEqual([complaint]);
  });

  test('booleans are inverted by no-, and by their value', () => {
    const ats = (line: string) => parse(line).options.iommu.ats;
    expect(['ats', 'ats=1', 'no-ats=off', 'no-ats', 'ats=0', ''].map(ats)).toEqual([
      ...[true, true, true],
      ...[false, false, false],
    ]);
    expect(parse('no-iommu').options.iommu.enable).toBe(false);
  });

  test('words end at blanks, whatever quotes say, and after 127 characters', () => {
    expect(parse('"iommu=verbose no-ats"').complaints).toEqual([
      'parameter ""iommu" unknown!',
      'parameter "no-ats"" unknown!',
    ]);
    const { complaints } = parse(`${'a'.repeat(200)}=1`);
    expect(complaints).toEqual([`parameter "${'a'.repeat(127)}" unknown!`]);
  });

  test('numbers may be hexadecimal or octal, and what came before a mistake counts', () => {
    const ms = (v: string) => parse(`iommu_dev_iotlb_timeout=${v}`).options.iommu.devIotlbTimeoutMs;
    expect(['5', '0x10', '010', '7x', ''].map(ms)).toEqual([5, 16, 8, 7, 0]);
    expect(parse('iommu_dev_iotlb_timeout=99999999999').complaints).toHaveLength(1);
  });
});
