import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ROOT } from '../support/built.js';
import { filesBelow, parse, parsedSources } from '../support/sources.js';
import { isTag, untidy } from './tidy_rules.js';

test('every source file keeps the house rules', () => {
  expect(parsedSources().flatMap(untidy)).toEqual([]);
});

test('files of tests, tools and benchmarks stay below 500 lines', () => {
  const files = [
    ...['test', 'benchmarks'].flatMap((folder) => filesBelow(folder, '.ts')),
    ...['tools', 'benchmarks'].flatMap((folder) => filesBelow(folder, '.mjs')),
  ];
  const long = files.filter((f) => fs.readFileSync(`${ROOT}/${f}`, 'utf8').split('\n').length > 500);
  expect(long).toEqual([]);
});

describe('the rules notice', () => {
  const lines = (n: number): string => 'x;\n'.repeat(n);
  const table: { what: string; file?: string; text: string; why: string }[] = [
    { what: 'a long file', text: lines(500), why: '500 lines' },
    { what: 'a long function', text: `function f() {\n${lines(68)}}`, why: 'a function of 70 lines' },
    { what: 'a BigInt literal', file: 'src/pci/x.ts', text: 'const a = 1n;', why: 'BigInt' },
    { what: 'BigUint64Array', file: 'src/sim/x.ts', text: 'const a = new BigUint64Array(1);', why: 'BigInt' },
    { what: 'any', text: 'export const a = (b: any) => b;', why: 'the type any' },
    { what: 'a throw in Xen', text: "throw new XenBug('');", why: 'throw outside' },
    {
      what: 'another error from a reader',
      file: 'src/inputs/x.ts',
      text: "throw new Error('');",
      why: 'throw outside',
    },
    {
      what: 'another error than the one caught',
      text: "try { f(); } catch (e) { throw new Error('', { cause: e }); }",
      why: 'throw outside',
    },
    { what: 'a private field', text: 'class A { #a = 1; }', why: 'a #private field' },
    { what: 'a module variable', text: 'let a = 1;', why: 'a variable of the module' },
    { what: 'a static field', text: 'class A { static a = 1; }', why: 'a static field' },
    { what: 'the clock', text: 'export const a = () => Date.now();', why: 'Date.now outside' },
    { what: 'a date', text: 'export const a = () => new Date();', why: 'new Date outside' },
    { what: 'chance', text: 'export const a = () => Math.random();', why: 'Math.random outside' },
    { what: 'a timer', text: 'setTimeout(() => {}, 1);', why: 'setTimeout outside' },
    { what: 'the console', text: "console.log('');", why: 'console outside' },
    { what: 'Node', text: "import fs from 'node:fs';", why: 'node: outside' },
    {
      what: 'a nested generator',
      text: 'function f() { function* g(): Co<void> {} }',
      why: 'inside a function',
    },
    { what: 'a tag without a name', text: '/** @xen */', why: '@xen names' },
    { what: 'a tag of prose', text: '/** @xen the place where it starts */', why: '@xen names' },
  ];
  test.each(table)('$what', ({ file, text, why }) => {
    expect(untidy(parse(file ?? 'src/hypervisor/x.ts', text)).join('\n')).toContain(why);
  });

  test('nothing in tidy code', () => {
    const cli = "import fs from 'node:fs';\nlet a = Date.now();\nthrow new InputError('', '', '', '');";
    expect(untidy(parse('src/cli/x.ts', cli))).toEqual([]);
    expect(untidy(parse('src/sim/x.ts', "throw new XenBug('');"))).toEqual([]);
    expect(untidy(parse('src/pci/x.ts', 'try { f(); } catch (e) { throw e; }'))).toEqual([]);
  });
});

test.each([
  'drivers/passthrough/pci.c assign_device',
  'drivers/passthrough/vtd/iommu.c, x86/iommu.c: the defaults',
  'struct pci_dev',
  'ioremap',
  'd->pdev_list',
  'BUG_ON and panic()',
  'device_assigned, and its caller',
])('a tag may be: %s', (tag) => expect(isTag(tag)).toBe(true));
