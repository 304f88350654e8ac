/** @xen tools/xl/xl.c help */
import { commandTable, lookupCommand } from './cmdtable.js';
import type { XlContext } from './context.js';

const NAME_WIDTH = 19;

/** One command's usage, or the list of all of them. */
export function help(xl: XlContext, command?: string): void {
  const table = commandTable(xl.dom0.profile.release);
  if (command === undefined || command === 'help') {
    xl.out('Usage xl [-vfNtT] <subcommand> [args]\n\nxl full list of subcommands:\n\n');
    for (const [name, , description] of table) {
      xl.out(` ${name.padEnd(NAME_WIDTH)} `);
      if (name.length > NAME_WIDTH) xl.out(`\n ${''.padEnd(NAME_WIDTH)} `);
      xl.out(`${description}\n`);
    }
    return;
  }
  const row = lookupCommand(table, command);
  if (row === undefined) {
    xl.out(`command "${command}" not implemented\n`);
    return;
  }
  const [name, flags, description, usage, options] = row;
  const letters = `${flags.includes('f') ? 'f' : ''}${flags.includes('N') ? 'N' : ''}`;
  xl.out(`Usage: xl [-vtT${letters}] ${name} ${usage}\n\n${description}.\n\n`);
  if (options !== undefined) xl.out(`Options:\n\n${options}\n`);
}
