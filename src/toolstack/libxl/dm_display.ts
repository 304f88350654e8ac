/** What the arguments of both device models ask of a configuration. */
import type { DomainConfig, VncInfo } from './types.js';

/** Kilobytes to megabytes, upwards. */
export const kbToMb = (kb: number): number => Math.floor((kb + 1023) / 1024);

/** The VNC server of a guest, when there is to be one. */
export function vncOf(d: DomainConfig): VncInfo | undefined {
  const vnc = d.bInfo.type === 'hvm' ? d.bInfo.hvm.vnc : d.vfbs[0]?.vnc;
  const on = vnc !== undefined && (vnc.enable ?? d.bInfo.type !== 'hvm');
  return on ? vnc : undefined;
}

export const sdlOn = (d: DomainConfig): boolean | undefined =>
  (d.bInfo.type === 'hvm' ? d.bInfo.hvm.sdl : d.vfbs[0]?.sdl)?.enable;
