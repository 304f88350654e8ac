/** What xl makes of a configuration and of its command line: values, messages, exit codes. */
import { describe, expect, test } from 'vitest';
import { type Ran, type XlHost, xlHost } from './xl_host.js';

const HVM = 'name="h"\ntype="hvm"\nmemory=256\nvnc=0\n';
const PV = 'name="p"\ntype="pv"\nkernel="/h1/vmlinuz"\nmemory=128\n';
const PVH = 'name="p"\ntype="pvh"\nkernel="/h1/vmlinuz"\nmemory=128\n';

const host: XlHost = xlHost();

function dryrun(text: string): Ran {
  host.dom0.fs.install('/cfg', text);
  return host.xl('-N', 'create', '/cfg');
}
/** The part of the printed configuration that is about the guest's kind. */
function hvmInfo(text: string): Record<string, unknown> {
  const r = dryrun(text);
  expect([r.exit, r.err]).toEqual([0, 'Parsing config from /cfg\n']);
  return JSON.parse(r.out).b_info['type.hvm'];
}

describe('FT-F05 gfx_passthru', () => {
  test.each([
    ['0', 'False', undefined],
    ['1', 'True', undefined],
    ['2', 'True', undefined],
    ['"igd"', 'True', 'igd'],
    // The kind `default` is what is not printed.
    ['"default"', 'True', undefined],
  ])('FT-F05 %s on HVM', (value, on, kind) => {
    const info = hvmInfo(`${HVM}gfx_passthru=${value}\n`);
    expect([info.gfx_passthru, info.gfx_passthru_kind]).toEqual([on, kind]);
  });

  test('FT-F05 any other word ends xl', () => {
    expect(dryrun(`${HVM}gfx_passthru="bogus"\n`)).toEqual({
      exit: 1,
      out: '',
      err: 'Parsing config from /cfg\nERROR: invalid value "bogus" for "gfx_passthru"\n',
    });
  });

  test.each([PV, PVH])('FT-F05 PV and PVH do not look at it', (base) => {
    const r = dryrun(`${base}gfx_passthru="bogus"\n`);
    expect([r.exit, r.out.includes('gfx_passthru')]).toEqual([0, false]);
  });
});

describe('the rest of a configuration', () => {
  test('pci_* keys are defaults for the devices behind them', () => {
    const r = dryrun(
      `${HVM}pci_permissive=1\npci_msitranslate=1\npci_power_mgmt=1\npci_seize=1\n` +
        'pci=["01:00.0", "02:00.0,permissive=0,msitranslate=0,power_mgmt=0,seize=0"]\n',
    );
    const [first, second] = JSON.parse(r.out).pcidevs;
    expect(first).toMatchObject({ permissive: true, msitranslate: true, power_mgmt: true, seize: true });
    expect(Object.keys(second).sort()).toEqual(['bus', 'vfunc_mask']);
  });

  test('keys that nobody knows are no error', () => {
    expect(dryrun(`${HVM}colour="red"\n`)).toMatchObject({ exit: 0, err: 'Parsing config from /cfg\n' });
  });

  test('builder= is obsolete, and said to be', () => {
    const r = dryrun('name="h"\nbuilder="hvm"\nmemory=256\n');
    expect(JSON.parse(r.out).c_info.type).toBe('hvm');
    expect(r.exit).toBe(0);
  });

  test('passthrough= takes five words', () => {
    const mode = (word: string): Ran => dryrun(`${HVM}passthrough="${word}"\n`);
    expect(['disabled', 'enabled', 'sync_pt', 'share_pt'].map((w) => mode(w).exit)).toEqual([0, 0, 0, 0]);
    expect(mode('bogus')).toMatchObject({
      exit: 1,
      err: "Parsing config from /cfg\nERROR: unknown passthrough option 'bogus'\n",
    });
  });

  test('words on the command line stand behind the file', () => {
    host.dom0.fs.install('/cfg', HVM);
    const r = host.xl('-N', 'create', '/cfg', 'memory=512', 'gfx_passthru=1');
    const { b_info } = JSON.parse(r.out);
    expect([b_info.max_memkb, b_info['type.hvm'].gfx_passthru]).toEqual([524288, 'True']);
  });
});

describe('FT-F19 exit codes', () => {
  test.each([
    [0, 'pci-assignable-list'],
    [0, 'help', 'pci-attach'],
    [1, 'frobnicate'],
    [1, 'pci-attach', 'nobody', '02:00.0'],
    [1, 'pci-attach', '0', '02:00.0'],
    [1, '-N', 'pci-attach', '0', '02:00.0'],
    [2, 'pci-attach', '0', 'junk'],
    [2, 'pci-detach', '0', '01:00.8'],
    [2, 'pci-assignable-add', 'junk'],
    [2, 'pci-assignable-remove', '01:20.0'],
    [2, 'pci-attach'],
    [139, 'pci-assignable-add', '02:00'],
    [139, 'pci-assignable-remove', '02:00'],
    [6, 'create'],
    [3, 'create', '/nowhere'],
  ])('FT-F19 %i of xl %s %s %s', (exit, ...argv) => {
    expect(host.xl(...(argv as string[])).exit).toBe(exit);
  });

  test('FT-F19 a configuration: 1 for a bad value, 6 for a bad device, 3 for a bad policy', () => {
    expect([
      dryrun(`${HVM}passthrough="bogus"\n`).exit,
      dryrun(`${HVM}pci=["junk"]\n`).exit,
      dryrun(`${HVM}pci=["01:00.0,rdm_policy=bogus"]\n`).exit,
      dryrun('a=[\n').exit,
    ]).toEqual([1, 6, 3, 1]);
  });

  test('FT-F19 the malformed text is quoted', () => {
    expect(host.xl('pci-assignable-add', 'junk').err).toBe('pci-assignable-add: malformed BDF "junk"\n');
    expect(host.xl('pci-attach', '0', 'junk').err).toBe('pci-attach: malformed PCI_SPEC_STRING "junk"\n');
  });
});
