/** What differs between releases of the tools: line numbers of messages, and seams. Data, chosen once by the machine. */
import type { Release } from './lines.js';

export interface ToolstackProfile {
  readonly release: Release;
}
export const TOOLSTACK_PROFILES: Readonly<Record<Release, ToolstackProfile>> = {
  '4.17': { release: '4.17' },
  '4.18': { release: '4.18' },
  '4.23': { release: '4.23' },
};
