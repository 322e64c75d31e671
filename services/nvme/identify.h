// What Identify and the constant log pages answer.
//
// TRUST    Nothing of the guest's.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §5.15, §5.14.1.5.

#ifndef BULKHEAD_SERVICES_NVME_IDENTIFY_H_
#define BULKHEAD_SERVICES_NVME_IDENTIFY_H_

#include <array>
#include <cstdint>

#include "services/nvme/namespace.h"
#include "services/nvme/spec.h"

namespace bulkhead::nvme {

// A vendor id that nobody is assigned.
inline constexpr uint16_t kVendorId = 0x1234;
inline constexpr uint16_t kDeviceId = 0x4e56;
inline constexpr uint16_t kControllerId = 0;
inline constexpr uint32_t kClassCode = 0x010802;  // PCI: NVM Express

// One answer, all of them 4096 bytes.
using DataPage = std::array<uint8_t, 4096>;

void FillIdentifyController(const Subsystem& subsystem, DataPage* page);
void FillIdentifyNamespace(const Namespace& space, DataPage* page);
// §5.15.2.3.
void FillNamespaceDescriptors(const Namespace& space, DataPage* page);
// Identifiers above `after`, in order.
void FillNamespaceList(const Subsystem& subsystem, uint32_t after,
                       DataPage* page);
// Controllers from `first` on: this one, if it is.
void FillControllerList(uint16_t first, DataPage* page);

void FillFirmwareSlot(DataPage* page);
// Log page 05h.
void FillCommandsSupported(DataPage* page);

// Ids that stay the same for a disk of this serial number and are no other's.
void NameNamespace(const std::string& serial, uint32_t nsid, Namespace* space);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_IDENTIFY_H_
