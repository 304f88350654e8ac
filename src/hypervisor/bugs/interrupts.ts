/** Mistakes with interrupts of devices. */
import type { Bug } from './bug.js';

export const interruptBugs: readonly Bug[] = [
  {
    id: 'XSA-33',
    title: 'interrupt entries of devices behind a legacy bridge accept half of the machine',
    year: 2013,
    releases: '3.3 to 4.2',
    mechanism:
      "For a device behind a conventional bridge the source was checked by bus number, with the bridge's own id taken for the first and the last bus allowed. Any device on those buses could raise the interrupt.",
    fix: 'The id of the bridge is what is compared.',
    source: '54eec36d92',
    seams: { vtdLegacyBridgeByBus: () => true },
    breaks: ['INV-I10'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true },
      ops: ['assign', 'mapMsi', 'raise'],
    },
  },
  {
    id: 'XSA-36',
    title: 'AMD: all devices share one table of interrupts',
    year: 2013,
    releases: '3.3 to 4.2',
    mechanism:
      'One interrupt remapping table served every device of the machine. AMD entries do not say who may use them, so that a device of a guest could raise the interrupts of any other by sending its message.',
    fix: 'Each device has a table of its own unless an option says otherwise.',
    source: '668635a35e 94d4a1119d',
    seams: { amdTableForEachDevice: () => false },
    breaks: ['INV-I10'],
    environment: { vendor: 'amd', machine: { messages: true }, ops: ['assign', 'mapMsi', 'raise'] },
  },
  {
    id: 'XSA-237',
    title: 'interrupts of a device are mapped for whoever is named',
    year: 2017,
    releases: 'up to 4.9',
    mechanism:
      'Mapping a message looked the device up without asking whose it is. A domain could be given, and take down, the interrupts of a device of somebody else.',
    fix: 'The device is looked for among those of the domain.',
    source: '3308374b1b',
    seams: { msiNeedsOwner: () => false },
    breaks: ['INV-I10'],
    environment: { vendor: 'vtd', machine: { messages: true }, ops: ['assign', 'mapMsi'] },
  },
  {
    id: 'XSA-237b',
    title: 'asking for an interrupt twice takes the first one down',
    year: 2017,
    releases: 'up to 4.9',
    mechanism:
      'A message that was there already was given out again as if it were new. The next check refused it, and the way out undid what the first request had set up: its remapping entry was free, and the domain still had the interrupt.',
    fix: 'The second request is refused before anything is done.',
    source: 'a46126fec2 573ac7b22a',
    seams: { msiTwiceIsRefused: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: { vendor: 'vtd', machine: { messages: true }, ops: ['assign', 'mapMsi'] },
  },
  {
    id: 'XSA-337',
    title: 'a message is read back from the device before it is changed',
    year: 2020,
    releases: 'up to 4.14',
    mechanism:
      'Moving an interrupt to another CPU started from what the registers of the device said. A guest whose device has other things in them chose how the interrupt is delivered: as NMI or SMI, say.',
    fix: 'What Xen wrote last is remembered.',
    source: 'cb5e973086 beb54596cf',
    seams: { msiIsRemembered: () => false },
    breaks: ['INV-I10'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true },
      ops: ['assign', 'mapMsi', 'bindMsi', 'forge'],
    },
  },
  {
    id: 'XSA-360',
    title: 'interrupts that were bound outlive their guest',
    year: 2021,
    releases: '4.12 to 4.14',
    mechanism:
      'Unbinding the interrupts of a dying guest took them from its list too. What unmaps them later walks that list: the interrupt, its vector and its remapping entry stayed with nobody, and each start of a guest cost some more until there were none.',
    fix: 'They stay on the list, without their binding.',
    source: '58427889f5',
    seams: { cleaningKeepsPirqs: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true },
      ops: ['assign', 'mapMsi', 'bindMsi', 'destroy'],
    },
  },
  {
    id: 'XSA-395',
    title: 'an interrupt in flight is forgotten when the next one is not',
    year: 2022,
    releases: '4.6 to 4.15',
    mechanism:
      "Cleaning up the interrupts of a dying guest went on after one that was still in flight, and the next one's success hid it. The structures were freed with the softirq pending.",
    fix: 'The loop ends at the first that is in flight.',
    source: '9480a1a519',
    seams: { cleaningStopsInFlight: () => false, cleaningAsksAgain: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true, slots: ['endpoint'] },
      ops: ['assign', 'mapMsi', 'bindMsi', 'raise', 'destroy'],
    },
  },
  {
    id: 'NX-21',
    title: 'messages of a device are freed while its guest still has the interrupts',
    year: 2012,
    releases: 'up to 4.2',
    mechanism:
      "Taking a device from a dying domain freed its messages, and the interrupts with them. The domain's list still named them: what walks it later unbound and freed numbers that might be another guest's by then.",
    fix: 'The device leaves; the interrupts are left to what walks the list.',
    source: '15a9f34d1b',
    seams: { leavingFreesMessages: () => true },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true },
      ops: ['assign', 'mapMsi', 'bindMsi', 'destroy', 'fail', 'failTwo'],
    },
  },
];
