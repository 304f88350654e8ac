/** One QMP command at a time. @xen tools/libs/light/libxl_qmp.c */
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import type { QmpConnection } from './event_log.js';
import type { Libxl } from './libxl.js';
import { DM } from './lines_dm.js';
import { ERROR } from './types.js';

/** LIBXL_QMP_CMD_TIMEOUT */
export const QMP_TIMEOUT_NS = 10e9;
const DEBUG_SOCKET = 'qmp-libxl';

/** `value` holds what `return` held. */
export type QmpReply =
  | { readonly rc: 0; readonly value: unknown }
  | { readonly rc: number; readonly value?: undefined };

const ERROR_CLASSES: Readonly<Record<string, number>> = {
  GenericError: ERROR.QMP_GENERIC_ERROR,
  CommandNotFound: ERROR.QMP_COMMAND_NOT_FOUND,
  DeviceNotFound: ERROR.QMP_DEVICE_NOT_FOUND,
};

export const qmpSocket = (lx: Libxl, domid: number): string => `${lx.paths.runDir}/${DEBUG_SOCKET}-${domid}`;

/** An error of QEMU is logged with its description. Without any answer, ten seconds pass: ERROR_TIMEDOUT. */
export function* qmpSend(
  lx: Libxl,
  ev: QmpConnection,
  command: string,
  args?: Readonly<Record<string, unknown>>,
): Co<QmpReply> {
  const { domid } = ev;
  const dm = lx.dom0.deviceModels.get(domid);
  const path = qmpSocket(lx, domid);
  // A new connection has a lock of its own: its file is named, and the domain is still there. @xen libxl__ev_slowlock_lock
  if (!ev.connected) lx.xc.countLock();
  lx.event.qmpSend(ev, command, path);
  if (dm === undefined) {
    lx.log.error(DM.qmpConnect, `Failed to connect to QMP socket ${path}`, domid, -2);
    return { rc: ERROR.FAIL };
  }
  const request = args === undefined ? { execute: command } : { execute: command, arguments: args };
  const answer = yield* dm.qmp(JSON.stringify(request));
  if (answer === undefined) {
    yield* pause(lx.dom0.clock, QMP_TIMEOUT_NS);
    return { rc: ERROR.TIMEDOUT };
  }
  if (lx.dom0.qmpNs > 0) yield* pause(lx.dom0.clock, lx.dom0.qmpNs);
  lx.event.qmpAnswered(ev, dm.version);
  return readReply(lx, domid, answer);
}

function readReply(lx: Libxl, domid: number, text: string): QmpReply {
  const reply = JSON.parse(text) as { return?: unknown; error?: { class?: unknown; desc?: unknown } };
  if (reply.error === undefined) return { rc: 0, value: reply.return };
  const { class: kind, desc } = reply.error;
  if (typeof kind !== 'string') {
    lx.log.error(DM.qmpNoClass, "Protocol error: missing 'class' member in error message", domid);
    return { rc: ERROR.PROTOCOL_ERROR_QMP };
  }
  if (typeof desc !== 'string') {
    lx.log.error(DM.qmpNoDesc, "Protocol error: missing 'desc' member in error message", domid);
    return { rc: ERROR.PROTOCOL_ERROR_QMP };
  }
  lx.log.error(DM.qmpDesc, desc, domid);
  return { rc: Object.hasOwn(ERROR_CLASSES, kind) ? ERROR_CLASSES[kind]! : ERROR.PROTOCOL_ERROR_QMP };
}

/** Slot and function of a device by its qdev id, `undefined` when QEMU has none, or ERROR_QEMU_API. */
export function findInQueryPci(
  reply: unknown,
  qdevId: string,
): { slot: number; func: number } | undefined | typeof ERROR.QEMU_API {
  if (!Array.isArray(reply)) return undefined;
  for (const bus of reply as { devices?: unknown }[]) {
    if (!Array.isArray(bus.devices)) return ERROR.QEMU_API;
    for (const d of bus.devices as { qdev_id?: unknown; slot?: unknown; function?: unknown }[]) {
      if (typeof d.qdev_id !== 'string') return ERROR.QEMU_API;
      if (d.qdev_id !== qdevId) continue;
      if (typeof d.slot !== 'number' || typeof d.function !== 'number') return ERROR.QEMU_API;
      return { slot: d.slot, func: d.function };
    }
  }
  return undefined;
}
