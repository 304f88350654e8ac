/** /etc/xen/xl.conf. A host without the file is taken as one with an empty file. @xen tools/xl/xl.c parse_global_config */
import { strerror } from '../../base/errno.js';
import type { Libxl } from '../libxl/libxl.js';
import { ESRCH, XluConfig } from '../xlu/cfg.js';
import { type GlobalConfig, type XlContext, XlExit } from './context.js';

const PATH = '/etc/xen/xl.conf';
const INT_MAX = 0x7fff_ffff;

export function readGlobalConfig(xl: XlContext, lx: Libxl): GlobalConfig {
  const file = xl.dom0.fs.readFile(PATH);
  const cfg = new XluConfig(PATH, (t) => xl.err(t));
  const e = cfg.readData(typeof file === 'string' ? file : '');
  if (e !== 0) {
    xl.err(`Failed to parse config file: ${strerror(e)}\n`);
    throw new XlExit(1);
  }
  const number = (key: string): number => {
    const n = cfg.getLong(key, true, 0, INT_MAX);
    if (typeof n !== 'number') return n.value;
    if (n !== ESRCH) throw new XlExit(1);
    return -1;
  };
  const autoballoon = readAutoballoon(xl, lx, cfg);
  const vifscript = cfg.string('vifscript');
  if (vifscript !== undefined) {
    xl.err('the global config option vifscript is deprecated, please switch to vif.default.script\n');
  }
  const bridge = cfg.string('defaultbridge');
  if (bridge !== undefined) {
    xl.err('the global config option defaultbridge is deprecated, please switch to vif.default.bridge\n');
  }
  return {
    autoballoon,
    runHotplugScripts: (cfg.long('run_hotplug_scripts') ?? 1) !== 0,
    vifScript: cfg.string('vif.default.script') ?? vifscript,
    vifBridge: cfg.string('vif.default.bridge') ?? bridge,
    vifGatewaydev: cfg.string('vif.default.gatewaydev'),
    vifBackend: cfg.string('vif.default.backend'),
    blkdevStart: cfg.string('blkdev_start'),
    claimMode: (cfg.long('claim_mode') ?? 1) !== 0,
    maxGrantFrames: number('max_grant_frames'),
    maxMaptrackFrames: number('max_maptrack_frames'),
    maxGrantVersion: number('max_grant_version'),
  };
}

const DOM0_MEM = /(^| )dom0_mem=/;

/** `auto`, the default, balloons dom0 unless Xen's command line fixed its memory. */
function readAutoballoon(xl: XlContext, lx: Libxl, cfg: XluConfig): boolean {
  const text = cfg.string('autoballoon');
  if (text === 'on' || text === '1') return true;
  if (text === 'off' || text === '0') return false;
  if (text !== undefined && text !== 'auto') xl.err('invalid autoballoon option');
  return !DOM0_MEM.test(lx.xc.version().commandline);
}
