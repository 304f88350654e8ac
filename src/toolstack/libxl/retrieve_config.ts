/** A domain's configuration as it is by now. @xen tools/libs/light/libxl_domain.c libxl_retrieve_domain_configuration */
import { loadConfig } from './config_store.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { AO } from './lines_event.js';
import { samePci } from './pci_sysfs.js';
import { pciList } from './pci_xenstore.js';
import type { DomainConfig } from './types.js';

/** Undefined for a domain without a stored configuration, as dom0 is one. */
export function retrieveConfig(lx: Libxl, domid: number): DomainConfig | undefined {
  const config = loadConfig(lx, domid);
  if (config === undefined) return undefined;
  lx.event.begin(AO.retrieve, domid);
  const ev = lx.event.qmp(domid);
  countCalls(lx);
  mergeDevices(lx, domid, config);
  lx.event.qmpDispose(ev);
  lx.event.end(0);
  return config;
}

/** The lock, and what of the domain Xen is asked for. */
function countCalls({ xc }: Libxl): void {
  xc.countLock();
  for (const label of [false, true, true, false, true, false]) xc.countFind(label);
  xc.buffers.other('cpupool');
  xc.buffers.other('domctl');
}

/** The store has the devices that the domain has left; there is nothing that only the store has. */
function mergeDevices(lx: Libxl, domid: number, config: DomainConfig): void {
  const none = (kind: string): void => lx.log.debug(DOMAIN.noneStored, `No ${kind} from xenstore`, domid);
  if (config.disks.length === 0) none('vbd');
  if (config.nics.length === 0) none('vif');
  for (const kind of ['vtpm', 'vusb', 'vusb']) none(kind);
  const pcidevs = pciList(lx, domid) ?? [];
  if (pcidevs.length === 0) none('pci');
  for (const p of [...config.pcidevs]) {
    if (pcidevs.some((x) => samePci(x, p))) continue;
    lx.log.warn(DOMAIN.notStored, 'Device present in JSON but not in xenstore, ignored', domid);
    config.pcidevs.splice(config.pcidevs.indexOf(p), 1);
  }
  for (const kind of ['vdispl', 'vsnd']) none(kind);
}
