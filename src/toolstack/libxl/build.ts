/** A domain's memory and what it is told of itself. @xen tools/libs/light/libxl_dom.c, tools/libs/guest/xg_dom_x86.c */
import type { BootFile } from '../../base/boot_file.js';
import { E, strerror } from '../../base/errno.js';
import type { DomctlOp } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import { allocUnbound } from '../kernel/channels.js';
import { settled } from './defaults.js';
import { layOutHvm, parseHvm, parsePv } from './dom_build.js';
import { DomImage } from './dom_image.js';
import { meminitHvm, meminitPv, populateSpecial } from './dom_memory.js';
import { bootPv, layOutPv } from './dom_pv.js';
import { logE820Host } from './e820_host.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import { EVENT } from './lines_event.js';
import { constructRdm, type Layout } from './rdm.js';
import { setVcpuAffinity } from './sched.js';
import { type BuildInfo, type DomainConfig, ERROR } from './types.js';

const GB4 = 2 ** 32;
const MMIO_HOLE = 0x1000_0000;
const XENSTORE_PFN = 0xfeffc;
const CONSOLE_PFN = 0xfefff;
/** LIBXL_MAXMEM_CONSTANT: kilobytes on top of what the guest gets. */
const MAXMEM_CONSTANT_KB = 1024;
/** Where the special pages are, whose the rings are, where the identity map is. @xen alloc_magic_pages_hvm */
const SPECIAL_PARAMS = 7;
const IOREQ_PARAMS = 2;
/** @xen bootlate_hvm */
const EVENT_CHANNEL_PARAMS = 2;
/** The whole saved state of one processor and of the platform is more than a page, that of the registers is not. */
const HVM_CONTEXT_BYTES = 5400;
const HVM_CPU_BYTES = 1080;

export interface Built {
  readonly storePfn: number;
  readonly consolePfn: number;
}

/** 0 or ERROR_*. @xen libxl__domain_build */
export function* domainBuild(lx: Libxl, domid: number, d: DomainConfig): Co<number> {
  const b = d.bInfo;
  const rc = yield* buildPre(lx, domid, b);
  if (rc !== 0) return rc;
  const built = b.type === 'pv' ? yield* buildPv(lx, domid, b) : yield* buildHvm(lx, domid, d);
  if (typeof built === 'number') return built;
  countSchedule(lx);
  buildPost(lx, domid, d, built);
  return 0;
}

/** @xen libxl_domain_sched_params_set */
function countSchedule({ xc }: Libxl): void {
  xc.countFind();
  xc.buffers.other('cpupool');
  xc.countFind();
  for (const call of ['domctl', 'domctl'] as const) xc.buffers.other(call);
}

function* buildPre(lx: Libxl, domid: number, b: BuildInfo): Co<number> {
  const { buffers } = lx.xc;
  lx.xc.countFind(true);
  if ((yield* lx.xc.domctl({ cmd: 'max_vcpus', domid, max: b.maxVcpus })) !== 0) {
    lx.log.error(CREATE.maxVcpus, "Couldn't set max vcpu count");
    return ERROR.FAIL;
  }
  buffers.other('sysctl');
  lx.xc.countFind();
  buffers.other('cpupool');
  buffers.other('placement');
  for (let i = 0; i < b.maxVcpus; i++) {
    const hard = b.vcpuHardAffinity[i];
    if (hard === undefined) buffers.other('affinity');
    else if ((yield* setVcpuAffinity(lx, domid, i, hard, undefined)) !== 0) {
      lx.log.error(CREATE.affinity, `setting affinity failed on vcpu \`${i}'`);
      return ERROR.FAIL;
    }
  }
  const maxKb = settled(b.targetMemkb) + MAXMEM_CONSTANT_KB;
  const rc = yield* lx.xc.domctl({ cmd: 'max_mem', domid, maxKb });
  if (rc < 0) {
    lx.log.error(CREATE.maxMem, "Couldn't set max memory", -1, rc);
    return ERROR.FAIL;
  }
  buffers.other('eventChannels');
  // xenstored and xenconsoled bind to these once they hear of the domain.
  for (let i = 0; i < 2; i++) yield* allocUnbound(lx.dom0.hv, domid, 0);
  b.numaPlacement = false;
  if (b.tscMode === 'native_paravirt') {
    lx.log.error(CREATE.tscRemoved, 'TSC Mode native_paravirt (a.k.a PVRDTSCP) has been removed', domid);
    return -25;
  }
  countArchCreate(lx, b);
  logE820Host(lx, b);
  buffers.other('cpuid');
  if (b.cpuid.cpuid.length > 0) buffers.other('cpuidOwn');
  return 0;
}

/** Parameters of an HVM guest, where a PV guest's memory ends, and how time goes. @xen libxl__arch_domain_create */
function countArchCreate({ xc: { buffers } }: Libxl, b: BuildInfo): void {
  if (b.type === 'pv') buffers.other('memoryLimit');
  // HPET and the alignment of timers, then the timers' mode and altp2m.
  else buffers.hvmParams(b.type === 'hvm' ? 4 : 2);
  if (b.type === 'hvm' && b.hvm.viridian === true) buffers.hvmParams(1);
  buffers.other('domctl');
  if (b.type !== 'pv') buffers.other('domctl');
}

/** What a kernel file holds that does not decompress. */
export const DAMAGED_KERNEL = 'damaged';

const PV_FILES = { kernel: CREATE.kernelFile, ramdisk: CREATE.ramdiskFile };
const PVH_FILES = { kernel: CREATE.kernelFilePvh, ramdisk: CREATE.ramdiskFilePvh };

/** Opens the files of a kernel; 0 or ERROR_FAIL. @xen xc_dom_kernel_file, xc_dom_module_file */
function openFiles(lx: Libxl, b: BuildInfo, image: DomImage, places: typeof PV_FILES): number {
  for (const [file, at, call, tells] of [
    [b.kernel, places.kernel, 'xc_dom_kernel_file failed', 'xc_dom_kernel_file'],
    [b.ramdisk, places.ramdisk, 'xc_dom_ramdisk_file failed', 'xc_dom_module_file'],
  ] as const) {
    if (file === undefined) continue;
    if (lx.dom0.fs.exists(file)) {
      image.file(tells, file, lx.dom0.bootFiles[file]?.bytes ?? 0);
      continue;
    }
    image.print(`${tells}: filename="${file}"`);
    lx.log.panic(CREATE.openFile, `failed to open file '${file}': ${strerror(E.NOENT)}`, 'Internal error');
    lx.log.error(at, call, -1, E.NOENT);
    return ERROR.FAIL;
  }
  return 0;
}

function parseImage(lx: Libxl, b: BuildInfo): number {
  const damaged = b.kernel !== undefined && lx.dom0.fs.readFile(b.kernel) === DAMAGED_KERNEL;
  // Where what is in the files is known, the others are no kernels.
  const { bootFiles } = lx.dom0;
  const foreign = Object.keys(bootFiles).length > 0 && !Object.hasOwn(bootFiles, b.kernel ?? '');
  if (!damaged && !foreign) return 0;
  if (damaged) lx.log.invalidKernel(CREATE.probeBzimage, ' unable to XZ decompress kernel');
  lx.log.invalidKernel(CREATE.findLoader, ': no loader found');
  lx.log.error(CREATE.parseImage, 'xc_dom_parse_image failed');
  return ERROR.FAIL;
}

/** What is known of the file, when all of a guest's are known: only then the builder's words are. */
function knownFile(lx: Libxl, kernel: string | undefined, ramdisk?: string): BootFile | undefined {
  const known = (file: string): BootFile | undefined =>
    Object.hasOwn(lx.dom0.bootFiles, file) ? lx.dom0.bootFiles[file] : undefined;
  if (ramdisk !== undefined && known(ramdisk) === undefined && lx.dom0.fs.exists(ramdisk)) return undefined;
  const file = kernel === undefined ? undefined : known(kernel);
  return file?.kernel === undefined ? undefined : file;
}

function* buildPv(lx: Libxl, domid: number, b: BuildInfo): Co<Built | number> {
  const file = knownFile(lx, b.kernel, b.ramdisk);
  const image = new DomImage(file === undefined ? lx.log.silent() : lx.log, b.cmdline);
  lx.log.debug(EVENT.pvKernel, `pv kernel mapped 0 path ${b.kernel ?? '(null)'}`);
  let rc = openFiles(lx, b, image, PV_FILES);
  if (rc === 0) rc = parseImage(lx, b);
  const built = rc !== 0 ? rc : yield* buildPvImage(lx, domid, b, image, file);
  image.print('xc_dom_release: called');
  return built;
}

/** PV memory is a list of machine frames. @xen libxl__build_dom */
function* buildPvImage(
  lx: Libxl,
  domid: number,
  b: BuildInfo,
  image: DomImage,
  file: BootFile | undefined,
): Co<Built | number> {
  const pages = Math.floor(settled(b.targetMemkb) / 1024) * 256;
  const parms = file === undefined ? undefined : parsePv(lx, image, file, pages);
  for (const call of ['capabilities', 'domctl', 'claim'] as const) lx.xc.buffers.other(call);
  const frames = yield* meminitPv(lx, domid, pages);
  if (frames === undefined) {
    noMemory(lx);
    lx.log.error(CREATE.bootMem, 'xc_dom_boot_mem_init failed', -1, E.NOMEM);
    return ERROR.FAIL;
  }
  lx.xc.buffers.other('claim');
  const module = b.ramdisk === undefined ? undefined : lx.dom0.bootFiles[b.ramdisk];
  const shared = yield* sharedInfoFrame(lx, domid);
  if (parms !== undefined) {
    const layout = layOutPv(image, file!, parms, module === undefined ? [] : [module], pages);
    if (layout === undefined) {
      // Nothing on this way sets errno: it is an earlier call's.
      lx.log.error(CREATE.buildImage, 'xc_dom_build_image failed', -1, E.NOENT);
      return ERROR.FAIL;
    }
    bootPv(image, parms, layout, frames, domid, shared);
  }
  for (const call of ['pin', 'setContext'] as const) lx.xc.buffers.other(call);
  return { storePfn: 1, consolePfn: 2 };
}

const noMemory = (lx: Libxl): void =>
  lx.log.panic(
    CREATE.lowMemory,
    "xc_dom_boot_mem_init: can't allocate low memory for domain",
    'Out of memory',
  );

function* sharedInfoFrame(lx: Libxl, domid: number): Co<number> {
  const op: DomctlOp = { cmd: 'getdomaininfo', domid };
  return (yield* lx.xc.domctl(op)) === 0 ? (op.info?.sharedInfoFrame ?? 0) : 0;
}

function hvmLayout(b: BuildInfo): Layout {
  const hole = settled(b.hvm.mmioHoleMemkb) * 1024;
  const mmioSize = hole > MMIO_HOLE ? hole : b.type === 'hvm' ? MMIO_HOLE : GB4 - 0xfc00_0000;
  const bytes = (settled(b.maxMemkb) - settled(b.videoMemkb)) * 1024;
  const mmioStart = GB4 - mmioSize;
  return bytes > mmioStart
    ? { lowmemEnd: mmioStart, highmemEnd: GB4 + (bytes - mmioStart), mmioStart }
    : { lowmemEnd: bytes, highmemEnd: 0, mmioStart };
}

function* buildHvm(lx: Libxl, domid: number, d: DomainConfig): Co<Built | number> {
  const b = d.bInfo;
  const vga = b.type === 'hvm';
  const loader = vga ? (b.hvm.firmware ?? lx.paths.hvmloader) : undefined;
  const file = knownFile(lx, loader);
  const image = new DomImage(file === undefined ? lx.log.silent() : lx.log, b.cmdline);
  const built = yield* loadHvm(lx, domid, d, image, loader, file);
  image.print('xc_dom_release: called');
  return built;
}

/** @xen libxl__build_hvm */
function* loadHvm(
  lx: Libxl,
  domid: number,
  d: DomainConfig,
  image: DomImage,
  loader: string | undefined,
  file: BootFile | undefined,
): Co<Built | number> {
  const b = d.bInfo;
  const firmware = firmwareFiles(lx, b, image, loader, file);
  if (firmware !== 0) {
    lx.log.error(CREATE.domainFirmware, 'initializing domain firmware failed');
    return ERROR.FAIL;
  }
  const layout = hvmLayout(b);
  if (b.type === 'hvm' && (yield* constructRdm(lx, d, layout)) !== 0) {
    lx.log.error(CREATE.rdmCheck, 'checking reserved device memory failed');
    return ERROR.FAIL;
  }
  if (file !== undefined) parseHvm(lx, image, file, layout);
  for (const call of ['capabilities', 'claim'] as const) lx.xc.buffers.other(call);
  if ((yield* meminitHvm(lx, domid, b, layout, image)) !== 0) {
    noMemory(lx);
    lx.log.error(CREATE.bootMem, 'xc_dom_boot_mem_init failed', -1, E.NOMEM);
    return ERROR.FAIL;
  }
  lx.xc.buffers.other('claim');
  const map = e820(d, layout);
  yield* lx.xc.memoryOp({ cmd: 'set_memory_map', domid, entries: map });
  if ((yield* populateSpecial(lx, domid, b.type === 'hvm')) !== 0) return ERROR.FAIL;
  lx.xc.buffers.hvmParams(SPECIAL_PARAMS + (b.type === 'hvm' ? IOREQ_PARAMS : 0) + 1);
  if (file !== undefined) layOutHvm(image, file, lx.dom0.bootFiles[biosPath(lx, b)]?.bytes ?? 0, map.length);
  image.print('vcpu_hvm: called');
  lx.xc.buffers.other('domctl');
  lx.xc.buffers.hvmParams(EVENT_CHANNEL_PARAMS);
  yield* vcpuHvm(lx, domid, b);
  for (const [i, pfn] of [CONSOLE_PFN, XENSTORE_PFN].entries())
    image.print(`xc_dom_set_gnttab_entry: d${domid} gnt[${i}] -> d0 0x${pfn.toString(16)}`);
  return { storePfn: XENSTORE_PFN, consolePfn: CONSOLE_PFN };
}

const biosPath = (lx: Libxl, b: BuildInfo): string =>
  b.hvm.systemFirmware ?? (b.hvm.bios === 'ovmf' ? lx.paths.ovmf : lx.paths.seabios);

/** @xen libxl__domain_firmware */
function firmwareFiles(
  lx: Libxl,
  b: BuildInfo,
  image: DomImage,
  loader: string | undefined,
  file: BootFile | undefined,
): number {
  if (b.type === 'pvh') return openFiles(lx, b, image, PVH_FILES);
  if (loader !== undefined && file !== undefined) image.file('xc_dom_kernel_file', loader, file.bytes);
  if (b.hvm.bios !== 'rombios') lx.log.debug(EVENT.firmware, `Loading BIOS: ${biosPath(lx, b)}`);
  return 0;
}

/** The first processor starts in the loader; without a device model memory types are set too. @xen vcpu_hvm */
function* vcpuHvm({ xc }: Libxl, domid: number, b: BuildInfo): Co<void> {
  // How long it is; then all of it, the call in a buffer of its own; then the parts that are set.
  xc.buffers.other('domctl');
  yield* xc.hvmContext({ cmd: 'gethvmcontext', domid }, HVM_CONTEXT_BYTES);
  for (let i = 0; b.type !== 'hvm' && i < b.maxVcpus; i++)
    yield* xc.hvmContext({ cmd: 'sethvmcontext', domid, records: [['MTRR', i]] }, HVM_CPU_BYTES);
  yield* xc.hvmContext({ cmd: 'sethvmcontext', domid, records: [['CPU', 0]] }, HVM_CPU_BYTES);
}

const E820 = { ram: 1, reserved: 2 } as const;
const LOW_START = 0x10_0000;

/** Low memory from 1 MiB, the reserved ranges the guest may see, high memory. @xen domain_construct_memmap */
function e820(d: DomainConfig, layout: Layout): { start: number; bytes: number; type: number }[] {
  const start = d.bInfo.type === 'hvm' ? LOW_START : 0;
  const map: { start: number; bytes: number; type: number }[] = [
    { start, bytes: layout.lowmemEnd - start, type: E820.ram },
  ];
  for (const r of d.rdms) {
    if (r.policy !== 'invalid') map.push({ start: r.start, bytes: r.size, type: E820.reserved });
  }
  if (layout.highmemEnd > GB4) map.push({ start: GB4, bytes: layout.highmemEnd - GB4, type: E820.ram });
  return map.sort((x, y) => x.start - y.start);
}

/** What the guest and its helpers read of it in xenstore. @xen libxl__build_post */
function buildPost(lx: Libxl, domid: number, d: DomainConfig, built: Built): void {
  const b = d.bInfo;
  const dom = lx.domainPath(domid);
  const vm = lx.dom0.xs.read(`${dom}/vm`) ?? `/vm/${d.cInfo.uuid}`;
  const ballooned = b.type === 'hvm' && settled(b.maxMemkb) > settled(b.targetMemkb);
  const fudge = settled(b.videoMemkb) + (ballooned ? MAXMEM_CONSTANT_KB : 0);
  const seconds = lx.dom0.clock.nowNs / 1e9;
  const start = `${Math.floor(seconds)}.${String(Math.floor((seconds % 1) * 100)).padStart(2, '0')}`;
  lx.dom0.xs.transaction((t) => {
    t.write(`${dom}/memory/static-max`, String(settled(b.maxMemkb)));
    t.write(`${dom}/memory/target`, String(settled(b.targetMemkb) - fudge));
    t.write(`${dom}/memory/videoram`, String(settled(b.videoMemkb)));
    t.write(`${dom}/domid`, String(domid));
    t.write(`${dom}/store/port`, '1');
    t.write(`${dom}/store/ring-ref`, String(built.storePfn));
    for (let i = 0; i < b.maxVcpus; i++) {
      t.write(`${dom}/cpu/${i}/availability`, b.availVcpus.includes(i) ? 'online' : 'offline');
    }
    for (const [k, v] of platform(b)) t.write(`${dom}/${k}`, v);
    for (const [k, v] of image(b)) t.write(`${vm}/${k}`, v);
    t.write(`${vm}/start_time`, start);
    return 0;
  });
  lx.dom0.xs.fireSpecial('@introduceDomain');
}

function platform(b: BuildInfo): (readonly [string, string])[] {
  if (b.type !== 'hvm') return [];
  const on = (x: boolean | undefined): string => (x === true ? '1' : '0');
  const hole = settled(b.hvm.mmioHoleMemkb);
  const out: (readonly [string, string])[] = [
    ['platform/acpi', on(b.acpi === true && b.hvm.acpi === true)],
    ['platform/acpi_s3', on(b.hvm.acpiS3)],
    ['platform/acpi_s4', on(b.hvm.acpiS4)],
    ['platform/acpi_laptop_slate', on(b.hvm.acpiLaptopSlate)],
  ];
  if (hole !== 0) out.push(['platform/mmio_hole_size', String(hole * 1024)]);
  out.push(['platform/device-model', b.deviceModelVersion]);
  return out;
}

function image(b: BuildInfo): (readonly [string, string])[] {
  if (b.type === 'pvh') return [];
  if (b.type === 'hvm')
    return [
      ['rtc/timeoffset', b.hvm.timeoffset ?? ''],
      ['image/ostype', 'hvm'],
    ];
  const out: (readonly [string, string])[] = [
    ['image/ostype', 'linux'],
    ['image/kernel', b.kernel ?? ''],
  ];
  if (b.ramdisk !== undefined) out.push(['image/ramdisk', b.ramdisk]);
  if (b.cmdline !== undefined) out.push(['image/cmdline', b.cmdline]);
  return out;
}
