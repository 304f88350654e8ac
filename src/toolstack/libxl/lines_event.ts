/** Where libxl's messages of operations, watches and QMP connections stand in the sources of the releases. */
import { at, type Place } from './lines.js';

/** Where an operation begins, and where its initiator hands it on. */
export interface AoPlaces {
  readonly create: Place;
  readonly inProgress: Place;
}

const ao = (file: string, func: string, create: Lines, inProgress: Lines): AoPlaces => ({
  create: at(file, func, ...create),
  inProgress: at(file, func, ...inProgress),
});
type Lines = readonly [number, number, number];

export const AO = {
  pciAdd: ao('libxl_pci.c', 'libxl_device_pci_add', [1595, 1595, 1500], [1604, 1604, 1509]),
  pciRemove: ao('libxl_pci.c', 'libxl_device_pci_remove', [2403, 2417, 2261], [2412, 2426, 2270]),
  pciDestroy: ao('libxl_pci.c', 'libxl_device_pci_destroy', [2419, 2433, 2277], [2428, 2442, 2286]),
  pause: ao('libxl_domain.c', 'libxl_domain_pause', [583, 579, 581], [591, 587, 589]),
  unpause: ao('libxl_domain.c', 'libxl_domain_unpause', [704, 700, 702], [712, 708, 710]),
  shutdown: ao('libxl_domain.c', 'libxl_domain_shutdown', [816, 812, 814], [825, 821, 823]),
  reboot: ao('libxl_domain.c', 'libxl_domain_reboot', [831, 827, 829], [840, 836, 838]),
  destroy: ao('libxl_domain.c', 'libxl_domain_destroy', [1046, 1042, 1044], [1055, 1051, 1053]),
  retrieve: ao(
    'libxl_domain.c',
    'libxl_retrieve_domain_configuration',
    [2293, 2291, 2286],
    [2309, 2307, 2302],
  ),
  create: ao('libxl_create.c', 'do_domain_create', [2081, 2099, 2100], [2120, 2138, 2139]),
} as const;

export const EVENT = {
  aoDestroy: at('libxl_event.c', 'libxl__ao__destroy', 2036, 2036, 2036),
  aoCreateFail: at('libxl_event.c', 'libxl__ao_create_fail', 2046, 2046, 2046),
  aoComplete: at('libxl_event.c', 'libxl__ao_complete', 2067, 2067, 2067),
  aoProgress: at('libxl_event.c', 'libxl__ao_progress_report', 2403, 2403, 2403),
  watchEvent: at('libxl_event.c', 'watchfd_callback', 750, 750, 750),
  watchRegister: at('libxl_event.c', 'libxl__ev_xswatch_register', 812, 812, 812),
  watchDeregister: at('libxl_event.c', 'libxl__ev_xswatch_deregister', 849, 849, 849),
  watchUnregistered: at('libxl_event.c', 'libxl__ev_xswatch_deregister', 863, 863, 863),
  qmpSend: at('libxl_qmp.c', 'libxl__ev_qmp_send', 1884, 1884, 1937),
  qmpConnecting: at('libxl_qmp.c', 'qmp_ev_lock_aquired', 1324, 1324, 1377),
  qmpVersion: at('libxl_qmp.c', 'qmp_ev_handle_message', 1699, 1699, 1752),
  qmpDispose: at('libxl_qmp.c', 'libxl__ev_qmp_dispose', 1920, 1920, 1973),
  noBootloader: at('libxl_bootloader.c', 'libxl__bootloader_run', 417, 416, 416),
  skipBootloader: at('libxl_bootloader.c', 'libxl__bootloader_run', 411, 410, 410),
  forkedDestroy: at('libxl_domain.c', 'devices_destroy_cb', 1597, 1593, 1599),
  dmAsRoot: at('libxl_dm.c', 'libxl__domain_get_device_model_uid', 179, 179, 179),
  dmByPid: at('libxl_dm.c', 'libxl__destroy_device_model', 3595, 3592, 3547),
  dmSignaled: at('libxl_aoutils.c', 'libxl__kill_xs_path', 649, 649, 649),
  noScripts: at('libxl_linux.c', 'libxl__get_hotplug_script_info', 234, 234, 235),
  noHotplug: at('libxl_device.c', 'device_hotplug', 1254, 1255, 1268),
  spawnWatch: at('libxl_exec.c', 'spawn_watch_event', 407, 407, 332),
  childExit: at('libxl_exec.c', 'libxl_report_child_exitstatus', 127, 127, 127),
  pvKernel: at('libxl_dom.c', 'libxl__build_pv', 633, 628, 651),
  firmware: at('libxl_dom.c', 'libxl__load_hvm_firmware_module', 810, 838, 870),
  e820Memory: at('libxl_x86.c', 'e820_sanitize', 111, 112, 119),
  e820Entry: at('libxl_x86.c', 'e820_sanitize', 232, 233, 240),
} as const;
