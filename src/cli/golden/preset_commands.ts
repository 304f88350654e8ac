/**
 * Command registers that the recorder of AMD events had set before its first record: no command tells of it, the first
 * look at each device does. @returns by bdf, as text
 */
import type { GoldenRecord } from './recording.js';

const LOOKS = /^(?:edu )?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?:id=[0-9a-f]{8} command=)?([0-9a-f]{4})(?: .*)?$/;

export function presetCommands(records: readonly GoldenRecord[]): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  if (!records.some((r) => r.injected_events !== undefined)) return found;
  for (const r of records) {
    if (!/setpci -s \S+ COMMAND\)|^\/h1\/dma edu/.test(r.cmd)) continue;
    for (const line of r.stdout.split('\n')) {
      const m = LOOKS.exec(line);
      if (m !== null && !found.has(m[1]!)) found.set(m[1]!, Number.parseInt(m[2]!, 16));
    }
  }
  return found;
}
