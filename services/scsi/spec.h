// Numbers of the SCSI standards: operation codes, sense keys, additional sense
// codes, pages. No logic.
//
// SPEC     SPC-4 (INCITS 513-2015), SBC-3 (INCITS 514-2014), SAM-5 (INCITS
//          515-2016), MMC-6. Sections are named beside each group.
// TRUST    None: constants.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_SCSI_SPEC_H_
#define BULKHEAD_SERVICES_SCSI_SPEC_H_

#include <cstdint>

namespace bulkhead::scsi {

// Operation codes: SPC-4 §6, SBC-3 §5, MMC-6 §6.
enum class Opcode : uint8_t {
  kTestUnitReady = 0x00,               // SPC-4 §6.47
  kRequestSense = 0x03,                // SPC-4 §6.39
  kFormatUnit = 0x04,                  // SBC-3 §5.4
  kRead6 = 0x08,                       // SBC-3 §5.11
  kWrite6 = 0x0a,                      // SBC-3 §5.36
  kInquiry = 0x12,                     // SPC-4 §6.6
  kModeSelect6 = 0x15,                 // SPC-4 §6.13
  kReserve6 = 0x16,                    // SPC-2 §7.21
  kRelease6 = 0x17,                    // SPC-2 §7.16
  kModeSense6 = 0x1a,                  // SPC-4 §6.15
  kStartStopUnit = 0x1b,               // SBC-3 §5.25, MMC-6 §6.42
  kSendDiagnostic = 0x1d,              // SPC-4 §6.42
  kPreventAllowMediumRemoval = 0x1e,   // SBC-3 §5.10, MMC-6 §6.13
  kReadFormatCapacities = 0x23,        // MMC-6 §6.23
  kReadCapacity10 = 0x25,              // SBC-3 §5.16, MMC-6 §6.19
  kRead10 = 0x28,                      // SBC-3 §5.12
  kWrite10 = 0x2a,                     // SBC-3 §5.37
  kSeek10 = 0x2b,                      // MMC-6 §6.35
  kWriteAndVerify10 = 0x2e,            // SBC-3 §5.41
  kVerify10 = 0x2f,                    // SBC-3 §5.29
  kSynchronizeCache10 = 0x35,          // SBC-3 §5.26
  kReadDefectData10 = 0x37,            // SBC-3 §5.18
  kWriteSame10 = 0x41,                 // SBC-3 §5.45
  kUnmap = 0x42,                       // SBC-3 §5.28
  kReadTocPmaAtip = 0x43,              // MMC-6 §6.25
  kGetConfiguration = 0x46,            // MMC-6 §6.5
  kGetEventStatusNotification = 0x4a,  // MMC-6 §6.6
  kSanitize = 0x48,                    // SBC-3 §5.24
  kLogSense = 0x4d,                    // SPC-4 §6.8
  kReadDiscInformation = 0x51,         // MMC-6 §6.21
  kReadTrackInformation = 0x52,        // MMC-6 §6.26
  kModeSelect10 = 0x55,                // SPC-4 §6.14
  kReserve10 = 0x56,                   // SPC-2 §7.22
  kRelease10 = 0x57,                   // SPC-2 §7.17
  kModeSense10 = 0x5a,                 // SPC-4 §6.16
  kPersistentReserveIn = 0x5e,         // SPC-4 §6.20
  kPersistentReserveOut = 0x5f,        // SPC-4 §6.21
  kRead16 = 0x88,                      // SBC-3 §5.14
  kCompareAndWrite = 0x89,             // SBC-3 §5.2
  kWrite16 = 0x8a,                     // SBC-3 §5.39
  kWriteAndVerify16 = 0x8e,            // SBC-3 §5.43
  kVerify16 = 0x8f,                    // SBC-3 §5.31
  kSynchronizeCache16 = 0x91,          // SBC-3 §5.27
  kWriteSame16 = 0x93,                 // SBC-3 §5.46
  kServiceActionIn16 = 0x9e,           // SPC-4 Annex E
  kReportLuns = 0xa0,                  // SPC-4 §6.33
  kMaintenanceIn = 0xa3,               // SPC-4 §6.34, §6.35
  kRead12 = 0xa8,                      // SBC-3 §5.13
  kWrite12 = 0xaa,                     // SBC-3 §5.38
  kReadDvdStructure = 0xad,            // MMC-6 §6.22
  kWriteAndVerify12 = 0xae,            // SBC-3 §5.42
  kVerify12 = 0xaf,                    // SBC-3 §5.30
  kReadDefectData12 = 0xb7,            // SBC-3 §5.19
  kMechanismStatus = 0xbd,             // MMC-6 §6.10
  kReadCd = 0xbe,                      // MMC-6 §6.17
};

// Service actions.
inline constexpr uint8_t kReadCapacity16 = 0x10;          // SBC-3 §5.17
inline constexpr uint8_t kGetLbaStatus = 0x12;            // SBC-3 §5.5
inline constexpr uint8_t kReportSupportedOpcodes = 0x0c;  // SPC-4 §6.34
inline constexpr uint8_t kReportSupportedTmf = 0x0d;      // SPC-4 §6.35

// SPC-4 §4.5.6, table 27.
enum class SenseKey : uint8_t {
  kNoSense = 0x0,
  kRecoveredError = 0x1,
  kNotReady = 0x2,
  kMediumError = 0x3,
  kHardwareError = 0x4,
  kIllegalRequest = 0x5,
  kUnitAttention = 0x6,
  kDataProtect = 0x7,
  kAbortedCommand = 0xb,
  kMiscompare = 0xe,
};

// SPC-4 §4.5.6, table 28: ADDITIONAL SENSE CODE << 8 | QUALIFIER.
enum class SenseCode : uint16_t {
  kNoAdditionalSense = 0x0000,
  kNotReadyInitializingCommandRequired = 0x0402,
  kUnrecoveredReadError = 0x1100,
  kWriteError = 0x0c00,
  kParameterListLengthError = 0x1a00,
  kMiscompareDuringVerify = 0x1d00,
  kInvalidOpcode = 0x2000,
  kLbaOutOfRange = 0x2100,
  kInvalidFieldInCdb = 0x2400,
  kLogicalUnitNotSupported = 0x2500,
  kInvalidFieldInParameterList = 0x2600,
  kWriteProtected = 0x2700,
  kSoftwareWriteProtected = 0x2702,
  kSpaceAllocationFailed = 0x2707,
  kMediumMayHaveChanged = 0x2800,
  kPowerOnResetOrBusDeviceReset = 0x2900,
  kPowerOnOccurred = 0x2901,
  kScsiBusResetOccurred = 0x2902,
  kBusDeviceResetFunctionOccurred = 0x2903,
  kDeviceInternalReset = 0x2904,
  kModeParametersChanged = 0x2a01,
  kCapacityDataHasChanged = 0x2a09,
  kIncompatibleMedium = 0x3000,
  kSavingParametersNotSupported = 0x3900,
  kMediumNotPresent = 0x3a00,
  kMediumNotPresentTrayClosed = 0x3a01,
  kMediumNotPresentTrayOpen = 0x3a02,
  kInternalTargetFailure = 0x4400,
  kInvalidMessageError = 0x4900,
  kDataPhaseError = 0x4b00,
  kOverlappedCommandsAttempted = 0x4e00,
  kMediumRemovalPrevented = 0x5302,
  kIllegalModeForThisTrack = 0x6400,
};

// SPC-4 §6.6.2, table 180: peripheral device types.
inline constexpr uint8_t kTypeDisk = 0x00;
inline constexpr uint8_t kTypeCdrom = 0x05;
inline constexpr uint8_t kTypeUnknown = 0x1f;
// Qualifier 011b: no device of any kind can be here.
inline constexpr uint8_t kQualifierNotCapable = 0x60;

// SPC-4 §7.8, SBC-3 §6.5: vital product data pages.
inline constexpr uint8_t kVpdSupportedPages = 0x00;
inline constexpr uint8_t kVpdUnitSerialNumber = 0x80;
inline constexpr uint8_t kVpdDeviceIdentification = 0x83;
inline constexpr uint8_t kVpdExtendedInquiry = 0x86;
inline constexpr uint8_t kVpdBlockLimits = 0xb0;
inline constexpr uint8_t kVpdBlockCharacteristics = 0xb1;
inline constexpr uint8_t kVpdProvisioning = 0xb2;

// SPC-4 §7.5, SBC-3 §6.4, MMC-6 §7: mode pages.
inline constexpr uint8_t kModeErrorRecovery = 0x01;
inline constexpr uint8_t kModeDisconnectReconnect = 0x02;
inline constexpr uint8_t kModeCaching = 0x08;
inline constexpr uint8_t kModeControl = 0x0a;
inline constexpr uint8_t kModeCdAudioControl = 0x0e;
inline constexpr uint8_t kModeInformationalExceptions = 0x1c;
inline constexpr uint8_t kModeCdCapabilities = 0x2a;
inline constexpr uint8_t kModeAllPages = 0x3f;
inline constexpr uint8_t kModeAllSubpages = 0xff;

// SPC-4 §7.3, SBC-3 §6.3: log pages.
inline constexpr uint8_t kLogSupportedPages = 0x00;
inline constexpr uint8_t kLogWriteErrors = 0x02;
inline constexpr uint8_t kLogReadErrors = 0x03;
inline constexpr uint8_t kLogVerifyErrors = 0x05;

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_SPEC_H_
