/**
 * The books of xencall's buffers, which `xl -vvv` prints at its end: pages that Xen reads and writes, a few of which are
 * kept for the next call. @xen tools/libs/call/buffer.c
 */
const PAGE = 4096;
/** In front of each buffer: its number of pages. */
const HEADER = 16;
/** BUFFER_CACHE_SIZE */
const CACHE_MAX = 4;

/** Structures of a call, in bytes. @xen include/public/domctl.h, sysctl.h */
export const STRUCT = { domctl: 144, sysctl: 136, domainInfo: 112, memoryCall: 64, pirq: 40 } as const;
/** A security label, and what asks for it. */
const LABEL = [PAGE, 40] as const;
const LIST_MAX = 1024;
const RING_READ = 16_384;
/** @xen include/public/hvm/hvm_op.h xen_hvm_param */
const HVM_PARAM = 16;

/** Calls that change nothing in this model: buffers that are held at the same time, call by call. */
const CALLS = {
  /** libxl_get_version_info, and how many processors there may be. */
  open: [[16], [144], [1024], [64], [8], [1024], [1024], [STRUCT.sysctl]],
  physinfo: [[STRUCT.sysctl], [STRUCT.memoryCall], [STRUCT.memoryCall]],
  cpupool: [[1, STRUCT.sysctl]],
  sysctl: [[STRUCT.sysctl]],
  /** @xen libxl__build_pre: where the processors and the memory are */
  placement: [
    [STRUCT.sysctl],
    [16, 4, STRUCT.sysctl],
    [STRUCT.sysctl],
    [12, STRUCT.sysctl],
    [8, STRUCT.domctl],
  ],
  affinity: [[1, STRUCT.domctl]],
  eventChannels: [[8], [8]],
  /** Where a PV guest's memory ends. @xen xc_domain_set_memmap_limit */
  memoryLimit: [[20, 24, STRUCT.memoryCall]],
  machineMap: [[2560, 16, STRUCT.memoryCall]],
  /** @xen xc_cpuid_apply_policy */
  cpuid: [
    [STRUCT.domctl],
    [STRUCT.sysctl],
    [76, STRUCT.sysctl],
    [2880, STRUCT.sysctl],
    [1248, STRUCT.domctl],
  ],
  /** What the configuration says of CPUID on top. @xen xc_cpuid_xend_policy */
  cpuidOwn: [
    [STRUCT.domctl],
    [STRUCT.sysctl],
    [2880, STRUCT.domctl],
    [2880, STRUCT.sysctl],
    [2880, STRUCT.sysctl],
    [1248, STRUCT.domctl],
  ],
  capabilities: [[1024]],
  domctl: [[STRUCT.domctl]],
  claim: [[32, STRUCT.memoryCall]],
  pin: [[24]],
  setContext: [[5168, STRUCT.domctl]],
  debugKeys: [[1, STRUCT.sysctl]],
} as const satisfies Record<string, readonly (readonly number[])[]>;
export type OtherCall = keyof typeof CALLS;

export class HypercallBuffers {
  private total = 0;
  private current = 0;
  private most = 0;
  private cached = 0;
  private hits = 0;
  private misses = 0;
  private tooBig = 0;

  /** One call with these buffers, in bytes. */
  call(...bytes: readonly number[]): void {
    for (const n of bytes) this.take(n);
    for (const n of bytes) this.drop(n);
  }

  other(name: OtherCall): void {
    for (const buffers of CALLS[name]) this.call(...buffers);
  }

  /** @xen libxl_list_domain: until there are no more */
  domainList(domains: number): void {
    this.call(LIST_MAX * STRUCT.domainInfo, STRUCT.sysctl);
    for (let i = 0; i < domains; i++) this.call(...LABEL);
    this.call(LIST_MAX * STRUCT.domainInfo, STRUCT.sysctl);
  }

  /** Asks for as much as it got last, until nothing comes. @xen libxl_xen_console_read_line */
  consoleRing(chars: number): void {
    for (let left = chars, want = RING_READ; ; ) {
      this.call(want, STRUCT.sysctl);
      const got = Math.min(want, left);
      if (got === 0) break;
      left -= got;
      want = got;
    }
  }

  /** `n` parameters of an HVM guest. @xen xc_hvm_param_set */
  hvmParams(n: number): void {
    for (let i = 0; i < n; i++) this.call(HVM_PARAM);
  }

  label(): void {
    this.call(...LABEL);
  }

  private take(bytes: number): void {
    this.total += 1;
    this.current += 1;
    this.most = Math.max(this.most, this.current);
    if (bytes + HEADER > PAGE) this.tooBig += 1;
    else if (this.cached > 0) {
      this.cached -= 1;
      this.hits += 1;
    } else this.misses += 1;
  }

  private drop(bytes: number): void {
    this.current -= 1;
    if (bytes + HEADER <= PAGE && this.cached < CACHE_MAX) this.cached += 1;
  }

  statistics(): string {
    const line = (text: string) => `xencall:buffer: debug: ${text}\n`;
    return (
      line(`total allocations:${this.total} total releases:${this.total}`) +
      line(`current allocations:${this.current} maximum allocations:${this.most}`) +
      line(`cache current size:${this.cached}`) +
      line(`cache hits:${this.hits} misses:${this.misses} toobig:${this.tooBig}`)
    );
  }
}
