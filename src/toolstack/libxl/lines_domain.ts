/** Where libxl's messages of the life of a domain and its devices stand in the sources of the releases; 0: the message is not in that one. */
import { at } from './lines.js';

export const DOMAIN = {
  addAborted: at('libxl_device.c', 'device_addrm_aocomplete', 1486, 1487, 1481),
  backendMissing: at('libxl_device.c', 'libxl__wait_for_backend', 1460, 1461, 1455),
  backendNotReady: at('libxl_device.c', 'libxl__wait_for_backend', 1470, 1471, 1465),
  deviceTimeout: at('libxl_device.c', 'device_backend_callback', 1174, 1174, 1187),
  destroyCallback: at('libxl_domain.c', 'domain_destroy_callback', 1137, 1133, 1135),
  destroyCb: at('libxl_domain.c', 'domain_destroy_cb', 1064, 1060, 1062),
  destroyFailed: at('libxl_domain.c', 'domain_destroy_domid_cb', 1616, 1612, 1618),
  nonExistent: at('libxl_domain.c', 'libxl__destroy_domid', 1183, 1179, 1181),
  pauseFailed: at('libxl_domain.c', 'destroy_domid_pci_done', 1219, 1215, 1217),
  pausing: at('libxl_domain.c', 'libxl_domain_pause', 587, 583, 585),
  unpausing: at('libxl_domain.c', 'domain_unpause_done', 688, 684, 686),
  nameTaken: at('libxl_domain.c', 'libxl__domain_rename', 81, 81, 81),
  notAcknowledged: at('libxl_domain.c', 'pvcontrol_cb', 854, 850, 852),
  rmVm: at('libxl_domain.c', 'devices_destroy_cb', 1535, 1531, 1537),
  rmDom: at('libxl_domain.c', 'devices_destroy_cb', 1538, 1534, 1540),
  typeInfo: at('libxl_dom.c', 'libxl__domain_type', 37, 37, 37),
  typeUnknown: at('libxl_dom.c', 'libxl__domain_type', 49, 49, 49),
  typeRead: at('libxl_xshelp.c', 'libxl__xs_read_mandatory', 206, 206, 206),
  noneStored: at('libxl_domain.c', 'retrieve_domain_configuration_end', 2585, 2583, 2585),
  notStored: at('libxl_domain.c', 'retrieve_domain_configuration_end', 2603, 2601, 2603),
  debugKeys: at('libxl.c', 'libxl_send_debug_keys', 659, 660, 609),
} as const;
