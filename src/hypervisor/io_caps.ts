/**
 * A domain's rights to ports, device memory and interrupts, and their lock. A command about another domain's rights takes
 * the caller's, to read, and the other's; that of the lower domain id comes first. @xen d->caps_lock, xen/iocap.h
 */
import { E, type Rc } from '../base/errno.js';
import { type Co, holdRead, holdWrite } from '../sim/co.js';
import type { RwLock } from '../sim/locks.js';
import type { Domain } from './domain.js';
import type { RangeSet } from './rangeset.js';
import type { Xen } from './xen.js';

/** Grants [s, e]. @returns 0 or -ENOMEM. @xen ioports_permit_access, iomem_permit_access, irq_permit_access */
export function permitAccess(xen: Xen, rights: RangeSet, s: number, e: number): Rc {
  if (xen.faults.on && rights.addTakesOne(s, e) && xen.faults.take('alloc')) return E.NOMEM;
  rights.add(s, e);
  return 0;
}

/** Takes [s, e] back. @returns 0 or -ENOMEM: the right stays. @xen ioports_deny_access and its like */
export function denyAccess(xen: Xen, rights: RangeSet, s: number, e: number): Rc {
  if (xen.faults.on && rights.removeTakesOne(s, e) && xen.faults.take('alloc')) return E.NOMEM;
  rights.remove(s, e);
  return 0;
}

type Body = () => Co<Rc>;

/** Runs `body` under both locks, in releases that have them. @xen iocaps_double_lock */
export function* underCapsLocks(me: Domain, d: Domain, write: boolean, body: Body): Co<Rc> {
  if (me.capsLock === undefined || d.capsLock === undefined) return yield* body();
  if (me === d) return yield* underLock(d.capsLock, write, body);
  if (d.domid > me.domid) return yield* underTwo(me.capsLock, false, d.capsLock, write, body);
  return yield* underTwo(d.capsLock, write, me.capsLock, false, body);
}

/** Runs `body` with the rights of one domain unchanging. */
export function* underCapsLock(d: Domain, body: Body): Co<Rc> {
  if (d.capsLock === undefined) return yield* body();
  return yield* underLock(d.capsLock, false, body);
}

function* underTwo(first: RwLock, writeFirst: boolean, then: RwLock, writeThen: boolean, body: Body): Co<Rc> {
  return yield* underLock(first, writeFirst, () => underLock(then, writeThen, body));
}

function* underLock(lock: RwLock, write: boolean, body: Body): Co<Rc> {
  return yield* write ? forWriting(lock, body) : forReading(lock, body);
}
function* forWriting(lock: RwLock, body: Body): Co<Rc> {
  using _caps = yield* holdWrite(lock);
  return yield* body();
}
function* forReading(lock: RwLock, body: Body): Co<Rc> {
  using _caps = yield* holdRead(lock);
  return yield* body();
}
