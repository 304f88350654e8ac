/** The recorded boards with options that no recording here has. Expected values are those of the sources named. */
import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { GOLDEN, unrecorded } from '../helpers/unrecorded.js';

const VTD = '21-caching-mode';
const LIFE = ['xl pci-assignable-add 02:00.0', 'xl create /h1/cfg/pv1.cfg', 'xl destroy pv1'];

describe.skipIf(!fs.existsSync(GOLDEN))('boards that were not recorded', () => {
  // Xen drivers/passthrough/vtd/iommu.h: ICC is bit 63, the granularity bits 62:61, the source id 31:16, the domain's 15:0.
  test('without the queue each context invalidation is one write of CCMD, with the domain id in its low word', () => {
    const [, , , destroyed] = unrecorded({
      like: VTD,
      iommu: 'intel-iommu,intremap=on,aw-bits=48',
      xen: 'iommu=no-qinval',
      commands: LIFE,
    });
    const at = destroyed!.vtd_trace!.findIndex((l) => l.startsWith('vtd_reg_write addr 0x28'));
    expect(destroyed!.vtd_trace!.slice(at, at + 5)).toEqual([
      'vtd_reg_write addr 0x28 size 0x8 value 0xe000000002000001',
      'vtd_inv_desc_cc_devices context invalidate devices sid 0x200 fmask 0x0',
      'vtd_inv_desc_cc_device context invalidate device 02:00.00',
      'vtd_reg_write addr 0xf8 size 0x8 value 0xa003000100000000',
      'vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x1',
    ]);
  });

  // QEMU hw/i386/intel_iommu.c vtd_init: IR and MHMV together; EIM without KVM only as x-buggy-eim; SRS, SMTS, SLTS.
  test.each([
    ['intremap=off,aw-bits=48', 'cap = d2008c222f0606 ecap = f42'],
    ['intremap=on,aw-bits=48,x-buggy-eim=on', 'cap = d2008c222f0606 ecap = f00f5a'],
    ['intremap=on,aw-bits=39', 'cap = d2008c22260206 ecap = f00f4a'],
    ['intremap=on,aw-bits=48,x-scalable-mode=on', 'cap = d2008c222f0606 ecap = 480080f00f4a'],
    ['intremap=on,aw-bits=48,snoop-control=on', 'cap = d2008c222f0606 ecap = f00fca'],
  ])('intel-iommu,%s: %s', (properties, capabilities) => {
    const [boot] = unrecorded({ like: VTD, iommu: `intel-iommu,${properties}`, commands: [] });
    expect(boot!.xen_log).toContain(`(XEN) [VT-D]${capabilities}`);
  });

  // Xen common/page_alloc.c setup_low_mem_virq, heap_init_late; drivers/char/console.c console_endboot; common/warning.c.
  test('a boot ends with the words of heap_init_late and console_endboot, and a warning of a synchronous console', () => {
    const { xen_log: log } = unrecorded({ like: VTD, xen: 'loglvl=info/all bootscrub=0', commands: [] })[0]!;
    const at = log!.indexOf('(XEN) Initial low memory virq threshold set at 0x4000 pages.');
    expect(log!.slice(at + 1, at + 5)).toEqual([
      '(XEN) Std. Loglevel: Errors, warnings and info (Rate-limited: All)',
      '(XEN) Guest Loglevel: All',
      '(XEN) ***************************************************',
      '(XEN) WARNING: CONSOLE OUTPUT IS SYNCHRONOUS',
    ]);
    expect(log!.slice(at + 9, at + 13)).toEqual([
      '(XEN) ***************************************************',
      '(XEN) 3... 2... 1... ',
      "(XEN) *** Serial input to DOM0 (type 'CTRL-a' three times to switch input)",
      '(XEN) Freed 656kB init memory',
    ]);
  });

  // hvmloader pci.c pci_setup; QEMU: 16 MiB for the platform device and for std VGA, whose ROM has 64 KiB; the MSI-X
  // table of 02:00.0 is the first page of its last register; SeaBIOS optionroms.c looks into its ROM.
  test('an HVM guest has its passed-through device where the sizes of all devices put it', () => {
    const hvm =
      'type="hvm"\nname="h"\nmemory=256\nvga="stdvga"\nvideoram=16\nvnc=0\nsdl=0\npci=["02:00.0"]\n';
    const records = unrecorded({
      like: '41-hvm-amdvi',
      commands: [
        `printf '${hvm}' > /h1/cfg/h.cfg; xl pci-assignable-add 02:00.0`,
        'xl create /h1/cfg/h.cfg',
        'true',
      ],
    });
    const mapped = records.flatMap((r) => r.xen_log ?? []).filter((l) => /(?:memory|ioport)_map/.test(l));
    expect(mapped).toEqual([
      '(XEN) memory_map:add: d1 gfn=f2040 mfn=fe640 nr=20',
      '(XEN) memory_map:add: d1 gfn=f2060 mfn=fe660 nr=20',
      '(XEN) memory_map:add: d1 gfn=f2091 mfn=fe681 nr=3',
      '(XEN) ioport_map:add: dom1 gport=c100 mport=4000 nr=20',
      '(XEN) memory_map:add: d1 gfn=f2000 mfn=fe600 nr=40',
      '(XEN) memory_map:remove: d1 gfn=f2000 mfn=fe600 nr=40',
    ]);
  });

  // libxl_utils.c libxl_domid_valid_guest
  test('what fails for domain 0 is logged without a domain', () => {
    const [, , attached] = unrecorded({
      like: VTD,
      commands: ['xl pci-assignable-add 06:00.0', 'xl pci-attach 0 06:00.0'],
    });
    expect(attached!.exit).toBe(1);
    expect(attached!.stderr).toContain(
      'libxl: error: libxl_pci.c:1529:pci_add_dm_done: xc_assign_device failed: Invalid argument\n',
    );
  });

  // libxl_x86.c e820_sanitize over XENMEM_machine_memory_map: reserved are what firmware says, the I/O APIC, and what
  // dom0 may not reach: the local APIC with the MSI window, and the IOMMU's registers where there is one.
  test.each([
    ['iommu=1', '[fed90 -> fed91] Reserved'],
    ['iommu=0', undefined],
  ])('%s: the memory map of a PV guest with devices has holes where the machine has', (xen, iommu) => {
    const [, , created] = unrecorded({
      like: VTD,
      iommu: 'intel-iommu,intremap=on,aw-bits=48',
      xen,
      commands: [
        'printf \'type="pv"\\nname="p"\\nkernel="/h1/vmlinuz"\\nmemory=160\\ne820_host=1\\n\' > /h1/cfg/p.cfg',
        'xl -vvv create /h1/cfg/p.cfg',
      ],
    });
    const map = [...created!.stderr!.matchAll(/e820_sanitize: :\t(.*)/g)].map(([, text]) => text);
    expect(map).toEqual(
      [
        '[0 -> a000] RAM',
        '[a000 -> 7ffd8] Unusable',
        '[7ffd8 -> 80000] Reserved',
        '[b0000 -> c0000] Reserved',
        '[fec00 -> fec01] Reserved',
        '[fed1c -> fed20] Reserved',
        iommu,
        '[fee00 -> fef00] Reserved',
        '[fffc0 -> 100000] Reserved',
        '[fd00000 -> 10000000] Reserved',
      ].filter((l) => l !== undefined),
    );
  });

  // arch/x86/pv/dom0_build.c mark_pv_pt_pages_rdonly, dom0_construct_pv: as Debian's Xen 4.17.7 does under this option.
  // VT-d has nothing to flush then: no unit has a device of dom0's yet.
  test("AMD: a strict dom0's domain is flushed once while Xen boots", () => {
    const flushes = (xen: string): number =>
      unrecorded({ like: '40-amdvi', xen, commands: [] })[0]!.vtd_trace!.filter((l) =>
        l.startsWith('amdvi_pages_inval'),
      ).length;
    expect([flushes('dom0-iommu=strict'), flushes('')]).toEqual([1, 0]);
  });
});
