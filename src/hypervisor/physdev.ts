/** PHYSDEVOP_*: dom0's kernel tells Xen of devices and interrupts. @xen arch/x86/physdev.c, drivers/pci/physdev.c */
import { panic } from '../base/assert.js';
import { E, type Rc } from '../base/errno.js';
import { sbdfOf } from '../base/sbdf.js';
import { type Co, hold } from '../sim/co.js';
import type { Domain } from './domain.js';
import { pciRestoreMsiState } from './irq/msi.js';
import { pciAddDevice, pciRemoveDevice } from './passthrough/device_add.js';
import { pciGetPdev } from './passthrough/segment.js';
import { vpciResetDevice } from './passthrough/vpci.js';
import { allocateAndMapGsiPirq, allocateAndMapMsiPirq, type MsiInfo, unmapDomainPirq } from './pirq.js';
import { PCI_DEV_FLAG, type PhysdevOp } from './public/physdev.js';
import type { Xen } from './xen.js';

type MapOp = Extract<PhysdevOp, { cmd: 'map_pirq' }>;
type AddOp = Extract<PhysdevOp, { cmd: 'pci_device_add' }>;
type ResetOp = Extract<PhysdevOp, { cmd: 'pci_device_reset' }>;
type DeviceOp = Extract<
  PhysdevOp,
  { cmd: 'pci_device_remove' | 'prepare_msix' | 'release_msix' | 'restore_msi_ext' }
>;

/** NUMA_NO_NODE; the simulated machines have one node. */
const NO_NODE = -1;
/** @xen DOMID_SELF */
const DOMID_SELF = 0x7ff0;

/** @xen do_physdev_op */
export function* physdevOp(xen: Xen, op: PhysdevOp): Co<Rc> {
  const rc = yield* dispatch(xen, op);
  if (xen.events.on) xen.events.emit({ kind: 'hypercall', op: `physdev:${op.cmd}`, args: op, rc });
  return rc;
}

function* dispatch(xen: Xen, op: PhysdevOp): Co<Rc> {
  switch (op.cmd) {
    case 'pci_device_add':
      return yield* deviceAdd(xen, op);
    case 'pci_device_remove':
      return yield* pciRemoveDevice(xen, op.seg, op.bus, op.devfn);
    case 'prepare_msix':
    case 'release_msix':
      return yield* prepareMsix(xen, op);
    case 'restore_msi_ext':
      return yield* restoreMsi(xen, op);
    case 'pci_device_reset':
      return yield* deviceReset(xen, op);
    case 'map_pirq':
      return yield* mapPirq(xen, op);
    case 'unmap_pirq':
      return yield* unmapPirq(xen, op.domid, op.pirq);
    case 'setup_gsi':
      if (!privileged(xen)) return E.PERM;
      return xen.irqs.ioApic === undefined
        ? 0
        : yield* xen.irqs.ioApic.registerGsi(xen.irqs, op.gsi, op.triggering === 1);
    default:
      return E.NOSYS;
  }
}

/** @xen PHYSDEVOP_pci_device_add */
function* deviceAdd(xen: Xen, op: AddOp): Co<Rc> {
  const isVirtfn = (op.flags & PCI_DEV_FLAG.VIRTFN) !== 0;
  const info = {
    isExtfn: (op.flags & PCI_DEV_FLAG.EXTFN) !== 0,
    isVirtfn,
    physfn: (isVirtfn ? op.physfn : undefined) ?? { bus: 0, devfn: 0 },
  };
  return yield* pciAddDevice(xen, op.seg, op.bus, op.devfn, info, NO_NODE);
}

const domainByAnyId = (xen: Xen, domid: number): Domain | undefined =>
  xen.domains.get(domid === DOMID_SELF ? xen.cpus.current.domid : domid);

/** Only the hardware domain acts for others. @xen XSM_DM_PRIV, XSM_PRIV */
const privileged = (xen: Xen): boolean => xen.cpus.current.domid === xen.hwdom.domid;

/** @returns 0 with `op.pirq` set, -ESRCH, -EPERM, -EINVAL, -ENODEV and others. @xen physdev_map_pirq */
function* mapPirq(xen: Xen, op: MapOp): Co<Rc> {
  const d = domainByAnyId(xen, op.domid);
  const me = domainByAnyId(xen, DOMID_SELF);
  if (d === undefined || me === undefined) return E.SRCH;
  if (!privileged(xen)) return E.PERM;
  const pirq =
    op.type === 'gsi' ? allocateAndMapGsiPirq(xen, me, d, op.index, op.pirq) : yield* mapMsi(xen, me, d, op);
  if (pirq < 0) return pirq;
  op.pirq = pirq;
  return 0;
}

function* mapMsi(xen: Xen, me: Domain, d: Domain, op: MapOp): Co<number> {
  const multi = op.type === 'multi_msi';
  const seg = op.type === 'msi' ? 0 : (op.bus ?? 0) >>> 16;
  const msi: MsiInfo = {
    sbdf: sbdfOf(seg, (((op.bus ?? 0) & 0xff) << 8) | (op.devfn ?? 0)),
    entryNr: op.entryNr ?? 0,
    multi,
    msix: !multi && op.entryNr !== undefined,
  };
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return yield* allocateAndMapMsiPirq(xen, me, d, op.index, op.pirq, msi);
}

/** @returns 0, -ESRCH, -EPERM or -EINVAL. @xen physdev_unmap_pirq */
function* unmapPirq(xen: Xen, domid: number, pirq: number): Co<Rc> {
  const d = domainByAnyId(xen, domid);
  if (d === undefined) return E.SRCH;
  if (!privileged(xen)) return E.PERM;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  return yield* unmapDomainPirq(xen, d, pirq);
}

/** Xen keeps the MSI-X table of a device that dom0 hands out. @returns 0, -EPERM, -ENODEV, -EBUSY. @xen pci_prepare_msix */
function* prepareMsix(xen: Xen, op: DeviceOp): Co<Rc> {
  if (!privileged(xen)) return E.PERM;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = pciGetPdev(xen, undefined, sbdfOf(op.seg, (op.bus << 8) | op.devfn));
  if (pdev?.msix === undefined) return E.NODEV;
  const off = op.cmd === 'release_msix';
  if (pdev.msix.usedEntries !== (off ? 1 : 0)) return E.BUSY;
  pdev.msix.usedEntries = off ? 0 : 1;
  return 0;
}

/** @xen PHYSDEVOP_restore_msi_ext */
function* restoreMsi(xen: Xen, op: DeviceOp): Co<Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = pciGetPdev(xen, undefined, sbdfOf(op.seg, (op.bus << 8) | op.devfn));
  return pdev === undefined ? E.NODEV : yield* pciRestoreMsiState(xen, pdev);
}

/** Bits 1:0 say which reset it was; vPCI does the same for all. @xen PCI_DEVICE_RESET_MASK */
const RESET_KINDS = 3;

/** What Xen remembers of a device's configuration space is made anew. @xen PHYSDEVOP_pci_device_reset */
function* deviceReset(xen: Xen, op: ResetOp): Co<Rc> {
  if (!xen.seams.knowsDeviceReset()) return E.NOSYS;
  if ((op.flags & ~RESET_KINDS) !== 0) return E.INVAL;
  if (!privileged(xen)) return E.PERM;
  using _pcidevs = yield* hold(xen.pcidevsLock);
  const pdev = pciGetPdev(xen, undefined, sbdfOf(op.seg, (op.bus << 8) | op.devfn));
  if (pdev === undefined) return E.NODEV;
  // Xen takes a lock of the owner, which a device that could not be added does not have.
  if (pdev.domain === undefined) panic('FATAL PAGE FAULT');
  return yield* vpciResetDevice(xen, pdev, pdev.domain);
}
