/** What libxl refuses to create, and how a domain comes and goes. */
import { describe, expect, test } from 'vitest';
import type { HostDescription } from '../../src/inputs/host_description.js';
import { type Ran, type XlHost, xlHost } from './xl_host.js';

const HVM = 'name="g"\ntype="hvm"\nmemory=64\nvnc=0\n';
const PV = 'name="g"\ntype="pv"\nmemory=64\nkernel="/h1/vmlinuz"\n';
const PVH = 'name="g"\ntype="pvh"\nmemory=64\nkernel="/h1/vmlinuz"\n';
const NIC = 'pci=["02:00.0"]\n';
const NO_IOMMU = 'iommu=0 dom0_mem=1G dom0_max_vcpus=1';

function create(text: string, cmdline?: string): Ran {
  const h = xlHost(cmdline === undefined ? {} : { cmdline });
  h.xl('pci-assignable-add', '02:00.0');
  h.steps();
  const r = h.create(text);
  if (r.exit !== 0) expect(h.calls().filter((s) => s.startsWith('createdomain'))).toEqual([]);
  return r;
}
const refused = (where: string): Ran => ({
  exit: 6,
  out: '',
  err: `Parsing config from /cfg\nlibxl: error: ${where}\n`,
});

describe('FT-F21 devices and populate-on-demand', () => {
  test('FT-F21 HVM with less memory than it may have', () => {
    expect(create(`${HVM}${NIC}maxmem=128\n`)).toEqual(
      refused(
        'libxl_create.c:1199:libxl__domain_config_setdefault: ' +
          'IOMMU required for device passthrough but not supported together with PoD',
      ),
    );
  });
  test('FT-F21 is none without devices, nor for PV, nor in a dry run', () => {
    expect(create(`${HVM}maxmem=128\n`).exit).toBe(0);
    expect(create(`${PV}${NIC}maxmem=128\n`).exit).toBe(0);
    const h = xlHost({ files: { '/cfg': `${HVM}${NIC}maxmem=128\n` } });
    expect(h.xl('-N', 'create', '/cfg').exit).toBe(0);
  });
});

describe('FT-F22 where there is no passthrough', () => {
  test.each([PVH + NIC, `${PVH}passthrough="enabled"\n`])('FT-F22 PVH', (text) => {
    expect(create(text)).toEqual(
      refused(
        'libxl_x86.c:832:libxl__arch_passthrough_mode_setdefault: ' +
          'passthrough not yet supported for x86 PVH guests\n',
      ),
    );
  });
  test.each([HVM + NIC, PV + NIC, `${PV}passthrough="enabled"\n`])('FT-F22 no IOMMU', (text) => {
    expect(create(text, NO_IOMMU)).toEqual(
      refused(
        'libxl_create.c:1164:libxl__domain_config_setdefault: passthrough not supported on this platform\n',
      ),
    );
  });
  test('FT-F22 guests without devices do not mind', () => {
    expect([create(PVH).exit, create(HVM, NO_IOMMU).exit]).toEqual([0, 0]);
  });
});

describe('FT-F20 passthrough=', () => {
  const X86 = 'libxl_x86.c:850:libxl__arch_passthrough_mode_setdefault: ';
  test('FT-F20 share_pt is for HVM with hardware paging', () => {
    expect(create(`${HVM}${NIC}passthrough="share_pt"\n`).exit).toBe(0);
    expect(create(`${PV}${NIC}passthrough="share_pt"\n`)).toEqual(
      refused(`${X86}passthrough="share_pt" not valid for PV domain\n`),
    );
    expect(create(`${HVM}${NIC}hap=0\npassthrough="share_pt"\n`)).toEqual(
      refused(`${X86}passthrough="share_pt" only valid for HAP guests\n`),
    );
  });
  test('FT-F20 disabled with devices is a contradiction', () => {
    expect(create(`${PV}${NIC}passthrough="disabled"\n`)).toEqual(
      refused(
        'libxl_create.c:1171:libxl__domain_config_setdefault: passthrough disabled but devices are specified',
      ),
    );
  });
  test.each([
    [PV, false],
    [`${PV}${NIC}`, true],
    [`${HVM}${NIC}`, true],
    [`${HVM}passthrough="sync_pt"\n`, true],
  ])('FT-F20 %j has a context of the IOMMU: %s', (text, on) => {
    const h = xlHost();
    h.xl('pci-assignable-add', '02:00.0');
    h.create(text);
    expect(h.machine.xen.domains.get(1)?.iommuEnabled).toBe(on);
  });
});

describe('FT-F23 reserved device memory', () => {
  const BIG = 'name="g"\ntype="hvm"\nmemory=2100\nvnc=0\n';
  const CMDLINE = 'iommu=1 dom0_mem=800M dom0_max_vcpus=1 rmrr=0x7ffe0-0x7ffe3=0:2:0.0';
  const small = (host: HostDescription): HostDescription => ({
    ...host,
    dom0: { ...host.dom0, memoryBytes: 800 * 2 ** 20 },
  });
  function withRmrr(text: string): { h: XlHost; r: Ran } {
    const h = xlHost({ cmdline: CMDLINE, adapt: small });
    h.xl('pci-assignable-add', '02:00.0');
    h.steps();
    return { h, r: h.create(BIG + text) };
  }
  const mapOf = (h: XlHost): string | undefined => h.calls().find((s) => s.startsWith('set_memory_map'));

  test('FT-F23 in the way of a strict device: no domain', () => {
    const { r } = withRmrr(NIC);
    expect([r.exit, r.err]).toEqual([
      3,
      expect.stringContaining(
        'libxl: error: libxl_dm.c:620:libxl__domain_device_construct_rdm: RDM conflict at 0x7ffe0000.\n\n' +
          'libxl: error: libxl_dom.c:1151:libxl__build_hvm: checking reserved device memory failed\n',
      ),
    ]);
  });
  test('FT-F23 in the way of a relaxed one: a warning', () => {
    const { h, r } = withRmrr('pci=["02:00.0,rdm_policy=relaxed"]\n');
    expect([r.exit, r.err]).toEqual([
      0,
      'Parsing config from /cfg\n' +
        'libxl: warning: libxl_dm.c:624:libxl__domain_device_construct_rdm: Ignoring RDM conflict at 0x7ffe0000.\n\n',
    ]);
    expect(mapOf(h)).toBe('set_memory_map:100000+82b00000/1');
  });
  test('FT-F23 above the boundary: low memory ends before it, the rest goes up', () => {
    const { h, r } = withRmrr(`${NIC}rdm_mem_boundary=1024\n`);
    expect(r).toEqual({ exit: 0, out: '', err: 'Parsing config from /cfg\n' });
    expect(mapOf(h)).toBe('set_memory_map:100000+7fd00000/1,7ffe0000+4000/2,100000000+2e00000/1');
  });
  test('FT-F23 strategy=host takes all ranges of the host, without devices too', () => {
    expect(withRmrr('rdm="strategy=host"\n').r.err).toContain('Ignoring RDM conflict at 0x7ffe0000.');
  });
});

describe('a domain', () => {
  test('is created, given its devices, unpaused; and destroyed in the order of libxl', () => {
    const h = xlHost();
    h.xl('pci-assignable-add', '02:00.0');
    h.steps();
    expect(h.create(`${PV}${NIC}`)).toEqual({ exit: 0, out: '', err: 'Parsing config from /cfg\n' });
    const own = (s: string): boolean => /^(create|max|assign|deassign|pause|unpause|destroy)/.test(s);
    expect(h.calls().filter(own)).toEqual([
      'createdomain',
      'max_vcpus',
      'max_mem',
      'assign_device:1:200',
      'unpausedomain',
    ]);
    expect(h.xl('destroy', 'g')).toEqual({ exit: 0, out: '', err: '' });
    expect(h.calls().filter(own)).toEqual(['deassign_device:1:200', 'pausedomain', 'destroydomain']);
    expect([h.dom0.xs.ls('/local/domain'), h.dom0.xs.ls('/libxl')]).toEqual([['0'], ['pci']]);
    expect(h.xl('pci-assignable-list').out).toBe('0000:02:00.0 \n');
  });

  test('whose device cannot be had is taken back', () => {
    const h = xlHost();
    const r = h.create(`${PV}${NIC}`);
    expect([r.exit, r.err]).toEqual([3, expect.stringContaining('unable to add pci devices\n')]);
    expect(h.calls().at(-1)).toMatch(/^(destroydomain|getdomaininfo=-3)/);
    expect(h.xl('list').out.split('\n')).toHaveLength(3);
  });

  test('does not get the id of one that died a moment ago', () => {
    const h = xlHost();
    h.create(PV);
    h.xl('destroy', 'g');
    h.create(PV);
    expect(h.xl('domid', 'g').out).toBe('2\n');
  });

  test('is watched by an xl of its own, which ends with it', () => {
    const h = xlHost();
    h.create(PV);
    expect(h.sh('cat /var/log/xen/xl-g.log').out).toMatch(
      /^Waiting for domain g \(domid 1\) to die \[pid \d+\]\n$/,
    );
    h.xl('destroy', 'g');
    expect(h.sh('cat /var/log/xen/xl-g.log').out).toContain('Domain 1 has been destroyed.\n');
  });
});
