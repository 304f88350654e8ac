/** `lspci -v`, `-vv` and `-vvv`: lines of pciutils 3.9.0 on the recorded VT-d board (recording 01, record 5). */
import { describe, expect, test } from 'vitest';
import { runAlone } from '../../src/sim/co.js';
import type { LspciDevice } from '../../src/toolstack/shell/lspci_device.js';
import { showVerbose } from '../../src/toolstack/shell/lspci_verbose.js';
import { Shell } from '../../src/toolstack/shell/shell.js';
import { addSystemPrograms } from '../../src/toolstack/shell/system.js';
import { type BoardOptions, board } from './dom0_helpers.js';

function lines(command: string, options: BoardOptions = {}): string[] {
  const shell = new Shell(board(options).dom0);
  addSystemPrograms(shell);
  return runAlone(shell.run(command)).stdout.trimEnd().split('\n');
}

test('lspci -vvv of a bridge to PCI with MSI, Express v2 and error reporting is the recorded text', () => {
  expect(lines('lspci -vvv -s 08:00.0')).toEqual([
    '08:00.0 PCI bridge: Red Hat, Inc. Device 000e (prog-if 00 [Normal decode])',
    '\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR+ FastB2B- DisINTx-',
    '\tStatus: Cap+ 66MHz+ UDF- FastB2B+ ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-',
    '\tLatency: 0',
    '\tInterrupt: pin A routed to IRQ 21',
    '\tRegion 0: Memory at fda00000 (64-bit, non-prefetchable) [size=256]',
    '\tBus: primary=08, secondary=09, subordinate=09, sec-latency=0',
    '\tI/O behind bridge: 2000-2fff [size=4K] [16-bit]',
    '\tMemory behind bridge: fd800000-fd9fffff [size=2M] [32-bit]',
    '\tPrefetchable memory behind bridge: fc800000-fc9fffff [size=2M] [32-bit]',
    '\tSecondary status: 66MHz+ FastB2B+ ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- <SERR- <PERR-',
    '\tBridgeCtl: Parity- SERR+ NoISA- VGA- VGA16- MAbort- >Reset- FastB2B-',
    '\t\tPriDiscTmr- SecDiscTmr- DiscTmrStat- DiscTmrSERREn-',
    '\tCapabilities: [8c] MSI: Enable- Count=1/1 Maskable+ 64bit+',
    '\t\tAddress: 00000000fee00458  Data: 0000',
    '\t\tMasking: 00000001  Pending: 00000000',
    '\tCapabilities: [84] Power Management version 3',
    '\t\tFlags: PMEClk- DSI- D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)',
    '\t\tStatus: D0 NoSoftRst- PME-Enable- DSel=0 DScale=0 PME-',
    '\tCapabilities: [48] Express (v2) PCI-Express to PCI/PCI-X Bridge, MSI 00',
    '\t\tDevCap:\tMaxPayload 128 bytes, PhantFunc 0',
    '\t\t\tExtTag- AttnBtn- AttnInd- PwrInd- RBE+ SlotPowerLimit 0W',
    '\t\tDevCtl:\tCorrErr+ NonFatalErr+ FatalErr+ UnsupReq+',
    '\t\t\tRlxdOrd- ExtTag- PhantFunc- AuxPwr- NoSnoop- BrConfRtry-',
    '\t\t\tMaxPayload 128 bytes, MaxReadReq 128 bytes',
    '\t\tDevSta:\tCorrErr- NonFatalErr- FatalErr- UnsupReq- AuxPwr- TransPend-',
    '\t\tLnkCap:\tPort #0, Speed 2.5GT/s, Width x1, ASPM L0s, Exit Latency L0s <64ns',
    '\t\t\tClockPM- Surprise- LLActRep- BwNot- ASPMOptComp-',
    '\t\tLnkCtl:\tASPM Disabled; RCB 64 bytes, Disabled- CommClk-',
    '\t\t\tExtSynch- ClockPM- AutWidDis- BWInt- AutBWInt-',
    '\t\tLnkSta:\tSpeed 2.5GT/s, Width x1',
    '\t\t\tTrErr- Train- SlotClk- DLActive- BWMgmt- ABWMgmt-',
    '\t\tDevCap2: Completion Timeout: Not Supported, TimeoutDis- NROPrPrP- LTR-',
    '\t\t\t 10BitTagComp- 10BitTagReq- OBFF Not Supported, ExtFmt+ EETLPPrefix+, MaxEETLPPrefixes 4',
    '\t\t\t EmergencyPowerReduction Not Supported, EmergencyPowerReductionInit-',
    '\t\t\t FRS-',
    '\t\t\t AtomicOpsCap: 32bit- 64bit- 128bitCAS-',
    '\t\tDevCtl2: Completion Timeout: 50us to 50ms, TimeoutDis- LTR- 10BitTagReq- OBFF Disabled,',
    '\t\tLnkCtl2: Target Link Speed: 2.5GT/s, EnterCompliance- SpeedDis-',
    '\t\t\t Transmit Margin: Normal Operating Range, EnterModifiedCompliance- ComplianceSOS-',
    '\t\t\t Compliance Preset/De-emphasis: -6dB de-emphasis, 0dB preshoot',
    '\t\tLnkSta2: Current De-emphasis Level: -6dB, EqualizationComplete- EqualizationPhase1-',
    '\t\t\t EqualizationPhase2- EqualizationPhase3- LinkEqualizationRequest-',
    '\t\t\t Retimer- 2Retimers- CrosslinkRes: unsupported',
    '\tCapabilities: [40] Hot-plug capable',
    '\tCapabilities: [100 v2] Advanced Error Reporting',
    '\t\tUESta:\tDLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt- UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq- ACSViol-',
    '\t\tUEMsk:\tDLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt- UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq- ACSViol-',
    '\t\tUESvrt:\tDLP+ SDES+ TLP- FCP+ CmpltTO- CmpltAbrt- UnxCmplt- RxOF+ MalfTLP+ ECRC- UnsupReq- ACSViol-',
    '\t\tCESta:\tRxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr-',
    '\t\tCEMsk:\tRxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr+',
    '\t\tAERCap:\tFirst Error Pointer: 00, ECRCGenCap+ ECRCGenEn- ECRCChkCap+ ECRCChkEn-',
    '\t\t\tMultHdrRecCap- MultHdrRecEn- TLPPfxPres- HdrLogCap-',
    '\t\tHeaderLog: 00000000 00000000 00000000 00000000',
  ]);
});

describe('lspci -vv on the recorded board', () => {
  test.each([
    ['00:01.0', '\tBridgeCtl: Parity- SERR+ NoISA- VGA+ VGA16- MAbort- >Reset- FastB2B-'],
    ['00:01.0', '\t\tSltCap:\tAttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+'],
    ['00:01.0', '\t\t\tSlot #1, PowerLimit 0W; Interlock+ NoCompl-'],
    ['00:01.0', '\t\tRootSta: PME ReqID 0000, PMEStatus- PMEPending-'],
    [
      '00:01.0',
      '\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans+',
    ],
    ['06:00.0', '\tRegion 2: I/O ports at 9000 [size=32]'],
    ['06:00.0', '\tExpansion ROM at fde00000 [disabled] [size=256K]'],
    ['06:00.0', '\t\tFlags: PMEClk- DSI+ D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)'],
    ['06:00.0', '\t\tDevCap:\tMaxPayload 128 bytes, PhantFunc 0, Latency L0s <64ns, L1 <1us'],
    ['06:00.0', '\t\tVector table: BAR=3 offset=00000000'],
    ['06:00.0', '\tCapabilities: [140 v1] Device Serial Number 52-54-00-ff-ff-00-06-00'],
    ['0c:01.0', '\tRegion 0: Memory at fa000000 (32-bit, prefetchable) [size=16M]'],
  ])('%s: %s', (bdf, line) => {
    expect(lines(`lspci -vv -s ${bdf}`)).toContain(line);
  });
});

test('lspci -v names capabilities without version and fields', () => {
  const out = lines('lspci -v -s 06:00.0');
  expect(out).toContain('\tCapabilities: [e0] Express Endpoint, MSI 00');
  expect(out).toContain('\tCapabilities: [140] Device Serial Number 52-54-00-ff-ff-00-06-00');
  expect(out.filter((l) => /^\t\t|Control:|Region/.test(l))).toEqual([]);
});

/** A device of these registers, 4 KiB. */
function device(bytes: Readonly<Record<number, number>>, o: Partial<LspciDevice> = {}): LspciDevice {
  const view = new DataView(new ArrayBuffer(4096));
  for (const [at, value] of Object.entries(bytes)) view.setUint32(Number(at), value, true);
  return {
    sbdf: 0x0100,
    vendor: 0x1af4,
    device: 0x1041,
    classCode: 0x020000,
    revision: 1,
    subsystemVendor: 0,
    subsystemDevice: 0,
    headerType: 0,
    irq: 0,
    driver: undefined,
    modules: [],
    resources: [],
    configBytes: 4096,
    read: (reg, n) =>
      n === 1 ? view.getUint8(reg) : n === 2 ? view.getUint16(reg, true) : view.getUint32(reg, true),
    ...o,
  };
}

describe('lists of capabilities that are not as they should be', () => {
  test('a loop is told and ends the list', () => {
    const out = showVerbose(device({ 4: 0x0010_0000, 52: 0x40, 64: 0x0000_400c }), 2);
    expect(out).toContain('\tCapabilities: [40] Hot-plug capable\n\tCapabilities: [40] <chain looped>\n');
  });
  test('all ones are a broken chain', () => {
    const out = showVerbose(device({ 4: 0x0010_0000, 52: 0x40, 64: 0xffff_ffff }), 2);
    expect(out).toContain('\tCapabilities: [40] <chain broken>\n');
  });
  test('unknown ids are printed with what follows them', () => {
    const out = showVerbose(
      device({ 4: 0x0010_0000, 52: 0x40, 64: 0x1234_5015, 80: 0x0002_0010, 256: 0x0001_00ee }),
      2,
    );
    expect(out).toContain('\tCapabilities: [40] Capability ID 0x15 [1234]\n');
    expect(out).toContain('\tCapabilities: [100 v1] Extended Capability ID 0xee\n');
  });
  test('enhanced allocation tells how many entries it has', () => {
    const out = showVerbose(device({ 4: 0x0010_0000, 52: 0x40, 64: 0x0003_0014 }), 1);
    expect(out).toContain('\tCapabilities: [40] Enhanced Allocation (EA): NumEntries=3\n');
  });
  test('without Express and PCI-X nothing beyond 256 bytes is looked at', () => {
    const out = showVerbose(device({ 4: 0x0010_0000, 52: 0x40, 64: 0x000c, 256: 0x0001_0003 }), 2);
    expect(out).not.toContain('[100');
  });
});

test('a closed window shows its registers at -vvv alone', () => {
  const bridge = device({ 28: 0x01f1, 32: 0xfff0, 36: 0x0001_fff1 }, { headerType: 1 });
  expect(showVerbose(bridge, 2)).toContain('\tMemory behind bridge: [disabled] [32-bit]\n');
  const all = showVerbose(bridge, 3);
  expect(all).toContain('\tI/O behind bridge: 0000f000-00000fff [disabled] [32-bit]\n');
  expect(all).toContain('\tMemory behind bridge: fff00000-000fffff [disabled] [32-bit]\n');
  expect(all).toContain(
    '\tPrefetchable memory behind bridge: 00000000fff00000-00000000000fffff [disabled] [64-bit]\n',
  );
});

test('a base address that the device does not hold is virtual, one without address unassigned', () => {
  const resources = [
    { start: 0xfe40_4000, end: 0xfe40_7fff, flags: 0x14_0204 },
    { start: 0, end: 0, flags: 0 },
    { start: 0, end: 0xfff, flags: 0x4_0200 },
  ];
  const out = showVerbose(device({}, { resources }), 2);
  expect(out).toContain('\tRegion 0: Memory at fe404000 (64-bit, non-prefetchable) [virtual] [size=16K]\n');
  expect(out).toContain(
    '\tRegion 2: Memory at <unassigned> (32-bit, non-prefetchable) [disabled] [size=4K]\n',
  );
});

test('A card in a physical slot is shown with it after the subsystem, and every function of the device', () => {
  const slots = [{ name: '0-6', seg: 0, bus: 0x0a, device: 0 }];
  for (const fn of [0, 1, 2])
    expect(lines(`lspci -v -s 0a:00.${fn}`, { slots })[2]).toBe('\tPhysical Slot: 0-6');
  expect(lines('lspci -vmm -s 0a:00.2', { slots })).toContain('PhySlot:\t0-6');
  expect(lines('lspci -v -s 02:00.0', { slots }).join()).not.toContain('Slot:');
  expect(lines('cat /sys/bus/pci/slots/0-6/address', { slots })).toEqual(['0000:0a:00']);
});
