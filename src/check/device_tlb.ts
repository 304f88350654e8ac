/** Devices that keep translations of their own (PCIe 10): what each of them has, and what it was told to forget. */
import { bdfOf, type Sbdf } from '../base/sbdf.js';
import type { Machine } from '../machine.js';
import type { PciHost } from '../pci/bus.js';
import type { TestDevice, Vendor } from './machines.js';

const EXT_CAP_ATS = 0x0f;
const ATS_CONTROL = 6;
const ATS_ENABLE = 0x8000;
/**
 * VT-d 6.5.2.5: type 3 in the low bits, the requester in bits 47:32. AMD 48882 2.4.4: opcode 4 in the high bits of the
 * second word, the requester in bits 15:0. Both have S in bit 64 and the address from bit 76 on.
 */
const VTD_INVALIDATES = 3;
const AMD_INVALIDATES = 4;

export class DeviceTlbs {
  /** Frames by bus frame, by requester id with its segment. */
  readonly kept = new Map<Sbdf, Map<number, number>>();

  /** A device asks where a page is, and keeps the answer: it does not ask again before it was told to forget. */
  ask(machine: Machine, device: TestDevice, dfn: number): number {
    const unit = machine.unitFor(device.sbdf);
    if (unit === undefined || !atsEnabled(machine, device)) return -1;
    const rid = device.sbdf;
    const mine = this.kept.get(rid) ?? new Map<number, number>();
    const known = mine.get(dfn);
    if (known !== undefined) return known;
    const mfn = unit.translationRequest(bdfOf(rid), dfn, false);
    if (mfn < 0) return mfn;
    this.kept.set(rid, mine);
    mine.set(dfn, mfn);
    return mfn;
  }

  /** A descriptor that unit number `unit` took from its queue. */
  hear(machine: Machine, unit: number, words: readonly number[], vendor: Vendor): void {
    const told =
      vendor === 'vtd' ? (words[0]! & 15) === VTD_INVALIDATES : words[1]! >>> 28 === AMD_INVALIDATES;
    if (!told) return;
    const mine = this.kept.get(machine.hw.idOn(unit, words[vendor === 'vtd' ? 1 : 0]! & 0xffff));
    if (mine === undefined) return;
    const [first, last] = framesOf(words[2]! >>> 0, words[3]! >>> 0);
    for (const dfn of mine.keys()) if (dfn >= first && dfn <= last) mine.delete(dfn);
  }

  /** A function whose ATS is off has forgotten everything when it is on again. */
  forgetDisabled(machine: Machine, devices: readonly TestDevice[]): void {
    for (const device of devices)
      if (this.kept.has(device.sbdf) && !atsEnabled(machine, device)) this.kept.delete(device.sbdf);
  }
}

/** With S, the lowest clear address bit above the page offset tells the size. */
function framesOf(low: number, high: number): [number, number] {
  let frame = high * 0x10_0000 + Math.floor(low / 4096);
  if (low % 2 === 0) return [frame, frame];
  let pages = 2;
  for (let rest = frame; rest % 2 === 1; rest = Math.floor(rest / 2)) pages *= 2;
  frame -= frame % pages;
  return [frame, frame + pages - 1];
}

export function atsEnabled(machine: Machine, device: TestDevice): boolean {
  const { pci } = machine.hw;
  const at = findExtended(pci, device.sbdf, EXT_CAP_ATS);
  return at !== 0 && (pci.configRead(device.sbdf, at + ATS_CONTROL, 2) & ATS_ENABLE) !== 0;
}

/** Where an extended capability is, 0 for nowhere. */
export function findExtended(pci: PciHost, of: Sbdf, id: number): number {
  for (let at = 0x100; at !== 0; ) {
    const header = pci.configRead(of, at, 4) >>> 0;
    if ((header & 0xffff) === id) return at;
    const next = header >>> 20;
    at = next > at ? next : 0;
  }
  return 0;
}
