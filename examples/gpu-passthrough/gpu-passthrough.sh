#!/usr/bin/env -S xpsim run
# GPU passthrough on Xen, from the first command to the last DMA.
# The host has an NVIDIA GPU at 01:00.0 and its audio function at 01:00.1, both used by dom0.
lspci | grep -i vga
xl info | grep -E 'xen_version|virt_caps|xen_commandline'

# --- 1. Hiding the GPU by boot option ---
# The module is called xen-pciback, so the kernel knows nobody to give pciback.hide= to:
reboot --linux "pciback.hide=(01:00.0)(01:00.1)"
ls -l /sys/bus/pci/devices/0000:01:00.0/driver
xl pci-assignable-list
# With the right name, pciback has the GPU before nouveau looks for one:
reboot --linux "xen-pciback.hide=(01:00.0)(01:00.1)"
dmesg | grep -E 'seizing|backend'
xl pci-assignable-list

# --- 2. Hiding the GPU by hand ---
reboot
ls -l /sys/bus/pci/devices/0000:01:00.0/driver
echo -n 0000:01:00.0 > /sys/bus/pci/drivers/nouveau/unbind
# pciback takes only what a slot names:
echo -n 0000:01:00.0 > /sys/bus/pci/drivers/pciback/bind # exits 1
echo -n 0000:01:00.0 > /sys/bus/pci/drivers/pciback/new_slot
echo -n 0000:01:00.0 > /sys/bus/pci/drivers/pciback/bind
ls -l /sys/bus/pci/devices/0000:01:00.0/driver
# Both functions by xl, which also gives them to the quarantine domain d[IO]:
xl pci-assignable-add 01:00.0
xl pci-assignable-add 01:00.1
xl pci-assignable-list
iommu show 01:00.0 01:00.1

# --- 3. The guest of the guide ---
# gfx_passthru=1 works with Intel's graphics only; qemu-xen cannot tell what kind this is:
cat gpu-vm.cfg
xl create gpu-vm.cfg # exits 3
xl pci-assignable-list

# --- 4. The configuration that works ---
cat gpu-vm-works.cfg
xl create gpu-vm-works.cfg
xl create other.cfg
xl list
xl pci-list gpu-vm

# --- 5. Inside the guest ---
guest gpu-vm -- lspci | grep -i vga
guest gpu-vm -- lsmod | grep nvidia
guest gpu-vm -- glxinfo | grep -i opengl

# --- 6. What the IOMMU holds, and what the GPU's DMA can reach ---
iommu show 01:00.0 01:00.1
# Memory of its own guest:
dma 01:00.0 write 0x40000000 256
# Memory of dom0, of Xen and of the other guest:
dma 01:00.0 write @dom0 # exits 1
dma 01:00.0 read @xen # exits 1
dma 01:00.0 write @other # exits 1
xl dmesg | grep DMAR | tail -6
# A phantom function of the GPU, that Xen was not told of:
dma 01:00.0 --rid 01:00.4 write 0x40000000 # exits 1
xl dmesg | grep DMAR | tail -2

# --- 7. The end of the guest ---
# QEMU has given the interrupts back when libxl 4.18 tries to: two lines that do no harm.
xl destroy gpu-vm
xl list
xl pci-assignable-list
iommu show 01:00.0 01:00.1
# A DMA that comes late:
setpci -s 01:00.0 COMMAND=6
dma 01:00.0 write 0x40000000 # exits 1
xl dmesg | grep DMAR | tail -2

# --- 8. A device with phantom functions that Xen knows ---
reboot --xen "iommu=1 pci-phantom=02:00,1"
xl pci-assignable-add 02:00.0
xl create nic-vm.cfg
dma 02:00.0 --rid 02:00.1 write 0x10000000
iommu show 02:00.0 02:00.1
xl destroy nic-vm
