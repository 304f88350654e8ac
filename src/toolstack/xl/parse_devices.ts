/** disk=, vif= and vfb=. @xen tools/xl/xl_parse.c parse_disk_config, parse_nic_config */
import { makeDisk, makeNic, makeVfb, makeVkb } from '../libxl/schema.js';
import type { DeviceNic } from '../libxl/types.js';
import { EINVAL } from '../xlu/cfg.js';
import { atoi, strtok, strtol } from '../xlu/cnum.js';
import { xluDiskParse } from '../xlu/disk.js';
import { xluVifParseRate } from '../xlu/vif.js';
import { XlExit } from './context.js';
import type { Parse } from './parse_context.js';

export function parseDisks(p: Parse): void {
  for (const spec of p.cfg.strings('disk') ?? []) {
    const disk = makeDisk();
    p.d.disks.push(disk);
    if (xluDiskParse(p.cfg, spec, disk) === EINVAL) throw new XlExit(1);
  }
}

/** Parts of a comma-separated specification, without the blanks before each. */
const parts = (spec: string): string[] => strtok(spec, ',').map((w) => w.replace(/^ +/, ''));

/** Keys that go into a field as they are. */
const TEXT_KEYS = new Map<
  string,
  'bridge' | 'gatewaydev' | 'ip' | 'script' | 'backendDomname' | 'ifname' | 'model'
>([
  ['bridge', 'bridge'],
  ['gatewaydev', 'gatewaydev'],
  ['ip', 'ip'],
  ['script', 'script'],
  ['backend', 'backendDomname'],
  ['vifname', 'ifname'],
  ['model', 'model'],
]);

/** A mistake is reported, and the interface stays as it is: nobody looks at the result. */
function nicOption(p: Parse, nic: DeviceNic, token: string): void {
  const { xl } = p;
  if (token === 'trusted' || token === 'untrusted') {
    nic.trusted = token === 'trusted';
    return;
  }
  const equals = token.indexOf('=');
  const key = equals < 0 ? '' : token.slice(0, equals);
  const value = token.slice(equals + 1);
  const field = TEXT_KEYS.get(key);
  if (field !== undefined) nic[field] = value;
  else if (key === 'type') {
    if (value === 'vif') nic.nictype = 'vif';
    else if (value === 'ioemu') nic.nictype = 'vif_ioemu';
    else xl.err("Invalid parameter `type'.\n");
  } else if (key === 'mac') parseMac(p, nic, value);
  else if (key === 'netdev') {
    xl.err('the netdev parameter is deprecated, please use gatewaydev instead\n');
    nic.gatewaydev = value;
  } else if (key === 'rate') {
    if (xluVifParseRate(p.cfg, value, nic) !== 0) throw new XlExit(1);
  } else if (key === 'accel') xl.err('the accel parameter for vifs is currently not supported\n');
  else if (key === 'devid' || key === 'mtu') {
    const n = strtol(value, 0, 10);
    if (n.end === 0) p.fail(`xl: failed to convert "${value}" to number\n`);
    nic[key] = n.value;
  } else xl.err(`unrecognized argument \`${token}'\n`);
}

function parseMac(p: Parse, nic: DeviceNic, value: string): void {
  let at = 0;
  for (let i = 0; i < 6; i++) {
    const n = strtol(value, at, 16);
    if (n.end === at || n.value > 255 || n.value < 0) {
      p.xl.err("Invalid parameter `mac'.\n");
      return;
    }
    nic.mac[i] = n.value;
    at = n.end + 1;
  }
}

export function parseNics(p: Parse): void {
  const { global } = p.xl;
  for (const spec of p.cfg.strings('vif') ?? []) {
    const nic = makeNic();
    nic.devid = p.d.nics.length;
    p.d.nics.push(nic);
    nic.script = global.vifScript;
    nic.bridge = global.vifBridge;
    nic.gatewaydev = global.vifGatewaydev;
    nic.backendDomname = global.vifBackend;
    for (const token of parts(spec)) nicOption(p, nic, token);
  }
  if (typeof p.cfg.getList('vif2') !== 'number') {
    p.xl.err('WARNING: vif2: netchannel2 is deprecated and not supported by xl\n');
  }
}

/** Each framebuffer brings its keyboard. Unknown keys are passed over, a word without `=` ends the specification. */
export function parseVfbs(p: Parse): void {
  for (const spec of p.cfg.strings('vfb') ?? []) {
    const vfb = makeVfb();
    vfb.devid = p.d.vfbs.length;
    p.d.vfbs.push(vfb);
    const vkb = makeVkb();
    vkb.devid = p.d.vkbs.length;
    p.d.vkbs.push(vkb);
    for (const token of parts(spec)) {
      const equals = token.indexOf('=');
      if (equals < 0) break;
      const value = token.slice(equals + 1);
      switch (token.slice(0, equals)) {
        case 'vnc':
          vfb.vnc.enable = atoi(value) !== 0;
          break;
        case 'vnclisten':
          vfb.vnc.listen = value;
          break;
        case 'vncpasswd':
          vfb.vnc.passwd = value;
          break;
        case 'vncdisplay':
          vfb.vnc.display = atoi(value);
          break;
        case 'vncunused':
          vfb.vnc.findunused = atoi(value) !== 0;
          break;
        case 'keymap':
          vfb.keymap = value;
          break;
        case 'sdl':
          vfb.sdl.enable = atoi(value) !== 0;
          break;
        case 'opengl':
          vfb.sdl.opengl = atoi(value) !== 0;
          break;
        case 'display':
          vfb.sdl.display = value;
          break;
        case 'xauthority':
          vfb.sdl.xauthority = value;
          break;
      }
    }
  }
}
