// ServiceLink is the shim's end of the channel to one service: the handshake,
// posted stores, loads with a deadline, the shadow page, requests that are
// acknowledged.
//
// TRUST    The service is hostile. A frame that the protocol does not allow at
//          that moment, or a peer that does not drain its socket, ends the link
//          (kLost), and nothing worse. A reply may be late: it is matched by
//          sequence and dropped.
// ERRORS   Loads of a link that is not kLive, or that is slow, read as ~0.
// THREADS  One thread. No allocation once kLive.
//
// Budgets: all waits within one Operation together end by its deadline, however
// many frames it sends; a service that answers each of them just in time gains
// nothing.
//
// Slow: a request was not answered by its deadline. Until all that is owed has
// been answered, nothing waits again: loads are ~0 at once.

#ifndef BULKHEAD_PROXY_SERVICE_LINK_H_
#define BULKHEAD_PROXY_SERVICE_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/adaptive_spin.h"
#include "proto/channel.h"
#include "proto/shadow.h"
#include "proxy/device_shape.h"

namespace bulkhead::proxy {

struct Deadlines {
  Nanoseconds access = 75'000'000;
  Nanoseconds reset = 500'000'000;
  Nanoseconds handshake = 10'000'000'000;
  // From the end of an interrupt, as QEMU sees it, to the driver's store that
  // acknowledges it: so long a line that stays high is left alone.
  Nanoseconds acknowledge = 200'000;
  // How long to spin at most: for an answer, and for QEMU's next message.
  Nanoseconds spin = 0;
};

class ServiceLink {
 public:
  // kDescribed: the service's Hello has come and is sound; whoever owns the
  // link tells it memory and interrupts and then calls Enliven.
  enum class State { kNone, kHandshaking, kDescribed, kLive, kLost };

  // `fallback` raises a vector whose eventfd the service could not write.
  using Fallback = std::function<void(InterruptKind, uint32_t)>;

  ServiceLink(const Deadlines& deadlines, Fallback fallback);
  ~ServiceLink();
  ServiceLink(const ServiceLink&) = delete;
  ServiceLink& operator=(const ServiceLink&) = delete;

  // What QEMU waits for as one thing, until what this returns is destroyed.
  // Inside another one it changes nothing.
  [[nodiscard]] auto Operation(Nanoseconds budget) {
    const bool outermost = operation_end_ == kNoDeadline;
    if (outermost) operation_end_ = MonotonicNow() + budget;
    return absl::Cleanup([this, outermost] {
      if (outermost) operation_end_ = kNoDeadline;
    });
  }
  const Deadlines& deadlines() const { return deadlines_; }

  // Drops what was there and says Hello on `fd`, which it takes over.
  void Connect(int fd);
  void Enliven() { state_ = State::kLive; }
  void Lose(absl::string_view why);

  State state() const { return state_; }
  bool slow() const { return slow_; }
  // Why the link was lost, until it is connected again.
  const std::string& loss() const { return loss_; }
  // To wait on for POLLIN; -1: nothing to wait for.
  int fd() const { return channel_ ? channel_->fd() : -1; }
  // When a pending handshake is given up; kNoDeadline: there is none.
  Nanoseconds handshake_deadline() const;

  // Of the last service that described itself. Its doorbell fds live as long.
  const DeviceShape& shape() const { return shape_; }

  // Handles what the service has sent, a bounded number of frames.
  void Poll();

  void Store(uint32_t region, uint64_t offset, uint32_t size_bytes,
             uint64_t value);
  // Fills `data` in pieces that the region's shape allows; ~0 where there is no
  // answer.
  void Load(uint32_t region, uint64_t offset, absl::Span<uint8_t> data);

  // A request that is answered by Ack. The frame is filled in Request(), then
  // sent; returns when the answer has come, or after `patience`.
  Frame& Request() { return channel_->outgoing(); }
  void SendRequest(Nanoseconds patience, absl::Span<const int> fds = {});
  // May requests be made?
  bool open() const {
    return state_ == State::kLive || state_ == State::kDescribed;
  }

  // The barrier behind INTx: is it known that the service has applied all
  // stores up to `sequence`? AskApplied makes it say so; Poll sees the answer.
  uint64_t last_store() const { return last_store_; }
  bool Applied(uint64_t sequence) const;
  void AskApplied();
  bool intx_level() const;
  // How often the service has raised INTx by itself.
  uint32_t intx_raised() const;

 private:
  struct Owed {
    uint64_t sequence;
    uint8_t* to;          // where a load's answer goes; null: dropped
    uint32_t size_bytes;  // of a load; 0: an Ack is owed
    bool is_awaited;
  };
  // Loads under way at once; what else is owed meanwhile fits as well.
  static constexpr size_t kWindow = 32;
  // More than all the ranges of memory that there can be: a service that is
  // merely late loses nothing by what it owes.
  static constexpr size_t kMaxOwed = 8192;

  const ShadowHeader& shadow_header() const {
    return *reinterpret_cast<const ShadowHeader*>(shadow_);
  }
  const ShadowWindow* FindShadow(uint32_t region, uint64_t offset,
                                 uint32_t size_bytes) const;
  bool LoadShadow(uint32_t region, uint64_t offset, uint32_t size_bytes,
                  uint8_t* to);
  // Spins, if that has paid, until the last store is applied.
  bool AwaitStores();
  // Waits for room, if need be; false: lost.
  bool Send(absl::Span<const int> fds, uint64_t* sequence);
  // Sends what will be answered: see Owed.
  bool Ask(absl::Span<const int> fds, uint8_t* to, uint32_t size_bytes,
           bool is_awaited);
  // Until `events` or a frame, which is handled. False: lost, also when it is
  // the deadline that comes: for `why`.
  bool WaitFor(short events, Nanoseconds deadline, absl::string_view why);
  // `deadline`, or the end of the operation under way.
  Nanoseconds Bounded(Nanoseconds deadline) const {
    return deadline < operation_end_ ? deadline : operation_end_;
  }
  // Until nothing is awaited; false: lost, or slow from now on.
  bool Await(Nanoseconds deadline);
  // Receives and handles one frame; false: none, or the link is lost.
  bool HandleOne();
  void Handle(const Frame& frame);
  void HandleAnswer(const Frame& frame);
  void HandleHello(const Hello& hello);
  void Forget();

  const Deadlines deadlines_;
  const Fallback fallback_;
  AdaptiveSpin spin_;
  void* const shadow_place_;
  State state_ = State::kNone;
  bool slow_ = false;
  std::string loss_;
  std::unique_ptr<Channel> channel_;
  Nanoseconds connected_at_ = 0;

  bool has_shape_ = false;
  DeviceShape shape_;
  std::vector<Fd> doorbells_;  // the shape's
  const uint8_t* shadow_ = nullptr;

  std::array<Owed, kMaxOwed> owed_;
  size_t first_owed_ = 0;
  size_t owed_count_ = 0;
  Nanoseconds operation_end_ = kNoDeadline;  // that: none is under way
  size_t awaited_count_ = 0;
  uint64_t last_store_ = 0;
  // Waited for room, less what each frame may: so many stores in a row cannot
  // each take the whole deadline.
  Nanoseconds waited_ = 0;
  uint64_t barrier_ = 0;       // sequence of the Ping that is out; 0: none
  uint64_t barrier_done_ = 0;  // all frames up to here are known as applied
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SERVICE_LINK_H_
