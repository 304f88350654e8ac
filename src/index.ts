/** The public API. Labs, docs, examples and benchmarks import only this and ./check. */
export { HostCrash, InputError, XenBug } from './base/assert.js';
export { E, errnoName } from './base/errno.js';
export { formatBdf, formatSbdf, parseSbdf, type Sbdf, sbdf } from './base/sbdf.js';
export type { DomctlOp } from './hypervisor/public/domctl.js';
export type { Hypercalls } from './hypervisor/public/hypercalls.js';
export { buildFunction, buildFunctions, type FunctionKind, type FunctionSpec } from './inputs/build.js';
export { defaultE820 } from './inputs/e820.js';
export { buildDmar, buildIvrs } from './inputs/firmware.js';
export { HOST_FILES, type HostInput, readHost, readHostFile } from './inputs/host.js';
export type { FunctionDescription, HostDescription } from './inputs/host_description.js';
export { type BootOptions, Machine } from './machine.js';
export { type Co, EDITION, runAlone } from './sim/co.js';
export type { SimEvent, StampedEvent } from './sim/events.js';
export { DOMID } from './sim/frames.js';
