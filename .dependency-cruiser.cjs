/**
 * Who may import whom, type imports included; test/arch/imports.test.ts runs it.
 * What is not named (machine.ts, index.ts, check, cli, preflight, labs) may import everything.
 */

/** Folder below src, and the folders and files it may import besides itself. */
const MAY_IMPORT = {
  base: [],
  sim: ['base'],
  pci: ['base', 'sim'],
  'iommu/format': ['base'],
  'iommu/hw': ['base', 'sim', 'iommu/format'],
  'iommu/driver': ['base', 'sim', 'pci', 'iommu/format'],
  hypervisor: ['base', 'sim', 'pci', 'iommu/driver'],
  toolstack: ['base', 'sim', 'pci', 'hypervisor/public'],
  devicemodel: ['base', 'sim', 'pci', 'hypervisor/public'],
  guest: ['base', 'sim', 'pci', 'hypervisor/public'],
  inputs: ['base', 'sim', 'pci', 'iommu/format', 'iommu/driver/types\\.ts'],
  'check/reference': ['base'],
};

/** Folders that are hardware or Xen: they stand on no package. */
const WITHOUT_PACKAGES = 'base|sim|pci|iommu|hypervisor|devicemodel|guest';

const below = (names) => `^src/(${names.map((n) => (n.endsWith('.ts') ? `${n}$` : `${n}/`)).join('|')})`;

module.exports = {
  forbidden: [
    ...Object.entries(MAY_IMPORT).map(([folder, others]) => ({
      name: `imports-of-${folder.replace('/', '-')}`,
      comment: `${folder} may import ${others.length === 0 ? 'nothing' : others.join(', ')}`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: below([folder, ...others]) },
    })),
    {
      name: 'inputs-know-only-the-types-of-drivers',
      severity: 'error',
      from: { path: '^src/inputs/' },
      to: { path: '^src/iommu/driver/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'bugs-are-switched-on-from-outside',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(index\\.ts|check/|cli/|hypervisor/bugs/)' },
      to: { path: '^src/hypervisor/bugs/' },
    },
    {
      name: 'node-only-in-cli',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-packages-below-the-toolstack',
      severity: 'error',
      from: { path: `^src/(${WITHOUT_PACKAGES})/` },
      to: { path: 'node_modules' },
    },
    { name: 'no-cycles', severity: 'error', from: { path: '^src/' }, to: { circular: true } },
    {
      name: 'everything-is-found',
      severity: 'error',
      from: { path: '^src/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: `${__dirname}/tsconfig.json` },
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
};
