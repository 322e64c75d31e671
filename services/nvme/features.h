// Features are what Set Features changes and Get Features tells.
//
// TRUST    Dwords are the guest's; each feature checks its own.
// ERRORS   A Status and the byte that is to blame; nothing changed then.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §5.13, §5.21. None is saveable; none has a data buffer.

#ifndef BULKHEAD_SERVICES_NVME_FEATURES_H_
#define BULKHEAD_SERVICES_NVME_FEATURES_H_

#include <cstdint>

#include "services/nvme/data_pointer.h"
#include "services/nvme/spec.h"
#include "services/nvme/state.h"

namespace bulkhead::nvme {

class Features {
 public:
  explicit Features(FeatureState& state) : state_(state) {}

  // A controller reset: the defaults.
  void Reset() { state_ = FeatureState(); }

  // *result is the completion's dword 0. `queues_exist`: I/O queues have been
  // created since the last reset.
  Outcome Set(const Command& command, bool queues_exist, uint32_t* result);
  Outcome Get(const Command& command, uint32_t* result) const;

 private:
  Outcome SetTemperature(uint32_t value);
  Outcome SetNumberOfQueues(uint32_t value, bool queues_exist,
                            uint32_t* result);
  static bool Value(const FeatureState& state, Feature feature,
                    uint32_t selector, uint32_t* value);

  FeatureState& state_;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_FEATURES_H_
