/** The board of a recording as a host: its functions from the topology file, everything else from QEMU's command line. */
import fs from 'node:fs';
import path from 'node:path';
import { sbdf } from '../../base/sbdf.js';
import { readAcpiTable } from '../../inputs/acpi.js';
import type { FunctionDescription, HostDescription } from '../../inputs/host_description.js';
import { readTopology } from '../../inputs/topology.js';
import { QEMU_FEATURES } from '../../iommu/hw/amd/unit.js';
import { readBytes } from '../files.js';
import { BOOT_FILES, INITRD, KERNEL } from './boot_files.js';
import { missingConfigurations } from './missing_configuration.js';
import { q35Slots, withVirtualRegisters } from './q35_slots.js';
import { amdIommuFunction, q35Dmar, q35E820, q35Ivrs, VTD_BASE } from './q35_tables.js';
import { flag, type QemuIommu, type QemuMachine, readQemuCmdline } from './qemu_cmdline.js';
import { type Recording, recordedConfigurations } from './recording.js';

/** What Xen reports of the emulated CPUs. */
interface CpuModel {
  readonly model: string;
  readonly hwCaps: readonly number[];
}
const TCG: CpuModel = {
  model: 'QEMU TCG CPU version 2.5+',
  hwCaps: [0x1fcbf3fd, 0xf6d8320b, 0xec500800, 0x77, 5, 0x01884329, 0x20c, 0],
};
const EPYC: CpuModel = {
  model: 'AMD EPYC Processor',
  hwCaps: [0x178bf3fd, 0xf6d83203, 0x2c500800, 0x77, 5, 0x00880129, 0, 0],
};
/** Several processors in one package, in leaves 1 (EDX) and 0x80000001 (ECX). @see QEMU target/i386/cpu.c cpu_x86_cpuid */
const HTT = 0x1000_0000;
const CMP_LEGACY = 2;

function ofCount(cpu: CpuModel, count: number): CpuModel {
  if (count > 1) return cpu;
  return { ...cpu, hwCaps: cpu.hwCaps.map((w, i) => (i === 0 ? w - HTT : i === 3 ? w - CMP_LEGACY : w)) };
}

const KHZ = 2_596_126;

/** @throws InputError: a file is missing or unreadable, or the command line asks for what is not modelled */
export function boardOf(recording: Recording, topology: string): HostDescription {
  const qemu = readQemuCmdline(path.join(recording.dir, 'qemu-cmdline.txt'), recording.qemu);
  const xenCmdline = recording.records[0]!.xen_cmdline ?? '';
  const amdCpu = !/^(?!.*vendor=AuthenticAMD).*(GenuineIntel|Skylake|Icelake|Haswell|Cascadelake)/.test(
    qemu.cpu,
  );
  const functions = readTopology(topology, readBytes(topology)).map(withVirtualRegisters);
  const kept = recordedConfigurations(topology, recording.dir);
  const cpu = ofCount(/^(max|qemu64|base)\b/.test(qemu.cpu) ? TCG : EPYC, qemu.cpus);
  return {
    name: recording.name,
    ...hardwareOf(recording, functions, qemu),
    slots: q35Slots(functions),
    e820: q35E820(qemu.memoryBytes, amdCpu),
    xenCmdline,
    cpu: {
      vendor: amdCpu ? 'amd' : 'intel',
      count: qemu.cpus,
      khz: KHZ,
      hap: true,
      hap2m: true,
      // QEMU's TCG has 40 address bits.
      paddrBits: 40,
      hap1g: true,
      cx16: true,
      ...cpu,
    },
    ioApic: {
      id: 0,
      pins: 24,
      overrides: [{ irq: 0, pin: 2 }, ...[5, 9, 10, 11].map((irq) => ({ irq, pin: irq, level: true }))],
      ...(/\bcom1=/.test(xenCmdline) ? { serialIrq: 4 } : {}),
    },
    mcfg: [{ base: 0xb000_0000, seg: 0, firstBus: 0, lastBus: 0xff }],
    dom0: {
      memoryBytes: dom0Memory(xenCmdline, qemu),
      vcpus: Number(/\bdom0_max_vcpus=(\d+)/.exec(xenCmdline)?.[1] ?? qemu.cpus),
      hostname: 'dom0',
      kernelRelease: '6.1.0-56-amd64',
      kernelCmdline: qemu.kernelCmdline,
      pciback: 'module',
      // The kernel is the one of guests, /h1/vmlinuz; the recorded free memory says how large.
      images: { kernelBytes: 7770 * 4096, initrdBytes: 566 * 4096 },
      bootFiles: BOOT_FILES,
      files: {
        [KERNEL]: 'kernel',
        [INITRD]: 'initrd',
        ...missingConfigurations(recording.records, kept),
        ...kept,
      },
    },
  };
}

function hardwareOf(
  recording: Recording,
  functions: readonly FunctionDescription[],
  { iommu }: QemuMachine,
): Pick<HostDescription, 'functions' | 'dmar' | 'ivrs' | 'vtdUnits' | 'amdFeatures'> {
  if (iommu === undefined) return { functions };
  const intremap = flag(iommu.properties, 'intremap', true);
  if (iommu.kind === 'amd') {
    const at = sbdf(0, 0, iommu.slot, 0);
    const all = [...functions, amdIommuFunction(iommu.slot)].sort((a, b) => a.sbdf - b.sbdf);
    const ivrs = tableOf(recording, 'IVRS') ?? q35Ivrs(all, at, intremap);
    return { functions: all, ivrs, amdFeatures: QEMU_FEATURES };
  }
  const registers = vtdRegisters(iommu);
  const dmar =
    tableOf(recording, 'DMAR') ??
    q35Dmar(functions, {
      addressBits: registers.addressBits,
      interruptRemapping: intremap,
      ats: registers.ats,
    });
  return {
    functions,
    dmar,
    vtdUnits: [{ base: VTD_BASE, cap: registers.cap, ecap: registers.ecap, version: 0x10, asQemu: true }],
  };
}

/** The table that was dumped in dom0. */
function tableOf(recording: Recording, signature: 'DMAR' | 'IVRS'): Uint8Array | undefined {
  const file = path.join(recording.dir, `${signature.toLowerCase()}.bin`);
  return fs.existsSync(file) ? readAcpiTable(file, signature, readBytes(file)) : undefined;
}

interface VtdRegisters {
  readonly addressBits: number;
  readonly ats: boolean;
  /** Low and high word. */
  readonly cap: readonly [number, number];
  readonly ecap: readonly [number, number];
}

/** CAP and ECAP as QEMU makes them from the properties. @see QEMU hw/i386/intel_iommu.c vtd_init */
function vtdRegisters({ properties }: QemuIommu): VtdRegisters {
  const is = (name: string, byDefault: boolean): boolean => flag(properties, name, byDefault);
  const addressBits = Number(properties.get('aw-bits') ?? 39) >= 48 ? 48 : 39;
  const ats = is('device-iotlb', false);
  // ND, SAGAW (39 bit, 48 bit), MGAW, FRO; SLLPS, PSI, MAMV, DRD and DWD.
  const sagaw = addressBits === 48 ? 0x600 : 0x200;
  const low = 0x2200_0006 + sagaw + (addressBits - 1) * 2 ** 16 + (is('caching-mode', false) ? 0x80 : 0);
  const high = 0x0012_008c + (is('dma-drain', true) ? 0x00c0_0000 : 0);
  let ecap = 0x0f02;
  if (is('intremap', true)) {
    // IR with MHMV 15. Without KVM only the buggy form of EIM can be had.
    ecap += 0x00f0_0008;
    if (is('x-buggy-eim', false)) ecap += 0x10;
  }
  if (ats) ecap += 0x04;
  if (is('pt', true)) ecap += 0x40;
  if (is('snoop-control', false)) ecap += 0x80;
  // SRS; SMTS and SLTS.
  const scalable = is('x-scalable-mode', false);
  return {
    addressBits,
    ats,
    cap: [low, high],
    ecap: [scalable ? ecap + 0x8000_0000 : ecap, scalable ? 0x4800 : 0],
  };
}

const UNITS: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** `dom0_mem=1G`; a quarter of the machine where it is silent. */
function dom0Memory(xenCmdline: string, qemu: QemuMachine): number {
  const m = /\bdom0_mem=(?:max:)?(\d{1,9})([kmg]?)/i.exec(xenCmdline);
  if (m === null) return Math.floor(qemu.memoryBytes / 4 / 4096) * 4096;
  return Number(m[1]) * (UNITS[m[2]!.toLowerCase()] ?? UNITS.k!);
}
