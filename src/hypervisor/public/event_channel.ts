/** EVENTCHNOP_*. @xen include/public/event_channel.h */

/** Interrupts that Xen itself raises. @xen include/public/xen.h, include/public/arch-x86/xen.h */
export const VIRQ = {
  TIMER: 0,
  DEBUG: 1,
  CONSOLE: 2,
  DOM_EXC: 3,
  CON_RING: 8,
  PCPU_STATE: 9,
  MCA: 16,
} as const;

interface Caller {
  /** Who calls; the domain on this CPU if it is not said. */
  readonly domid?: number;
}

export type EvtchnOp =
  | {
      readonly cmd: 'bind_pirq';
      readonly pirq: number;
      /** 1: others may bind it too. @xen BIND_PIRQ__WILL_SHARE */
      readonly flags: number;
      /** OUT. */
      port?: number;
    }
  | (Caller & { readonly cmd: 'close'; readonly port: number })
  /** A port of `dom` that `remote` may bind to. `port` is OUT. */
  | { readonly cmd: 'alloc_unbound'; readonly dom: number; readonly remote: number; port?: number }
  /** A port of the caller and the unbound one of `remote` become the ends of a channel. `port` is OUT. */
  | (Caller & {
      readonly cmd: 'bind_interdomain';
      readonly remote: number;
      readonly remotePort: number;
      port?: number;
    })
  | (Caller & { readonly cmd: 'bind_virq'; readonly virq: number; readonly vcpu: number; port?: number })
  | (Caller & { readonly cmd: 'bind_ipi'; readonly vcpu: number; port?: number })
  /** From now on ports have a word each, which tells more of their state. @xen EVTCHNOP_init_control */
  | (Caller & { readonly cmd: 'init_control' });
