// AdminCommands carries out the commands of the admin queue. All but Delete
// Submission Queue and Asynchronous Event Request end at once.
//
// TRUST    Commands have been copied once. Queue parameters, identifiers and
//          data pointers are checked here.
// ERRORS   A Status for the host, with an entry in the error log.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §5.

#ifndef BULKHEAD_SERVICES_NVME_ADMIN_COMMANDS_H_
#define BULKHEAD_SERVICES_NVME_ADMIN_COMMANDS_H_

#include <array>
#include <cstdint>

#include "services/nvme/data_pointer.h"
#include "services/nvme/dma.h"
#include "services/nvme/features.h"
#include "services/nvme/identify.h"
#include "services/nvme/io_commands.h"
#include "services/nvme/logs.h"
#include "services/nvme/namespace.h"
#include "services/nvme/queues.h"
#include "services/nvme/state.h"

namespace bulkhead::nvme {

class AdminCommands {
 public:
  AdminCommands(const RegisterState& registers, const FeatureState& state,
                Subsystem& subsystem, Features& features, Queues& queues,
                Logs& logs, IoCommands& io, Dma& dma);

  // Takes a fetched command over. `vectors`: how many the guest may use now.
  void Start(const Command& command, uint32_t vectors, Nanoseconds now);
  // Ends what has waited: deletions, event requests.
  void Run();
  // Whether Run would end something.
  bool HasWork();
  // The guest's choice reaches the backends.
  void ApplyWriteCache();

 private:
  // What a command does to its completion beyond its outcome.
  struct Answer {
    uint32_t result = 0;
    bool later = false;  // it ends in Run
  };
  Outcome Carry(const Command& command, uint32_t vectors, Nanoseconds now,
                Answer* answer);

  Outcome CreateCompletionQueue(const Command& command, uint32_t vectors);
  Outcome CreateSubmissionQueue(const Command& command);
  Outcome CheckRing(const Command& command) const;
  Outcome DeleteCompletionQueue(const Command& command);
  Outcome DeleteSubmissionQueue(const Command& command, Answer* answer);
  Outcome Identify(const Command& command);
  Outcome FillIdentify(const Command& command);
  Outcome GetLogPage(const Command& command, Nanoseconds now);
  Outcome FillLogPage(LogPage page, Nanoseconds now, uint64_t* size_bytes);
  Outcome SetFeatures(const Command& command, Answer* answer);
  Outcome Abort(const Command& command, Answer* answer);
  Outcome DoorbellBufferConfig(const Command& command);
  // The host's buffer of `length_bytes`: the page from `skip` on, then zeroes.
  Outcome Send(const Command& command, uint64_t length_bytes, uint64_t skip,
               uint64_t page_bytes);
  bool CanDelete(uint16_t id);
  bool IoQueuesExist() const;
  void End(const Command& command, Outcome outcome, uint32_t result);

  const RegisterState& registers_;
  const FeatureState& state_;
  Subsystem& subsystem_;
  Features& features_;
  Queues& queues_;
  Logs& logs_;
  IoCommands& io_;
  Dma& dma_;
  Nanoseconds powered_since_ = 0;
  DataPage page_ = {};
  std::array<iovec, block::kMaxSegments> segments_ = {};
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_ADMIN_COMMANDS_H_
