/**
 * Xen from its entry to a running dom0: command line, heap, firmware tables, IOMMU, the hardware domain.
 * @xen arch/x86/setup.c __start_xen
 */
import { panic } from '../base/assert.js';
import { KnownBy } from '../base/same.js';
import { acpiIvrsInit } from '../iommu/driver/amd/iommu_acpi.js';
import { type E820Entry, XENLOG } from '../iommu/driver/types.js';
import { acpiDmarInit } from '../iommu/driver/vtd/dmar.js';
import type { Co } from '../sim/co.js';
import { type BootImages, initHeap, totalPages } from './boot_memory.js';
import type { CmdlineResult } from './cmdline.js';
import { paddrFrames } from './cpu.js';
import { allocDom0Memory } from './dom0_memory.js';
import { dom0Pages, dom0Vcpus } from './dom0_options.js';
import { Domain } from './domain.js';
import { endOfBoot } from './end_of_boot.js';
import { acpiMmcfgInit } from './mmconfig.js';
import { iommuDomainInit, iommuHwdomInit, iommuSetup } from './passthrough/iommu.js';
import type { XenVersion } from './public/hypercalls.js';
import { RangeSet } from './rangeset.js';
import type { Release } from './releases/index.js';
import type { Xen } from './xen.js';
import type { XenBootOptions } from './xen_state.js';

/** Runs the boot to the point where dom0's kernel starts. */
export function* startXen(xen: Xen, o: XenBootOptions, options: CmdlineResult): Co<void> {
  printBanner(xen, o.release);
  const images = initHeap(xen, o.images);
  initIommuTables(xen, o);
  acpiMmcfgInit(xen, o.mcfg);
  yield* iommuSetup(xen);
  const ringKb = xen.console.allocateRing(options.conringSize, xen.cpu.count);
  xen.console.printk(XENLOG.WARNING, `Allocated console ring of ${ringKb} KiB.`);
  yield* createDom0(xen, o, options, images);
  endOfBoot(xen, options);
  xen.booted = true;
}

/** How Xen was built, by release. */
const versionTexts = new WeakMap<Release, string>();

function versionText(release: Release, v: XenVersion): string {
  let text = versionTexts.get(release);
  if (text === undefined) {
    text = `Xen version ${v.major}.${v.minor}${v.extra} (${v.compileBy}@${v.compileDomain}) (${v.compiler}) debug=n ${v.compileDate}`;
    versionTexts.set(release, text);
  }
  return text;
}

function printBanner(xen: Xen, release: Release): void {
  const v = xen.version;
  const print = (text: string): void => xen.console.printk(XENLOG.WARNING, text);
  print(versionText(release, v));
  if (v.buildId !== '') print(`build-id: ${v.buildId}`);
  print(`Command line: ${xen.cmdline}`);
  print('Xen-e820 RAM map:');
  for (const line of e820Lines.of(xen.e820)) print(line);
  const pages = totalPages(xen.e820);
  print(`System RAM: ${Math.floor(pages / 256)}MB (${pages * 4}kB)`);
}

const e820Lines = new KnownBy((e820: readonly E820Entry[]) =>
  e820.map((e) => ` [${hex16(e.start)}, ${hex16(e.end - 1)}] (${e.type})`),
);

const hex16 = (n: number): string => n.toString(16).padStart(16, '0');

/** DMAR first, IVRS where there is none. @xen acpi_iommu_init */
function initIommuTables(xen: Xen, o: XenBootOptions): void {
  if (o.dmar !== undefined) {
    const driver = acpiDmarInit(xen.services, o.dmar);
    if (typeof driver !== 'number') xen.driver = driver;
  } else if (o.ivrs !== undefined) {
    const driver = acpiIvrsInit(xen.services, o.ivrs);
    if (typeof driver !== 'number') xen.driver = driver;
  }
  xen.ops = xen.driver?.ops;
}

/** @xen create_dom0, dom0_construct_pv */
function* createDom0(
  xen: Xen,
  o: XenBootOptions,
  options: CmdlineResult,
  images: BootImages | undefined,
): Co<void> {
  const d = new Domain(0, xen.cpus, {
    hvm: false,
    hap: false,
    iommu: xen.iommuEnabled,
    pciLock: xen.seams.hasPciLock(),
    capsLock: xen.seams.hasCapsLock(),
  });
  xen.hwdom = d;
  xen.domains.set(0, d);
  d.controllerPauseCount = 0;
  d.pauseCount = 0;
  d.maxVcpus = dom0Vcpus(options.dom0Vcpus, o.dom0Vcpus);
  d.maxPages = 0xffff_ffff;
  const rc = yield* iommuDomainInit(xen, d, false);
  if (rc !== 0) panic(`Error creating domain 0`);
  xen.console.printk(XENLOG.WARNING, '*** Building a PV Dom0 ***');
  const pages = dom0Pages(options.dom0Mem, xen.heap.freeFrames, Math.floor(o.dom0MemBytes / 4096));
  yield* allocDom0Memory(xen, d, pages, images);
  dom0SetupPermissions(xen, d);
  xen.console.printk(XENLOG.WARNING, `Dom0 has maximum ${d.maxVcpus} VCPUs`);
  yield* iommuHwdomInit(xen, d);
}

/** I/O ports that dom0 may not touch: interrupt controllers, PIT, NMI port, PM timer, config address, Xen's UART. */
const DENIED_PORTS = [
  [0x20, 0x21],
  [0x40, 0x43],
  [0x61, 0x61],
  [0xa0, 0xa1],
  [0x3f8, 0x3ff],
  [0x608, 0x60b],
  [0xcfc, 0xcff],
] as const;

const DOM0_PORTS = new RangeSet();
DOM0_PORTS.add(0, 0xffff);
for (const [first, last] of DENIED_PORTS) DOM0_PORTS.remove(first, last);

/** What dom0 may reach of ports, device memory and interrupts. @xen dom0_setup_permissions */
function dom0SetupPermissions(xen: Xen, d: Domain): void {
  d.ioportCaps.setTo(DOM0_PORTS);
  d.iomemCaps.add(0, paddrFrames(xen.cpu) - 1);
  d.iomemCaps.remove(0xfee00, 0xfeeff); // local APIC and MSI
  if (xen.cpu.vendor === 'amd') d.iomemCaps.remove(0xfd0_0000, 0x1000_0000 - 1); // HyperTransport
  d.irqCaps.add(1, xen.nrIrqsGsi - 1);
}
