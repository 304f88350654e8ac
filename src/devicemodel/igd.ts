/**
 * An Intel display as the guest's first one: legacy VGA ranges, and the firmware's OpRegion.
 * QEMU 7.2, hw/xen/xen_pt_graphics.c. The video BIOS is taken to be there, as dom0 sees it in the shadow at 0xc0000.
 */
import { type Sbdf, sbdf } from '../base/sbdf.js';
import type { Co } from '../sim/co.js';
import type { QemuHost } from './environment.js';
import { memoryMapping } from './memory_map.js';

/** The only place where QEMU looks for it. */
export const IGD_SBDF: Sbdf = sbdf(0, 0, 2, 0);
/** Config register with the address of the OpRegion. */
export const OPREGION = 0xfc;

const PAGE = 4096;
const OPREGION_PAGES = 3;
const VGA_PORTS: readonly (readonly [number, number])[] = [
  [0x3b0, 0xc],
  [0x3c0, 0x20],
];
const VGA_FRAMES = { first: 0xa0, count: 0x20 } as const;

/** Maps or unmaps the legacy VGA ranges, up to the first that fails: 0 or a negative errno. */
export function* mapVga(dom0: QemuHost, domid: number, add: boolean): Co<number> {
  for (const [port, nrPorts] of VGA_PORTS) {
    const rc = yield* dom0.hv.domctl({
      cmd: 'ioport_mapping',
      domid,
      firstGport: port,
      firstMport: port,
      nrPorts,
      add,
    });
    if (rc < 0) return rc;
  }
  const { first, count } = VGA_FRAMES;
  return yield* memoryMapping(dom0, domid, first, first, count, add);
}

/** The OpRegion of the host, seen where the guest's firmware wants it. */
export class Opregion {
  private host = 0;
  private guest = 0;
  constructor(
    private readonly dom0: QemuHost,
    private readonly domid: number,
  ) {}

  read(): number {
    return this.guest;
  }

  /** The first write maps it; later ones are ignored. `host` is the register of the device. */
  *write(value: number, host: number): Co<void> {
    if (this.guest !== 0) return;
    const { dom0, domid } = this;
    const [guest, first] = [Math.floor(value / PAGE), Math.floor(host / PAGE)];
    const allowed = yield* dom0.hv.domctl({
      cmd: 'iomem_permission',
      domid,
      firstMfn: first,
      nrMfns: OPREGION_PAGES,
      allow: true,
    });
    if (allowed < 0) return;
    if ((yield* memoryMapping(dom0, domid, guest, first, OPREGION_PAGES, true)) < 0) return;
    this.host = host;
    this.guest = guest * PAGE + (host % PAGE);
  }

  *unmap(): Co<void> {
    if (this.guest === 0) return;
    const [guest, first] = [Math.floor(this.guest / PAGE), Math.floor(this.host / PAGE)];
    yield* memoryMapping(this.dom0, this.domid, guest, first, OPREGION_PAGES, false);
  }
}
