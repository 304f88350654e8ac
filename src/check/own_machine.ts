/** A machine that somebody owns, read from its dump, as one that random histories can move the devices of. */
import { InputError } from '../base/assert.js';
import { busOf, devfn, funcOf, type Sbdf, sbdf, sbdfOf, segOf } from '../base/sbdf.js';
import type { HostDescription } from '../inputs/host_description.js';
import { type DeviceScope, parseDmar } from '../iommu/format/dmar.js';
import { IVHD_DEV, IVMD_TYPE, parseIvrs } from '../iommu/format/ivrs.js';
import { type MachineSpec, optionsOf, type TestDevice, type TestMachine } from './machines.js';

/** Devices that one history moves: a window of them, which `slots` of the random machine would have made. */
const WINDOW = 8;
const CLASS_BRIDGE = 0x06;
const CLASS_IOMMU = 0x0806;
const PCIE = 0x10;
const PCIE_TO_PCI = 7;
/** Capabilities of the unit where the host says nothing of them. */
const CAP_CM = 0x80;
const CAP_ND = 0x7;

interface Fn {
  readonly sbdf: Sbdf;
  readonly config: Uint8Array;
  /** Offset of the PCI Express capability, 0 for a conventional device. */
  readonly pcie: number;
  readonly isBridge: boolean;
}

const byte = (f: Uint8Array, at: number): number => f[at] ?? 0;

function pcieOf(config: Uint8Array): number {
  if ((byte(config, 6) & 0x10) === 0) return 0;
  let at = byte(config, 0x34) & 0xfc;
  for (let hops = 0; at >= 0x40 && hops < 48; hops++) {
    if (byte(config, at) === PCIE) return at;
    at = byte(config, at + 1) & 0xfc;
  }
  return 0;
}

const functionsOf = (host: HostDescription): Fn[] =>
  host.functions.map(({ sbdf: at, config }) => ({
    sbdf: at,
    config,
    pcie: pcieOf(config),
    isBridge: (byte(config, 0x0e) & 0x7f) === 1,
  }));

const typeOf = (f: Fn): number => (byte(f.config, f.pcie + 2) >>> 4) & 15;
const secondaryOf = (f: Fn): number => byte(f.config, 0x19);

const bridgeTo = (all: readonly Fn[], seg: number, bus: number): Fn | undefined =>
  all.find((f) => f.isBridge && segOf(f.sbdf) === seg && secondaryOf(f) === bus && bus !== 0);

/** Ids that a conventional device shares with what else is behind its topmost conventional bridge. */
function sharedBy(all: readonly Fn[], at: Sbdf): Sbdf[] {
  const seg = segOf(at);
  let shared: Sbdf[] = [];
  let bus = busOf(at);
  for (let hops = 0; hops < 256; hops++) {
    const bridge = bridgeTo(all, seg, bus);
    if (bridge === undefined || (bridge.pcie !== 0 && typeOf(bridge) !== PCIE_TO_PCI)) break;
    shared = bridge.pcie !== 0 ? [bridge.sbdf, sbdf(seg, bus, 0, 0)] : [bridge.sbdf];
    bus = busOf(bridge.sbdf);
  }
  return shared;
}

function strideOf(f: Fn): number {
  const bits = f.pcie === 0 ? 0 : (byte(f.config, f.pcie + 4) >>> 3) & 3;
  const stride = bits === 0 ? 0 : 8 >> bits;
  return funcOf(f.sbdf) < stride ? stride : 0;
}

/** The function that a path of a device scope leads to. */
function scoped(all: readonly Fn[], seg: number, s: DeviceScope): Sbdf {
  let bus = s.startBus;
  for (const hop of s.path.slice(0, -1)) {
    const bridge = all.find((f) => f.sbdf === sbdf(seg, bus, hop.dev, hop.fn));
    bus = bridge === undefined ? bus : secondaryOf(bridge);
  }
  const last = s.path.at(-1)!;
  return sbdfOf(seg, bus * 256 + devfn(last.dev, last.fn));
}

/** Devices that firmware gives ranges of memory, or another requester id: what they reach is not their owner's alone. */
function special(host: HostDescription, all: readonly Fn[]): (at: Sbdf) => boolean {
  const named = new Set<number>();
  let everything = false;
  if (host.dmar !== undefined)
    for (const s of parseDmar(host.dmar).structures)
      if (s.kind === 'rmrr') for (const scope of s.scopes) named.add(scoped(all, s.segment, scope));
  const ranges: [number, number][] = [];
  if (host.ivrs !== undefined) {
    for (const b of parseIvrs(host.ivrs).blocks) {
      if (b.kind === 'ivmd') {
        everything ||= b.type === IVMD_TYPE.ALL;
        if (b.type === IVMD_TYPE.ONE) named.add(b.deviceId);
        if (b.type === IVMD_TYPE.RANGE) ranges.push([b.deviceId, b.auxData]);
      }
      if (b.kind !== 'ivhd') continue;
      for (const [i, e] of b.entries.entries()) {
        const id = sbdfOf(b.segment, e.id);
        if (e.type === IVHD_DEV.ALIAS_SELECT) named.add(id);
        if (e.type === IVHD_DEV.ALIAS_START)
          ranges.push([id, sbdfOf(b.segment, b.entries[i + 1]?.id ?? 0xffff)]);
      }
    }
  }
  return (at) => everything || named.has(at) || ranges.some(([a, z]) => at >= a && at <= z);
}

/** Segments that units serve. An IVMD is of segment 0. */
function servedSegments(host: HostDescription): ReadonlySet<number> {
  const vtd = host.dmar === undefined ? [] : parseDmar(host.dmar).structures;
  const amd = host.ivrs === undefined ? [] : parseIvrs(host.ivrs).blocks;
  return new Set([
    ...vtd.flatMap((s) => (s.kind === 'drhd' ? [s.segment] : [])),
    ...amd.flatMap((b) => (b.kind === 'ivhd' ? [b.segment] : [])),
  ]);
}

/** Every function behind a unit that can be given away and is not special. */
function movable(host: HostDescription): TestDevice[] {
  const all = functionsOf(host);
  const isSpecial = special(host, all);
  const served = servedSegments(host);
  const strides = new Map(all.map((f) => [f.sbdf, strideOf(f)]));
  const collides = (f: Fn): boolean =>
    strides.get(f.sbdf) !== 0 && all.some((o) => o !== f && o.sbdf >>> 3 === f.sbdf >>> 3);
  return all.flatMap((f) => {
    const { config } = f;
    const isOther =
      !served.has(segOf(f.sbdf)) ||
      (byte(config, 0x0e) & 0x7f) !== 0 ||
      byte(config, 0x0b) === CLASS_BRIDGE ||
      byte(config, 0x0b) * 256 + byte(config, 0x0a) === CLASS_IOMMU;
    const conventional = f.pcie === 0;
    const sharedRids = sharedBy(all, f.sbdf);
    if (isOther || isSpecial(f.sbdf) || (!conventional && sharedRids.length > 0) || collides(f)) return [];
    return [
      {
        sbdf: f.sbdf,
        conventional,
        sharedRids: conventional ? sharedRids : [],
        stride: strides.get(f.sbdf)!,
      },
    ];
  });
}

/** Sixteen frames below 4 GiB that no range of memory covers. */
function holeOf(host: HostDescription): number {
  const taken = (frame: number): boolean =>
    host.e820.some((r) => r.start < (frame + 16) * 4096 && frame * 4096 < r.end);
  let frame = 0xc_0000;
  while (taken(frame) && frame < 0xf_e000) frame += 16;
  return frame;
}

/**
 * The devices of `host` that histories may move, and Xen's options of `spec` behind those of the host itself. Devices
 * with reserved ranges, behind no unit, or with an id that firmware replaces stay with dom0.
 * @throws InputError when none is left
 */
export function layOutHost(host: HostDescription, spec: MachineSpec): TestMachine {
  const all = movable(host);
  if (all.length === 0)
    throw new InputError(
      host.name,
      '',
      'no device of it can be given away',
      'it needs endpoints behind a unit, without reserved ranges',
    );
  const first = (spec.first ?? 0) % all.length;
  const devices = [...all.slice(first), ...all.slice(0, first)].slice(0, WINDOW);
  const caps = (host.vtdUnits ?? []).map((u) => u.cap?.[0] ?? 0);
  const of: MachineSpec = {
    ...spec,
    vendor: host.ivrs === undefined ? 'vtd' : 'amd',
    cachingMode: caps.some((c) => (c & CAP_CM) !== 0),
    fewIds: caps.some((c, i) => host.vtdUnits![i]!.cap !== undefined && (c & CAP_ND) < 6),
    reserved: -1,
  };
  return {
    spec: of,
    host,
    devices,
    reserved: undefined,
    mmioFirst: holeOf(host),
    cmdline: `${host.xenCmdline ?? ''} ${optionsOf(of)}`.trim(),
  };
}
