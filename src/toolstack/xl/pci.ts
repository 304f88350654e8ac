/** pci-attach and its relatives. @xen tools/xl/xl_pci.c */

import { hex } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import { devicePciAdd } from '../libxl/pci_add.js';
import { pciAssignableAdd, pciAssignableList, pciAssignableRemove } from '../libxl/pci_assignable.js';
import { devicePciRemove } from '../libxl/pci_remove.js';
import { bdfText } from '../libxl/pci_sysfs.js';
import { pciList } from '../libxl/pci_xenstore.js';
import { makePci } from '../libxl/schema.js';
import { type DevicePci, ERROR } from '../libxl/types.js';
import { xluPciParseBdf, xluPciParseSpecString } from '../xlu/pci.js';
import type { Xl } from './context.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';

/** What a shell reports of a process that died of SIGSEGV. */
const SEGFAULT = 139;

export function* mainPciList(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'pci-list', 1);
  const list = pciList(xl.lx, yield* findDomain(xl, args[0]!));
  if (list === undefined) return 0;
  xl.out('Vdev Device\n');
  for (const p of list) {
    const vdev = `${hex((p.vdevfn >> 3) & 0x1f, 2)}.${(p.vdevfn & 7).toString(16)}`;
    xl.out(`${vdev} ${bdfText(p)}\n`);
  }
  return 0;
}

/** The device that a specification names, or undefined after the complaint. */
function parseSpec(xl: Xl, command: string, text: string): DevicePci | undefined {
  const p = makePci();
  if (xluPciParseSpecString(p, text, (t) => xl.err(t)) === 0) return p;
  xl.err(`${command}: malformed PCI_SPEC_STRING "${text}"\n`);
  return undefined;
}

export function* mainPciAttach(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'pci-attach', 2);
  const domid = yield* findDomain(xl, args[0]!);
  const p = parseSpec(xl, 'pci-attach', args[1]!);
  if (p === undefined) return 2;
  return (yield* devicePciAdd(xl.lx, domid, p)) === 0 ? 0 : 1;
}

export function* mainPciDetach(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'f', {}, 'pci-detach', 2);
  const domid = yield* findDomain(xl, args[0]!);
  const p = parseSpec(xl, 'pci-detach', args[1]!);
  if (p === undefined) return 2;
  return (yield* devicePciRemove(xl.lx, domid, p, flags.length > 0)) === 0 ? 0 : 1;
}

export function mainPciAssignableList(xl: Xl, argv: readonly string[]): number {
  const { flags } = getOptions(xl, argv, 'n', { 'show-names': 'n' }, 'pci-assignable-list', 0);
  for (const p of pciAssignableList(xl.lx) ?? []) {
    xl.out(`${bdfText(p)} ${flags.length > 0 ? (p.name ?? '') : ''}\n`);
  }
  return 0;
}

/** Only the first argument counts, and of it only what stands before and in the function number. */
export function* mainPciAssignableAdd(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'n:', { name: 'n' }, 'pci-assignable-add', 1);
  const p = makePci();
  const rc = xluPciParseBdf(p, args[0]!);
  if (rc === 'crash') return SEGFAULT;
  if (rc !== 0) {
    xl.err(`pci-assignable-add: malformed BDF "${args[0]}"\n`);
    return 2;
  }
  p.name = flags[flags.length - 1]?.arg;
  return (yield* pciAssignableAdd(xl.lx, p, true)) === 0 ? 0 : 1;
}

export function* mainPciAssignableRemove(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'r', {}, 'pci-assignable-remove', 1);
  const rebind = flags.length > 0;
  const p = makePci();
  p.name = args[0];
  let rc = yield* pciAssignableRemove(xl.lx, p, rebind);
  if (rc !== ERROR.NOTFOUND) return rc === 0 ? 0 : 1;
  p.name = undefined;
  const parsed = xluPciParseBdf(p, args[0]!);
  if (parsed === 'crash') return SEGFAULT;
  if (parsed !== 0) {
    xl.err(`pci-assignable-remove: malformed BDF '${args[0]}'\n`);
    return 2;
  }
  rc = yield* pciAssignableRemove(xl.lx, p, rebind);
  return rc === 0 ? 0 : 1;
}
