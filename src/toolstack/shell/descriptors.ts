/** Standard output, error and input of what runs, and where redirections lead them. (POSIX.1, 2.7) */
import { isErr, strerror } from '../../base/errno.js';
import { LIMITS } from '../../base/limits.js';
import type { Co } from '../../sim/co.js';
import type { Dom0Files } from '../sysfs/files.js';
import type { Redirect } from './ast.js';
import type { Expander } from './expand.js';
import { Input } from './input.js';
import { ShellLimit } from './program.js';

/** Where a file descriptor leads. */
export type Target =
  | { readonly kind: 'collect'; readonly fd: 1 | 2; readonly into: Collector }
  | { readonly kind: 'file'; readonly path: string; readonly attribute: boolean }
  | { readonly kind: 'null' };

export class Collector {
  readonly pieces: { fd: 1 | 2; text: string }[] = [];
  private bytes = 0;
  add(fd: 1 | 2, text: string): void {
    if (text === '') return;
    this.bytes += text.length;
    if (this.bytes > LIMITS.inputBytesMax) throw new ShellLimit('too much output');
    const last = this.pieces[this.pieces.length - 1];
    if (last?.fd === fd) last.text += text;
    else this.pieces.push({ fd, text });
  }
  text(fd: 1 | 2): string {
    return this.pieces.map((p) => (p.fd === fd ? p.text : '')).join('');
  }
}

export interface Files {
  readonly out: Target;
  readonly err: Target;
  readonly stdin: Input;
}

export const collecting = (into: Collector): Files => ({
  out: { kind: 'collect', fd: 1, into },
  err: { kind: 'collect', fd: 2, into },
  stdin: new Input(''),
});

export class Descriptors {
  constructor(
    private readonly fs: Dom0Files,
    private readonly expander: Expander,
  ) {}

  /** `files` with what is redirected opened; undefined, with a line, when that failed. */
  *redirect(files: Files, redirects: readonly Redirect[]): Co<Files | undefined> {
    let now = files;
    for (const r of redirects) {
      if (r.kind === 'dup') {
        const to: Target = r.to === 'closed' ? { kind: 'null' } : r.to === 1 ? now.out : now.err;
        now = r.fd === 1 ? { ...now, out: to } : { ...now, err: to };
      } else if (r.kind === 'here') {
        now = { ...now, stdin: new Input(yield* this.expander.text(r.text)) };
      } else if (r.kind === 'process') {
        now = { ...now, stdin: new Input(yield* this.expander.output(r.body)) };
      } else {
        const path = yield* this.expander.text(r.target);
        const opened = r.kind === 'in' ? this.openIn(now, path) : yield* this.openOut(now, path, r);
        if (typeof opened === 'number') {
          yield* this.write(now.err, `bash: ${path}: ${strerror(opened)}\n`);
          return undefined;
        }
        now = opened;
      }
    }
    return now;
  }

  private openIn(files: Files, path: string): Files | number {
    if (path === '/dev/stdin') return files;
    const text = path === '/dev/null' ? '' : this.fs.readFile(path);
    return isErr(text) ? text : { ...files, stdin: new Input(text) };
  }

  private *openOut(files: Files, path: string, r: Redirect & { kind: 'out' }): Co<Files | number> {
    let target: Target = { kind: 'null' };
    if (path === '/dev/stdout') target = files.out;
    else if (path === '/dev/stderr') target = files.err;
    else if (path !== '/dev/null') {
      const { fs } = this;
      const real = fs.realpath(path);
      const attribute = !isErr(real) && /^\/(sys|proc)\//.test(real);
      if (attribute) {
        const s = fs.stat(real);
        if (isErr(s)) return s;
        if (s.kind === 'dir') return -21;
        if ((s.mode & 0o222) === 0) return -13;
      } else {
        const rc = r.append ? fs.append(path, '') : yield* fs.writeFile(path, '');
        if (rc < 0) return rc;
      }
      target = { kind: 'file', path, attribute };
    }
    return { ...files, ...(r.fd === 2 ? {} : { out: target }), ...(r.fd === 1 ? {} : { err: target }) };
  }

  /** 0 or the errno of the write. */
  *write(target: Target, text: string): Co<number> {
    if (text === '' || target.kind === 'null') return 0;
    if (target.kind === 'collect') {
      target.into.add(target.fd, text);
      return 0;
    }
    const { fs } = this;
    const rc = target.attribute ? yield* fs.writeFile(target.path, text) : fs.append(target.path, text);
    return Math.min(rc, 0);
  }
}
