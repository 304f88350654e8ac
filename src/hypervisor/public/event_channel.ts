/** EVENTCHNOP_*, as far as interrupts need them. @xen include/public/event_channel.h */
export type EvtchnOp =
  | {
      readonly cmd: 'bind_pirq';
      readonly pirq: number;
      /** 1: others may bind it too. @xen BIND_PIRQ__WILL_SHARE */
      readonly flags: number;
      /** OUT. */
      port?: number;
    }
  | { readonly cmd: 'close'; readonly port: number };
