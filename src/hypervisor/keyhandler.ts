/** The console keys that `xl debug-keys` sends. @xen common/keyhandler.c */
import { E, type Rc } from '../base/errno.js';
import type { Co } from '../sim/co.js';
import { dumpDomains, dumpEventChannels } from './domain_dump.js';
import { dumpIrqs, dumpMsi } from './irq/dump.js';
import { dumpPciDevices } from './passthrough/dump.js';
import { dumpIommuInfo, dumpIommuPageTables } from './passthrough/iommu.js';
import type { Xen } from './xen.js';

/** Each key in turn; unknown ones say nothing. Longer than 1 KiB is refused as Xen's buffer would. */
export function* handleKeys(xen: Xen, keys: string): Co<Rc> {
  if (keys.length > 1024) return E.TOOBIG;
  for (const key of keys) {
    switch (key) {
      case 'Q':
        yield* dumpPciDevices(xen);
        break;
      case 'M':
        dumpMsi(xen);
        break;
      case 'i':
        dumpIrqs(xen);
        break;
      case 'V':
        yield* dumpIommuInfo(xen);
        break;
      case 'o':
        yield* dumpIommuPageTables(xen);
        break;
      case 'q':
        dumpDomains(xen);
        break;
      case 'e':
        dumpEventChannels(xen);
        break;
      case 'm':
        dumpMemory(xen);
        break;
      case 'h':
        showHelp(xen);
        break;
      default:
        break;
    }
  }
  return 0;
}

/** Key 'm'. @xen common/page_alloc.c pagealloc_info */
function dumpMemory(xen: Xen): void {
  const print = (text: string): void => xen.console.printAlways(text);
  print('Physical memory information:');
  print('    Xen heap: 0kB free');
  for (const [zone, frames] of xen.heap.freeByZone())
    print(`    heap[${String(zone).padStart(2, '0')}]: ${frames * 4}kB free`);
  print(`    Dom heap: ${xen.heap.freeFrames * 4}kB free`);
}

/** @xen show_handlers */
function showHelp(xen: Xen): void {
  xen.console.printAlways("'h' pressed -> showing installed handlers");
  for (const [key, what] of [
    ['M', 'dump MSI state'],
    ['Q', 'dump PCI devices'],
    ['V', 'dump iommu info'],
    ['e', 'dump evtchn info'],
    ['h', 'show this message'],
    ['i', 'dump interrupt bindings'],
    ['m', 'memory info'],
    ['o', 'dump iommu page tables'],
    ['q', 'dump domain (and guest debug) info'],
  ] as const) {
    xen.console.printAlways(` key '${key}' (ascii '${key.charCodeAt(0).toString(16)}') => ${what}`);
  }
}
