import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import { EventStream } from '../../src/sim/events.js';
import { Faults } from '../../src/sim/faults.js';
import { sanitise, unsanitise, xenstoreCommand } from '../../src/toolstack/xenstore/commands.js';
import { XenstoreDaemon, type XsWatcher } from '../../src/toolstack/xenstore/store.js';

const daemon = () => new XenstoreDaemon(new EventStream(), new Faults());

class Recorder implements XsWatcher {
  readonly seen: string[] = [];
  constructor(private readonly react?: () => void) {}
  *xsChanged(path: string, token: string): Co<void> {
    this.seen.push(`${token}:${path}`);
    this.react?.();
  }
}

function client(xs: XenstoreDaemon, line: string): { exit: number; out: string; err: string } {
  let out = '';
  let err = '';
  const io = {
    out(t: string) {
      out += t;
    },
    err(t: string) {
      err += t;
    },
  };
  return { exit: xenstoreCommand(xs, line.split(' '), io), out, err };
}

describe('the tree', () => {
  test('a write makes the missing parents, with empty values and the rights of the nearest one', () => {
    const xs = daemon();
    xs.write('/local/domain/3', '');
    xs.setPerms('/local/domain/3', ['n3', 'r0']);
    expect(xs.write('/local/domain/3/device/pci/0/state', '1')).toBe(0);
    expect(xs.read('/local/domain/3/device/pci')).toBe('');
    expect(xs.perms('/local/domain/3/device/pci/0/state')).toEqual(['n3', 'r0']);
  });

  test('children keep the order in which they were made, through removal and re-creation', () => {
    const xs = daemon();
    for (const n of ['06', '0a', '02']) xs.write(`/libxl/pci/${n}`, '');
    xs.rm('/libxl/pci/06');
    xs.write('/libxl/pci/06', '');
    expect(xs.ls('/libxl/pci')).toEqual(['0a', '02', '06']);
  });

  // xenstored_core.c do_rm
  test('what is gone already is removed where its parent is there', () => {
    const xs = daemon();
    xs.write('/libxl/1', '');
    expect([xs.rm('/libxl/1/nosuch'), xs.rm('/libxl/2'), xs.rm('/nosuch/2')]).toEqual([0, 0, E.NOENT]);
    expect(xs.transactionAs(5, (t) => t.rm('/libxl/2'))).toBe(E.ACCES);
  });

  test.each(['', '/a//b', '/a/', '/a b', '/ä', '/a\0', `/${'x'.repeat(4000)}`])(
    'refuses the path %j',
    (path) => {
      expect(daemon().write(path, 'x')).toBe(E.INVAL);
    },
  );

  test('a relative path lies in the home of the caller', () => {
    const xs = daemon();
    xs.write('domid', '0');
    expect(xs.read('/local/domain/0/domid')).toBe('0');
  });

  test('a value beyond the payload limit is refused whole', () => {
    const xs = daemon();
    expect(xs.write('/a', 'x'.repeat(4097))).toBe(E.TOOBIG);
    expect(xs.read('/a')).toBeUndefined();
  });

  test('names such as __proto__ are ordinary nodes', () => {
    const xs = daemon();
    xs.write('/a/__proto__', 'p');
    expect(xs.ls('/a')).toEqual(['__proto__']);
    expect(xs.read('/a/constructor')).toBeUndefined();
  });
});

describe('transactions', () => {
  test('a body that returns an errno leaves no trace', () => {
    const xs = daemon();
    xs.write('/a', '1');
    const before = xs.root;
    const rc = xs.transaction((t) => {
      t.write('/a', '2');
      t.rm('/a');
      return E.BUSY;
    });
    expect(rc).toBe(E.BUSY);
    expect(xs.root).toBe(before);
  });

  test('sees its own writes before anybody else does', () => {
    const xs = daemon();
    xs.transaction((t) => {
      t.write('/a/b', '1');
      expect(t.read('/a/b')).toBe('1');
      expect(t.ls('/a')).toEqual(['b']);
      expect(xs.read('/a/b')).toBeUndefined();
      return 0;
    });
    expect(xs.read('/a/b')).toBe('1');
  });
});

describe('watches', () => {
  test('fire when set, then for the node, what is below it and what is removed above it', () => {
    const xs = daemon();
    const w = new Recorder();
    xs.watch('/b/pci', 't', w);
    runAlone(xs.settle());
    xs.write('/b/pci/1/state', '1');
    xs.write('/b/vif/1', '1');
    xs.rm('/b');
    runAlone(xs.settle());
    expect(w.seen).toEqual(['t:/b/pci', 't:/b/pci/1/state', 't:/b/pci']);
  });

  test('fire when the same value is written again', () => {
    const xs = daemon();
    xs.write('/state', '4');
    const w = new Recorder();
    xs.watch('/state', 't', w);
    runAlone(xs.settle());
    xs.write('/state', '4');
    runAlone(xs.settle());
    expect(w.seen).toHaveLength(2);
  });

  test('fire after the commit and in the order of the writes', () => {
    const xs = daemon();
    const w = new Recorder();
    xs.watch('/d', 't', w);
    runAlone(xs.settle());
    xs.transaction((t) => {
      t.write('/d/z', '1');
      t.write('/d/a', '1');
      expect(w.seen).toHaveLength(1);
      return 0;
    });
    runAlone(xs.settle());
    expect(w.seen.slice(1)).toEqual(['t:/d/z', 't:/d/a']);
  });

  test('do not fire for a transaction that was dropped', () => {
    const xs = daemon();
    const w = new Recorder();
    xs.watch('/d', 't', w);
    runAlone(xs.settle());
    xs.transaction((t) => t.write('/d/a', '1') || E.INVAL);
    runAlone(xs.settle());
    expect(w.seen).toHaveLength(1);
  });

  test('what a watcher writes is delivered in the same settle', () => {
    const xs = daemon();
    const second = new Recorder();
    const first = new Recorder(() => void (xs.read('/x') === undefined && xs.write('/x', '1')));
    xs.watch('/x', 'second', second);
    xs.watch('/go', 'first', first);
    xs.write('/go', '1');
    runAlone(xs.settle());
    expect(second.seen).toContain('second:/x');
  });

  test('an unwatched watcher hears nothing more, not even what was queued', () => {
    const xs = daemon();
    const w = new Recorder();
    xs.watch('/d', 't', w);
    xs.write('/d', '1');
    xs.unwatch('/d', 't', w);
    runAlone(xs.settle());
    expect(w.seen).toEqual([]);
  });
});

describe('rights and quota of a guest', () => {
  test('it writes what it owns, reads what it may and nothing else', () => {
    const xs = daemon();
    xs.write('/local/domain/5/device', '');
    xs.setPerms('/local/domain/5/device', ['n5']);
    xs.write('/secret', 'x');
    xs.write('/open', 'y');
    xs.setPerms('/open', ['r0']);
    expect(xs.transactionAs(5, (t) => t.write('device/pci', '1'))).toBe(0);
    expect(xs.transactionAs(5, (t) => t.write('/secret', '1'))).toBe(E.ACCES);
    expect(xs.transactionAs(5, (t) => t.rm('/secret'))).toBe(E.ACCES);
    let seen: (string | undefined)[] = [];
    xs.transactionAs(5, (t) => {
      seen = [t.read('/secret'), t.read('/open')];
      return 0;
    });
    expect(seen).toEqual([undefined, 'y']);
  });

  test('it runs out of nodes at 1000 and keeps what it had', () => {
    const xs = daemon();
    xs.write('/g', '');
    xs.setPerms('/g', ['n7']);
    let rc = 0;
    let made = 0;
    while (rc === 0 && made < 2000) rc = xs.transactionAs(7, (t) => t.write(`/g/n${made++}`, ''));
    expect(rc).toBe(E.NOSPC);
    expect(xs.ls('/g')).toHaveLength(999);
    expect(xs.rm('/g')).toBe(0);
  });
});

describe('the clients', () => {
  test('xenstore-ls -f prints whole paths and quotes control characters', () => {
    const xs = daemon();
    xs.write('/tool/xenstored', '');
    xs.write('/a', 'x\n\\\x01\xff');
    expect(client(xs, 'xenstore-ls -f /').out).toBe(
      '/tool = ""\n/tool/xenstored = ""\n/a = "x\\n\\\\\\001\\xff"\n',
    );
  });

  test('xenstore-ls without -f indents by one blank a level and cuts at 80 columns', () => {
    const xs = daemon();
    xs.write('/a/b', 'v'.repeat(100));
    expect(client(xs, 'xenstore-ls').out).toBe(`a = ""\n b = "${'v'.repeat(70)}\\..."\n`);
  });

  test('xenstore-ls -p shows the rights behind dots', () => {
    const xs = daemon();
    xs.write('/a', '1');
    expect(client(xs, 'xenstore-ls -p').out).toBe(`a = "1" ${' .'.repeat(26)}  (n0)\n`);
    expect(client(xs, 'xenstore-ls -f -p').out).toBe('/a = "1"   (n0)\n');
  });

  test('a missing path is an error of the client, exit 1', () => {
    expect(client(daemon(), 'xenstore-ls -f /libxl/pci')).toEqual({
      exit: 1,
      out: '',
      err: 'xenstore-ls: xs_directory (/libxl/pci): No such file or directory\n',
    });
    expect(client(daemon(), 'xenstore-read /x').err).toBe("xenstore-read: couldn't read path /x\n");
    expect(client(daemon(), 'xenstore-exists /x')).toEqual({ exit: 1, out: '', err: '' });
  });

  test('xenstore-rm -t removes parents left empty, and a missing leaf is no error', () => {
    const xs = daemon();
    xs.write('/a/b/c', '1');
    expect(client(xs, 'xenstore-rm /a/b/nothing').exit).toBe(0);
    expect(client(xs, 'xenstore-rm /no/nothing').exit).toBe(1);
    expect(client(xs, 'xenstore-rm -t /a/b/c').exit).toBe(0);
    expect(xs.ls('/')).toEqual([]);
  });

  test('sanitise and unsanitise are inverse on every byte', () => {
    const all = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).join('');
    expect(unsanitise(sanitise(all))).toBe(all);
  });
});
