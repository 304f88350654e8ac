/** Names, help and flags of xl's commands: facts, in the order of its table. @xen tools/xl/xl_cmdtable.c */
import type { Release } from '../libxl/lines.js';

/** Name, `N` (knows dry run) and `f` (modifies), description, usage, options. */
export type CommandRow = readonly [string, string, string, string, string?];

const ROWS: readonly CommandRow[] = [
  [
    'create',
    'Nf',
    'Create a domain from config file <filename>',
    '<ConfigFile> [options] [vars]',
    '-c                      Connect to the console after the domain is created.\n-d                      Enable debug messages.\n-e                      Do not wait in the background for the death of the domain.\n-F                      Run in foreground until death of the domain.\n-f FILE, --defconfig=FILE\n                     Use the given configuration file.\n-h                      Print this help.\n-n, --dryrun            Dry run - prints the resulting configuration\n                         (deprecated in favour of global -N option).\n-p                      Leave the domain paused after it is created.\n-q, --quiet             Quiet.\n-V, --vncviewer         Connect to the VNC display after the domain is created.\n-A, --vncviewer-autopass\n                        Pass VNC password to viewer via stdin.\n--ignore-global-affinity-masks Ignore global masks in xl.conf.',
  ],
  [
    'config-update',
    'Nf',
    "Update a running domain's saved configuration, used when rebuilding the domain after reboot.\nWARNING: xl now has better capability to manage domain configuration, avoid using this command when possible",
    '<Domain> <ConfigFile> [options] [vars]',
    '-h                      Print this help.\n-f FILE, --defconfig=FILE\n                     Use the given configuration file.\n-d                      Enable debug messages.\n',
  ],
  [
    'list',
    '',
    'List information about all/some domains',
    '[options] [Domain]\n',
    '-l, --long              Output all VM details\n-v, --verbose           Prints out UUIDs and security context\n-Z, --context           Prints out security context\n-c, --cpupool           Prints the cpupool the domain is in\n-n, --numa              Prints out NUMA node affinity',
  ],
  [
    'destroy',
    'f',
    'Terminate a domain immediately',
    '[options] <Domain>\n',
    '-f                      Permit destroying domain 0, which will only succeed\n                        when run from disaggregated toolstack domain with a\n                        hardware domain distinct from domain 0.',
  ],
  [
    'shutdown',
    'f',
    'Issue a shutdown signal to a domain',
    '[options] <-a|Domain>',
    '-a, --all               Shutdown all guest domains.\n-h                      Print this help.\n-F                      Fallback to ACPI power event for HVM guests with\n                        no PV drivers.\n-w, --wait              Wait for guest(s) to shutdown.\n',
  ],
  [
    'reboot',
    'f',
    'Issue a reboot signal to a domain',
    '[options] <-a|Domain>',
    '-a, --all               Shutdown all guest domains.\n-h                      Print this help.\n-F                      Fallback to ACPI reset event for HVM guests with\n                        no PV drivers.\n-w, --wait              Wait for guest(s) to reboot.\n',
  ],
  ['pci-attach', 'f', 'Insert a new pass-through pci device', '<Domain> <PCI_SPEC_STRING>'],
  ['pci-detach', 'f', "Remove a domain's pass-through pci device", '<Domain> <PCI_SPEC_STRING>'],
  ['pci-list', '', 'List pass-through pci devices for a domain', '<Domain>'],
  [
    'pci-assignable-add',
    'f',
    'Make a device assignable for pci-passthru',
    '[options] <BDF>',
    '-n NAME, --name=NAME    Name the assignable device.\n-h                      Print this help.\n',
  ],
  [
    'pci-assignable-remove',
    'f',
    'Remove a device from being assignable',
    '[options] <BDF>|NAME',
    '-h                      Print this help.\n-r                      Attempt to re-assign the device to the\n                        original driver.',
  ],
  [
    'pci-assignable-list',
    '',
    'List all the assignable pci devices',
    '[options]',
    '-h                      Print this help.\n-n, --show-names        Display assignable device names where\n                        supplied.\n',
  ],
  ['pause', 'f', 'Pause execution of a domain', '<Domain>'],
  ['unpause', 'f', 'Unpause a paused domain', '<Domain>'],
  [
    'console',
    '',
    "Attach to domain's console",
    '[options] <Domain>\n-t <type>       console type, pv , serial or vuart\n-n <number>     console number\n-e <escape>     escape character',
  ],
  [
    'vncviewer',
    '',
    "Attach to domain's VNC server.",
    '[options] <Domain>\n--autopass               Pass VNC password to viewer via stdin and\n                         -autopass\n--vncviewer-autopass     (consistency alias for --autopass)',
  ],
  [
    'save',
    'f',
    'Save a domain state to restore later',
    '[options] <Domain> <CheckpointFile> [<ConfigFile>]',
    '-h  Print this help.\n-c  Leave domain running after creating the snapshot.\n-p  Leave domain paused after creating the snapshot.\n-D  Store the domain id in the configuration.',
  ],
  [
    'migrate',
    'f',
    'Migrate a domain to another host',
    '[options] <Domain> <host>',
    '-h              Print this help.\n-C <config>     Send <config> instead of config file from creation.\n-s <sshcommand> Use <sshcommand> instead of ssh.  String will be passed\n                to sh. If empty, run <host> instead of ssh <host> xl\n                migrate-receive [-d -e]\n-e              Do not wait in the background (on <host>) for the death\n                of the domain.\n--debug         Print huge (!) amount of debug during the migration process.\n-p              Do not unpause domain after migrating it.\n-D              Preserve the domain id',
  ],
  [
    'restore',
    'f',
    'Restore a domain from a saved state',
    '[options] [<ConfigFile>] <CheckpointFile>',
    '-h                       Print this help.\n-p                       Do not unpause domain after restoring it.\n-e                       Do not wait in the background for the death of the domain.\n-d                       Enable debug messages.\n-V, --vncviewer          Connect to the VNC display after the domain is created.\n-A, --vncviewer-autopass Pass VNC password to viewer via stdin.',
  ],
  ['migrate-receive', 'f', 'Restore a domain from a saved state', '- for internal use only'],
  ['dump-core', 'f', 'Core dump a domain', '<Domain> <filename>'],
  ['cd-insert', 'Nf', "Insert a cdrom into a guest's cd drive", '<Domain> <VirtualDevice> <path>'],
  ['cd-eject', 'Nf', "Eject a cdrom from a guest's cd drive", '<Domain> <VirtualDevice>'],
  [
    'mem-max',
    'f',
    'Set the maximum amount reservation for a domain',
    "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>",
  ],
  [
    'mem-set',
    'f',
    'Set the current memory usage for a domain',
    "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>",
  ],
  [
    'button-press',
    'f',
    'Indicate an ACPI button press to the domain',
    '<Domain> <Button>',
    "<Button> may be 'power' or 'sleep'.",
  ],
  ['vcpu-list', '', 'List the VCPUs for all/some domains', '[Domain, ...]'],
  [
    'vcpu-pin',
    'Nf',
    'Set which CPUs a VCPU can use',
    '[option] <Domain> <VCPU|all> <Hard affinity|-|all> <Soft affinity|-|all>',
    '-f, --force        undo an override pinning done by the kernel\n--ignore-global-affinity-masks Ignore global masks in xl.conf',
  ],
  [
    'vcpu-set',
    'f',
    'Set the number of active VCPUs allowed for the domain',
    '[option] <Domain> <vCPUs>',
    "-i, --ignore-host  Don't limit the vCPU based on the host CPU count",
  ],
  ['vm-list', '', 'List guest domains, excluding dom0, stubdoms, etc.', ''],
  ['info', '', 'Get information about Xen host', '-n, --numa         List host NUMA topology information'],
  ['sharing', '', 'Get information about page sharing', '[Domain]'],
  [
    'sched-credit',
    'f',
    'Get/set credit scheduler parameters',
    '[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]] [-s [-t TSLICE] [-r RATELIMIT]] [-p CPUPOOL]',
    '-d DOMAIN, --domain=DOMAIN        Domain to modify\n-w WEIGHT, --weight=WEIGHT        Weight (int)\n-c CAP, --cap=CAP                 Cap (int)\n-s         --schedparam           Query / modify scheduler parameters\n-t TSLICE, --tslice_ms=TSLICE     Set the timeslice, in milliseconds\n-r RLIMIT, --ratelimit_us=RLIMIT  Set the scheduling rate limit, in microseconds\n-m DLY, --migration_delay_us=DLY  Set the migration delay, in microseconds\n-p CPUPOOL, --cpupool=CPUPOOL     Restrict output to CPUPOOL',
  ],
  [
    'sched-credit2',
    'f',
    'Get/set credit2 scheduler parameters',
    '[-d <Domain> [-w[=WEIGHT]]] [-p CPUPOOL]',
    '-d DOMAIN, --domain=DOMAIN     Domain to modify\n-w WEIGHT, --weight=WEIGHT     Weight (int)\n-c CAP,    --cap=CAP           Cap (int)\n-s         --schedparam        Query / modify scheduler parameters\n-r RLIMIT, --ratelimit_us=RLIMIT Set the scheduling rate limit, in microseconds\n-p CPUPOOL, --cpupool=CPUPOOL  Restrict output to CPUPOOL',
  ],
  [
    'sched-rtds',
    'f',
    'Get/set rtds scheduler parameters',
    '[-d <Domain> [-v[=VCPUID/all]] [-p[=PERIOD]] [-b[=BUDGET]] [-e[=Extratime]]]',
    "-d DOMAIN, --domain=DOMAIN     Domain to modify\n-v VCPUID/all, --vcpuid=VCPUID/all    VCPU to modify or output;\n               Using '-v all' to modify/output all vcpus\n-p PERIOD, --period=PERIOD     Period (us)\n-b BUDGET, --budget=BUDGET     Budget (us)\n-e Extratime, --extratime=Extratime Extratime (1=yes, 0=no)\n",
  ],
  ['domid', '', 'Convert a domain name to domain id', '<DomainName>'],
  ['domname', '', 'Convert a domain id to domain name', '<DomainId>'],
  ['rename', 'f', 'Rename a domain', '<Domain> <NewDomainName>'],
  ['trigger', 'f', 'Send a trigger to a domain', '<Domain> <nmi|reset|init|power|sleep|s3resume> [<VCPU>]'],
  ['sysrq', 'f', 'Send a sysrq to a domain', '<Domain> <letter>'],
  ['debug-keys', 'f', 'Send debug keys to Xen', '<Keys>'],
  ['set-parameters', 'f', 'Set hypervisor parameters', '<Params>'],
  [
    'dmesg',
    '',
    'Read and/or clear dmesg buffer',
    '[-c]',
    '  -c                        Clear dmesg buffer as well as printing it',
  ],
  ['top', '', 'Monitor a host and the domains in real time', ''],
  [
    'network-attach',
    'Nf',
    'Create a new virtual network device',
    '<Domain> [type=<type>] [mac=<mac>] [bridge=<bridge>] [ip=<ip>] [script=<script>] [backend=<BackDomain>] [vifname=<name>] [rate=<rate>] [model=<model>] [accel=<accel>] [mtu=<mtu>]',
  ],
  ['network-list', '', 'List virtual network interfaces for a domain', '<Domain(s)>'],
  ['network-detach', 'f', "Destroy a domain's virtual network device", '<Domain> <DevId|mac>'],
  ['channel-list', '', 'List virtual channel devices for a domain', '<Domain(s)>'],
  ['block-attach', 'Nf', 'Create a new virtual block device', '<Domain> <disk-spec-component(s)>...'],
  ['block-list', '', 'List virtual block devices for a domain', '<Domain(s)>'],
  [
    'block-detach',
    'f',
    "Destroy a domain's virtual block device",
    '[option] <Domain> <DevId>',
    '-f, --force        do not wait for the domain to release the device',
  ],
  ['vtpm-attach', 'Nf', 'Create a new virtual TPM device', '<Domain> [uuid=<uuid>] [backend=<BackDomain>]'],
  ['vtpm-list', '', 'List virtual TPM devices for a domain', '<Domain(s)>'],
  ['vtpm-detach', 'f', "Destroy a domain's virtual TPM device", '<Domain> <DevId|uuid>'],
  ['vkb-attach', 'Nf', 'Create a new virtual keyboard device', '<Domain> <vkb-spec-component(s)>...'],
  ['vkb-list', '', 'List virtual keyboard devices for a domain', '<Domain(s)>'],
  ['vkb-detach', 'f', "Destroy a domain's virtual keyboard device", '<Domain> <DevId>'],
  [
    'vdispl-attach',
    'Nf',
    'Create a new virtual display device',
    "<Domain> [backend=<BackDomain>] [be-alloc=<BackAlloc>] [connectors='<Connectors>']",
    "    BackAlloc  - set to 1 to if backend allocates display buffers\n    Connectors - list of connector's description in ID:WxH format,\n                 where: ID - unique connector ID, W - connector width,\n                 H - connector height: connectors='id0:800x600;id1:1024x768'\n",
  ],
  ['vdispl-list', '', 'List virtual display devices for a domain', '<Domain(s)>'],
  ['vdispl-detach', 'f', "Destroy a domain's virtual display device", '<Domain> <DevId>'],
  ['vsnd-attach', 'Nf', 'Create a new virtual sound device', '<Domain> <vsnd-spec-component(s)>...'],
  ['vsnd-list', '', 'List virtual display devices for a domain', '<Domain(s)>'],
  ['vsnd-detach', 'f', "Destroy a domain's virtual sound device", '<Domain> <DevId>'],
  ['uptime', '', 'Print uptime for all/some domains', '[-s] [Domain]'],
  ['claims', '', 'List outstanding claim information about all domains', '', ''],
  [
    'cpupool-create',
    'Nf',
    'Create a new CPU pool',
    '[options] [<ConfigFile>] [Variable=value ...]',
    '-h, --help                   Print this help.\n-f FILE, --defconfig=FILE    Use the given configuration file.\n-n, --dryrun                 Dry run - prints the resulting configuration.\n                              (deprecated in favour of global -N option).\n\nSee the xlcpupool.cfg(5) manpage for more information.',
  ],
  [
    'cpupool-list',
    '',
    'List CPU pools on host',
    '[-c|--cpus] [<CPU Pool>]',
    '-c, --cpus                     Output list of CPUs used by a pool',
  ],
  ['cpupool-destroy', 'f', 'Deactivates a CPU pool', '<CPU Pool>'],
  ['cpupool-rename', 'f', 'Renames a CPU pool', '<CPU Pool> <new name>'],
  ['cpupool-cpu-add', 'f', 'Adds a CPU to a CPU pool', '<CPU Pool> <CPU nr>|node:<node nr>'],
  ['cpupool-cpu-remove', 'f', 'Removes a CPU from a CPU pool', '<CPU Pool> <CPU nr>|node:<node nr>'],
  ['cpupool-migrate', 'f', 'Moves a domain into a CPU pool', '<Domain> <CPU Pool>'],
  ['cpupool-numa-split', 'f', 'Splits up the machine into one CPU pool per NUMA node', ''],
  ['getenforce', '', 'Returns the current enforcing mode of the Flask Xen security module', ''],
  [
    'setenforce',
    'f',
    'Sets the current enforcing mode of the Flask Xen security module',
    '<1|0|Enforcing|Permissive>',
  ],
  ['loadpolicy', 'f', 'Loads a new policy into the Flask Xen security module', '<policy file>'],
  [
    'remus',
    'f',
    'Enable Remus HA for domain',
    '[options] <Domain> [<host>]',
    '-i MS                   Checkpoint domain memory every MS milliseconds (def. 200ms).\n-u                      Disable memory checkpoint compression.\n-s <sshcommand>         Use <sshcommand> instead of ssh.  String will be passed\n                        to sh. If empty, run <host> instead of \n                        ssh <host> xl migrate-receive -r [-e]\n-e                      Do not wait in the background (on <host>) for the death\n                        of the domain.\n-N <netbufscript>       Use netbufscript to setup network buffering instead of the\n                        default script (/etc/xen/scripts/remus-netbuf-setup).\n-F                      Enable unsafe configurations [-b|-n|-d flags]. Use this option\n                        with caution as failover may not work as intended.\n-b                      Replicate memory checkpoints to /dev/null (blackhole).\n                        Works only in unsafe mode.\n-n                      Disable network output buffering. Works only in unsafe mode.\n-d                      Disable disk replication. Works only in unsafe mode.\n-c                      Enable COLO HA. It is conflict with -i and -b, and memory\n                        checkpoint must be disabled.\n-p                      Use COLO userspace proxy.',
  ],
  [
    'devd',
    'f',
    'Daemon that listens for devices and launches backends',
    '[options]',
    '-F                      Run in the foreground.\n-p, --pidfile [FILE]    Write PID to pidfile when daemonizing.',
  ],
  [
    'psr-hwinfo',
    'f',
    'Show hardware information for Platform Shared Resource',
    '[options]',
    '-m, --cmt       Show Cache Monitoring Technology (CMT) hardware info\n-a, --cat       Show Cache Allocation Technology (CAT) hardware info\n-b, --mba       Show Memory Bandwidth Allocation (MBA) hardware info\n',
  ],
  ['psr-cmt-attach', 'f', 'Attach Cache Monitoring Technology service to a domain', '<Domain>'],
  ['psr-cmt-detach', 'f', 'Detach Cache Monitoring Technology service from a domain', '<Domain>'],
  [
    'psr-cmt-show',
    'f',
    'Show Cache Monitoring Technology information',
    '<PSR-CMT-Type> <Domain>',
    'Available monitor types:\n"cache-occupancy":         Show L3 cache occupancy(KB)\n"total-mem-bandwidth":     Show total memory bandwidth(KB/s)\n"local-mem-bandwidth":     Show local memory bandwidth(KB/s)\n',
  ],
  [
    'psr-cat-set',
    'f',
    'Set cache capacity bitmasks(CBM) for a domain',
    '[options] <Domain> <CBM>',
    '-s <socket>       Specify the socket to process, otherwise all sockets are processed\n-l <level>        Specify the cache level to process, otherwise L3 cache is processed\n-c                Set code CBM if CDP is supported\n-d                Set data CBM if CDP is supported\n',
  ],
  [
    'psr-cat-show',
    'f',
    'Show Cache Allocation Technology information',
    '[options] <Domain>',
    '-l <level>        Specify the cache level to process, otherwise L3 cache is processed\n',
  ],
  [
    'psr-mba-set',
    'f',
    'Set throttling value (THRTL) for a domain',
    '[options] <Domain> <THRTL>',
    '-s <socket>       Specify the socket to process, otherwise all sockets are processed\n',
  ],
  ['psr-mba-show', 'f', 'Show Memory Bandwidth Allocation information', '<Domain>'],
  [
    'usbctrl-attach',
    'f',
    'Create a virtual USB controller for a domain',
    '<Domain> [type=pv] [version=<version>] [ports=<number>]',
  ],
  [
    'usbctrl-detach',
    'f',
    'Remove the virtual USB controller specified by <DevId> for a domain',
    '<Domain> <DevId>',
  ],
  [
    'usbdev-attach',
    'f',
    'Attach a USB device to a domain',
    '<Domain> hostbus=<busnum> hostaddr=<devnum> [controller=<DevId> [port=<port>]]',
  ],
  ['usbdev-detach', 'f', 'Detach a USB device from a domain', '<Domain> <controller> <port>'],
  ['usb-list', '', 'List information about all USB controllers and devices for a domain', '<Domain>'],
  [
    'qemu-monitor-command',
    'f',
    'Issue a qemu monitor command to the device model of a domain',
    '<Domain> <Command>',
  ],
];

/** 4.18 documented one more option of `console`. */
const CONSOLE_4_17: CommandRow = [
  'console',
  '',
  "Attach to domain's console",
  '[options] <Domain>\n-t <type>       console type, pv , serial or vuart\n-n <number>     console number',
];
const VSND_LIST_NEWEST: CommandRow = [
  'vsnd-list',
  '',
  'List virtual sound devices for a domain',
  '<Domain(s)>',
];
/** Commands only the newest release has, each with the command it stands behind. */
const NEWEST: readonly { readonly after: string; readonly row: CommandRow }[] = [
  { after: 'migrate-receive', row: ['suspend', 'f', 'Suspend a domain to RAM', '<Domain>'] },
  { after: 'suspend', row: ['resume', 'f', 'Resume a domain from RAM', '<Domain>'] },
  {
    after: 'qemu-monitor-command',
    row: ['xenstore-quota-get', '', 'List global or domain specific Xenstore quotas', '<Domain>|-g'],
  },
  {
    after: 'xenstore-quota-get',
    row: [
      'xenstore-quota-set',
      'f',
      'Set global or domain specific Xenstore quotas',
      '<Domain>|-g <quota>=<val>...',
    ],
  },
];

/** The table of a release. */
export function commandTable(release: Release): readonly CommandRow[] {
  if (release === '4.17') return ROWS.map((r) => (r[0] === 'console' ? CONSOLE_4_17 : r));
  if (release === '4.18') return ROWS;
  const rows = ROWS.map((r) => (r[0] === 'vsnd-list' ? VSND_LIST_NEWEST : r));
  for (const { after, row } of NEWEST) rows.splice(rows.findIndex((r) => r[0] === after) + 1, 0, row);
  return rows;
}

/** An exact name, or an unambiguous beginning of one. */
export function lookupCommand(table: readonly CommandRow[], name: string): CommandRow | undefined {
  const found = table.filter((r) => r[0].startsWith(name));
  return found.find((r) => r[0] === name) ?? (found.length === 1 ? found[0] : undefined);
}
