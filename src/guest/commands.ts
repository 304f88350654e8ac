/** What can be typed inside a guest. */
import { deviceName, lspciLine } from '../pci/names.js';
import type { GuestOutput } from './environment.js';
import { type GuestKernel, slot } from './kernel.js';

/** Runs one command; the result is its exit status. */
export function runInGuest(guest: GuestKernel, argv: readonly string[], io: GuestOutput): number {
  const [name, ...args] = argv;
  switch (name) {
    case 'lspci':
      return lspci(guest, args, io);
    case 'lsmod':
      return lsmod(guest, io);
    case 'glxinfo':
      return glxinfo(guest, args, io);
    case 'dmesg':
      io.out(guest.log.map((l) => `${l}\n`).join(''));
      return 0;
    case 'uname':
      io.out(
        args[0] === '-r'
          ? `${guest.program.kernel}\n`
          : `Linux ${guest.program.hostname} ${guest.program.kernel} x86_64\n`,
      );
      return 0;
    case 'hostname':
      io.out(`${guest.program.hostname}\n`);
      return 0;
    default:
      io.err(`bash: ${name ?? ''}: command not found\n`);
      return 127;
  }
}

function lspci(guest: GuestKernel, args: readonly string[], io: GuestOutput): number {
  const flags = args.filter((a) => a.startsWith('-')).join('');
  const at = args.indexOf('-s');
  const filter = at < 0 ? undefined : args[at + 1]?.replace(/^(0000:)?00:/, '');
  const ids = flags.includes('nn') ? 'both' : flags.includes('n') ? 'numbers' : 'names';
  for (const d of [...guest.devices.values()].sort((a, b) => a.devfn - b.devfn)) {
    if (filter !== undefined && !slot(d.devfn).startsWith(filter)) continue;
    io.out(`${lspciLine({ ...d, sbdf: d.devfn }, { ids })}\n`);
    const driver = guest.driverOf(d.devfn);
    if (flags.includes('k') && driver !== undefined)
      io.out(`\tKernel driver in use: ${driver}\n\tKernel modules: ${driver}\n`);
  }
  return 0;
}

const MODULE_BYTES: Readonly<Record<string, number>> = {
  nvidia: 56717312,
  nouveau: 2433024,
  amdgpu: 9789440,
  i915: 3051520,
  snd_hda_intel: 57344,
  e1000e: 331776,
};

function lsmod(guest: GuestKernel, io: GuestOutput): number {
  io.out('Module                  Size  Used by\n');
  const line = (name: string, bytes: number, users: number, by = ''): void =>
    io.out(`${name.padEnd(19)} ${String(bytes).padStart(8)}  ${users}${by === '' ? '' : ` ${by}`}\n`);
  for (const [name, users] of [...guest.modules()].reverse()) {
    if (name === 'nvidia') {
      line('nvidia_drm', 77824, 4);
      line('nvidia_modeset', 1314816, 6, 'nvidia_drm');
    }
    const bytes = Object.hasOwn(MODULE_BYTES, name) ? MODULE_BYTES[name]! : 32768;
    line(name, bytes, users, name === 'nvidia' ? 'nvidia_modeset' : '');
  }
  return 0;
}

/** The renderer is the GPU whose driver is at work, or the CPU. */
function glxinfo(guest: GuestKernel, args: readonly string[], io: GuestOutput): number {
  const gpu = guest.gpu();
  const model = gpu === undefined ? '' : deviceName({ ...gpu, sbdf: gpu.devfn });
  const version = guest.program.nvidiaVersion;
  const [vendor, renderer, gl] =
    gpu === undefined
      ? ['Mesa', 'llvmpipe (LLVM 15.0.6, 256 bits)', '4.5 (Core Profile) Mesa 22.3.6']
      : gpu.module === 'nvidia'
        ? ['NVIDIA Corporation', `NVIDIA ${marketing(model)}/PCIe/SSE2`, `4.6.0 NVIDIA ${version}`]
        : ['Mesa', marketing(model), '4.6 (Core Profile) Mesa 22.3.6'];
  io.out('name of display: :0\ndisplay: :0  screen: 0\ndirect rendering: Yes\n');
  io.out(`OpenGL vendor string: ${vendor}\n`);
  io.out(`OpenGL renderer string: ${renderer}\n`);
  io.out(`OpenGL core profile version string: ${gl}\n`);
  if (!args.includes('-B')) io.out('OpenGL core profile shading language version string: 4.60\n');
  return 0;
}

/** `NVIDIA Corporation GA104 [GeForce RTX 3070]` is sold as `GeForce RTX 3070`. */
const marketing = (model: string): string => /\[([^\]]+)\]/.exec(model)?.[1] ?? model;
