/** What `xl -vvv` prints of operations and connections. Order and text: Xen 4.17 libxl_event.c, libxl_qmp.c. */
import { describe, expect, test } from 'vitest';
import { EventLog } from '../../src/toolstack/libxl/event_log.js';
import { AO } from '../../src/toolstack/libxl/lines_event.js';
import { Log, XTL } from '../../src/toolstack/libxl/log.js';

function logged(run: (event: EventLog) => void, level: number = XTL.debug): string[] {
  const lines: string[] = [];
  run(new EventLog(new Log('4.17', level, (text) => lines.push(text.trimEnd()))));
  // Addresses by the order of their coming.
  const names = new Map<string, string>();
  const named = (a: string): string => {
    const name = names.get(a) ?? `@${names.size}`;
    names.set(a, name);
    return name;
  };
  return lines.map((l) => l.replace('libxl: debug: ', '').replace(/0x[0-9a-f]{12}/g, named));
}

describe('the log of libxl at debug level', () => {
  test('an operation that never waits is complete before its initiator hands it on', () => {
    const lines = logged((event) => {
      event.begin(AO.pciAdd, 2);
      event.end(-3);
    });
    expect(lines).toEqual([
      'libxl_pci.c:1595:libxl_device_pci_add: Domain 2:ao @0: create: how=(nil) callback=(nil) poller=@1',
      'libxl_event.c:2067:libxl__ao_complete: ao @0: complete, rc=-3',
      'libxl_pci.c:1604:libxl_device_pci_add: Domain 2:ao @0: inprogress: poller=@1, flags=ic',
      'libxl_event.c:2036:libxl__ao__destroy: ao @0: destroy',
    ]);
  });

  test('one that waits is handed on where it does so first; two have one poller and differ in address', () => {
    const lines = logged((event) => {
      event.begin(AO.destroy, 5);
      event.forked(519, 5);
      event.waits();
      event.end(0);
      event.begin(AO.unpause, 6);
      event.end(0);
    });
    expect(lines).toEqual([
      'libxl_domain.c:1046:libxl_domain_destroy: Domain 5:ao @0: create: how=(nil) callback=(nil) poller=@1',
      'libxl_domain.c:1597:devices_destroy_cb: Domain 5:Forked pid 519 for destroy of domain',
      'libxl_domain.c:1055:libxl_domain_destroy: Domain 5:ao @0: inprogress: poller=@1, flags=i',
      'libxl_event.c:2067:libxl__ao_complete: ao @0: complete, rc=0',
      'libxl_event.c:2036:libxl__ao__destroy: ao @0: destroy',
      'libxl_domain.c:704:libxl_domain_unpause: Domain 6:ao @2: create: how=(nil) callback=(nil) poller=@1',
      'libxl_event.c:2067:libxl__ao_complete: ao @2: complete, rc=0',
      'libxl_domain.c:712:libxl_domain_unpause: Domain 6:ao @2: inprogress: poller=@1, flags=ic',
      'libxl_event.c:2036:libxl__ao__destroy: ao @2: destroy',
    ]);
  });

  test('domain 0 is no guest: its id is not printed (libxl_domid_valid_guest)', () => {
    const [line] = logged((event) => event.begin(AO.create, 0));
    expect(line).toBe(
      'libxl_create.c:2081:do_domain_create: ao @0: create: how=(nil) callback=(nil) poller=@1',
    );
  });

  test('a connection greets once; watches take slot 3 and a number that goes up', () => {
    const lines = logged((event) => {
      const ev = event.qmp(1);
      for (const command of ['device_add', 'query-pci']) {
        event.qmpSend(ev, command, '/run/s');
        event.qmpAnswered(ev, '7.2.22');
      }
      event.qmpDispose(ev);
      for (const path of ['/a', '/b']) {
        const w = event.watch();
        event.watchRegister(w, path);
        event.watchEvent(w);
        event.watchDeregister(w);
        event.watchDeregister(w);
      }
    });
    expect(lines.map((l) => l.replace(/^libxl_\w+\.c:\d+:/, ''))).toEqual([
      "libxl__ev_qmp_send: Domain 1: ev @0, cmd 'device_add'",
      'qmp_ev_lock_aquired: Domain 1:Connecting to /run/s',
      'qmp_ev_handle_message: Domain 1:QEMU version: 7.2.22',
      "libxl__ev_qmp_send: Domain 1: ev @0, cmd 'query-pci'",
      'libxl__ev_qmp_dispose: Domain 1: ev @0',
      'libxl__ev_xswatch_register: watch w=@1 wpath=/a token=3/0: register slotnum=3',
      'watchfd_callback: watch w=@1 wpath=/a token=3/0: event epath=/a',
      'libxl__ev_xswatch_deregister: watch w=@1 wpath=/a token=3/0: deregister slotnum=3',
      'libxl__ev_xswatch_deregister: watch w=@1: deregister unregistered',
      'libxl__ev_xswatch_register: watch w=@2 wpath=/b token=3/1: register slotnum=3',
      'watchfd_callback: watch w=@2 wpath=/b token=3/1: event epath=/b',
      'libxl__ev_xswatch_deregister: watch w=@2 wpath=/b token=3/1: deregister slotnum=3',
      'libxl__ev_xswatch_deregister: watch w=@2: deregister unregistered',
    ]);
  });

  test('without -vvv nothing is printed', () => {
    expect(logged((event) => event.end(0), XTL.progress)).toEqual([]);
  });
});
