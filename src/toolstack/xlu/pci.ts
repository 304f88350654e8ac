/** PCI_SPEC_STRING, BDF and rdm= as xl reads them. @xen tools/libs/util/libxlu_pci.c */
import { type DevicePci, ERROR, PCI_FUNC_ALL, type RdmPolicy, type RdmStrategy } from '../libxl/types.js';
import { atoi, isXdigit, scanHex } from './cnum.js';

/** Where messages go; undefined keeps quiet. */
export type Report = (text: string) => void;

/** The end of a parsed BDF, ERROR_INVAL, or `undefined-behaviour`: no function number, so C goes on at a wild index. */
type BdfEnd = number | 'invalid' | 'undefined-behaviour';

function parseBdfAt(pci: DevicePci, text: string): BdfEnd {
  let colons = 0;
  for (let i = 0; isXdigit(text[i]) || text[i] === ':'; i++) if (text[i] === ':') colons++;
  if (colons !== 1 && colons !== 2) return 'invalid';
  const numbers: number[] = [];
  let at = 0;
  for (let field = 0; field <= colons; field++) {
    const n = scanHex(text, at);
    if (n === undefined) return 'invalid';
    numbers.push(n.value);
    at = n.end;
    if (field < colons && text[at++] !== ':') return 'invalid';
  }
  const [dev, bus, domain] = [numbers.pop()!, numbers.pop()!, numbers.pop() ?? 0];
  if (text[at] !== '.') return 'undefined-behaviour';
  if (domain > 0xffff || bus > 0xff || dev > 0x1f) return 'invalid';
  return parseFunction(pci, text, at + 1, { domain, bus, dev });
}

function parseFunction(
  pci: DevicePci,
  text: string,
  at: number,
  where: { domain: number; bus: number; dev: number },
): BdfEnd {
  if (text[at] === '*') {
    Object.assign(pci, where, { vfuncMask: PCI_FUNC_ALL, func: 0 });
    return at + 1;
  }
  const func = scanHex(text, at);
  if (func === undefined || func.value > 7) return 'invalid';
  Object.assign(pci, where, { vfuncMask: 1, func: func.value });
  return func.end;
}

/**
 * The argument of pci-assignable-add and -remove. Whatever follows the function is ignored. 0, ERROR_INVAL, or
 * `crash`: without a function number C reads an uninitialised index (seen as a segmentation fault on a real host).
 */
export function xluPciParseBdf(pci: DevicePci, text: string): number | 'crash' {
  const end = parseBdfAt(pci, text);
  if (end === 'undefined-behaviour') return 'crash';
  return end === 'invalid' ? ERROR.INVAL : 0;
}

/** Index behind the slot, or undefined. */
function parseVslot(pci: DevicePci, text: string, at: number): number | undefined {
  const slot = scanHex(text, at);
  if (slot === undefined || slot.value > 0x1f) return undefined;
  pci.vdevfn = slot.value << 3;
  return slot.end;
}

const RDM_POLICIES: readonly RdmPolicy[] = ['invalid', 'strict', 'relaxed'];

function parseRdmPolicy(text: string, report?: Report): RdmPolicy | undefined {
  const policy = RDM_POLICIES.find((p) => p === text.toLowerCase());
  if (policy === undefined) report?.(`Unknown RDM policy: ${text}`);
  return policy;
}

/** 0 or ERROR_*. Boolean options are numbers: `yes` is 0. */
function applyOption(pci: DevicePci, key: string, val: string, report?: Report): number {
  switch (key) {
    case 'vslot':
      return parseVslot(pci, val, 0) === undefined ? ERROR.INVAL : 0;
    case 'permissive':
      pci.permissive = atoi(val) !== 0;
      return 0;
    case 'msitranslate':
      pci.msitranslate = atoi(val) !== 0;
      return 0;
    case 'seize':
      pci.seize = atoi(val) !== 0;
      return 0;
    case 'power_mgmt':
      pci.powerMgmt = atoi(val) !== 0;
      return 0;
    case 'rdm_policy': {
      const policy = parseRdmPolicy(val, report);
      if (policy === undefined) return ERROR.FAIL;
      pci.rdmPolicy = policy;
      return 0;
    }
    default:
      report?.(`Unknown PCI_SPEC_STRING option: ${key}`);
      return ERROR.INVAL;
  }
}

/** `[DDDD:]BB:DD.F|*[@VSLOT][,KEY=VALUE]...` or `KEY=VALUE,...` with exactly one of bdf and name. 0 or ERROR_*. */
export function xluPciParseSpecString(pci: DevicePci, text: string, report?: Report): number {
  let bdfPresent = false;
  let namePresent = false;
  let at = 0;
  const end = parseBdfAt(pci, text);
  if (typeof end === 'number') {
    bdfPresent = true;
    at = end;
    if (text[at] === '@') {
      const after = parseVslot(pci, text, at + 1);
      if (after === undefined) return ERROR.INVAL;
      at = after;
    }
    if (text[at] === ',') at++;
    else if (at < text.length) return ERROR.INVAL;
  }
  while (at < text.length) {
    const equals = text.indexOf('=', at);
    if (equals < 0) return ERROR.INVAL;
    const key = text.slice(at, equals);
    const [val] = text.slice(equals + 1).split(',', 1) as [string];
    at = equals + val.length + 2;
    if (key === 'bdf') {
      if (typeof parseBdfAt(pci, val) !== 'number') return ERROR.INVAL;
      bdfPresent = true;
    } else if (key === 'name') {
      namePresent = true;
      pci.name = val;
    } else {
      const rc = applyOption(pci, key, val, report);
      if (rc !== 0) return rc;
    }
  }
  return bdfPresent !== namePresent ? 0 : ERROR.INVAL;
}

/**
 * `strategy=host[,policy=…]`. The test of the policy is inverted in every release: a valid one is refused, an invalid
 * one is reported, accepted, and leaves the policy unset. 0 or ERROR_INVAL.
 */
export function xluRdmParse(
  rdm: { strategy: RdmStrategy; policy: RdmPolicy },
  text: string,
  report?: Report,
): number {
  let state: 'type' | 'strategy' | 'policy' | 'terminal' = 'type';
  let tok = 0;
  const end = text.length + 1;
  for (let at = 0; at < end; at++) {
    const c = text[at];
    if (state === 'type') {
      if (c !== '=') continue;
      const key = text.slice(tok, at);
      if (key !== 'strategy' && key !== 'policy') {
        report?.(`Unknown RDM state option: ${key}`);
        return ERROR.INVAL;
      }
      state = key;
      tok = at + 1;
    } else if (c === ',' || c === undefined) {
      const word = text.slice(tok, at);
      if (state === 'strategy') {
        if (word !== 'host') {
          report?.(`Unknown RDM strategy option: ${word}`);
          return ERROR.INVAL;
        }
        rdm.strategy = 'host';
      } else if (state === 'policy' && parseRdmPolicy(word, report) !== undefined) return ERROR.INVAL;
      if (state === 'terminal') continue;
      state = c === ',' ? 'type' : 'terminal';
      tok = at + 1;
    }
  }
  return tok === end && state === 'terminal' ? 0 : ERROR.INVAL;
}
