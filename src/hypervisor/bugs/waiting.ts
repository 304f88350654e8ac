/** Advisories that are not seams yet, and what each waits for. */
export const waiting: readonly { readonly id: string; readonly waitsFor: string }[] = [
  {
    id: 'XSA-399',
    waitsFor: 'RCU, and an id left when a domain ends, which only a leak leaves (NX-05)',
  },
  { id: 'XSA-285', waitsFor: 'page types of PV guests' },
  { id: 'XSA-288', waitsFor: 'page types of PV guests' },
  { id: 'XSA-461', waitsFor: 'something to switch: Xen has no fix, SUPPORT.md alone speaks of it' },
  { id: 'XSA-126', waitsFor: 'configuration space of guests as commands of the kit' },
  { id: 'XSA-131', waitsFor: 'configuration space of guests as commands of the kit' },
  { id: 'XSA-61', waitsFor: 'xl as commands of the kit' },
  { id: 'XSA-476', waitsFor: 'xl as commands of the kit' },
  { id: 'NX-25', waitsFor: 'vPCI' },
];
