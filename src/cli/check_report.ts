/** Reads what `xpsim check --json` wrote. */
import { z } from 'zod';
import { InputError } from '../base/assert.js';
import type { Report } from '../check/blocks.js';
import { readBytes } from './files.js';

const count = z.number().int().min(0);
const counts = z.array(z.tuple([z.string().max(200), count])).max(100_000);
const vendor = z.enum(['vtd', 'amd']);

const reportSchema = z.object({
  plan: z.strictObject({
    vendors: z.array(vendor).min(1).max(2),
    release: z.string().max(16),
    fixed: z.boolean(),
    runs: count.max(1_000_000_000),
    commands: count,
    seed: count,
  }),
  host: z.string().max(4096).optional(),
  blocks: z.array(count).max(10_000_000),
  histories: count,
  commands: count,
  counts,
  failures: z
    .array(
      z.strictObject({
        block: count,
        vendor,
        id: z.string().max(100),
        report: z.string().max(2_000_000),
        token: z.string().max(1_000_000),
      }),
    )
    .max(10_000),
});

/** @throws InputError */
export function readReport(file: string): Report & { readonly source: string } {
  const bad = (problem: string): InputError =>
    new InputError(file, '', problem, 'name files that xpsim check --json has written');
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(readBytes(file)).toString('utf8'));
  } catch (e) {
    throw e instanceof InputError ? e : bad('is no JSON');
  }
  const parsed = reportSchema.safeParse(json);
  if (!parsed.success) throw bad('is no report of a run');
  return { ...(parsed.data as Report), source: file };
}
