/** Loading xen-pciback: what `hide=` names is seized before other drivers look at it. @linux pcistub_init */
import type { Co } from '../../sim/co.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { XenstoreDaemon } from '../xenstore/store.js';
import { BackendBus } from './backend.js';
import { expand, moduleParameter, parseHide } from './slots.js';
import { Pciback } from './stub.js';

export type PcibackKind = 'module' | 'builtin' | 'none';

/**
 * Both kinds come before the drivers of the devices: one is built in, the other stands in the initramfs. Both are named
 * xen_pciback, so `xen-pciback.hide=` reaches them and `pciback.hide=` nobody. Undefined when loading failed.
 */
export function* loadPciback(
  kernel: Dom0Kernel,
  cmdline: string,
  kind: 'module' | 'builtin',
): Co<Pciback | undefined> {
  const hide = moduleParameter(cmdline, 'xen_pciback', 'hide');
  const stub = new Pciback(kernel, kind === 'module' ? 'xen_pciback' : undefined, hide);
  const { errorAt, slots } = parseHide(hide ?? '');
  if (errorAt !== undefined) {
    kernel.log.error(`xen_pciback: Error parsing pci_devs_to_hide at "${errorAt}"`);
    return undefined;
  }
  for (const slot of slots) stub.ids.push(...(expand(slot) ?? []));
  if (kind === 'module') kernel.modules.push('xen_pciback');
  yield* kernel.core.register(stub);
  return stub;
}

/** The second half, once the other drivers are there. @linux xen_pcibk_init */
export function* startPciback(kernel: Dom0Kernel, xs: XenstoreDaemon, stub: Pciback): Co<BackendBus> {
  yield* stub.initLate();
  kernel.log.info('xen_pciback: backend is vpci');
  const bus = new BackendBus({ xs, kernel, stub });
  bus.start();
  return bus;
}
