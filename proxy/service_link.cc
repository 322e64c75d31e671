#include "proxy/service_link.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead::proxy {
namespace {

// A service that is always behind has to take so many frames in the time that
// one access may wait.
constexpr Nanoseconds kFramesPerDeadline = 64;

// Frames in one Poll: so many, then QEMU is looked at again.
constexpr int kFrameBudget = 64;

// What is spun for, each learnt by itself.
constexpr uint32_t kForAnswers = 0;
constexpr uint32_t kForStores = 1;

// Sleeps until `fd` has one of `events`; false: the deadline has passed.
bool Sleep(int fd, short events, Nanoseconds deadline) {
  const Nanoseconds now = MonotonicNow();
  if (now >= deadline) return false;
  const timespec timeout = ToTimespec(deadline - now);
  pollfd entry = {fd, events, 0};
  return ppoll(&entry, 1, &timeout, nullptr) != 0;
}

template <typename T>
T LoadOnce(const uint8_t* from) {
  return __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_RELAXED);
}

}  // namespace

ServiceLink::ServiceLink(const Deadlines& deadlines, Fallback fallback)
    : deadlines_(deadlines),
      fallback_(std::move(fallback)),
      spin_(deadlines.spin),
      // Where each service's page is mapped, one over the other: the steady
      // filter has no munmap.
      shadow_place_(mmap(nullptr, kMaxShadowMemfdBytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}

ServiceLink::~ServiceLink() {
  Forget();
  if (shadow_place_ != MAP_FAILED) munmap(shadow_place_, kMaxShadowMemfdBytes);
}

// Everything that belongs to one service, except its shape's numbers.
void ServiceLink::Forget() {
  channel_.reset();
  shadow_ = nullptr;  // its mapping stays until the next one takes its place
  slow_ = false;
  owed_count_ = awaited_count_ = 0;
  last_store_ = barrier_ = barrier_done_ = 0;
  waited_ = 0;
}

void ServiceLink::Connect(int fd) {
  Forget();
  channel_ = std::make_unique<Channel>(fd);
  state_ = State::kHandshaking;
  loss_.clear();
  connected_at_ = MonotonicNow();
  Hello* hello = channel_->outgoing().mutable_hello();
  hello->set_version(kProtocolVersion);
  uint64_t sequence;
  Send({}, &sequence);
}

void ServiceLink::Lose(absl::string_view why) {
  if (state_ == State::kLost) return;
  Forget();
  state_ = State::kLost;
  loss_ = std::string(why.data(), why.size());
}

Nanoseconds ServiceLink::handshake_deadline() const {
  return state_ == State::kHandshaking ? connected_at_ + deadlines_.handshake
                                       : kNoDeadline;
}

void ServiceLink::Poll() {
  for (int i = 0; i < kFrameBudget && channel_ && HandleOne(); ++i) {
  }
  if (MonotonicNow() > handshake_deadline()) Lose("no answer to the handshake");
}

bool ServiceLink::HandleOne() {
  Channel::Received received;
  const absl::Status status = channel_->Receive(/*wait=*/false, &received);
  if (!status.ok()) {
    Lose(status.message());
    return false;
  }
  if (received == Channel::Received::kNothing) return false;
  Handle(channel_->incoming());
  return channel_ != nullptr;
}

void ServiceLink::Handle(const Frame& frame) {
  // The service's Hello answers ours; all other answers are to what is owed.
  if (frame.in_reply_to() != 0 && !frame.has_hello()) {
    HandleAnswer(frame);
    return;
  }
  switch (frame.body_case()) {
    case Frame::kHello:
      HandleHello(frame.hello());
      return;
    case Frame::kInterruptFallback:
      fallback_(frame.interrupt_fallback().kind(),
                frame.interrupt_fallback().vector());
      return;
    case Frame::kFault:
    case Frame::kBackendError:
      return;  // the service tells its launcher as well
    case Frame::BODY_NOT_SET:
      return;  // of a newer version
    default:
      Lose(absl::StrCat("an unexpected frame of type ",
                        static_cast<int>(frame.body_case())));
  }
}

void ServiceLink::HandleHello(const Hello& hello) {
  if (state_ != State::kHandshaking) return Lose("a second handshake");
  if (hello.version() != kProtocolVersion || !hello.has_device()) {
    return Lose("a handshake of another version, or without a device");
  }
  DeviceShape shape;
  const absl::Status status =
      CheckDescription(hello.device(), channel_->incoming_fds(), &shape);
  if (!status.ok()) return Lose(status.message());
  if (has_shape_ && !shape.CanReplace(shape_)) {
    return Lose("the device is not the one that was there before");
  }
  void* shadow =
      shadow_place_ == MAP_FAILED
          ? MAP_FAILED
          : mmap(shadow_place_, shape.shadow_memfd_bytes, PROT_READ,
                 MAP_SHARED | MAP_FIXED, channel_->incoming_fds()[0].get(), 0);
  if (shadow == MAP_FAILED) {
    return Lose(absl::StrCat("cannot map the shadow page: errno ", errno));
  }
  shadow_ = static_cast<const uint8_t*>(shadow);

  doorbells_.clear();
  for (size_t i = 1; i < channel_->incoming_fds().size(); ++i) {
    doorbells_.emplace_back(channel_->TakeFd(i));
  }
  shape_ = std::move(shape);
  has_shape_ = true;
  state_ = State::kDescribed;
}

void ServiceLink::HandleAnswer(const Frame& frame) {
  // A service answers in the order in which it was asked. A load that it cannot
  // serve is acked with an error.
  const Owed owed = owed_count_ != 0 ? owed_[first_owed_ % kMaxOwed] : Owed{};
  const bool is_value = frame.has_region_read_reply() && owed.size_bytes != 0;
  if (owed.sequence != frame.in_reply_to() || !(is_value || frame.has_ack())) {
    return Lose("an answer to nothing that was asked");
  }
  if (is_value && owed.to != nullptr) {
    const uint64_t value = frame.region_read_reply().value();
    memcpy(owed.to, &value, owed.size_bytes);
  }
  if (owed.is_awaited) --awaited_count_;
  if (owed.sequence == barrier_) {
    barrier_done_ = barrier_;
    barrier_ = 0;
  }
  ++first_owed_;
  if (--owed_count_ == 0) slow_ = false;
}

bool ServiceLink::WaitFor(short events, Nanoseconds deadline,
                          absl::string_view why) {
  if (!Sleep(channel_->fd(), events | POLLIN, deadline)) {
    Lose(why);
    return false;
  }
  HandleOne();
  return channel_ != nullptr;
}

// Goes on receiving while it waits for room, so that the two sides never wait
// for each other.
bool ServiceLink::Send(absl::Span<const int> fds, uint64_t* sequence) {
  waited_ -= std::min(waited_, deadlines_.access / kFramesPerDeadline);
  absl::Status status = channel_->Send(fds, sequence);
  if (absl::IsResourceExhausted(status)) {
    const Nanoseconds start = MonotonicNow();
    const Nanoseconds deadline = Bounded(start + deadlines_.access -
                                         std::min(waited_, deadlines_.access));
    do {
      if (!WaitFor(POLLOUT, deadline,
                   "the service does not take what it is sent")) {
        return false;
      }
      status = channel_->Send(fds, sequence);
    } while (absl::IsResourceExhausted(status));
    waited_ += MonotonicNow() - start;
  }
  if (!status.ok()) Lose(status.message());
  return status.ok();
}

bool ServiceLink::Ask(absl::Span<const int> fds, uint8_t* to,
                      uint32_t size_bytes, bool is_awaited) {
  // So many are owed only by a service that has stopped answering.
  if (owed_count_ == kMaxOwed) {
    const Nanoseconds deadline = Bounded(MonotonicNow() + deadlines_.access);
    do {
      if (!WaitFor(0, deadline, "the service does not answer")) return false;
    } while (owed_count_ == kMaxOwed);
  }
  uint64_t sequence;
  if (!Send(fds, &sequence)) return false;
  owed_[(first_owed_ + owed_count_++) % kMaxOwed] = {sequence, to, size_bytes,
                                                     is_awaited};
  if (is_awaited) ++awaited_count_;
  return true;
}

bool ServiceLink::Await(Nanoseconds deadline) {
  if (awaited_count_ == 0) return true;
  deadline = Bounded(deadline);
  const Nanoseconds start = MonotonicNow();
  const Nanoseconds spin_end = start + spin_.budget(kForAnswers);
  bool slept = false;
  for (Nanoseconds now = start; now < deadline; now = MonotonicNow()) {
    const bool found = HandleOne();
    if (!channel_) return false;
    if (awaited_count_ == 0) {
      slept ? spin_.Woken(MonotonicNow() - start, kForAnswers)
            : spin_.Paid(kForAnswers);
      return true;
    }
    if (found) continue;
    if (now < spin_end) {
      sched_yield();  // the service may have been put on this CPU
      continue;
    }
    slept = true;
    Sleep(channel_->fd(), POLLIN, deadline);
  }
  for (size_t i = 0; i < owed_count_; ++i) {
    Owed& owed = owed_[(first_owed_ + i) % kMaxOwed];
    owed.is_awaited = false;
    owed.to = nullptr;
  }
  awaited_count_ = 0;
  slow_ = true;
  return false;
}

void ServiceLink::Store(uint32_t region, uint64_t offset, uint32_t size_bytes,
                        uint64_t value) {
  if (state_ != State::kLive) return;
  RegionWrite* write = channel_->outgoing().mutable_region_write();
  write->set_region(region);
  write->set_offset(offset);
  write->set_size_bytes(size_bytes);
  write->set_value(value);
  Send({}, &last_store_);
}

const ShadowWindow* ServiceLink::FindShadow(uint32_t region, uint64_t offset,
                                            uint32_t size_bytes) const {
  for (const ShadowWindow& window : shape_.shadows) {
    if (window.region == region && offset >= window.offset &&
        IsInside(offset - window.offset, size_bytes, window.size_bytes)) {
      return &window;
    }
  }
  return nullptr;
}

// The answer to a load would come no sooner, and wake us besides.
bool ServiceLink::AwaitStores() {
  const auto applied = [this] {
    return shadow_header().applied_sequence.load(std::memory_order_acquire) >=
           last_store_;
  };
  return applied() || spin_.Spin(kForStores, applied);
}

bool ServiceLink::LoadShadow(uint32_t region, uint64_t offset,
                             uint32_t size_bytes, uint8_t* to) {
  const ShadowWindow* const window = FindShadow(region, offset, size_bytes);
  if (window == nullptr || shadow_header().applied_sequence.load(
                               std::memory_order_acquire) < last_store_) {
    return false;
  }
  // One atomic load of the register's width: the service may be writing.
  const uint8_t* from =
      shadow_ + window->memfd_offset + (offset - window->offset);
  const uint64_t value = size_bytes == 8   ? LoadOnce<uint64_t>(from)
                         : size_bytes == 4 ? LoadOnce<uint32_t>(from)
                         : size_bytes == 2 ? LoadOnce<uint16_t>(from)
                                           : LoadOnce<uint8_t>(from);
  memcpy(to, &value, size_bytes);
  return true;
}

void ServiceLink::Load(uint32_t region, uint64_t offset,
                       absl::Span<uint8_t> data) {
  memset(data.data(), 0xff, data.size());
  if (slow_) Poll();  // it may have caught up
  if (state_ != State::kLive || slow_) return;

  const bool narrow = shape_.regions[region].narrow;
  const Nanoseconds start = MonotonicNow();
  const bool is_late =
      FindShadow(region, offset, 1) != nullptr && !AwaitStores();
  const Nanoseconds deadline = start + deadlines_.access;
  uint32_t size_bytes;
  for (size_t at = 0; at < data.size(); at += size_bytes) {
    size_bytes = PieceBytes(offset + at, data.size() - at, narrow);
    if (LoadShadow(region, offset + at, size_bytes, &data[at])) continue;
    RegionRead* read = channel_->outgoing().mutable_region_read();
    read->set_region(region);
    read->set_offset(offset + at);
    read->set_size_bytes(size_bytes);
    if (!Ask({}, &data[at], size_bytes, /*is_awaited=*/true) ||
        (awaited_count_ == kWindow && !Await(deadline))) {
      return;
    }
  }
  if (Await(deadline) && is_late) {
    spin_.Woken(MonotonicNow() - start, kForStores);
  }
}

void ServiceLink::SendRequest(Nanoseconds patience, absl::Span<const int> fds) {
  const bool wait = patience != 0 && !slow_;
  if (Ask(fds, nullptr, 0, wait) && wait) Await(MonotonicNow() + patience);
}

bool ServiceLink::Applied(uint64_t sequence) const {
  return state_ == State::kLive && (barrier_done_ >= sequence ||
                                    shadow_header().applied_sequence.load(
                                        std::memory_order_acquire) >= sequence);
}

void ServiceLink::AskApplied() {
  if (state_ != State::kLive || barrier_ != 0 || slow_) return;
  channel_->outgoing().mutable_ping();
  if (Ask({}, nullptr, 0, false)) barrier_ = channel_->last_sent();
}

bool ServiceLink::intx_level() const {
  return state_ == State::kLive &&
         shadow_header().intx_level.load(std::memory_order_acquire) != 0;
}

uint32_t ServiceLink::intx_raised() const {
  return state_ == State::kLive
             ? shadow_header().intx_raised.load(std::memory_order_acquire)
             : 0;
}

}  // namespace bulkhead::proxy
