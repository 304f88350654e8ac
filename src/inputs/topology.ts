/** Reads a board description in JSON: every function with its configuration space in hex, resources and driver. */
import { z } from 'zod';
import { InputError } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import { parseSbdf } from '../base/sbdf.js';
import type { FunctionDescription } from './host_description.js';
import { deviceText } from './lspci_text.js';
import { textOf } from './text.js';

const hexNumber = z.string().regex(/^0x[0-9a-f]{1,16}$/i);
const Device = z.object({
  bdf: z.string().max(16),
  config_hex: z
    .string()
    .regex(/^(?:[0-9a-f]{2})+$/i)
    .max(8192),
  irq: z.int().min(0).max(65_535),
  driver_at_boot: z.string().max(64).nullable(),
  lspci_name: z.string().max(512),
  resources: z.array(z.object({ idx: z.int().min(0).max(31), start: hexNumber, end: hexNumber })).max(32),
});
const Topology = z.object({ devices: z.array(Device).min(1).max(LIMITS.devicesMax) });

/** In the order of the file. Resource 6 is the ROM, 7 to 12 are all virtual functions of a physical one together. */
export function readTopology(source: string, data: Uint8Array): FunctionDescription[] {
  let json: unknown;
  try {
    json = JSON.parse(textOf(source, data));
  } catch (e) {
    throw new InputError(source, '', `no JSON: ${(e as Error).message}`, 'restore the file');
  }
  const parsed = Topology.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(source, issue.path.join('.'), issue.message, 'restore the file');
  }
  return parsed.data.devices.map((d, i) => describe(source, d, i));
}

function describe(source: string, d: z.infer<typeof Device>, i: number): FunctionDescription {
  const at = parseSbdf(d.bdf);
  if (at === undefined) {
    throw new InputError(source, `devices.${i}.bdf`, `no address: ${d.bdf}`, 'write 0000:01:00.0');
  }
  const config = new Uint8Array(d.config_hex.length / 2);
  for (let b = 0; b < config.length; b++)
    config[b] = Number.parseInt(d.config_hex.slice(2 * b, 2 * b + 2), 16);
  const name = deviceText(d.lspci_name);
  return {
    sbdf: at,
    config,
    barBytes: sizesOf(config, d.resources),
    irq: d.irq,
    ...(name === undefined ? {} : { name }),
    ...(d.driver_at_boot === null ? {} : { driver: d.driver_at_boot }),
  };
}

function sizesOf(config: Uint8Array, resources: z.infer<typeof Device>['resources']): number[] {
  const sizes: number[] = new Array(13).fill(0);
  const isBridge = (config[0xe]! & 0x7f) === 1;
  for (const r of resources) {
    if (r.idx > 12 || (isBridge && r.idx > 6)) continue;
    const bytes = Number(r.end) - Number(r.start) + 1;
    sizes[r.idx] = r.idx < 7 ? bytes : bytes / totalVfs(config);
  }
  return sizes;
}

/** TotalVFs of the SR-IOV capability; 1 when there is none. */
function totalVfs(config: Uint8Array): number {
  const word = (at: number): number => config[at]! + config[at + 1]! * 256;
  let at = 0x100;
  for (let n = 0; n < 480 && at >= 0x100 && at + 16 <= config.length; n++) {
    if (word(at) === 0x10) return Math.max(1, word(at + 0xe));
    at = (word(at + 2) >>> 4) & 0xffc;
  }
  return 1;
}
