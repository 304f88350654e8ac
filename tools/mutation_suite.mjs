// @ts-check
/**
 * The tests of the synchronous edition in one plain process, beside a source with every edit woven in: any test runs by
 * itself, as often as asked, with any edit in force. Stands in for vitest as far as these tests use it.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  GLOBAL_EXPECT,
  getState,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';
import ts from 'typescript';
import { compilerOptions } from './compile.mjs';
import { editionOf, readSources } from './editions.mjs';
import { isCoOnlyText, lower } from './erase.mjs';
import { filesBelow, ROOT } from './files.mjs';
import { ASK, weaveAll } from './mutation_edits.mjs';

/** @typedef {import('./mutation_edits.mjs').Edit} Edit */
/** @typedef {() => unknown} Body */
/** @typedef {{ beforeAll: Body[], afterAll: Body[], beforeEach: Body[] }} Scope */
/** @typedef {{ name: string, body: Body, scopes: Scope[] }} Case */
/** @typedef {Map<string, { exports: any }>} Registry */

/** Where compiled scripts and what is known of the tests are kept. */
export const BUILD = 'build/mutation';
/** @param {...string} texts */
export const hash = (...texts) => texts.reduce((h, t) => h.update(t), createHash('sha1')).digest('hex');
/** All that a verdict depends on. @type {ReadonlyMap<string, string>} */
export const TEXTS = new Map(
  [
    ['src', '.ts'],
    ['test', '.ts'],
    ['tools', '.mjs'],
  ]
    .flatMap(([folder, ending]) => filesBelow(folder ?? '', ending ?? ''))
    .map((file) => [file, fs.readFileSync(path.join(ROOT, file), 'utf8')]),
);

/** An edit that makes a loop endless asks for edits for ever. */
export class Endless extends Error {}

/**
 * Everything compiled, with the edits at these places, and kept below build until a file changes.
 * @param {string} places @returns {{ edits: Edit[], scripts: [string, string][] }} scripts by path in the repository
 */
export function compiled(places) {
  const texts = [...TEXTS].flatMap(([file, text]) => [file, text, '']);
  const kept = path.join(ROOT, BUILD, `${hash(places, ...texts)}.scripts.json`);
  if (!fs.existsSync(kept)) {
    fs.mkdirSync(path.dirname(kept), { recursive: true });
    const part = `${kept}.${process.pid}`;
    fs.writeFileSync(part, JSON.stringify(compile(places)));
    fs.renameSync(part, kept);
  }
  return JSON.parse(fs.readFileSync(kept, 'utf8'));
}

/** @param {string} places */
function compile(places) {
  const { edits, woven } = weaveAll(places);
  const sources = readSources();
  for (const [file, text] of woven) sources.set(file, text);
  const files = editionOf(sources, 'sync');
  const isCoOnly = (/** @type {string} */ file) => isCoOnlyText(sources.get(file) ?? '');
  for (const file of filesBelow('test', '.ts')) {
    const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
    if (file.startsWith('test/schedule/')) continue;
    files.set(file, /\bCo<|^\s*using\s/m.test(text) ? lower(file, text, 'sync', { isCoOnly }) : text);
  }
  const options = { ...compilerOptions(), module: ts.ModuleKind.CommonJS, verbatimModuleSyntax: false };
  Object.assign(options, { moduleResolution: undefined, esModuleInterop: true, sourceMap: false });
  /** @type {Map<string, string>} */ const scripts = new Map();
  for (const [file, text] of files) {
    const here = JSON.stringify(pathToFileURL(path.join(ROOT, file)).href);
    const folder = JSON.stringify(path.join(ROOT, path.dirname(file)));
    const known = text.replaceAll('import.meta.url', here).replaceAll('import.meta.dirname', folder);
    const { outputText } = ts.transpileModule(known, { compilerOptions: options, fileName: file });
    scripts.set(file, `(function (exports, require, ${ASK}) {${outputText}\n})`);
  }
  return { edits, scripts: [...scripts] };
}

function makeExpect() {
  chai.use(JestExtend);
  chai.use(JestChaiExpect);
  chai.use(JestAsymmetricMatchers);
  const expect = /** @type {any} */ (
    (/** @type {any} */ value, /** @type {string} */ message) => chai.expect(value, message)
  );
  Object.assign(expect, chai.expect);
  const all = /** @type {any} */ (globalThis);
  Object.assign(expect, all[ASYMMETRIC_MATCHERS_OBJECT]);
  expect.getState = () => getState(expect);
  expect.setState = (/** @type {any} */ state) => setState(state, expect);
  expect.unreachable = (/** @type {string} */ message) => chai.assert.fail(message ?? 'reached');
  const state = { assertionCalls: 0, isExpectingAssertions: false, expectedAssertionsNumber: null };
  setState(/** @type {any} */ (state), expect);
  all[GLOBAL_EXPECT] = expect;
  return expect;
}

export class Suite {
  /** The edit in force. */ edit = -1;
  /** Numbers what was asked for, when given. @type {Uint8Array | undefined} */ reached;
  asked = 0;
  askedMax = Number.POSITIVE_INFINITY;
  /** Edits that are asked for while a module of src is evaluated. @type {Uint8Array} */ whileLoading;
  /** @type {Registry} */ modules = new Map();
  /** @type {Map<string, Function>} */ functions = new Map();
  #expect = makeExpect();
  #require = createRequire(path.join(ROOT, 'package.json'));
  /** Cases of the test file that is being read. @type {Case[]} */ #cases = [];
  /** @type {Scope[]} */ #scopes = [];

  /** @param {string} places */
  constructor(places) {
    const { edits, scripts } = compiled(places);
    this.edits = edits;
    this.scripts = new Map(scripts);
    this.whileLoading = new Uint8Array(edits.length);
    this.vitest = this.#standIn();
    this.ask = (/** @type {number} */ id) => {
      if (++this.asked > this.askedMax) throw new Endless('endless');
      if (this.reached !== undefined) this.reached[id] = 1;
      return id === this.edit;
    };
  }

  get testFiles() {
    return [...this.scripts.keys()].filter((file) => file.endsWith('.test.ts'));
  }

  /** The cases of a test file, read anew; those of src stay as they are. @param {string} file @returns {Case[]} */
  casesOf(file) {
    this.#cases = [];
    this.#scopes = [];
    /** @type {Registry} */ const mine = new Map();
    this.#load('test/support/setup.ts', mine);
    this.#load(file, mine);
    return this.#cases;
  }

  /** @param {Case} one */
  async run(one) {
    const { scopes, body } = one;
    for (const s of scopes) for (const f of s.beforeAll) await f();
    for (const s of scopes) for (const f of s.beforeEach) await f();
    try {
      await body();
    } finally {
      for (const s of scopes) for (const f of s.afterAll) await f();
    }
  }

  /** @param {string} file @param {Registry} mine modules of test */
  #load(file, mine) {
    const registry = file.startsWith('src/') ? this.modules : mine;
    const known = registry.get(file);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    registry.set(file, module);
    const { reached } = this;
    if (file.startsWith('src/')) this.reached = this.whileLoading;
    try {
      this.#function(file)(
        module.exports,
        (/** @type {string} */ to) => this.#resolve(file, to, mine),
        this.ask,
      );
    } catch (error) {
      registry.delete(file);
      throw error;
    } finally {
      this.reached = reached;
    }
    return module.exports;
  }

  /** @param {string} file @returns {Function} */
  #function(file) {
    let f = this.functions.get(file);
    if (f === undefined) {
      const text = this.scripts.get(file);
      if (text === undefined) throw new Error(`no ${file}`);
      f = /** @type {Function} */ (new vm.Script(text, { filename: file }).runInThisContext());
      this.functions.set(file, f);
    }
    return f;
  }

  /** @param {string} from @param {string} to @param {Registry} mine */
  #resolve(from, to, mine) {
    if (to === 'vitest') return this.vitest;
    if (!to.startsWith('.')) return this.#require(to);
    const file = path.posix.join(path.posix.dirname(from), to);
    if (file.endsWith('.json')) return JSON.parse(fs.readFileSync(path.join(ROOT, file), 'utf8'));
    return this.#load(file.replace(/\.js$/, '.ts'), mine);
  }

  #standIn() {
    const nothing = () => {};
    const scoped = (/** @type {'beforeAll' | 'afterAll' | 'beforeEach'} */ kind) => (/** @type {Body} */ f) =>
      this.#scope()[kind].push(f);
    const test = Object.assign(
      (/** @type {string} */ name, /** @type {any} */ a, /** @type {any} */ b) => {
        this.#scope();
        const body = typeof a === 'function' ? a : b;
        this.#cases.push({ name, body, scopes: [...this.#scopes] });
      },
      {
        each: each((...all) => test(...all)),
        skip: nothing,
        skipIf: unless(() => test),
        runIf: when(() => test),
      },
    );
    const describe = Object.assign(
      (/** @type {string} */ _name, /** @type {Body} */ body) => {
        this.#scope();
        this.#scopes.push({ beforeAll: [], afterAll: [], beforeEach: [] });
        body();
        this.#scopes.pop();
      },
      { each: each((name, body) => describe(name, body)), skip: nothing, skipIf: unless(() => describe) },
    );
    const hooks = {
      beforeAll: scoped('beforeAll'),
      afterAll: scoped('afterAll'),
      beforeEach: scoped('beforeEach'),
      // Each test has all hooks to itself.
      afterEach: scoped('afterAll'),
    };
    return { expect: this.#expect, test, it: test, describe, ...hooks };
  }

  /** The innermost scope; a file has one of its own. @returns {Scope} */
  #scope() {
    if (this.#scopes.length === 0) this.#scopes.push({ beforeAll: [], afterAll: [], beforeEach: [] });
    return /** @type {Scope} */ (this.#scopes.at(-1));
  }
}

const nowhere = Object.assign(() => {}, { each: () => () => {} });
/** @param {() => any} real */
const unless = (real) => (/** @type {unknown} */ condition) => (condition ? nowhere : real());
/** @param {() => any} real */
const when = (real) => (/** @type {unknown} */ condition) => (condition ? real() : nowhere);
/** @param {(name: string, body: any, options?: any) => void} real */
const each =
  (real) =>
  (/** @type {readonly unknown[]} */ rows) =>
  (/** @type {string} */ name, /** @type {any} */ body, /** @type {any} */ options) => {
    for (const [i, row] of rows.entries())
      real(`${name} [${i}]`, () => (Array.isArray(row) ? body(...row) : body(row)), options);
  };
