/** Forms of lspci and sysfs that no recording has: pciutils names.c format_name_pair, Linux drivers/pci/pci-sysfs.c. */
import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ReplayRecord } from '../../src/cli/golden/recorded_host.js';
import { GOLDEN, unrecorded } from '../helpers/unrecorded.js';

describe.skipIf(!fs.existsSync(GOLDEN))('forms that were not recorded', () => {
  const LINK = '/sys/bus/pci/devices/0000:02:00.0/';
  let [nn, n, link, port, mode]: ReplayRecord[] = [];
  beforeAll(() => {
    [, nn, n, link, port, mode] = unrecorded({
      like: '21-caching-mode',
      commands: [
        'lspci -vnn -s 02:00.0 | grep Subsystem',
        'lspci -vn -s 02:00.0 | grep Subsystem',
        `cat ${LINK}current_link_speed ${LINK}current_link_width ${LINK}max_link_speed ${LINK}max_link_width`,
        'ls /sys/bus/pci/devices/0000:00:08.0 | grep -c link_',
        'ls -l /sys/bus/pci/drivers/pciback/slots /sys/bus/pci/drivers/pciback/permissive | cut -c1-10',
      ],
    });
  });

  test('-nn puts the numbers of the subsystem behind its name, -n in its place', () => {
    const name = 'Intel Corporation 82574L Gigabit Network Connection';
    expect(nn!.stdout).toBe(`\tSubsystem: ${name} [8086:0000]\n`);
    expect(n!.stdout).toBe('\tSubsystem: 8086:0000\n');
  });

  test('a PCI Express device tells of its link, a conventional one has no such files', () => {
    expect(link!.stdout).toBe('2.5 GT/s PCIe\n1\n2.5 GT/s PCIe\n1\n');
    expect(port!.stdout).toBe('0\n');
  });

  test("everybody may read pciback's lists", () => {
    expect(mode!.stdout).toBe('-rw-r--r--\n-r--r--r--\n');
  });
});
