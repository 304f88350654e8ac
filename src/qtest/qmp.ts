/** QMP, as far as QEMU's test library speaks it: objects one after the other, with or without line ends. */
import type { QtestBoard } from './board.js';
import { DEVICE_MODELS } from './devices.js';
import { QUIRKS } from './quirks.js';

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export const QMP_GREETING: Json = {
  QMP: {
    version: { qemu: { micro: 0, minor: 2, major: 10 }, package: 'xen-passthrough-sim' },
    capabilities: ['oob'],
  },
};
const OBJECT_MAX = 1 << 20;

const machine = (name: string, alias?: string): Json => ({
  'hotpluggable-cpus': false,
  name,
  'numa-mem-supported': false,
  'cpu-max': 255,
  deprecated: false,
  ...(alias === undefined ? {} : { alias }),
});

export class QmpServer {
  private rest = '';
  /** True once `quit` was asked for. */
  quit = false;

  constructor(private readonly board: QtestBoard | undefined) {}

  /** Everything to be sent for what arrived: replies, and events before the reply of the command that caused them. */
  receive(text: string): Json[] {
    this.rest += text;
    const out: Json[] = [];
    for (let object = this.next(); object !== undefined; object = this.next())
      out.push(...this.answer(object));
    if (this.rest.length > OBJECT_MAX) this.rest = '';
    return out;
  }

  /** The next whole object: braces are counted outside of strings. Both kinds of quotes are taken, as QEMU does. */
  private next(): string | undefined {
    let depth = 0;
    let quote = '';
    const text = this.rest;
    for (let i = 0; i < text.length; i++) {
      const c = text[i]!;
      if (quote !== '') {
        if (c === '\\') i++;
        else if (c === quote) quote = '';
      } else if (c === '"' || c === "'") quote = c;
      else if (c === '{') depth++;
      else if (c === '}' && --depth <= 0) {
        this.rest = text.slice(i + 1);
        return text.slice(Math.max(0, text.indexOf('{')), i + 1);
      }
    }
    return undefined;
  }

  private answer(text: string): Json[] {
    let command: { execute?: unknown; 'exec-oob'?: unknown; arguments?: unknown; id?: Json };
    try {
      command = JSON.parse(text.replaceAll("'", '"')) as typeof command;
    } catch {
      return [{ error: { class: 'GenericError', desc: 'JSON parse error' } }];
    }
    const id = command.id === undefined ? {} : { id: command.id };
    const name = String(command.execute ?? command['exec-oob']);
    const result = this.execute(name);
    if (result === undefined) {
      const desc = `The command ${name} has not been found`;
      return [{ ...id, error: { class: 'CommandNotFound', desc } }];
    }
    const reply: Json = { ...id, return: result };
    return name === 'system_reset'
      ? [event('RESET', { guest: false, reason: 'host-qmp-system-reset' }), reply]
      : [reply];
  }

  private execute(name: string): Json | undefined {
    switch (name) {
      case 'qmp_capabilities':
        return {};
      case 'query-version':
        return { qemu: { micro: 0, minor: 2, major: 10 }, package: 'xen-passthrough-sim' };
      case 'query-status':
        return { running: true, singlestep: false, status: 'running' };
      case 'query-machines':
        return [machine('none'), machine('pc-q35-10.2', 'q35')];
      case 'query-cpus-fast':
      case 'query-chardev':
        return [];
      case 'query-quirks':
        return [...QUIRKS];
      case 'qom-list-types':
        return ['intel-iommu', ...DEVICE_MODELS.keys()].map((t) => ({ name: t, parent: 'pci-device' }));
      case 'system_reset':
        this.board?.reset();
        return {};
      case 'quit':
        this.quit = true;
        return {};
      default:
        return undefined;
    }
  }
}

export const event = (name: string, data: Json): Json => ({
  timestamp: { seconds: 0, microseconds: 0 },
  event: name,
  data,
});
