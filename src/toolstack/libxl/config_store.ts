/** A domain's configuration as libxl keeps it for later: JSON in a file of dom0. @xen libxl_dom.c userdata */

import { deepClone } from './clone.js';
import { domainConfigToJson } from './json.js';
import type { Libxl } from './libxl.js';
import { DOMAIN_CONFIG, type Field, fieldName, initialOf, makeDomainConfig, type Schema } from './schema.js';
import type { DomainConfig } from './types.js';

const path = (domid: number, uuid: string): string => `/var/lib/xen/userdata-d.${domid}.${uuid}.libxl-json`;

/** The path of the file, from the domain's /vm node; undefined for a domain without one. */
function storedAt(lx: Libxl, domid: number): string | undefined {
  const uuid = lx.dom0.xs.read(`${lx.domainPath(domid)}/vm`)?.slice('/vm/'.length);
  return uuid === undefined ? undefined : path(domid, uuid);
}

export function storeConfig(lx: Libxl, domid: number, config: DomainConfig): number {
  const file = storedAt(lx, domid);
  if (file === undefined) return -3;
  // The old file and the new one are named.
  lx.xc.countFind(true);
  lx.xc.countFind(true);
  lx.dom0.fs.remove(file);
  return lx.dom0.fs.append(file, domainConfigToJson(config)) < 0 ? -3 : 0;
}

export function loadConfig(lx: Libxl, domid: number): DomainConfig | undefined {
  const file = storedAt(lx, domid);
  if (file === undefined) return undefined;
  lx.xc.countFind(true);
  const text = lx.dom0.fs.readFile(file);
  return typeof text === 'string' ? domainConfigFromJson(text) : undefined;
}

export function dropConfig(lx: Libxl, domid: number, uuid: string): void {
  lx.dom0.fs.remove(path(domid, uuid));
}

const fromJson = (f: Field, j: unknown): unknown => {
  if (f.kind === 'defbool') return j === 'True';
  if (f.kind === 'mac') return (j as string).split(':').map((b) => Number.parseInt(b, 16));
  if (f.kind === 'cpuid') return deepClone(j);
  if (f.kind === 'struct' || f.kind === 'union') return structFrom(f.of, j as Record<string, unknown>);
  if (f.kind === 'list' && f.of !== undefined) {
    const of = f.of;
    return (j as Record<string, unknown>[]).map((x) => structFrom(of, x));
  }
  return j === null ? 'uninitialised' : j;
};

function structFrom(schema: Schema, j: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, field] of schema) {
    const key = field.kind === 'union' ? `${field.key}.${name}` : name;
    out[fieldName(name)] = Object.hasOwn(j, key) ? fromJson(field, j[key]) : initialOf(field);
  }
  return out;
}

export function domainConfigFromJson(text: string): DomainConfig {
  const config = makeDomainConfig();
  Object.assign(config, structFrom(DOMAIN_CONFIG, JSON.parse(text) as Record<string, unknown>));
  config.bInfo.type = config.cInfo.type;
  return config;
}
