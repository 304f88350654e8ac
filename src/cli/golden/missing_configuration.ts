/** Guest configurations that a recording used and did not keep. */
import type { GoldenRecord } from './recording.js';

const CREATED = /\bxl (?:-\w+ )*create (\/h1\/cfg\/(\w+)\.cfg)/;
const HANDED_OVER = /pciback ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): registering for \d+$/;

/**
 * Such a file is an input, and what was in it shows in two places: its name continues that of a kept one (`pv1edu`,
 * `pv1`), and dom0's kernel names the devices that it hands over. Only for guests that came to life.
 */
export function missingConfigurations(
  records: readonly GoldenRecord[],
  kept: Readonly<Record<string, string>>,
): Record<string, string> {
  const made: Record<string, string> = {};
  for (const r of records) {
    const m = CREATED.exec(r.cmd);
    if (m === null || r.exit !== 0 || Object.hasOwn(kept, m[1]!)) continue;
    const base = baseOf(m[2]!, kept);
    if (base === undefined) continue;
    const devices = r.dom0_kernel_log.flatMap((l) => HANDED_OVER.exec(l)?.[1] ?? []);
    const rest = base.split('\n').filter((l) => !/^\s*pci\s*=/.test(l));
    made[m[1]!] = [...rest, `pci=[${devices.map((d) => `'${d}'`).join(', ')}]`, ''].join('\n');
  }
  return made;
}

/** The text of the kept file with the longest name that `name` begins with. */
function baseOf(name: string, kept: Readonly<Record<string, string>>): string | undefined {
  for (let n = name.length - 1; n > 0; n--) {
    const file = `/h1/cfg/${name.slice(0, n)}.cfg`;
    if (Object.hasOwn(kept, file)) return kept[file];
  }
  return undefined;
}
