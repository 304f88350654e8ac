/**
 * What QEMU's emulated unit does otherwise than the specification says, or where the specification leaves a choice and
 * QEMU's differs from ours. All are off in a unit of a machine; the test board switches them on to be compared with
 * QEMU. docs/qtest.md has a row for each.
 */
export const VTD_QUIRKS = [
  'flush-on-enable',
  'qie-off-needs-wait',
  'iqe-needs-doorbell',
  'iqa-latched',
  'page-flush-compares-8-bits',
  'context-domain-is-global',
  'context-device-ignores-domain',
  'pass-through-any-address',
  'hit-without-permission-is-silent',
  'wait-needs-action',
  'lax-descriptors',
  'lax-interrupt-entry-descriptors',
  'transient-mapping',
  'snoop-with-scalable-mode',
  'no-compatibility-format',
  'narrow-event-registers',
  'rtaddr-keeps-mode',
  'irta-keeps-mode',
  'narrow-queue-in-scalable-mode',
  'pass-through-any-width',
  'fault-pending-needs-status-write',
  'reserved-context-is-not-hidden',
  'absent-is-not-cached',
  'interrupt-range-by-page',
  'interrupt-table-anyway',
  'interrupt-reason-by-capability',
] as const;
export type VtdQuirk = (typeof VTD_QUIRKS)[number];

/** True when the unit was asked to deviate in this way. For cold paths only. */
export const deviates = (
  s: { readonly opts: { readonly quirks?: ReadonlySet<VtdQuirk> | undefined } },
  quirk: VtdQuirk,
): boolean => s.opts.quirks?.has(quirk) ?? false;
