/** What QEMU's q35 tells software of hot-plug slots, and what virtual functions of its NVMe controller hold. */
import { busOf, devfnOf } from '../../base/sbdf.js';
import type { FunctionDescription, PhysicalSlot } from '../../inputs/host_description.js';

const SLOTS = 32;
const VGA = 0x0300;
const PCI_EXPRESS = 0x10;
const MSIX = 0x11;

const word = (f: FunctionDescription, at: number): number => f.config[at]! + f.config[at + 1]! * 256;
const isBridge = (f: FunctionDescription): boolean => (f.config[0x0e]! & 0x7f) === 1;

function capability(f: FunctionDescription, id: number): number {
  let at = f.config[0x34]!;
  for (let n = 0; n < 48 && at >= 0x40; n++) {
    if (f.config[at] === id) return at;
    at = f.config[at + 1]!;
  }
  return 0;
}

/** Root ports, both kinds of ports of switches, and bridges from conventional PCI: what is behind is PCI Express. */
function leadsToExpress(bridge: FunctionDescription): boolean {
  const at = capability(bridge, PCI_EXPRESS);
  const type = at === 0 ? -1 : (word(bridge, at + 2) >>> 4) & 15;
  return type === 4 || type === 5 || type === 6 || type === 8;
}

/**
 * Slots of all buses behind bridges: each that is empty or whose function 0 can be unplugged, on PCI Express only
 * number 0 of the empty ones.
 * @see QEMU hw/i386/acpi-build.c build_append_pci_bus_devices, hw/acpi/pcihp.c acpi_pcihp_device_plug_cb
 */
export function q35Slots(functions: readonly FunctionDescription[]): PhysicalSlot[] {
  const bridges = functions.filter((f) => isBridge(f) && f.config[0x19] !== 0);
  const slots: { bus: number; device: number }[] = [];
  for (const bridge of bridges.sort((a, b) => a.config[0x19]! - b.config[0x19]!)) {
    const bus = bridge.config[0x19]!;
    const express = leadsToExpress(bridge);
    for (let device = 0; device < SLOTS; device++) {
      const first = functions.find((f) => busOf(f.sbdf) === bus && devfnOf(f.sbdf) === device * 8);
      // The tables stop at the first empty slot, whatever is behind it.
      if (first === undefined && express && device > 0) break;
      // Bridges stay, and so do displays: what they show of themselves at boot cannot be taken back.
      if (first === undefined || (!isBridge(first) && word(first, 0x0a) !== VGA)) slots.push({ bus, device });
    }
  }
  return named(slots);
}

/**
 * Names are numbers. Linux makes a slot for what firmware says and renames it when the hot-plug driver claims it: the
 * second one of a number is `N-1` first, and finds that taken, by itself, the next time.
 * @linux drivers/acpi/pci_slot.c register_slot, drivers/pci/slot.c pci_create_slot, make_slot_name
 */
function named(slots: readonly { bus: number; device: number }[]): PhysicalSlot[] {
  const used = new Map<number, number>();
  return slots.map(({ bus, device }) => {
    const before = used.get(device) ?? 0;
    used.set(device, before + 1);
    return { name: before === 0 ? `${device}` : `${device}-${before + 1}`, seg: 0, bus, device };
  });
}

/**
 * A virtual function of QEMU's NVMe controller has a pin, against the specification, and one entry in its MSI-X table
 * as long as nobody gave it interrupts of the shared ones. @see QEMU hw/nvme/ctrl.c nvme_init_pci, nvme_init_state
 */
export function withVirtualRegisters(f: FunctionDescription): FunctionDescription {
  const msix = capability(f, MSIX);
  if (word(f, 0) !== 0x1b36 || word(f, 2) !== 0x0010 || msix === 0) return f;
  const registers = [
    { offset: 0x3d, value: 1 },
    { offset: msix + 2, value: 0 },
    { offset: msix + 3, value: 0 },
  ];
  return { ...f, virtual: { ...f.virtual, registers } };
}
