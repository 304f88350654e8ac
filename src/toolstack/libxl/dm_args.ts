/** The command line of qemu-xen. @xen tools/libs/light/libxl_dm.c libxl__build_device_model_args_new */
import { deviceModelOf, settled } from './defaults.js';
import { traditionalArgs } from './dm_args_old.js';
import { kbToMb, sdlOn, vncOf } from './dm_display.js';
import type { Libxl } from './libxl.js';
import { DM } from './lines_dm.js';
import { isIgdVgaPassthru } from './pci_sysfs.js';
import { type BuildInfo, type DeviceDisk, type DomainConfig, ERROR, type GfxPassthruKind } from './types.js';
import { diskDevNumber, macText } from './vbd_vif.js';

/** Below 4 GiB, where memory ends at the latest. */
const MMIO_START = 0xf000_0000;

/** The arguments, or ERROR_*, the reason logged. */
export function deviceModelArgs(lx: Libxl, domid: number, d: DomainConfig): string[] | number {
  return d.bInfo.deviceModelVersion === 'qemu_xen_traditional'
    ? traditionalArgs(lx, domid, d)
    : newArgs(lx, domid, d);
}

function newArgs(lx: Libxl, domid: number, d: DomainConfig): string[] | number {
  const b = d.bInfo;
  const hvm = b.type === 'hvm';
  const args = [deviceModelOf(lx, b), '-xen-domid', String(domid), '-no-shutdown'];
  const socket = (id: string, file: string): void => {
    args.push('-chardev', `socket,id=${id},path=${lx.paths.runDir}/${file}-${domid},server=on,wait=off`);
    args.push('-mon', `chardev=${id},mode=control`);
  };
  socket('libxl-cmd', 'qmp-libxl');
  socket('libxenstat-cmd', 'qmp-libxenstat');
  args.push('-nodefaults', '-no-user-config');
  if (!hvm) args.push('-xen-attach');
  if (d.cInfo.name !== undefined) args.push('-name', d.cInfo.name);
  const display = displayArgs(lx, domid, d);
  if (typeof display === 'number') return display;
  args.push(...display);
  if (hvm) {
    const rc = hvmDevices(lx, domid, d, args);
    if (rc !== 0) return rc;
  } else if (vncOf(d) === undefined && sdlOn(d) !== true) args.push('-nographic');
  args.push(...b.extra, '-machine');
  if (!hvm) args.push('xenpv', ...b.extraPv);
  else {
    const machine = machineArg(lx, domid, d);
    if (typeof machine === 'number') return machine;
    args.push(machine, ...b.extraHvm);
  }
  args.push('-m', String(kbToMb(settled(b.maxMemkb) - settled(b.videoMemkb))));
  if (!hvm) return args;
  if (b.hvm.hdtype === 'ahci') args.push('-device', 'ahci,id=ahci0');
  for (const disk of d.disks) {
    const rc = diskArgs(lx, domid, d, disk, args);
    if (rc !== 0) return rc;
  }
  if (b.hvm.vendorDevice === 'xenserver') args.push('-device', 'xen-pvdevice,device-id=0xc000');
  return args;
}

function displayArgs(lx: Libxl, domid: number, d: DomainConfig): string[] | number {
  const vnc = vncOf(d);
  const out: string[] = [];
  if (vnc === undefined) out.push('-vnc', 'none');
  else {
    let address = `${vnc.listen ?? '127.0.0.1'}:${vnc.display}`;
    if (vnc.listen?.includes(':')) {
      if (vnc.display !== 0) {
        lx.log.error(DM.vncDisplay, 'vncdisplay set, vnclisten contains display', domid);
        return ERROR.INVAL;
      }
      address = vnc.listen;
    }
    if (vnc.passwd) address += ',password=on';
    if (vnc.findunused ?? true) address += ',to=99';
    out.push('-vnc', address);
  }
  out.push('-display', 'none');
  if (sdlOn(d)) out.push('-display', 'sdl');
  const keymap = d.bInfo.type === 'hvm' ? d.bInfo.hvm.keymap : d.vfbs[0]?.keymap;
  if (keymap !== undefined) out.push('-k', keymap);
  return out;
}

/** Everything between the display and the machine. 0 or ERROR_*. */
function hvmDevices(lx: Libxl, domid: number, d: DomainConfig, args: string[]): number {
  const b = d.bInfo;
  const { hvm } = b;
  if (b.kernel !== undefined) args.push('-kernel', b.kernel);
  if (b.ramdisk !== undefined) args.push('-initrd', b.ramdisk);
  if (b.cmdline !== undefined) args.push('-append', b.cmdline);
  if (d.disks.some((x) => x.isCdrom === 0 && x.vdev?.startsWith('sd'))) args.push('-device', 'lsi53c895a');
  for (const port of hvm.serial !== undefined ? [hvm.serial] : hvm.serialList) args.push('-serial', port);
  if (hvm.nographic && !sdlOn(d) && vncOf(d) === undefined) args.push('-nographic');
  const spice = spiceArgs(lx, b);
  if (typeof spice === 'number') return spice;
  args.push(...spice, ...vgaArgs(b));
  if (hvm.boot !== undefined) args.push('-boot', `order=${hvm.boot}`);
  const usb = usbArgs(lx, domid, b);
  if (typeof usb === 'number') return usb;
  args.push(...usb);
  if (hvm.soundhw !== undefined) {
    const sound = soundArgs(hvm.soundhw);
    if (sound === undefined) {
      lx.log.error(DM.soundhw, `Unknown soundhw option '${hvm.soundhw}'`, domid);
      return ERROR.INVAL;
    }
    args.push(...sound);
  }
  if (!(b.acpi === true && hvm.acpi === true)) args.push('-no-acpi');
  if (b.maxVcpus > 1) args.push('-smp', `${b.availVcpus.length},maxcpus=${b.maxVcpus}`);
  const emulated = d.nics.filter((n) => n.nictype === 'vif_ioemu');
  for (const n of emulated) {
    args.push('-device', `${n.model},id=nic${n.devid},netdev=net${n.devid},mac=${macText(n)}`);
    const ifname = `vif${domid}.${n.devid}-emu`;
    args.push('-netdev', `type=tap,id=net${n.devid},ifname=${ifname},br=${n.bridge},script=no,downscript=no`);
  }
  if (emulated.length === 0) args.push('-net', 'none');
  return 0;
}

function vgaArgs(b: BuildInfo): string[] {
  const mb = kbToMb(settled(b.videoMemkb));
  const half = Math.floor(settled(b.videoMemkb) / 2 / 1024);
  switch (b.hvm.vga.kind) {
    case 'std':
      return ['-device', `VGA,vgamem_mb=${mb}`];
    case 'qxl':
      return ['-device', `qxl-vga,vram_size_mb=${half},ram_size_mb=${half}`];
    case 'none':
      return [];
    default:
      return ['-device', `cirrus-vga,vgamem_mb=${mb}`];
  }
}

function spiceArgs(lx: Libxl, b: BuildInfo): string[] | number {
  const { spice } = b.hvm;
  if (!spice.enable) return [];
  const refuse = (at: (typeof DM)[keyof typeof DM], text: string): number => {
    lx.log.error(at, text);
    return ERROR.INVAL;
  };
  if (spice.port === 0 && spice.tlsPort === 0) {
    return refuse(DM.spicePort, 'at least one of the spiceport or tls_port must be provided');
  }
  if (!spice.disableTicketing && spice.passwd === undefined) {
    return refuse(DM.spiceNoPassword, 'spice ticketing is enabled but missing password');
  }
  if (!spice.disableTicketing && spice.passwd === '') {
    return refuse(DM.spiceEmptyPassword, "spice password can't be empty");
  }
  let opt = `port=${spice.port},tls-port=${spice.tlsPort}`;
  if (spice.host !== undefined) opt += `,addr=${spice.host}`;
  opt += spice.disableTicketing ? ',disable-ticketing=on' : `,password=${spice.passwd}`;
  opt += `,agent-mouse=${spice.agentMouse ? 'on' : 'off'}`;
  if (!spice.clipboardSharing) opt += ',disable-copy-paste=on';
  if (spice.imageCompression !== undefined) opt += `,image-compression=${spice.imageCompression}`;
  if (spice.streamingVideo !== undefined) opt += `,streaming-video=${spice.streamingVideo}`;
  const out = ['-spice', opt];
  if (spice.vdagent) {
    out.push('-device', 'virtio-serial', '-chardev', 'spicevmc,id=vdagent,name=vdagent');
    out.push('-device', 'virtserialport,chardev=vdagent,name=com.redhat.spice.0');
  }
  return out;
}

function usbArgs(lx: Libxl, domid: number, b: BuildInfo): string[] | number {
  const { hvm } = b;
  if (hvm.usb || hvm.usbdevice !== undefined || hvm.usbdeviceList.length > 0) {
    const devices = hvm.usbdevice !== undefined ? [hvm.usbdevice] : hvm.usbdeviceList;
    return ['-usb', ...devices.flatMap((x) => ['-usbdevice', x])];
  }
  const out: string[] = [];
  if (hvm.usbversion === 0) return out;
  if (hvm.usbversion === 1) out.push('-device', 'piix3-usb-uhci,id=usb');
  else if (hvm.usbversion === 2) {
    out.push('-device', 'ich9-usb-ehci1,id=usb,addr=0x1d.0x7,multifunction=on');
    for (let i = 1; i < 4; i++) {
      const addr = i === 1 ? '0' : `0x${i - 1}`;
      out.push(
        '-device',
        `ich9-usb-uhci${i},masterbus=usb.0,firstport=${2 * (i - 1)},addr=0x1d.${addr},multifunction=on`,
      );
    }
  } else if (hvm.usbversion === 3) out.push('-device', 'nec-usb-xhci,id=usb');
  else {
    lx.log.error(DM.usbversion, 'usbversion parameter is invalid, must be between 1 and 3', domid);
    return ERROR.INVAL;
  }
  const redirections = hvm.spice.usbredirection;
  if (redirections < 0 || redirections >= 5) {
    lx.log.error(DM.usbredirection, 'usbredirection parameter is invalid, it must be between 1 and 4', domid);
    return ERROR.INVAL;
  }
  for (let i = 1; i <= redirections; i++) {
    out.push('-chardev', `spicevmc,name=usbredir,id=usbrc${i}`);
    out.push('-device', `usb-redir,chardev=usbrc${i},id=usbrc${i}`);
  }
  return out;
}

const SOUND = ['ac97', 'adlib', 'cs4231a', 'es1370', 'gus', 'sb16'];
function soundArgs(name: string): string[] | undefined {
  const card = name.toLowerCase();
  if (card === 'hda') return ['-device', 'intel-hda', '-device', 'hda-duplex'];
  const known = SOUND.find((s) => s === card);
  return known === undefined ? undefined : ['-device', known];
}

/** A kind that was named stays; else an Intel display among the devices makes it igd. */
function gfxKind(lx: Libxl, d: DomainConfig): GfxPassthruKind {
  const { gfxPassthruKind } = d.bInfo.hvm;
  if (gfxPassthruKind !== 'default') return gfxPassthruKind;
  return isIgdVgaPassthru(lx, d.pcidevs) ? 'igd' : 'default';
}

/** `xenfv,suppress-vmdesc=on[,max-ram-below-4g=N][,igd-passthru=on]`, or ERROR_FAIL. */
function machineArg(lx: Libxl, domid: number, d: DomainConfig): string | number {
  const { hvm } = d.bInfo;
  let machine = hvm.xenPlatformPci ? 'xenfv,suppress-vmdesc=on' : 'pc,accel=xen,suppress-vmdesc=on';
  const hole = settled(hvm.mmioHoleMemkb);
  if (hole !== 0) {
    const below = 2 ** 32 - hole * 1024;
    if (below > MMIO_START) {
      lx.log.warn(DM.mmioHole, `mmio_hole_memkb=${hole} invalid ignored.\n`, domid);
    } else machine += `,max-ram-below-4g=${below}`;
  }
  if (!hvm.gfxPassthru) return machine;
  if (gfxKind(lx, d) === 'igd') return `${machine},igd-passthru=on`;
  lx.log.error(DM.gfxKind, 'unable to detect required gfx_passthru_kind', domid);
  return ERROR.FAIL;
}

/** One emulated disk. 0 or ERROR_INVAL; a disk that cannot be emulated is only warned of. */
function diskArgs(lx: Libxl, domid: number, d: DomainConfig, disk: DeviceDisk, args: string[]): number {
  const number = diskDevNumber(disk.vdev ?? '');
  if (number === undefined) {
    lx.log.warn(DM.diskNumber, `unable to determine disk number for ${disk.vdev}`, domid);
    return 0;
  }
  const n = number.disk;
  const raw = disk.backend !== 'qdisk' || disk.format === 'raw';
  const format = raw ? 'raw' : disk.format === 'vhd' ? 'vpc' : disk.format;
  const file = disk.format === 'empty' ? undefined : disk.pdevPath;
  if (disk.isCdrom !== 0) {
    const id = `ide-${number.devid}`;
    const medium = file === undefined ? '' : `,file=${file},format=${format}`;
    args.push('-drive', `if=none,readonly=on,id=${id}${medium}`);
    args.push('-device', `ide-cd,id=${id},drive=${id},bus=ide.${Math.floor(n / 2)},unit=${n % 2}`);
    return 0;
  }
  if (disk.vdev?.startsWith('sd')) {
    const readonly = disk.readwrite !== 0 ? 'off' : 'on';
    args.push(
      '-drive',
      `file=${file},id=scsi0-hd${n},format=${format},if=none,readonly=${readonly},cache=writeback`,
    );
    args.push('-device', `scsi-hd,drive=scsi0-hd${n},scsi-id=${n}`);
    return 0;
  }
  const ahci = n < 6 && d.bInfo.hvm.hdtype === 'ahci';
  if (!ahci && n >= 4) {
    const text =
      `Only 4 emulated IDE disks are supported.\n` +
      `Disk ${disk.vdev} will be available via PV drivers but not as an emulated disk.`;
    lx.log.warn(DM.diskFour, text, domid);
    return 0;
  }
  if (disk.readwrite === 0) {
    const text = `qemu-xen doesn't support read-only ${ahci ? 'AHCI' : 'IDE'} disk drivers`;
    lx.log.error(ahci ? DM.diskAhciReadOnly : DM.diskIdeReadOnly, text, domid);
    return ERROR.INVAL;
  }
  if (ahci) {
    args.push('-drive', `file=${file},if=none,id=ahcidisk-${n},format=${format},cache=writeback`);
    args.push('-device', `ide-hd,bus=ahci0.${n},unit=0,drive=ahcidisk-${n}`);
  } else {
    args.push('-drive', `file=${file},if=ide,index=${n},media=disk,format=${format},cache=writeback`);
  }
  return 0;
}
