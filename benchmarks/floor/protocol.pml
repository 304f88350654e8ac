/*
 * Assignment in the small, as src/check/protocol/assign_protocol.ts has it: the same processes, the same steps, so that
 * Spin's generated checker finds the same states. Domain 0 is quarantine.
 */
#ifndef NDEV
#define NDEV 2
#endif
#ifndef NDOM
#define NDOM 2
#endif

byte lock;             /* the pcidevs_lock: 0, or who holds it */
byte owner[NDEV];      /* what Xen believes */
byte context[NDEV];    /* the domain id in the context entry */
byte cached[NDEV];     /* the same in the context cache */
byte iotlb[NDEV];      /* the domain id that a cached translation is tagged with */
bit mapped[NDOM + 1];  /* the domain's page is in its table */
bit dead[NDOM + 1];    /* the unmapping has returned: the page may be another's by now */

inline flush_iotlb(id) {
  d_step {
    byte k = 0;
    do
    :: k < NDEV -> if :: iotlb[k] == id -> iotlb[k] = 0 :: else fi; k++
    :: else -> break
    od;
    k = 0
  }
}

proctype toolstack(byte me) {
  byte dev, old, dom;
  do
  :: d_step { dev = 0; old = 0; dom = 0 };
     if
     :: dev = 0
#if NDEV > 1
     :: dev = 1
#endif
     fi;
     if
     :: dom = 0
     :: dom = 1
#if NDOM > 1
     :: dom = 2
#endif
     fi;
     atomic { lock == 0 -> lock = me };
     old = owner[dev];
     if
     :: old == dom -> skip
     :: old != dom && old != 0 && dom != 0 -> skip
     :: old == 0 && dom != 0 -> context[dev] = dom; owner[dev] = dom
     :: old != 0 && dom == 0 -> context[dev] = 0; cached[dev] = 0; flush_iotlb(old); owner[dev] = 0
     fi;
     lock = 0
  od
}

proctype device(byte dev) {
  do
  :: atomic { cached[dev] == 0 && context[dev] != 0 -> cached[dev] = context[dev] }
  :: atomic { cached[dev] != 0 && iotlb[dev] == 0 && mapped[cached[dev]] -> iotlb[dev] = cached[dev] }
  :: atomic { iotlb[dev] != 0 && cached[dev] == iotlb[dev] ->
       assert(!dead[iotlb[dev]]); assert(lock != 0 || owner[dev] == iotlb[dev]) }
  od
}

proctype guest(byte d) {
  do
  :: !mapped[d] -> dead[d] = 0; mapped[d] = 1
  :: mapped[d] -> mapped[d] = 0; flush_iotlb(d); dead[d] = 1
  od
}

init {
  atomic {
    byte i;
    run toolstack(1);
    run toolstack(2);
    i = 0;
    do :: i < NDEV -> run device(i); i++ :: else -> break od;
    i = 1;
    do :: i <= NDOM -> run guest(i); i++ :: else -> break od;
    i = 0
  }
}
