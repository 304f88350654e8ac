/** Everything that can be reached from an object, as text. */
import { createHash } from 'node:crypto';

/**
 * One line an object, by number in order of discovery, so that identity shows. With `anyRoom`, typed arrays are told
 * without the zeros at their ends: how much room they have is no state of a machine.
 */
export function dump(root: unknown, { anyRoom = false } = {}): string {
  const ids = new Map<object, number>();
  const lines: string[] = [];
  const name = (v: unknown): string => {
    if (typeof v === 'function') return 'function';
    if (typeof v !== 'object' || v === null) return Object.is(v, -0) ? '-0' : `${typeof v} ${String(v)}`;
    let id = ids.get(v);
    if (id === undefined) {
      id = ids.size;
      ids.set(v, id);
      lines[id] = describeObject(v);
    }
    return `#${id}`;
  };
  const describeObject = (o: object): string => {
    const kind = Object.prototype.toString.call(o);
    if (ArrayBuffer.isView(o))
      return `${kind} ${words(anyRoom ? withoutRoom(o as Int32Array) : (o as Int32Array))}`;
    if (o instanceof Map) return `${kind} ${[...o].map(([k, v]) => `${name(k)}=>${name(v)}`)}`;
    if (o instanceof Set) return `${kind} ${[...o].map(name)}`;
    const length = Array.isArray(o) ? o.length : '';
    return `${kind}${length} ${Object.keys(o).map((k) => `${k}: ${name((o as Record<string, unknown>)[k])}`)}`;
  };
  return `${name(root)}\n${lines.join('\n')}`;
}

function withoutRoom(a: Int32Array): Int32Array {
  let used = a.length;
  while (used > 0 && Object.is(a[used - 1], 0)) used--;
  return a.subarray(0, used);
}

/** Beyond so many bytes a digest will do. */
const SHORT_BYTES = 256;

const words = (a: Int32Array): string =>
  a.byteLength > SHORT_BYTES
    ? createHash('sha1')
        .update(new Uint8Array(a.buffer, a.byteOffset, a.byteLength))
        .digest('hex')
    : Array.prototype.map.call(a, (x) => (Object.is(x, -0) ? '-0' : String(x))).join();
