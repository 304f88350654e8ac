import ts from 'typescript';
import { readSources } from '../../tools/editions.mjs';
import { filesBelow } from '../../tools/files.mjs';

export { filesBelow };

/** Every source file, parsed. */
export function parsedSources(): ts.SourceFile[] {
  return [...readSources()].map(([file, text]) => parse(file, text));
}

export const parse = (file: string, text: string): ts.SourceFile =>
  ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);

/** `file:line` of a node. */
export function place(source: ts.SourceFile, node: ts.Node): string {
  const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
  return `${source.fileName}:${line + 1}`;
}
