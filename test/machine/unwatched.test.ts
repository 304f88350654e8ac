import { expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { FLUSHF } from '../../src/iommu/driver/types.js';
import type { VtdUnit } from '../../src/iommu/hw/vtd/unit.js';
import { Machine } from '../../src/machine.js';
import { runAlone } from '../../src/sim/co.js';
import { q35 } from '../helpers/q35.js';

interface Outcome {
  readonly words: Int32Array;
  readonly regs: Int32Array;
  readonly tails: readonly number[];
  readonly nowNs: number;
}

/**
 * A guest gets the network card and loses it, again and again: several times round the queue. `single` requests go
 * before, one descriptor and a wait each; the unit takes `latencyNs` for each descriptor.
 */
function play(listens: boolean, single: number, latencyNs: number): Outcome {
  const m = Machine.boot(q35('vtd'), { cmdline: 'dom0_mem=512M iommu=no-quarantine' });
  const { hypercalls } = m;
  const flags = { hvm: false, hap: false, iommu: true };
  const create = { cmd: 'createdomain', domid: 1, flags, iommuNoSharept: false, maxVcpus: 1, handle: '' };
  expect(runAlone(hypercalls.domctl(create as Parameters<typeof hypercalls.domctl>[0]))).toBe(0);
  const tails: number[] = [];
  if (listens)
    m.hw.events.attach((e) => void (e.kind === 'reg' && e.write && e.offset === 0x88 && tails.push(e.lo)));
  const unit = m.units[0] as VtdUnit;
  unit.latencyNs = latencyNs;
  for (let i = 0; i < single; i++)
    expect(runAlone(m.xen.ops!.iotlbFlush(m.xen.hwdom, 0, 1, FLUSHF.modified))).toBe(0);
  const op = { domid: 1, dev: 0, machineSbdf: sbdf(0, 2, 0, 0), flags: 0 } as const;
  for (let i = 0; i < 100; i++) {
    expect(runAlone(hypercalls.domctl({ cmd: 'assign_device', ...op }))).toBe(0);
    expect(runAlone(hypercalls.domctl({ cmd: 'deassign_device', ...op }))).toBe(0);
  }
  return { words: m.hw.ram.words, regs: unit.regs, tails, nowNs: m.hw.clock.nowNs };
}

test.each([
  [0, 0],
  [1, 0],
  [0, 1000],
  [1, 7],
])(
  'a queue is left as if its tail had moved over each descriptor, watched or not: %i single requests before, %i ns each',
  (single, latencyNs) => {
    const watched = play(true, single, latencyNs);
    const alone = play(false, single, latencyNs);
    expect(watched.tails.length).toBe(800 + 2 * single);
    expect(watched.tails.every((t, i) => i === 0 || t === (watched.tails[i - 1]! + 16) % 4096)).toBe(true);
    expect(alone.words).toEqual(watched.words);
    expect(alone.regs).toEqual(watched.regs);
    expect(alone.nowNs).toBe(watched.nowNs);
  },
);
