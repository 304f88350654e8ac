/** Machines that rows measure, and the few steps that all of them take. */

/** A host with these functions, one VT-d unit, and 4 GiB of memory unless told otherwise. */
export function hostOf(lib, functions, { gib = 4, cpus = 2 } = {}) {
  return {
    name: 'benchmark',
    functions: functions.length > 300 ? sharedConfig(lib, functions) : lib.buildFunctions(functions),
    e820: lib.defaultE820(gib * 2 ** 30),
    cpu: {
      vendor: 'intel',
      count: cpus,
      model: 'benchmark',
      khz: 2_000_000,
      hap: true,
      hap2m: true,
      hap1g: true,
      cx16: true,
    },
    dmar: lib.buildDmar({ functions }),
    dom0: {
      memoryBytes: 2 ** 29,
      vcpus: 1,
      hostname: 'dom0',
      kernelRelease: '6.1.0',
      kernelCmdline: '',
      pciback: 'module',
      files: {},
    },
  };
}

/** Tens of thousands of equal functions need one config space. */
function sharedConfig(lib, functions) {
  const made = new Map();
  return functions.map((f) => {
    const multi = (f.sbdf & 7) === 0;
    const key = `${f.kind} ${multi}`;
    if (!made.has(key)) {
      const one = lib.buildFunction(f, multi);
      made.set(key, { config: one.config.slice(0, 256), barBytes: one.barBytes });
    }
    return { sbdf: f.sbdf, ...made.get(key) };
  });
}

/** A PCIe endpoint at bus, device 0, function 0; what leads there is a root bus. */
export const endpoint = (lib, bus, phantomBits = 0, slot = 0) => ({
  sbdf: lib.sbdf(0, bus, slot, 0),
  kind: 'pcie-endpoint',
  phantomBits,
});
export const hostBridge = (lib) => ({ sbdf: lib.sbdf(0, 0, 0, 0), kind: 'host-bridge' });

export function must(what, rc) {
  if (rc !== 0) throw new Error(`${what}: ${rc}`);
}

/** A guest whose IOMMU is on; its id. */
export function createDomain(machine, domid = 0) {
  const op = {
    cmd: 'createdomain',
    domid,
    flags: { hvm: false, hap: false, iommu: true },
    iommuNoSharept: false,
    maxVcpus: 1,
    handle: '',
  };
  must('createdomain', machine.hypercalls.domctl(op));
  return op.domid;
}

/** The two hypercalls that move a device. */
export const assignOp = (domid, machineSbdf) => ({
  cmd: 'assign_device',
  domid,
  dev: 0,
  machineSbdf,
  flags: 0,
});
export const deassignOp = (domid, machineSbdf) => ({
  cmd: 'deassign_device',
  domid,
  dev: 0,
  machineSbdf,
  flags: 0,
});

/** The generator of benchmarks/floor/bench.h. */
export class XorShift {
  state = 0x12345;
  next() {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }
}
