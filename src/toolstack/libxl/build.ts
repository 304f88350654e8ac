/** A domain's memory and what it is told of itself. @xen tools/libs/light/libxl_dom.c, tools/libs/guest/xg_dom_x86.c */
import type { Co } from '../../sim/co.js';
import { allocUnbound } from '../kernel/channels.js';
import { settled } from './defaults.js';
import { logE820Host } from './e820_host.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import { EVENT } from './lines_event.js';
import { constructRdm, type Layout } from './rdm.js';
import { type BuildInfo, type DomainConfig, ERROR } from './types.js';

const PAGE = 4096;
const GB4 = 2 ** 32;
const MMIO_HOLE = 0x1000_0000;
/** The VGA hole, 0xa0000 to 0xc0000, in pages. */
const VGA_HOLE = { start: 0xa0, end: 0xc0 };
/** Special pages of HVM: store, console and their neighbours, below 0xfeffc000 up to 0xff000000. */
const SPECIAL_START = 0xfeff8;
const SPECIAL_PAGES = 8;
/** Below them, for further device models. */
const IOREQ_SERVER_PAGES = 8;
const XENSTORE_PFN = 0xfeffc;
const CONSOLE_PFN = 0xfefff;
/** LIBXL_MAXMEM_CONSTANT: kilobytes on top of what the guest gets. */
const MAXMEM_CONSTANT_KB = 1024;
/** Extents of one populate call, so that a large guest stays interruptible. */
const BATCH = 512;

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
  buildPost(lx, domid, d, built);
  return 0;
}

function* buildPre(lx: Libxl, domid: number, b: BuildInfo): Co<number> {
  if ((yield* lx.xc.domctl({ cmd: 'max_vcpus', domid, max: b.maxVcpus })) !== 0) {
    lx.log.error(CREATE.maxVcpus, "Couldn't set max vcpu count");
    return ERROR.FAIL;
  }
  const maxKb = settled(b.targetMemkb) + MAXMEM_CONSTANT_KB;
  const rc = yield* lx.xc.domctl({ cmd: 'max_mem', domid, maxKb });
  if (rc < 0) {
    lx.log.error(CREATE.maxMem, "Couldn't set max memory", -1, rc);
    return ERROR.FAIL;
  }
  // xenstored and xenconsoled bind to these once they hear of the domain.
  for (let i = 0; i < 2; i++) yield* allocUnbound(lx.dom0.hv, domid, 0);
  b.numaPlacement = false;
  if (b.tscMode === 'native_paravirt') {
    lx.log.error(CREATE.tscRemoved, 'TSC Mode native_paravirt (a.k.a PVRDTSCP) has been removed', domid);
    return -25;
  }
  logE820Host(lx, b);
  return 0;
}

/** What a kernel file holds that does not decompress. */
export const DAMAGED_KERNEL = 'damaged';

/** Checks that the files of a kernel are there, and that the kernel is one. */
function kernelFiles(lx: Libxl, b: BuildInfo): number {
  for (const [file, at, call] of [
    [b.kernel, CREATE.kernelFile, 'xc_dom_kernel_file failed'],
    [b.ramdisk, CREATE.ramdiskFile, 'xc_dom_ramdisk_file failed'],
  ] as const) {
    if (file === undefined || lx.dom0.fs.exists(file)) continue;
    lx.log.error(at, call, -1, -2);
    return ERROR.FAIL;
  }
  if (b.kernel === undefined || lx.dom0.fs.readFile(b.kernel) !== DAMAGED_KERNEL) return 0;
  lx.log.invalidKernel(CREATE.probeBzimage, ' unable to XZ decompress kernel');
  lx.log.invalidKernel(CREATE.findLoader, ': no loader found');
  lx.log.error(CREATE.parseImage, 'xc_dom_parse_image failed');
  return ERROR.FAIL;
}

/** PV memory is a list of machine frames, in 2 MiB extents as long as they last. */
function* buildPv(lx: Libxl, domid: number, b: BuildInfo): Co<Built | number> {
  lx.log.debug(EVENT.pvKernel, `pv kernel mapped 0 path ${b.kernel ?? '(null)'}`);
  const rc = kernelFiles(lx, b);
  if (rc !== 0) return rc;
  const pages = Math.floor(settled(b.targetMemkb) / 4);
  if ((yield* populate(lx, domid, 0, pages)) !== 0) {
    lx.log.error(CREATE.bootMem, 'xc_dom_boot_mem_init failed', -1, -12);
    return ERROR.FAIL;
  }
  return { storePfn: 1, consolePfn: 2 };
}

/** Orders of the extents that are tried, largest first. */
const ORDERS = [18, 9, 0];

/**
 * Frames `from` up to, not including, `end`, in the largest extents that fit and that Xen has; what an order does not
 * give is asked for in the next smaller one. 0 or ERROR_FAIL.
 */
function* populate(lx: Libxl, domid: number, from: number, end: number, pod = false): Co<number> {
  for (let pfn = from; pfn < end; ) {
    let done = 0;
    for (const order of ORDERS) {
      const size = 2 ** order;
      const stop = order === 0 ? Math.min(end, Math.ceil((pfn + 1) / 512) * 512) : end;
      const fits = pfn % size === 0 ? Math.min(BATCH, Math.floor((stop - pfn) / size)) : 0;
      if (fits === 0) continue;
      const gfns = Array.from({ length: fits }, (_, i) => pfn + i * size);
      const extra = pod ? { pod } : {};
      const n = yield* lx.xc.memoryOp({ cmd: 'populate_physmap', domid, gfns, order, ...extra });
      done = Math.max(n, 0) * size;
      if (done > 0) break;
    }
    if (done === 0) return ERROR.FAIL;
    pfn += done;
  }
  return 0;
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
  if (b.type === 'pvh') {
    const files = kernelFiles(lx, b);
    if (files !== 0) return files;
  }
  const layout = hvmLayout(b);
  const firmware = b.hvm.bios === 'ovmf' ? lx.paths.ovmf : lx.paths.seabios;
  if (b.type === 'hvm' && b.hvm.bios !== 'rombios')
    lx.log.debug(EVENT.firmware, `Loading BIOS: ${b.hvm.systemFirmware ?? firmware}`);
  if (b.type === 'hvm' && (yield* constructRdm(lx, d, layout)) !== 0) {
    lx.log.error(CREATE.rdmCheck, 'checking reserved device memory failed');
    return ERROR.FAIL;
  }
  if ((yield* hvmMemory(lx, domid, b, layout)) !== 0) {
    lx.log.error(CREATE.bootMem, 'xc_dom_boot_mem_init failed', -1, -12);
    return ERROR.FAIL;
  }
  yield* lx.xc.memoryOp({ cmd: 'set_memory_map', domid, entries: e820(d, layout) });
  yield* vcpuHvm(lx, domid, b);
  return { storePfn: XENSTORE_PFN, consolePfn: CONSOLE_PFN };
}

/** The first processor starts in the loader; without a device model memory types are set too. @xen vcpu_hvm */
function* vcpuHvm(lx: Libxl, domid: number, b: BuildInfo): Co<void> {
  yield* lx.xc.domctl({ cmd: 'gethvmcontext', domid });
  for (let i = 0; b.type !== 'hvm' && i < b.maxVcpus; i++)
    yield* lx.xc.domctl({ cmd: 'sethvmcontext', domid, records: [['MTRR', i]] });
  yield* lx.xc.domctl({ cmd: 'sethvmcontext', domid, records: [['CPU', 0]] });
}

/** Low memory without the VGA hole, high memory, then the special pages. @xen meminit_hvm */
function* hvmMemory(lx: Libxl, domid: number, b: BuildInfo, layout: Layout): Co<number> {
  // More video memory than memory: in C the difference wraps to what no host has.
  if (layout.lowmemEnd < 0) return ERROR.FAIL;
  const targetPages = Math.floor((settled(b.targetMemkb) - settled(b.videoMemkb)) / 4);
  const low = Math.floor(layout.lowmemEnd / PAGE);
  const high = Math.floor(layout.highmemEnd / PAGE);
  const total = low + (high === 0 ? 0 : high - GB4 / PAGE);
  const pod = total > targetPages;
  const vga = b.type === 'hvm';
  if (pod) {
    const target = targetPages - (vga ? VGA_HOLE.end - VGA_HOLE.start : 0);
    const rc = yield* lx.xc.memoryOp({ cmd: 'set_pod_target', domid, targetPages: target });
    if (rc !== 0) return rc;
  }
  const parts: readonly (readonly [number, number])[] = [
    ...(vga
      ? ([
          [0, VGA_HOLE.start],
          [VGA_HOLE.end, low],
        ] as const)
      : ([[0, low]] as const)),
    ...(high === 0 ? [] : ([[GB4 / PAGE, high]] as const)),
  ];
  for (const [from, end] of parts) {
    const rc = yield* populate(lx, domid, from, end, pod);
    if (rc !== 0) return rc;
  }
  const ioreq = vga ? IOREQ_SERVER_PAGES : 0;
  return yield* populate(lx, domid, SPECIAL_START - ioreq, SPECIAL_START + SPECIAL_PAGES);
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
