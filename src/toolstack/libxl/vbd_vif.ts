/**
 * Disks, network interfaces, keyboards and the console: checked and entered into xenstore. Nothing serves them in the
 * simulator, so libxl does not wait for their back ends. @xen tools/libs/light/libxl_disk.c, libxl_nic.c, libxl_console.c
 */

import { isErr } from '../../base/errno.js';
import { deviceGenericAdd } from './device.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import { type DeviceDisk, type DeviceNic, type DomainConfig, type DomainType, ERROR } from './types.js';

/** Number of the disk and the device number xenstore knows it by; undefined for a name that is none. */
export function diskDevNumber(vdev: string): { disk: number; devid: number } | undefined {
  const m = /^(xvd|hd|sd)([a-z]+)([0-9]*)$/.exec(vdev);
  if (m === null) return undefined;
  let disk = 0;
  for (const c of m[2]!) disk = disk * 26 + c.charCodeAt(0) - 96;
  disk--;
  const partition = m[3] === '' ? 0 : Number(m[3]);
  if (m[1] === 'xvd') {
    if (disk > (1 << 20) - 1 || partition > 255) return undefined;
    const devid = disk <= 15 && partition <= 15 ? (202 << 8) | (disk << 4) | partition : 0;
    return { disk, devid: devid || 2 ** 28 + disk * 256 + partition };
  }
  if (m[1] === 'hd') {
    if (disk > 3 || partition > 63) return undefined;
    return { disk, devid: ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | partition };
  }
  if (disk > 15 || partition > 15) return undefined;
  return { disk, devid: (8 << 8) | (disk << 4) | partition };
}

/** dom0's block devices live in /dev; everything else is a file. */
const isBlockDevice = (path: string): boolean => path.startsWith('/dev/');

/** Chooses the back end. 0 or ERROR_*. @xen libxl__device_disk_setdefault, libxl__device_disk_set_backend */
export function diskSetDefault(lx: Libxl, domid: number, disk: DeviceDisk, type: DomainType): number {
  disk.discardEnable ??= disk.readwrite !== 0;
  disk.coloEnable ??= false;
  disk.trusted ??= true;
  if (disk.specification === 'unknown') disk.specification = 'xen';
  if (disk.isCdrom !== 0 && type === 'hvm') {
    if (disk.backend !== 'qdisk' && disk.backend !== 'unknown') {
      lx.log.error(CREATE.diskCdrom, 'Backend for CD devices on HVM guests must be Qdisk', domid);
      return ERROR.FAIL;
    }
    disk.backend = 'qdisk';
  }
  if (disk.format === 'empty') {
    if (disk.isCdrom === 0) {
      lx.log.error(CREATE.diskEmpty, `Disk vdev=${disk.vdev} is empty but not cdrom`);
      return ERROR.INVAL;
    }
    disk.backend = 'qdisk';
    return 0;
  }
  const path = disk.pdevPath ?? '';
  if (disk.backend !== 'qdisk' && disk.backend !== 'tap' && disk.script === undefined) {
    const there = lx.dom0.fs.realpath(path);
    if (isErr(there)) {
      lx.log.error(CREATE.diskStat, `Disk vdev=${disk.vdev} failed to stat: ${path}`, -1, there);
      return ERROR.INVAL;
    }
  }
  const block = disk.script !== undefined || isBlockDevice(path);
  if (disk.backend === 'unknown') disk.backend = block && disk.format === 'raw' ? 'phy' : 'qdisk';
  if ((disk.backend === 'phy' && (!block || disk.format !== 'raw')) || disk.backend === 'tap') {
    lx.log.error(CREATE.diskNoBackend, `no suitable backend for disk ${disk.vdev}`);
    return ERROR.INVAL;
  }
  return 0;
}

export function addDisk(lx: Libxl, domid: number, disk: DeviceDisk, type: DomainType): number {
  const number = diskDevNumber(disk.vdev ?? '');
  if (number === undefined) {
    const text = `Invalid or unsupported virtual disk identifier ${disk.vdev}`;
    lx.log.error(CREATE.diskIdentifier, text, domid);
    lx.log.error(CREATE.diskIdentifierAdd, text, domid);
    return ERROR.INVAL;
  }
  const on = (b: boolean): string => (b ? '1' : '0');
  const qdisk = disk.backend === 'qdisk';
  const script = disk.script ?? 'block';
  const format = disk.format === 'raw' || disk.format === 'empty' ? 'aio' : disk.format;
  const params = disk.pdevPath ?? '';
  const deviceType = disk.isCdrom !== 0 ? 'cdrom' : 'disk';
  const scriptPath = script.startsWith('/') ? script : `${lx.paths.scriptDir}/${script}`;
  const back: [string, string][] = qdisk
    ? [['params', `${format}:${params}`]]
    : [
        ['params', params],
        ['script', scriptPath],
      ];
  back.push(
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['removable', on(disk.removable !== 0)],
    ['bootable', '1'],
    ['state', '1'],
    ['dev', disk.vdev ?? ''],
    ['type', qdisk ? 'qdisk' : 'phy'],
    ['mode', disk.readwrite !== 0 ? 'w' : 'r'],
    ['device-type', deviceType],
  );
  if (disk.directIoSafe) back.push(['direct-io-safe', '1']);
  back.push(['discard-enable', on(disk.discardEnable === true)], ['specification', disk.specification]);
  const front: [string, string][] = [
    ['backend-id', '0'],
    ['state', '1'],
    ['virtual-device', String(number.devid)],
    ['device-type', deviceType],
    ['trusted', on(disk.trusted === true)],
  ];
  if (type === 'pv') front.push(['protocol', 'x86_64-abi']);
  const backendKind = qdisk ? 'qdisk' : 'vbd';
  deviceGenericAdd(lx, { domid, devid: number.devid, kind: 'vbd', backendKind }, back, front);
  return 0;
}

const MTU = 1492;

/** 0 or ERROR_*. @xen libxl__device_nic_setdefault */
export function nicSetDefault(lx: Libxl, domid: number, nic: DeviceNic, type: DomainType): number {
  if (nic.mtu === 0) nic.mtu = MTU;
  nic.model ??= 'rtl8139';
  if (nic.mac.every((b) => b === 0)) {
    const r = lx.bytes(`mac of vif${domid}.${nic.devid}`, 3);
    nic.mac = [0x00, 0x16, 0x3e, r[0]! & 0x7f, r[1]!, r[2]!];
  }
  nic.bridge ??= 'xenbr0';
  nic.script ??= `${lx.paths.scriptDir}/vif-bridge`;
  if (type === 'hvm') {
    if (nic.nictype === 'unknown') nic.nictype = 'vif_ioemu';
  } else {
    if (nic.nictype === 'vif_ioemu') {
      lx.log.error(CREATE.nicEmulated, 'trying to create PV or PVH guest with an emulated interface', domid);
      return ERROR.INVAL;
    }
    nic.nictype = 'vif';
  }
  nic.trusted ??= true;
  return 0;
}

export const macText = (nic: DeviceNic): string =>
  nic.mac.map((b) => b.toString(16).padStart(2, '0')).join(':');

export function addNic(lx: Libxl, domid: number, nic: DeviceNic): void {
  const script = nic.script ?? '';
  const back: [string, string][] = [
    ['script', script.startsWith('/') ? script : `${lx.paths.scriptDir}/${script}`],
  ];
  if (nic.ifname !== undefined) back.push(['vifname', nic.ifname]);
  back.push(['mac', macText(nic)]);
  if (nic.ip !== undefined) back.push(['ip', nic.ip]);
  if (nic.gatewaydev !== undefined) back.push(['gatewaydev', nic.gatewaydev]);
  if (nic.rateIntervalUsecs > 0) back.push(['rate', `${nic.rateBytesPerInterval},${nic.rateIntervalUsecs}`]);
  back.push(
    ['bridge', nic.bridge ?? ''],
    ['mtu', String(nic.mtu)],
    ['handle', String(nic.devid)],
    ['type', nic.nictype],
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['state', '1'],
  );
  const front: [string, string][] = [
    ['handle', String(nic.devid)],
    ['trusted', nic.trusted === true ? '1' : '0'],
    ['mac', macText(nic)],
    ['mtu', String(nic.mtu)],
    ['backend-id', '0'],
    ['state', '1'],
  ];
  deviceGenericAdd(lx, { domid, devid: nic.devid, kind: 'vif', backendKind: 'vif' }, back, front);
}

const CONSOLE_LIMIT = '1048576';

/** Console 0: xenconsoled serves it and answers with a pseudo terminal, which is entered here. */
export function addConsole(lx: Libxl, domid: number, pfn: number): void {
  deviceGenericAdd(
    lx,
    { domid, devid: 0, kind: 'console', backendKind: 'console' },
    [
      ['frontend-id', String(domid)],
      ['online', '1'],
      ['state', '1'],
      ['protocol', 'vt100'],
    ],
    [['backend-id', '0']],
    [
      ['limit', CONSOLE_LIMIT],
      ['type', 'xenconsoled'],
      ['output', 'pty'],
      ['tty', ''],
      ['port', '2'],
      ['ring-ref', String(pfn)],
    ],
  );
  lx.dom0.xs.write(`${lx.domainPath(domid)}/console/tty`, lx.dom0.openPty());
}

export function addKeyboard(lx: Libxl, domid: number, devid: number): void {
  const back = [
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['state', '1'],
  ] as const;
  const front = [
    ['backend-id', '0'],
    ['state', '1'],
  ] as const;
  deviceGenericAdd(lx, { domid, devid, kind: 'vkbd', backendKind: 'vkbd' }, back, front);
}

export function addFramebuffers(lx: Libxl, domid: number, d: DomainConfig): void {
  for (const vfb of d.vfbs) {
    const on = (b: boolean | undefined): string => (b === true ? '1' : '0');
    const back: [string, string][] = [
      ['frontend-id', String(domid)],
      ['online', '1'],
      ['state', '1'],
      ['vnc', on(vfb.vnc.enable ?? true)],
      ['vnclisten', vfb.vnc.listen ?? '127.0.0.1'],
      ['vncdisplay', String(vfb.vnc.display)],
      ['vncunused', on(vfb.vnc.findunused ?? true)],
      ['sdl', on(vfb.sdl.enable)],
      ['opengl', on(vfb.sdl.opengl)],
    ];
    const front = [
      ['backend-id', '0'],
      ['state', '1'],
    ] as const;
    deviceGenericAdd(lx, { domid, devid: vfb.devid, kind: 'vfb', backendKind: 'vfb' }, back, front);
  }
  for (const vkb of d.vkbs) addKeyboard(lx, domid, vkb.devid);
}
