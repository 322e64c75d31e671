#include "bench/nvme_target.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "services/nvme/spec.h"
#include "services/runtime/endian.h"

namespace bulkhead::bench {
namespace {

// Lists of up to 32 pages lie closely together, as Linux's do.
constexpr uint64_t kLists = nvme::FrameDriver::kFreeRam;
constexpr uint64_t kListBytes = 32 * 8;
static_assert(NvmeTarget::kMaxBytes <= 32 * 4096);
constexpr uint64_t kBuffers = uint64_t{16} << 20;
constexpr uint32_t kPage = 4096;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "nvme: %s\n", what);
  std::exit(1);
}

}  // namespace

NvmeTarget::NvmeTarget(FrameRig& rig, uint64_t capacity_bytes, bool interrupts,
                       unsigned pairs)
    : rig_(rig), driver_(rig), capacity_bytes_(capacity_bytes), pairs_(pairs) {
  // All there before the service comes to it, as in a guest that has run.
  std::memset(rig_.ram_base() + kBuffers, 0xa5,
              uint64_t{kMaxDepth} * kMaxBytes);
  driver_.Enable();
  driver_.CreateQueues(interrupts, pairs, /*one_vector=*/true);
}

void NvmeTarget::Add(unsigned slot, bool write, uint64_t offset_bytes,
                     uint32_t bytes) {
  nvme::Command command = {};
  command.opcode = static_cast<uint8_t>(write ? nvme::IoOpcode::kWrite
                                              : nvme::IoOpcode::kRead);
  command.cid = static_cast<uint16_t>(slot);
  command.nsid = 1;
  const uint64_t buffer = kBuffers + uint64_t{slot} * kMaxBytes;
  command.prp1 = buffer;
  const uint32_t pages = (bytes + kPage - 1) / kPage;
  if (pages == 2) {
    command.prp2 = buffer + kPage;
  } else if (pages > 2) {
    const uint64_t list = kLists + uint64_t{slot} * kListBytes;
    for (uint32_t i = 1; i < pages; ++i) {
      StoreLe64(rig_.ram_base() + list + 8 * (i - 1),
                buffer + uint64_t{i} * kPage);
    }
    command.prp2 = list;
  }
  command.cdw10 = static_cast<uint32_t>(offset_bytes / 512);
  command.cdw11 = static_cast<uint32_t>(offset_bytes / 512 >> 32);
  command.cdw12 = bytes / 512 - 1;
  driver_.Push(command, slot % pairs_ + 1);
}

bool NvmeTarget::Take(unsigned* slot) {
  nvme::Completion completion;
  for (unsigned tries = 0; !driver_.Take(&completion, next_);) {
    next_ = next_ == pairs_ ? 1 : next_ + 1;
    if (++tries == pairs_) return false;
  }
  if (completion.status >> 1 != 0) Die("a request fails");
  *slot = completion.cid;
  return true;
}

void NvmeTarget::Wait() {
  if (!rig_.WaitForInterrupt(MSIX, nvme::FrameDriver::kVector)) {
    Die("no interrupt");
  }
}

}  // namespace bulkhead::bench
