/** A board like a recorded one, with other options and commands: what of it is in no recording. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { ReplayRecord } from '../../src/cli/golden/recorded_host.js';
import { replay } from '../../src/cli/replay.js';

export const GOLDEN = path.resolve('../shared/golden');

export interface Unrecorded {
  /** The recording whose board it is. */
  readonly like: string;
  /** In place of the IOMMU's `-device`. */
  readonly iommu?: string;
  /** Words after the recorded command line of Xen. */
  readonly xen?: string;
  readonly commands: readonly string[];
}

/** Our record of the boot and of each command. */
export function unrecorded(o: Unrecorded): ReplayRecord[] {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-unrecorded-'));
  const from = path.join(GOLDEN, o.like);
  const [boot] = JSON.parse(fs.readFileSync(path.join(from, 'ops.json'), 'utf8'));
  const qemu = fs.readFileSync(path.join(from, 'qemu-cmdline.txt'), 'utf8');
  const device = o.iommu === undefined ? '$&' : `-device ${o.iommu}`;
  fs.writeFileSync(
    path.join(dir, 'qemu-cmdline.txt'),
    qemu.replace(/-device (?:intel|amd)-iommu\S*/, device),
  );
  const blank = { exit: 0, stdout: '', stderr: '', xen_log: [], dom0_kernel_log: [], vtd_trace: [] };
  const first = { ...boot, xen_cmdline: `${boot.xen_cmdline} ${o.xen ?? ''}`.trim() };
  const records = [first, ...o.commands.map((cmd) => ({ ...blank, cmd, context_entries: {} }))];
  fs.writeFileSync(path.join(dir, 'ops.json'), JSON.stringify(records));
  const ours = replay(dir, { topology: path.join(GOLDEN, 'topology.json') }).records.map((r) => r.ours);
  fs.rmSync(dir, { recursive: true });
  return ours;
}
