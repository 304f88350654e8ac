// @ts-check
/** Compiles the editions of the source with the TypeScript API, from memory. */
import fs from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { bundle } from './bundle.mjs';
import { editionOf, readSources } from './editions.mjs';
import { Refusal } from './erase.mjs';
import { ROOT } from './files.mjs';

/** @typedef {import('./erase.mjs').Edition} Edition */

/** Options of the compiler, as tsconfig.json has them. */
export function compilerOptions() {
  const file = path.join(ROOT, 'tsconfig.json');
  const { config, error } = ts.readConfigFile(file, ts.sys.readFile);
  if (error !== undefined) throw new Error(formatDiagnostics([error]).join('\n'));
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, ROOT);
  return { ...options, noEmit: false, allowJs: false, checkJs: false };
}

/** @param {readonly ts.Diagnostic[]} diagnostics @returns {string[]} `file:line:column: text` each */
export function formatDiagnostics(diagnostics) {
  return diagnostics.map((d) => {
    const text = ts.flattenDiagnosticMessageText(d.messageText, ' ');
    if (d.file === undefined || d.start === undefined) return text;
    const { line, character } = d.file.getLineAndCharacterOfPosition(d.start);
    return `${path.relative(ROOT, d.file.fileName)}:${line + 1}:${character + 1}: ${text}`;
  });
}

/** Parsed libraries and packages, shared by the programs of both editions. @type {Map<string, ts.SourceFile | undefined>} */
const parsed = new Map();

/**
 * A program of one edition: its files come from memory, everything else from disk.
 * @param {Map<string, string>} files by path in the repository @param {ts.CompilerOptions} options
 */
export function programOf(files, options) {
  const host = ts.createCompilerHost(options);
  const inSrc = (/** @type {string} */ name) => {
    const file = path.relative(ROOT, name).split(path.sep).join('/');
    return file.startsWith('src/') ? file : undefined;
  };
  const getSourceFile = host.getSourceFile.bind(host);
  host.fileExists = (name) => {
    const file = inSrc(name);
    return file === undefined ? ts.sys.fileExists(name) : files.has(file);
  };
  host.readFile = (name) => files.get(inSrc(name) ?? '') ?? ts.sys.readFile(name);
  host.getSourceFile = (name, languageVersion, onError) => {
    const file = inSrc(name);
    if (file !== undefined) {
      const text = files.get(file);
      return text === undefined ? undefined : ts.createSourceFile(name, text, languageVersion);
    }
    if (!parsed.has(name)) parsed.set(name, getSourceFile(name, languageVersion, onError));
    return parsed.get(name);
  };
  return ts.createProgram(
    [...files.keys()].map((f) => path.join(ROOT, f)),
    options,
    host,
  );
}

/**
 * Builds both editions below `dist`.
 * @param {string} dist @param {boolean} check whether to type-check what is emitted
 * @returns {Promise<string[]>} errors, one line each
 */
export async function buildEditions(dist, check) {
  const sources = readSources();
  /** @type {string[]} */ const errors = [];
  for (const edition of /** @type {Edition[]} */ (['co', 'sync'])) {
    try {
      errors.push(
        ...(await buildEdition(editionOf(sources, edition), path.join(dist, edition), edition, check)),
      );
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      errors.push(...error.lines);
    }
  }
  return errors;
}

/** @param {Map<string, string>} files @param {string} outDir @param {Edition} edition @param {boolean} check */
async function buildEdition(files, outDir, edition, check) {
  const options = {
    ...compilerOptions(),
    outDir,
    rootDir: path.join(ROOT, 'src'),
    declaration: true,
    // A class and one that extends it each get a list of their readonly fields.
    noImplicitOverride: false,
    noCheck: !check,
  };
  const program = programOf(files, options);
  const diagnostics = check ? ts.getPreEmitDiagnostics(program) : program.getSyntacticDiagnostics();
  const errors = formatDiagnostics(diagnostics).map((line) => `${line} (edition ${edition})`);
  /** @type {Map<string, string>} */ const declarations = new Map();
  /** @type {Map<string, string>} */ const modules = new Map();
  program.emit(undefined, (name, text) => {
    (name.endsWith('.d.ts') ? declarations : modules).set(path.resolve(name), text);
  });
  const written = new Map([...declarations, ...(await bundle(modules, outDir, edition))]);
  for (const [name, text] of written) writeIfChanged(name, text);
  removeOthers(outDir, written);
  return errors;
}

/** @param {string} name @param {string} text */
function writeIfChanged(name, text) {
  if (fs.existsSync(name) && fs.readFileSync(name, 'utf8') === text) return;
  fs.mkdirSync(path.dirname(name), { recursive: true });
  fs.writeFileSync(name, text);
}

/** Deletes what an earlier build left. @param {string} folder @param {ReadonlyMap<string, string>} kept */
function removeOthers(folder, kept) {
  if (!fs.existsSync(folder)) return;
  for (const entry of fs.readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const full = path.join(folder, entry);
    if (fs.statSync(full, { throwIfNoEntry: false })?.isFile() && !kept.has(full)) fs.rmSync(full);
  }
}
