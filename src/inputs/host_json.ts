/**
 * `host.json`: what a dump cannot tell of a machine. Every key is optional; unknown ones are refused.
 * docs/host.schema.json is made from `HostJson`, docs/host.md explains it.
 */
import { z } from 'zod';
import { InputError } from '../base/assert.js';
import { textOf } from './text.js';

const hex64 = z
  .string()
  .regex(/^0x[0-9a-f]{1,16}$/i)
  .describe('64 bits in hex');
const word = z
  .string()
  .regex(/^[0-9a-f]{8}$/i)
  .describe('32 bits in hex');
const bdf = z.string().regex(/^([0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/i);
const driver = z.string().regex(/^[\w-]{1,64}$/);
const line = z
  .string()
  .max(2048)
  .regex(/^[\x20-\x7e]*$/);
const path = z
  .string()
  .max(256)
  .regex(/^(\/(?!\.{1,2}(\/|$))[\w.@+-]{1,64}){1,8}$/);

const Cpu = z
  .strictObject({
    vendor: z.enum(['intel', 'amd']).describe('default: what the firmware tables or the host bridge say'),
    count: z.int().min(1).max(4096).describe('CPUs; default 8'),
    model: z.string().min(1).max(128),
    mhz: z.number().min(1).max(100_000).describe('as `xl info` prints it; default 3000'),
    hap: z.boolean().describe('EPT or NPT; default true'),
    hap2m: z.boolean().describe('2 MiB pages in EPT or NPT; default true'),
    hap1g: z.boolean().describe('1 GiB pages in EPT or NPT; default true'),
    cx16: z.boolean().describe('CMPXCHG16B; default true'),
    intelModel: z.int().min(0).max(255).describe('model number of family 6: Sandy Bridge is 42 or 45'),
    hwCaps: z.array(word).max(16).describe('hw_caps of `xl info`, one string each'),
  })
  .partial();

const VtdUnit = z.strictObject({
  base: hex64.describe('register base, as in the DMAR'),
  cap: hex64.optional().describe('capability register, as Xen prints it at boot'),
  ecap: hex64.optional().describe('extended capability register'),
  version: z.int().min(0).max(255).optional(),
});

const Dom0 = z
  .strictObject({
    memoryMiB: z.int().min(256).max(16_777_216).describe('default: a quarter of the machine, at most 4096'),
    vcpus: z.int().min(1).max(512).describe('default: one for each CPU'),
    hostname: z.string().regex(/^[a-z0-9-]{1,63}$/i),
    kernelRelease: z.string().regex(/^[\w.+~-]{1,64}$/),
    kernelCmdline: line.describe('Linux command line, `xen-pciback.hide=` included'),
    pciback: z.enum(['module', 'builtin', 'none']).describe('how xen-pciback is built; default module'),
    files: z.record(path, z.string().max(1024 * 1024)).describe('files of dom0 by absolute path'),
  })
  .partial();

export const HostJson = z
  .strictObject({
    $schema: z.string().max(256),
    name: z.string().regex(/^[\w .-]{1,64}$/),
    memoryMiB: z.int().min(512).max(16_777_216).describe('used where there is no e820 file; default 16384'),
    xenCmdline: line.describe('Xen command line where none is given'),
    cpu: Cpu,
    vtdUnits: z.array(VtdUnit).max(64),
    amdFeatures: hex64.describe('extended feature register of the AMD IOMMUs'),
    drivers: z
      .record(bdf, driver.nullable())
      .describe('driver bound at boot by function, null for none; wins over the dump'),
    dom0: Dom0,
    guests: z.record(z.string().regex(/^[\w.-]{1,64}$/), z.unknown()).describe('programs of guests by name'),
  })
  .partial();
export type HostJson = z.infer<typeof HostJson>;

export function readHostJson(source: string, data: Uint8Array): HostJson {
  let json: unknown;
  try {
    json = JSON.parse(textOf(source, data));
  } catch (e) {
    if (e instanceof InputError) throw e;
    throw new InputError(source, '', `no JSON: ${(e as Error).message}`, 'correct it there');
  }
  const parsed = HostJson.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const place = issue.path.join('.').slice(0, 200);
  throw new InputError(
    source,
    place,
    issue.message.slice(0, 200),
    'see docs/host.md for what may stand there',
  );
}

/** The schema as JSON Schema, for editors: the text of docs/host.schema.json. */
export function hostJsonSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(HostJson, { io: 'input' }), null, 2)}\n`;
}
