// Registers of PCI configuration space, with the sections that define them.
//
// SPEC  PCI Local Bus Specification 3.0 (PCI), PCI Bus Power Management
//       Interface 1.2 (PM), PCI Express Base 2.1 (PCIe).
// TRUST    None: constants.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_PCI_SPEC_H_
#define BULKHEAD_SERVICES_PCI_SPEC_H_

#include <cstddef>
#include <cstdint>

namespace bulkhead::pci {

inline constexpr size_t kConventionalConfigBytes = 256;  // PCI §6.1
inline constexpr size_t kExpressConfigBytes = 4096;      // PCIe §7.2

// PCI §6.1, figure 6-1: the type 00h header.
inline constexpr uint16_t kVendorId = 0x00;
inline constexpr uint16_t kDeviceId = 0x02;
inline constexpr uint16_t kCommand = 0x04;
inline constexpr uint16_t kStatus = 0x06;
inline constexpr uint16_t kRevisionId = 0x08;
inline constexpr uint16_t kClassCode = 0x09;  // 24 bits
inline constexpr uint16_t kCacheLineSize = 0x0c;
inline constexpr uint16_t kLatencyTimer = 0x0d;
inline constexpr uint16_t kHeaderType = 0x0e;
inline constexpr uint16_t kBar0 = 0x10;
inline constexpr uint16_t kSubsystemVendorId = 0x2c;
inline constexpr uint16_t kSubsystemId = 0x2e;
inline constexpr uint16_t kCapabilitiesPointer = 0x34;
inline constexpr uint16_t kInterruptLine = 0x3c;
inline constexpr uint16_t kInterruptPin = 0x3d;
inline constexpr uint16_t kMinGrant = 0x3e;
inline constexpr uint16_t kMaxLatency = 0x3f;
inline constexpr uint16_t kFirstCapability = 0x40;

// PCI §6.2.2: COMMAND.
inline constexpr uint16_t kCommandIoSpace = 1u << 0;
inline constexpr uint16_t kCommandMemorySpace = 1u << 1;
inline constexpr uint16_t kCommandBusMaster = 1u << 2;
inline constexpr uint16_t kCommandParityErrorResponse = 1u << 6;
inline constexpr uint16_t kCommandSerrEnable = 1u << 8;
inline constexpr uint16_t kCommandInterruptDisable = 1u << 10;

// PCI §6.2.3: STATUS.
inline constexpr uint16_t kStatusInterrupt = 1u << 3;
inline constexpr uint16_t kStatusCapabilitiesList = 1u << 4;
inline constexpr uint16_t kStatusMasterDataParityError = 1u << 8;
inline constexpr uint16_t kStatusDevselMedium = 1u << 9;
inline constexpr uint16_t kStatusSignaledTargetAbort = 1u << 11;
inline constexpr uint16_t kStatusReceivedTargetAbort = 1u << 12;
inline constexpr uint16_t kStatusReceivedMasterAbort = 1u << 13;
inline constexpr uint16_t kStatusSignaledSystemError = 1u << 14;
inline constexpr uint16_t kStatusDetectedParityError = 1u << 15;
inline constexpr uint16_t kStatusErrors = 0xf900;  // cleared by writing ones

// PCI §6.2.5.1: base address registers.
inline constexpr uint32_t kBarIoSpace = 1u << 0;
inline constexpr uint32_t kBarMemory64 = 2u << 1;
inline constexpr uint32_t kBarPrefetchable = 1u << 3;

// PCI appendix H: capability ids.
inline constexpr uint8_t kCapabilityPowerManagement = 0x01;
inline constexpr uint8_t kCapabilityMsi = 0x05;
inline constexpr uint8_t kCapabilityVendorSpecific = 0x09;
inline constexpr uint8_t kCapabilityExpress = 0x10;
inline constexpr uint8_t kCapabilityMsix = 0x11;

// PM §3.2.
inline constexpr uint16_t kPmCapabilities = 2;
inline constexpr uint16_t kPmControlStatus = 4;
inline constexpr size_t kPmBytes = 8;
inline constexpr uint16_t kPmVersion12 = 3;
inline constexpr uint16_t kPmStateMask = 3;
inline constexpr uint16_t kPmD0 = 0;
inline constexpr uint16_t kPmD3hot = 3;
inline constexpr uint16_t kPmNoSoftReset = 1u << 3;

// PCI §6.8.1: MSI with 64-bit addresses and per-vector masking.
inline constexpr uint16_t kMsiControl = 2;
inline constexpr uint16_t kMsiAddress = 4;
inline constexpr uint16_t kMsiUpperAddress = 8;
inline constexpr uint16_t kMsiData = 12;
inline constexpr uint16_t kMsiMask = 16;
inline constexpr uint16_t kMsiPending = 20;
inline constexpr size_t kMsiBytes = 24;
inline constexpr uint16_t kMsiEnable = 1u << 0;
inline constexpr unsigned kMsiCapableShift = 1;
inline constexpr unsigned kMsiEnabledShift = 4;
inline constexpr uint16_t kMsiEnabledMask = 7u << kMsiEnabledShift;
inline constexpr uint16_t kMsi64Bit = 1u << 7;
inline constexpr uint16_t kMsiPerVectorMasking = 1u << 8;
inline constexpr unsigned kMaxMsiVectors = 32;

// PCI §6.8.2: MSI-X.
inline constexpr uint16_t kMsixControl = 2;
inline constexpr uint16_t kMsixTable = 4;
inline constexpr uint16_t kMsixPba = 8;
inline constexpr size_t kMsixBytes = 12;
inline constexpr uint16_t kMsixFunctionMask = 1u << 14;
inline constexpr uint16_t kMsixEnable = 1u << 15;
inline constexpr size_t kMsixEntryBytes = 16;
inline constexpr size_t kMsixVectorControl = 12;

// PCIe §7.8: capability version 2.
inline constexpr uint16_t kExpressCapabilities = 2;
inline constexpr uint16_t kExpressDeviceCapabilities = 4;
inline constexpr uint16_t kExpressDeviceControl = 8;
inline constexpr uint16_t kExpressDeviceStatus = 10;
inline constexpr uint16_t kExpressLinkCapabilities = 12;
inline constexpr uint16_t kExpressLinkControl = 16;
inline constexpr uint16_t kExpressLinkStatus = 18;
inline constexpr size_t kExpressBytes = 60;
inline constexpr uint16_t kExpressVersion2 = 2;
inline constexpr uint32_t kExpressRoleBasedErrors = 1u << 15;
inline constexpr uint32_t kExpressFunctionReset = 1u << 28;
inline constexpr uint16_t kExpressInitiateReset = 1u << 15;

}  // namespace bulkhead::pci

#endif  // BULKHEAD_SERVICES_PCI_SPEC_H_
