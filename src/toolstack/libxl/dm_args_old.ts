/** The command line of qemu-xen-traditional (4.17 to 4.20). @xen libxl_dm.c libxl__build_device_model_args_old */
import { deviceModelOf, settled } from './defaults.js';
import { kbToMb, sdlOn, vncOf } from './dm_display.js';
import type { Libxl } from './libxl.js';
import { DM } from './lines_dm.js';
import { type DomainConfig, ERROR } from './types.js';
import { macText } from './vbd_vif.js';

/** The arguments, or ERROR_INVAL. Its only kind of graphics passthrough is Intel's, never checked. */
export function traditionalArgs(lx: Libxl, domid: number, d: DomainConfig): string[] | number {
  const b = d.bInfo;
  const { hvm } = b;
  const args = [deviceModelOf(lx, b), '-d', String(domid)];
  if (d.cInfo.name !== undefined) args.push('-domain-name', d.cInfo.name);
  const vnc = vncOf(d);
  if (vnc !== undefined) {
    const address = vnc.listen?.includes(':') ? vnc.listen : `${vnc.listen ?? '127.0.0.1'}:${vnc.display}`;
    args.push('-vnc', vnc.passwd ? `${address},password` : address);
    if (vnc.findunused ?? true) args.push('-vncunused');
  } else if (!sdlOn(d)) args.push('-nographic');
  if (sdlOn(d)) {
    args.push('-sdl');
    if (!hvm.sdl.opengl) args.push('-disable-opengl');
  }
  if (hvm.keymap !== undefined) args.push('-k', hvm.keymap);
  if (b.kernel !== undefined) {
    lx.log.error(DM.oldDirectBoot, 'HVM direct kernel boot is not supported by qemu-xen-traditional', domid);
    return ERROR.INVAL;
  }
  for (const port of hvm.serial !== undefined ? [hvm.serial] : hvm.serialList) args.push('-serial', port);
  if (settled(b.videoMemkb) !== 0) args.push('-videoram', String(kbToMb(settled(b.videoMemkb))));
  if (hvm.vga.kind === 'std') args.push('-std-vga');
  else if (hvm.vga.kind === 'none') args.push('-vga', 'none');
  if (hvm.boot !== undefined) args.push('-boot', hvm.boot);
  const usb = hvm.usbdevice !== undefined ? [hvm.usbdevice] : hvm.usbdeviceList;
  if (hvm.usb || usb.length > 0) args.push('-usb', ...usb.flatMap((x) => ['-usbdevice', x]));
  if (hvm.soundhw !== undefined) args.push('-soundhw', hvm.soundhw);
  if (b.acpi === true && hvm.acpi === true) args.push('-acpi');
  if (b.maxVcpus > 1) args.push('-vcpus', String(b.maxVcpus));
  args.push('-vcpu_avail', vcpuMap(b.availVcpus));
  const emulated = d.nics.filter((n) => n.nictype === 'vif_ioemu');
  for (const n of emulated) {
    args.push('-net', `nic,vlan=${n.devid},macaddr=${macText(n)},model=${n.model}`);
    args.push(
      '-net',
      `tap,vlan=${n.devid},ifname=tap${domid}.${n.devid},bridge=${n.bridge},script=no,downscript=no`,
    );
  }
  if (emulated.length === 0) args.push('-net', 'none');
  if (hvm.gfxPassthru) args.push('-gfx_passthru');
  return [...args, ...b.extra, '-M', 'xenfv', ...b.extraHvm];
}

/** `0x0f`: two digits a byte, highest byte first. */
function vcpuMap(vcpus: readonly number[]): string {
  const bytes = new Uint8Array(Math.max(1, Math.ceil((Math.max(-1, ...vcpus) + 1) / 8)));
  for (const v of vcpus) bytes[v >> 3]! |= 1 << (v & 7);
  return `0x${[...bytes]
    .reverse()
    .map((x) => x.toString(16).padStart(2, '0'))
    .join('')}`;
}
