#include "services/runtime/live_context.h"

#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <new>
#include <string>
#include <utility>

namespace bulkhead {
namespace {

constexpr uint64_t kPageBytes = 4096;
// A doorbell's memfd is as long as its region up to the doorbell's end.
constexpr uint64_t kMaxDoorbellBytes = uint64_t{16} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<LiveContext>> LiveContext::Create(
    GuestMemory memory, Channel& control, int log_fd) {
  absl::StatusOr<SharedPages> shadow =
      SharedPages::Create("shadow", kShadowBytes, SharedPages::Peer::kMayRead);
  if (!shadow.ok()) return shadow.status();
  new (shadow->bytes().data()) ShadowHeader{};
  return std::unique_ptr<LiveContext>(
      new LiveContext(std::move(memory), *std::move(shadow), control, log_fd));
}

LiveContext::LiveContext(GuestMemory memory, SharedPages shadow,
                         Channel& control, int log_fd)
    : memory_(std::move(memory)),
      shadow_(std::move(shadow)),
      control_(control),
      log_(log_fd),
      interrupts_(this->shadow()) {
  watched_.reserve(kMaxWatched);
  shared_fds_.push_back(shadow_.fd());
}

absl::Status LiveContext::Adopt(const DeviceDescription& description) {
  interrupts_.Configure(description);
  for (const bulkhead::Doorbell& doorbell : description.doorbells()) {
    if (doorbell.offset() % kPageBytes != 0 || doorbell.size_bytes() == 0 ||
        doorbell.size_bytes() % kPageBytes != 0 ||
        doorbell.offset() > kMaxDoorbellBytes ||
        doorbell.size_bytes() > kMaxDoorbellBytes ||
        shared_fds_.size() >= kMaxFrameFds) {
      return absl::InternalError("the device describes an impossible doorbell");
    }
    absl::StatusOr<SharedPages> pages = SharedPages::Create(
        "doorbell", doorbell.offset() + doorbell.size_bytes(),
        SharedPages::Peer::kMayWrite);
    if (!pages.ok()) return pages.status();
    shared_fds_.push_back(pages->fd());
    doorbells_.push_back(
        {*std::move(pages), doorbell.offset(), doorbell.size_bytes()});
  }
  return absl::OkStatus();
}

absl::Span<uint8_t> LiveContext::doorbell(size_t index) {
  if (index >= doorbells_.size()) return {};
  const Doorbell& doorbell = doorbells_[index];
  return doorbell.pages.bytes().subspan(doorbell.offset, doorbell.size_bytes);
}

Nanoseconds LiveContext::Now() { return MonotonicNow(); }

void LiveContext::Watch(int fd, unsigned group) {
  if (watched_.size() >= kMaxWatched) Fail("too many watched descriptors");
  watched_.push_back({fd, group});
}

void LiveContext::Fail(absl::string_view why) {
  log_.WriteAlways(why);
  // A frame may be half-filled; start from an empty one.
  control_.outgoing().Clear();
  control_.outgoing().mutable_fault()->set_message(
      std::string(why.data(), why.size()));
  control_.Send().IgnoreError();
  _exit(EXIT_FAILURE);
}

}  // namespace bulkhead
