/**
 * Where the tools of the releases differ, as named facts and seams with the default of 4.18.3. Chosen once by the
 * machine; nothing else looks at the release, except for the line numbers of messages.
 */
import type { Release } from './lines.js';

export interface ToolstackProfile {
  readonly release: Release;
  /** Release in directory names, `/usr/lib/xen-4.17/boot`. */
  readonly version: string;
  /** Classes of an Intel display that count as IGD. */
  readonly igdClasses: readonly number[];
  /**
   * Who loses the permissions for a device that is removed: only PV guests (4.17), or all, but with addresses read
   * into 32 bits (4.18.3), or all.
   */
  readonly revoke: 'pv' | 'all-32bit' | 'all';
  /** The IRQ line 0xff is none. */
  readonly irqLineLimit: number;
  /** What a failed reset through sysfs is called: with write()'s -1 (4.17), or not. */
  readonly resetErrorHasResult: boolean;
  /** A back end without scripts is told by its number, not by its name. */
  readonly kindNumbers: boolean;
  /** qemu-xen-traditional exists. */
  readonly traditionalModel: boolean;
  /** `got a tsc mode string: …` is printed. */
  readonly tscModeEchoed: boolean;
  /** A configuration without vcpus= asks for one. */
  readonly vcpusDefaultOne: boolean;
}

const v418: ToolstackProfile = {
  release: '4.18',
  version: '4.18',
  igdClasses: [0x030000],
  revoke: 'all-32bit',
  irqLineLimit: Number.POSITIVE_INFINITY,
  resetErrorHasResult: false,
  kindNumbers: false,
  traditionalModel: true,
  tscModeEchoed: true,
  vcpusDefaultOne: false,
};

export const TOOLSTACK_PROFILES: Readonly<Record<Release, ToolstackProfile>> = {
  '4.17': {
    ...v418,
    release: '4.17',
    version: '4.17',
    revoke: 'pv',
    resetErrorHasResult: true,
    kindNumbers: true,
  },
  '4.18': v418,
  '4.23': {
    ...v418,
    release: '4.23',
    version: '4.23',
    igdClasses: [0x030000, 0x038000],
    revoke: 'all',
    irqLineLimit: 0xff,
    traditionalModel: false,
    tscModeEchoed: false,
    vcpusDefaultOne: true,
  },
};
