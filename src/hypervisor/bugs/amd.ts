/** Mistakes in the AMD-Vi driver. */
import { DOMID } from '../../sim/frames.js';
import type { Bug } from './bug.js';

/** IR and IW of the upper word of an entry. */
const READ_WRITE = (1 << 29) | (1 << 30);

export const amdBugs: readonly Bug[] = [
  {
    id: 'XSA-347',
    title: 'a live device table entry is written field by field',
    year: 2020,
    releases: 'up to 4.14',
    mechanism:
      "Domain id and table root of an entry that translates were written one after the other. A unit that reads in between walks the old owner's table under the new owner's id, and caches what it finds.",
    fix: 'Translation is off while an entry is written, or all of it is replaced at once.',
    source: '0514a3a25f 3b055121c5',
    seams: { amdReplacesDteAtOnce: () => false },
    breaks: ['INV-I3'],
    environment: { vendor: 'amd' },
  },
  {
    id: 'XSA-378b',
    title: 'reserved ranges of a device are merged across the gap between them',
    year: 2021,
    releases: 'up to 4.15',
    mechanism:
      'Several IVMD ranges of one device became a single one from the lowest to the highest address, with the rights of all. Memory in the gap was open to the device.',
    fix: 'Ranges are kept one by one; overlaps are refused.',
    source: '34750a3eb0 b02c5c8898 8ea80530cd',
    seams: { amdKeepsRangesApart: () => false },
    breaks: ['INV-I1', 'INV-I5'],
    environment: { vendor: 'amd', machine: { reserved: 0, gapInReserved: true } },
  },
  {
    id: 'XSA-378c',
    title: 'unity maps stay with the guest that had the device',
    year: 2021,
    releases: 'up to 4.15',
    mechanism:
      "Assignment mapped the device's unity ranges into the guest, and nothing took them out again. The guest's other devices kept access to them.",
    fix: 'The ranges are counted per domain and leave with the device.',
    source: '899272539c',
    seams: { amdReleasesUnityMaps: () => false },
    breaks: ['INV-F11'],
    environment: { vendor: 'amd', machine: { reserved: 0 } },
  },
  {
    id: 'XSA-400c',
    title: 'a device stops translating on its way to a new owner',
    year: 2022,
    releases: 'up to 4.16',
    mechanism:
      'The device table entry was disabled for the old owner and set up for the new one. In between unity ranges could not be reached.',
    fix: 'The entry is replaced by one 16-byte store.',
    source: '1fa6e9aa36',
    seams: { amdReassignsDirectly: () => false },
    breaks: ['INV-I3'],
    environment: { vendor: 'amd', machine: { reserved: 0 } },
  },
  {
    id: 'XSA-400e',
    title: 'quarantine has no unity maps',
    year: 2022,
    releases: '4.13 to 4.16',
    mechanism:
      'The AMD half of the quarantine without reserved ranges: a device that was set aside lost the memory that its firmware names for it.',
    fix: 'Each quarantined device has a table of its own, with its ranges.',
    source: '14dd241aad',
    seams: { amdQuarantineMapsReserved: () => false },
    breaks: ['INV-I3', 'INV-I5'],
    environment: { vendor: 'amd', machine: { reserved: 0 } },
  },
  {
    id: 'XSA-442',
    title: 'the IOTLB is not flushed when a device changes hands',
    year: 2023,
    releases: '4.0 to 4.17',
    mechanism:
      'Replacing a device table entry flushed the cached entry, not the translations tagged with the domain id it had carried.',
    fix: 'The pages of the previous domain id are flushed too.',
    source: '5fc98b9708',
    seams: { amdPrevDomid: () => DOMID.INVALID },
    breaks: ['INV-F3', 'INV-I7'],
    environment: { vendor: 'amd' },
  },
  {
    id: 'XSA-445',
    title: 'a quarantine table has a level more than its entry says',
    year: 2023,
    releases: '4.14 to 4.17',
    mechanism:
      'Quarantine tables were built with four levels and used with three on hosts with little memory. What the device then took for its scratch page was a page table, the same one for each user and never cleared.',
    fix: 'Both use the same number of levels.',
    source: 'fe1e4668b3',
    seams: { amdQuarantineLevels: () => 4 },
    breaks: ['INV-I5'],
    environment: { vendor: 'amd', machine: { quarantine: 'scratch-page' } },
  },
  {
    id: 'XSA-275',
    title: 'a page that takes the place of another is not flushed',
    year: 2018,
    releases: 'up to 4.11',
    mechanism:
      'Whether to flush after writing an entry was decided without asking if it had been present. A device went on using the page that had been there.',
    fix: 'Old and new entry are compared in all that matters.',
    source: '1a7ffe466c 937ef32565',
    seams: { amdReplaceFlush: () => 0 },
    breaks: ['INV-I7', 'INV-F5', 'INV-I6'],
    environment: { vendor: 'amd' },
  },
  {
    id: 'XSA-373',
    title: 'a unit that is slow to flush is taken for one that has flushed',
    year: 2021,
    releases: 'up to 4.15',
    mechanism:
      'Waiting for a command to complete ended after a time, with a line in the log and nothing else: the caller went on as if the flush had happened, and freed the page.',
    fix: 'Waiting goes on until the unit has answered.',
    source: '7c893abc4e c4e4434357 e4fee66043',
    seams: { amdWaitsForEver: () => false },
    breaks: ['INV-I7', 'INV-I6', 'INV-F5'],
    environment: { vendor: 'amd', machine: { slowUnits: true } },
  },
  {
    id: 'NX-08',
    title: 'splitting a large page makes all of it unreachable for a moment',
    year: 2020,
    releases: 'up to 4.14',
    mechanism:
      'The table that takes the place of a superpage was linked first and filled afterwards. DMA to pages that nobody had touched faulted in between.',
    fix: 'The table is filled, then linked.',
    source: '2a758376f9',
    seams: { amdFillsBeforeLinking: () => false },
    breaks: ['INV-I3'],
    environment: { vendor: 'amd' },
  },
  {
    id: 'NX-09',
    title: 'splitting a large page makes it writable',
    year: 2021,
    releases: 'up to 4.15',
    mechanism:
      'The pieces of a superpage were given read and write access whatever the superpage had.',
    fix: 'The pieces inherit the rights.',
    source: 'b8238afd07',
    seams: { amdSplitRights: () => READ_WRITE },
    breaks: ['INV-I8'],
    environment: { vendor: 'amd' },
  },
  {
    id: 'NX-14',
    title: 'the present bit is looked for in the wrong half of an entry',
    year: 2019,
    releases: '4.12',
    mechanism:
      'Whether an unmapped page had been present was read from the upper word of the old entry, where it never is. No flush followed.',
    fix: 'The lower word is asked.',
    source: 'ba9b5a09da',
    seams: { amdWasPresent: (_lo, hi) => (hi & 1) !== 0 },
    breaks: ['INV-I7', 'INV-I6', 'INV-F5'],
    environment: { vendor: 'amd' },
  },
];
