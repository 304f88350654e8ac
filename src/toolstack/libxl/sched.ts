/** On which CPUs virtual CPUs may run. @xen tools/libs/light/libxl_sched.c */
import type { Co } from '../../sim/co.js';
import type { Libxl } from './libxl.js';
import { at } from './lines.js';
import { ERROR } from './types.js';

const NOT_ALL = at('libxl_sched.c', 'libxl_set_vcpuaffinity_all', 124, 124, 124);
const UNREACHABLE = at('libxl_sched.c', 'libxl__set_vcpuaffinity', 74, 74, 74);
const FAILED = at('libxl_sched.c', 'libxl__set_vcpuaffinity', 62, 62, 62);

/**
 * `hard`, `soft`: numbers of CPUs; undefined: as before, which is nothing to do unless `force`.
 * @returns 0, ERROR_INVAL, ERROR_FAIL. @xen libxl_set_vcpuaffinity, libxl_set_vcpuaffinity_force
 */
export function* setVcpuAffinity(
  lx: Libxl,
  domid: number,
  vcpu: number,
  hard: readonly number[] | undefined,
  soft: readonly number[] | undefined,
  force = false,
): Co<number> {
  const maps = [hard, soft].filter((map) => map !== undefined);
  if (maps.length === 0 && !force) return ERROR.INVAL;
  const rc = yield* lx.xc.setAffinity(
    { cmd: 'setvcpuaffinity', domid, vcpu, ...(hard === undefined ? {} : { hard }) },
    maps.length,
  );
  if (rc !== 0) {
    lx.log.error(FAILED, 'Setting vcpu affinity', domid, rc);
    return ERROR.FAIL;
  }
  if (hard?.some((cpu) => cpu >= lx.xc.hv.physInfo().nrCpus) === true)
    lx.log.debug(UNREACHABLE, `New hard affinity for vcpu ${vcpu} has unreachable cpus`, domid);
  return 0;
}

/** The same for all virtual CPUs. @xen libxl_set_vcpuaffinity_all */
export function* setAllAffinities(
  lx: Libxl,
  domid: number,
  vcpus: number,
  hard: readonly number[] | undefined,
  soft: readonly number[] | undefined,
): Co<number> {
  let rc = 0;
  for (let i = 0; i < vcpus; i++) {
    if ((yield* setVcpuAffinity(lx, domid, i, hard, soft)) === 0) continue;
    lx.log.warn(NOT_ALL, `Failed to set affinity for ${i}`, domid);
    rc = ERROR.FAIL;
  }
  return rc;
}
