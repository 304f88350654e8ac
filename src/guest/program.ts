/**
 * What a guest is made of, as data: host.json keeps one of these for each guest by name, and every part has a default.
 * Guests are scripts: they have a bus, drivers that match devices, and a few commands. They run no operating system.
 */
export interface GuestProgram {
  /** What `uname -r` says. */
  readonly kernel: string;
  readonly hostname: string;
  /** Modules by what they drive, first match wins: `10de:*`, `8086:10d3`, `class:0c03`. */
  readonly modules: readonly { readonly match: string; readonly module: string }[];
  /** Version of NVIDIA's driver, for glxinfo. */
  readonly nvidiaVersion: string;
}

/** Usual drivers of a desktop installation with NVIDIA's own one. */
const MODULES: GuestProgram['modules'] = [
  { match: '10de:*:0300', module: 'nvidia' },
  { match: '10de:*:0302', module: 'nvidia' },
  { match: '1002:*:0300', module: 'amdgpu' },
  { match: '8086:*:0300', module: 'i915' },
  { match: 'class:0403', module: 'snd_hda_intel' },
  { match: '8086:10d3', module: 'e1000e' },
  { match: '8086:100e', module: 'e1000' },
  { match: 'class:0108', module: 'nvme' },
  { match: 'class:0c03', module: 'xhci_pci' },
  { match: '1af4:*', module: 'virtio_pci' },
  { match: '5853:0001', module: 'xen_platform_pci' },
  { match: '1013:00b8', module: 'cirrus' },
  { match: '8086:7010', module: 'ata_piix' },
];

const text = (value: unknown, pattern: RegExp, fallback: string): string =>
  typeof value === 'string' && pattern.test(value) ? value : fallback;

/** Takes what is usable of an unknown value: `{ kernel, hostname, modules: { "10de:*": "nouveau" }, nvidiaVersion }`. */
export function guestProgram(name: string, value: unknown): GuestProgram {
  const o: Readonly<Record<string, unknown>> =
    typeof value === 'object' && value !== null ? { ...value } : {};
  const own: { match: string; module: string }[] = [];
  if (typeof o.modules === 'object' && o.modules !== null) {
    for (const [match, module] of Object.entries(o.modules).slice(0, 256)) {
      if (typeof module === 'string' && /^[\w-]{1,64}$/.test(module))
        own.push({ match: match.toLowerCase(), module });
    }
  }
  return {
    kernel: text(o.kernel, /^[\w.+~-]{1,64}$/, '6.1.0-56-amd64'),
    hostname: text(o.hostname, /^[\w.-]{1,63}$/, name),
    modules: [...own, ...MODULES],
    nvidiaVersion: text(o.nvidiaVersion, /^[\w.]{1,32}$/, '535.216.01'),
  };
}

const hex4 = (n: number): string => n.toString(16).padStart(4, '0');

/** The module for a device, undefined when the guest has none. `code` is base class and sub-class. */
export function moduleFor(p: GuestProgram, vendor: number, device: number, code: number): string | undefined {
  const [v, d, c] = [hex4(vendor), hex4(device), hex4(code)];
  const names = new Set([`${v}:${d}`, `${v}:*`, `${v}:*:${c}`, `${v}:${d}:${c}`, `class:${c}`]);
  return p.modules.find((m) => names.has(m.match))?.module;
}
