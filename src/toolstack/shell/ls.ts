/** ls, as coreutils prints it into a pipe. Times are fixed: files here have none. @gnu coreutils ls */
import { isErr, strerror } from '../../base/errno.js';
import type { Dom0Files } from '../sysfs/files.js';
import { type Call, complain, options } from './program.js';

const TIME = 'Nov 22 15:28';

interface Entry {
  /** As it is printed. */
  readonly label: string;
  readonly path: string;
}
interface Row {
  readonly mode: string;
  readonly links: string;
  readonly size: string;
  readonly name: string;
}

export function ls(call: Call): number {
  const o = options(call.argv, 'laA1dhFtrS');
  if (o.unknown !== undefined) return complain(call, `invalid option -- '${o.unknown}'`, 2);
  const { fs } = call.shell.dom0;
  const long = o.flags.has('l');
  const files: Entry[] = [];
  const dirs: string[] = [];
  let exit = 0;
  for (const path of o.args.length === 0 ? ['.'] : [...o.args].sort((a, b) => (a < b ? -1 : 1))) {
    // A link to a directory is followed unless it is shown in full.
    const s = fs.stat(path, !long || path.endsWith('/'));
    if (isErr(s)) exit = complain(call, `cannot access '${path}': ${strerror(s)}`, 2);
    else if (s.kind === 'dir' && !o.flags.has('d')) dirs.push(path);
    else files.push({ label: path, path });
  }
  call.out(show(fs, files, long));
  dirs.forEach((dir, i) => {
    const names = fs.readdir(dir);
    if (isErr(names)) return;
    if (dirs.length + files.length > 1) call.out(`${i > 0 || files.length > 0 ? '\n' : ''}${dir}:\n`);
    if (long) call.out('total 0\n');
    const visible = names.filter((n) => o.flags.has('a') || o.flags.has('A') || !n.startsWith('.'));
    if (o.flags.has('a')) visible.push('.', '..');
    visible.sort((a, b) => (a < b ? -1 : 1));
    call.out(
      show(
        fs,
        visible.map((n) => ({ label: n, path: `${dir}/${n}` })),
        long,
      ),
    );
  });
  return exit;
}

function show(fs: Dom0Files, entries: readonly Entry[], long: boolean): string {
  if (!long) return entries.map((e) => `${e.label}\n`).join('');
  const rows = entries.map((e) => row(fs, e));
  const width = (key: 'links' | 'size'): number => Math.max(0, ...rows.map((r) => r[key].length));
  const [links, size] = [width('links'), width('size')];
  return rows
    .map((r) => `${r.mode} ${r.links.padStart(links)} root root ${r.size.padStart(size)} ${TIME} ${r.name}\n`)
    .join('');
}

function row(fs: Dom0Files, e: Entry): Row {
  const s = fs.stat(e.path, false);
  if (isErr(s)) return { mode: '??????????', links: '?', size: '?', name: e.label };
  const type = s.kind === 'dir' ? 'd' : s.kind === 'link' ? 'l' : '-';
  return {
    mode: type + permissions(s.mode),
    links: s.kind === 'dir' ? '2' : '1',
    size: String(s.size),
    name: s.target === undefined ? e.label : `${e.label} -> ${s.target}`,
  };
}

const permissions = (mode: number): string =>
  [6, 3, 0].map((at) => ['r', 'w', 'x'].map((c, i) => ((mode >> at) & (4 >> i) ? c : '-')).join('')).join('');
