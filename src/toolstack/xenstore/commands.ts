/** xenstore-ls, -read, -write, -rm, -list, -exists, -chmod. @xen tools/xs-clients/xenstore_client.c */
import { strerror } from '../../base/errno.js';
import type { Stdio } from '../dom0.js';
import { canonical, lookup, type XsNode } from './node.js';
import type { XenstoreDaemon } from './store.js';

const MODES = ['ls', 'read', 'write', 'rm', 'list', 'exists', 'chmod'] as const;
type Mode = (typeof MODES)[number];

/** Quotes what a terminal should not see. */
export function sanitise(value: string): string {
  let out = '';
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i) & 0xff;
    if (c >= 0x20 && c <= 0x7e && c !== 0x5c) out += String.fromCharCode(c);
    else if (c === 9) out += '\\t';
    else if (c === 10) out += '\\n';
    else if (c === 13) out += '\\r';
    else if (c === 0x5c) out += '\\\\';
    else out += c < 8 ? `\\${c.toString(8).padStart(3, '0')}` : `\\x${c.toString(16).padStart(2, '0')}`;
  }
  return out;
}

/** The inverse, as xenstore-write reads its argument. */
export function unsanitise(text: string): string {
  return text.replace(/\\(x[0-9a-f]{1,2}|[0-7]{1,3}|[\s\S])?/gi, (_all, e: string | undefined) => {
    if (e === undefined) return '';
    if (e === 't') return '\t';
    if (e === 'n') return '\n';
    if (e === 'r') return '\r';
    if (/^x[0-9a-f]/i.test(e)) return String.fromCharCode(Number.parseInt(e.slice(1), 16));
    if (/^[0-7]/.test(e)) return String.fromCharCode(Number.parseInt(e, 8) & 0xff);
    return e;
  });
}

const USAGE: Readonly<Record<Mode, string>> = {
  ls: '[-h] [-f] [-p] [path]',
  read: '[-h] [-p] [-R] key [...]',
  write: '[-h] [-R] key value [...]',
  rm: '[-h] [-t] key [...]',
  list: '[-h] [-p] key [...]',
  exists: '[-h] [-p] key [...]',
  chmod: '[-h] [-u] [-r] key <mode [modes...]>',
};
const FLAGS: Readonly<Record<Mode, string>> = {
  ls: 'fp',
  read: 'pR',
  write: 'R',
  rm: 't',
  list: 'p',
  exists: '',
  chmod: 'ur',
};

/** Runs one client command; `argv[0]` is `xenstore-ls` and so on. The result is the exit code. */
export function xenstoreCommand(xs: XenstoreDaemon, argv: readonly string[], io: Stdio): number {
  const name = argv[0] ?? 'xenstore';
  const bare = name === 'xenstore';
  const word = bare ? argv[1] : name.slice('xenstore-'.length);
  if (word === undefined) return complain(io, name, `Usage: ${name} <mode> [-h] [...]`);
  const mode = MODES.find((m) => m === word);
  if (mode === undefined) return complain(io, name, `unknown mode ${word}\n`);
  const usage = `Usage: ${name} ${bare ? `${mode} ` : ''}${USAGE[mode]}`;
  const flags = new Set<string>();
  const args: string[] = [];
  let options = true;
  for (const a of argv.slice(bare ? 2 : 1)) {
    if (options && a === '--') options = false;
    else if (options && a.length > 1 && a.startsWith('-')) {
      for (const c of a.slice(1)) {
        if (!FLAGS[mode].includes(c)) return complain(io, name, usage);
        flags.add(c);
      }
    } else args.push(a);
  }
  if (mode !== 'ls' && args.length === 0) return complain(io, name, usage);
  if (mode === 'write' && args.length % 2 === 1) return complain(io, name, usage);
  return new Client(xs, name, io, flags).run(mode, args);
}

function complain(io: Stdio, name: string, text: string): number {
  io.err(`${name}: ${text}\n`);
  return 1;
}

class Client {
  constructor(
    private readonly xs: XenstoreDaemon,
    private readonly name: string,
    private readonly io: Stdio,
    private readonly flags: ReadonlySet<string>,
  ) {}

  run(mode: Mode, args: readonly string[]): number {
    if (mode === 'ls') return this.ls(args.length === 0 ? ['/'] : args);
    if (mode === 'chmod') return this.chmod(args);
    // Output of several keys appears only when all of them worked, as in the real client.
    const out: string[] = [];
    const step = mode === 'write' ? 2 : 1;
    for (let i = 0; i < args.length; i += step) {
      const rc = this.one(mode, args[i]!, args[i + 1] ?? '', out);
      if (rc !== 0) return rc;
    }
    this.io.out(out.join(''));
    return 0;
  }

  private one(mode: Mode, path: string, value: string, out: string[]): number {
    const { xs } = this;
    if (mode === 'read') {
      const text = xs.read(path);
      if (text === undefined) return this.fail(`couldn't read path ${path}`);
      const body = this.flags.has('R') ? text : `${sanitise(text)}\n`;
      out.push((this.flags.has('p') ? `${path}: ` : '') + body);
    } else if (mode === 'write') {
      if (xs.write(path, this.flags.has('R') ? value : unsanitise(value)) !== 0)
        return this.fail(`could not write path ${path}`);
    } else if (mode === 'rm') {
      return this.rm(path);
    } else if (mode === 'exists') {
      if (xs.read(path) === undefined) return 1;
    } else {
      const names = xs.ls(path);
      if (names === undefined) return this.fail(`could not list path ${path}`);
      for (const n of names) out.push(`${this.flags.has('p') ? `${path}/` : ''}${n}\n`);
    }
    return 0;
  }

  /** `-t` also removes parents that are left empty. */
  private rm(path: string): number {
    for (let p = path; ; ) {
      if (this.xs.rm(p) !== 0) return this.fail(`could not remove path ${p}`);
      const slash = p.lastIndexOf('/');
      if (!this.flags.has('t') || slash <= 0) return 0;
      p = p.slice(0, slash);
      if (this.xs.read(p) !== '' || this.xs.ls(p)?.length !== 0) return 0;
    }
  }

  private chmod(args: readonly string[]): number {
    const [path, ...perms] = args;
    const bad = perms.find((p) => !'nrwb'.includes(p[0] ?? '?'));
    if (bad !== undefined) return this.fail(`Invalid permission specification: '${bad[0] ?? ''}'`);
    const rc = this.xs.transactionAs(0, (t) => t.setPerms(path!, perms));
    return rc === 0 ? 0 : this.fail(`Error occurred setting permissions on '${path!}': ${strerror(rc)}`);
  }

  private ls(paths: readonly string[]): number {
    for (const path of paths) {
      const full = canonical(path, 0);
      const node = typeof full === 'number' ? undefined : lookup(this.xs.root, full);
      if (node === undefined)
        return this.fail(`xs_directory (${path}): ${strerror(typeof full === 'number' ? full : -2)}`);
      const lines: string[] = [];
      this.tree(node, path, 0, lines);
      this.io.out(lines.join(''));
    }
    return 0;
  }

  private tree(node: XsNode, path: string, depth: number, lines: string[]): void {
    for (const [name, child] of node.children) {
      const full = path.endsWith('/') ? path + name : `${path}/${name}`;
      lines.push(`${this.line(name, full, child, depth)}\n`);
      this.tree(child, full, depth + 1, lines);
    }
  }

  private line(name: string, full: string, node: XsNode, depth: number): string {
    const whole = this.flags.has('f');
    const maxWidth = whole ? Number.MAX_SAFE_INTEGER : 80;
    const TAG = 8;
    let text = whole ? full : ' '.repeat(depth) + name.slice(0, Math.max(0, maxWidth - TAG - depth));
    let width = whole ? 0 : text.length;
    const value = sanitise(node.value);
    if (maxWidth < width + node.value.length + TAG) {
      text += ` = "${value.slice(0, Math.max(0, maxWidth - TAG - width))}\\..."`;
    } else {
      text += ` = "${value}"`;
      width += value.length + 5;
      if (this.flags.has('p')) {
        text += ' ';
        for (width += 1; width < Math.min(whole ? 0 : 60, maxWidth); width++)
          text += (width & 1) === 1 ? '.' : ' ';
      }
    }
    return this.flags.has('p') ? `${text}  (${node.perms.join(',')})` : text;
  }

  private fail(text: string): number {
    return complain(this.io, this.name, text);
  }
}
