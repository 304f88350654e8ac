/** The command line of QEMU, graphics passthrough, and the legacy VGA window. */
import { describe, expect, test } from 'vitest';
import type { Release } from '../../src/toolstack/libxl/lines.js';
import { patched, type Ran, type XlHost, xlHost } from './xl_host.js';

const HVM = 'name="g"\ntype="hvm"\nmemory=64\nvnc=0\n';
const GPU = 'pci=["01:00.0"]\n';
const TRADITIONAL = 'device_model_version="qemu-xen-traditional"\n';
/** The traditional model, which Debian does not have. */
const QEMU_DM = { '/usr/lib/xen-4.17/bin/qemu-dm': '', '/usr/lib/xen-4.18/bin/qemu-dm': '' };
const [CLASS_VGA, CLASS_OTHER_DISPLAY] = [0x00, 0x80];

/** Not Intel's unless `subclass` is given, which is that of an Intel display at 01:00.0. */
function hostWith(subclass?: number, release: Release = '4.18'): XlHost {
  const adapt = subclass === undefined ? undefined : patched('01:00.0', { 0: 0x86, 1: 0x80, 10: subclass });
  const h = xlHost({ release, files: QEMU_DM, ...(adapt === undefined ? {} : { adapt }) });
  h.xl('pci-assignable-add', '01:00.0');
  h.steps();
  return h;
}
const argvOf = (h: XlHost): readonly string[] => h.dom0.deviceModels.get(1)?.argv ?? [];
const wordAfter = (argv: readonly string[], option: string): string | undefined =>
  argv[argv.indexOf(option) + 1];
function machineOf(text: string, h = hostWith()): string | undefined {
  expect(h.create(text).exit).toBe(0);
  return wordAfter(argvOf(h), '-machine');
}

const DETECT = 'unable to detect required gfx_passthru_kind\n';

describe('FT-F06 which kind of graphics passthrough', () => {
  test('FT-F06 an Intel VGA controller is igd', () => {
    expect(machineOf(`${HVM}${GPU}gfx_passthru=1\n`, hostWith(CLASS_VGA))).toContain(',igd-passthru=on');
  });

  test.each([
    ['4.17', 3],
    ['4.18', 3],
    ['4.23', 0],
  ] as const)('FT-F06 an Intel display of class 038000: %s exits %i', (release, exit) => {
    const r = hostWith(CLASS_OTHER_DISPLAY, release).create(`${HVM}${GPU}gfx_passthru=1\n`);
    expect([r.exit, r.err.includes(DETECT)]).toEqual([exit, exit !== 0]);
  });

  // @xen libxl_pci.c sysfs_dev_get_vendor and its like: what cannot be read is ffff, and such a device is passed over
  test('FT-F06 a display without a device id is passed over, and what cannot be read is told', () => {
    const unread = xlHost({
      adapt: patched('01:00.0', { 0: 0x86, 1: 0x80, 2: 0xff, 3: 0xff, 10: CLASS_VGA }),
    });
    unread.xl('pci-assignable-add', '01:00.0');
    const r = unread.create(`${HVM}${GPU}gfx_passthru=1\n`);
    expect([r.exit, r.err.includes(DETECT), /attribute/.test(r.err)]).toEqual([3, true, false]);
    const told = new Set<string>();
    for (let n = 1; n <= 4; n++) {
      const h = hostWith(CLASS_VGA);
      h.machine.hw.faults.failNth(n, 'sysfs');
      const lines = h.create(`${HVM}${GPU}gfx_passthru=1\n`).err.split('\n');
      const about = lines.filter((l) => l.includes('attribute'));
      for (const l of about) told.add(l.replace(/^libxl: error: libxl_pci\.c:\d+:/, ''));
    }
    const lacks = (what: string): string =>
      `sysfs_dev_get_${what}: pci device 0000:01:00.0 does not have ${what} attribute: Input/output error`;
    expect([...told]).toEqual(['vendor', 'device', 'class'].map(lacks));
  });

  test('FT-F06 another vendor: the domain is not created, in these words', () => {
    const h = hostWith();
    const r: Ran = h.create(`${HVM}${GPU}gfx_passthru=1\n`);
    expect(r).toEqual({
      exit: 3,
      out: '',
      err:
        'Parsing config from /cfg\n' +
        `libxl: error: libxl_dm.c:1842:libxl__build_device_model_args_new: Domain 1:${DETECT}` +
        'libxl: error: libxl_dm.c:3158:device_model_spawn_outcome: Domain 1:(null): spawn failed (rc=-3)\n' +
        'libxl: error: libxl_dm.c:3378:device_model_postconfig_done: ' +
        'Domain 1:Post DM startup configs failed, rc=-3\n' +
        'libxl: error: libxl_create.c:1914:domcreate_devmodel_started: Domain 1:device model did not start: -3\n' +
        'libxl: error: libxl_domain.c:1179:libxl__destroy_domid: Domain 1:Non-existant domain\n' +
        'libxl: error: libxl_domain.c:1133:domain_destroy_callback: Domain 1:Unable to destroy guest\n' +
        'libxl: error: libxl_domain.c:1060:domain_destroy_cb: Domain 1:Destruction of domain failed\n',
    });
    expect(h.xl('list').out.split('\n')).toHaveLength(3);
  });

  test('FT-F06 without devices nothing is detected either', () => {
    expect(hostWith(CLASS_VGA).create(`${HVM}gfx_passthru=1\n`).err).toContain(DETECT);
  });

  test('FT-F06 a kind that is named is not doubted', () => {
    expect(machineOf(`${HVM}${GPU}gfx_passthru="igd"\n`)).toContain(',igd-passthru=on');
  });
});

describe('FT-F07 the machine', () => {
  test.each([
    ['', 'xenfv,suppress-vmdesc=on'],
    ['gfx_passthru="igd"\n', 'xenfv,suppress-vmdesc=on,igd-passthru=on'],
    [
      'gfx_passthru="igd"\nmmio_hole=1024\n',
      'xenfv,suppress-vmdesc=on,max-ram-below-4g=3221225472,igd-passthru=on',
    ],
    ['gfx_passthru="igd"\nxen_platform_pci=0\n', 'pc,accel=xen,suppress-vmdesc=on,igd-passthru=on'],
  ])('FT-F07 with %j', (text, machine) => {
    expect(machineOf(`${HVM}${text}`)).toBe(machine);
  });
});

describe('FT-F08 the traditional device model', () => {
  test.each(['4.17', '4.18'] as const)('FT-F08 of %s passes any display through', (release) => {
    const h = hostWith(undefined, release);
    expect(h.create(`${HVM}${GPU}gfx_passthru=1\n${TRADITIONAL}`).exit).toBe(0);
    expect(argvOf(h)).toContain('-gfx_passthru');
  });
  test('FT-F08 does not when not asked to', () => {
    const h = hostWith();
    h.create(`${HVM}${GPU}${TRADITIONAL}`);
    expect([argvOf(h).includes('-M'), argvOf(h).includes('-gfx_passthru')]).toEqual([true, false]);
  });
  // @xen libxl_dm.c libxl__spawn_local_dm, access(dm, X_OK)
  test('a model that is not there is not started', () => {
    const h = xlHost();
    const r = h.create(`${HVM}${TRADITIONAL}`);
    expect(r.exit).toBe(3);
    expect(r.err.split('\n').slice(1, 3)).toEqual([
      'libxl: error: libxl_dm.c:2909:libxl__spawn_local_dm: Domain 1:device model /usr/lib/xen-4.18/bin/qemu-dm ' +
        'is not executable: No such file or directory',
      'libxl: error: libxl_dm.c:3158:device_model_spawn_outcome: Domain 1:(null): spawn failed (rc=-3)',
    ]);
    expect(h.xl('list').out.split('\n')).toHaveLength(3);
  });
  // @xen libxl_create.c libxl__domain_build_info_setdefault
  test.each([
    [
      '4.18',
      3,
      'libxl_create.c:122:libxl__domain_build_info_setdefault: qemu-xen is unavailable, using qemu-xen-traditional instead: No such file or directory',
    ],
    [
      '4.23',
      6,
      'libxl_create.c:108:libxl__domain_build_info_setdefault: qemu-xen is unavailable: No such file or directory',
    ],
  ] as const)('%s: without the model that is asked for, exit %i', (release, exit, line) => {
    const r = xlHost({ release }).create(`${HVM}device_model_override="/nowhere"\n`);
    const lines = r.err.split('\n');
    expect([r.exit, lines[2]]).toEqual([exit, `libxl: info: ${line}`]);
    expect(lines[3]).toContain(
      release === '4.18' ? 'device model /nowhere is not executable' : ': unknown device model version',
    );
  });
  test('FT-F08 is gone in the newest release', () => {
    expect(hostWith(undefined, '4.23').create(`${HVM}${TRADITIONAL}`)).toEqual({
      exit: 1,
      out: '',
      err: 'Parsing config from /cfg\nUnknown device_model_version "qemu-xen-traditional" specified\n',
    });
  });
});

describe('FT-F09 the legacy VGA window', () => {
  const window = (h: XlHost): string[] => h.calls().filter((s) => s.includes('+a0/') || s.includes('+bf/'));

  test('FT-F09 goes to the guest and to a stub domain that is not there, once', () => {
    const h = hostWith(CLASS_VGA);
    h.xl('pci-assignable-add', '02:00.0');
    h.create(`${HVM}gfx_passthru=1\npci=["02:00.0","01:00.0","01:00.0"]\n`);
    expect(window(h)).toEqual(['iomem_permission:0:+a0/32', 'iomem_permission:1:+a0/32']);
  });
  test('FT-F09 not without a display among the devices', () => {
    const h = hostWith(CLASS_OTHER_DISPLAY);
    expect(h.create(`${HVM}${GPU}gfx_passthru="igd"\n`).exit).toBe(0);
    expect(window(h)).toEqual([]);
  });
  test('FT-F09 not without gfx_passthru', () => {
    const h = hostWith(CLASS_VGA);
    expect(h.create(`${HVM}${GPU}`).exit).toBe(0);
    expect(window(h)).toEqual([]);
  });
});

describe('FT-F28 emulated display and its memory', () => {
  test.each([
    ['', 'cirrus-vga,vgamem_mb=8', '248'],
    ['videoram=32\n', 'cirrus-vga,vgamem_mb=32', '224'],
    ['stdvga=1\n', 'VGA,vgamem_mb=16', '240'],
    ['vga="stdvga"\nvideoram=64\n', 'VGA,vgamem_mb=64', '192'],
    ['vga="qxl"\n', 'qxl-vga,vram_size_mb=64,ram_size_mb=64', '128'],
  ])('FT-F28 qemu-xen with %j', (text, device, memory) => {
    const h = hostWith();
    expect(h.create(`${HVM}memory=256\n${text}`).exit).toBe(0);
    expect([wordAfter(argvOf(h), '-device'), wordAfter(argvOf(h), '-m')]).toEqual([device, memory]);
  });
  test('FT-F28 vga="none" leaves all memory to the guest', () => {
    const h = hostWith();
    h.create(`${HVM}vga="none"\n`);
    expect([argvOf(h).includes('-device'), wordAfter(argvOf(h), '-m')]).toEqual([false, '64']);
  });

  test.each([
    ['videoram=4\n', 'videoram must be at least 8 MB for CIRRUS on QEMU_XEN'],
    ['stdvga=1\nvideoram=8\n', 'videoram must be at least 16 MB for STDVGA on QEMU_XEN'],
    ['vga="qxl"\nvideoram=64\n', '128 Mib videoram is the minimum for qxl default'],
    [
      `${TRADITIONAL}stdvga=1\nvideoram=2\n`,
      'videoram must be at least 8 MB for STDVGA on QEMU_XEN_TRADITIONAL',
    ],
  ])('FT-F28 too little: %j', (text, message) => {
    const r = hostWith().create(`${HVM}${text}`);
    expect([r.exit, r.err.includes(`libxl__domain_build_info_setdefault: ${message}\n`)]).toEqual([6, true]);
  });

  test.each([
    ['', ['-videoram', '4', '-boot', 'cda']],
    ['stdvga=1\n', ['-videoram', '8', '-std-vga', '-boot']],
  ])('FT-F28 traditional with %j', (text, words) => {
    const h = hostWith();
    h.create(`${HVM}${TRADITIONAL}${text}`);
    const argv = argvOf(h);
    expect(argv.slice(argv.indexOf('-videoram'), argv.indexOf('-videoram') + 4)).toEqual(words);
  });

  test('more video memory than memory is more than any host has', () => {
    const r = hostWith().create(`${HVM}vga="qxl"\n`);
    expect([r.exit, r.err]).toEqual([3, expect.stringContaining('xc_dom_boot_mem_init failed')]);
  });
});
