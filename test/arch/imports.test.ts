import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../support/built.js';
import { filesBelow } from '../support/sources.js';

interface Cruise {
  readonly violations: {
    readonly from: string;
    readonly to: string;
    readonly rule: { readonly name: string };
  }[];
  readonly totalCruised: number;
}

function cruise(cwd: string): Cruise {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      path.join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs'),
      ...['src', '--config', path.join(ROOT, '.dependency-cruiser.cjs'), '--output-type', 'json'],
    ],
    { cwd, encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (stdout === '') throw new Error(stderr);
  return (JSON.parse(stdout) as { summary: Cruise }).summary;
}

test('folders import only what they may', () => {
  const { violations, totalCruised } = cruise(ROOT);
  expect(violations.map((v) => `${v.rule.name}: ${v.from} -> ${v.to}`)).toEqual([]);
  // A compiler that the cruiser does not know makes it see nothing, and find nothing wrong.
  expect(totalCruised).toBeGreaterThanOrEqual(Math.max(50, filesBelow('src', '.ts').length));
});

test('a forbidden import is found in each folder, and a type import counts', () => {
  const planted: { file: string; text: string; rule: string }[] = [
    { file: 'src/base/a.ts', text: "import '../sim/a.js';", rule: 'imports-of-base' },
    { file: 'src/sim/a.ts', text: "import type { X } from '../pci/a.js';", rule: 'imports-of-sim' },
    { file: 'src/pci/a.ts', text: "import '../iommu/format/a.js';", rule: 'imports-of-pci' },
    { file: 'src/iommu/format/a.ts', text: "import '../../sim/b.js';", rule: 'imports-of-iommu-format' },
    { file: 'src/iommu/hw/a.ts', text: "import '../driver/a.js';", rule: 'imports-of-iommu-hw' },
    {
      file: 'src/iommu/driver/a.ts',
      text: "import type { X } from '../hw/b.js';",
      rule: 'imports-of-iommu-driver',
    },
    { file: 'src/hypervisor/a.ts', text: "import '../iommu/format/b.js';", rule: 'imports-of-hypervisor' },
    {
      file: 'src/toolstack/a.ts',
      text: "import type { X } from '../hypervisor/b.js';",
      rule: 'imports-of-toolstack',
    },
    { file: 'src/devicemodel/a.ts', text: "import '../iommu/driver/b.js';", rule: 'imports-of-devicemodel' },
    { file: 'src/guest/a.ts', text: "import '../hypervisor/b.js';", rule: 'imports-of-guest' },
    { file: 'src/inputs/a.ts', text: "import '../hypervisor/b.js';", rule: 'imports-of-inputs' },
    {
      file: 'src/inputs/c.ts',
      text: "import '../iommu/driver/types.js';",
      rule: 'inputs-know-only-the-types-of-drivers',
    },
    {
      file: 'src/check/reference/a.ts',
      text: "import '../../sim/b.js';",
      rule: 'imports-of-check-reference',
    },
    {
      file: 'src/machine.ts',
      text: "import './hypervisor/bugs/a.js';",
      rule: 'bugs-are-switched-on-from-outside',
    },
    { file: 'src/sim/n.ts', text: "import 'node:fs';", rule: 'node-only-in-cli' },
    { file: 'src/pci/p.ts', text: "import 'immer';", rule: 'no-packages-below-the-toolstack' },
    { file: 'src/cli/a.ts', text: "import './c.js';", rule: 'no-cycles' },
    { file: 'src/cli/b.ts', text: "import './nowhere.js';", rule: 'everything-is-found' },
  ];
  const innocent = ['src/sim/b.ts', 'src/iommu/format/b.ts', 'src/iommu/hw/b.ts', 'src/iommu/driver/b.ts'];
  innocent.push('src/iommu/driver/types.ts', 'src/hypervisor/b.ts', 'src/hypervisor/bugs/a.ts');
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'imports-'));
  try {
    fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(root, 'node_modules'));
    const write = (file: string, text: string): void => {
      fs.mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
      fs.writeFileSync(path.join(root, file), text);
    };
    for (const file of innocent) write(file, 'export type X = number;\n');
    for (const { file, text } of planted) write(file, `${text}\nexport type X = number;\n`);
    write('src/cli/c.ts', "import type { X } from './a.js';\nexport type Y = X;\n");
    const found = new Set(cruise(root).violations.map((v) => `${v.from}: ${v.rule.name}`));
    const missed = planted.map((p) => `${p.file}: ${p.rule}`).filter((p) => !found.has(p));
    expect(missed).toEqual([]);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
});
