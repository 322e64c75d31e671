// Server is the frame loop of a service: it takes frames from the shim and the
// launcher, checks them, calls the device, and answers.
//
//   drain the shim's frames -> Device::Run -> spin or sleep -> ...
//
// TRUST    Every field from the shim is the guest's or worse; every field from
//          the launcher is checked as well. A device is called only with
//          accesses that lie inside a region of its description.
// ERRORS   Serve ends with OK when the launcher closes the control channel, and
//          with an error (for the launcher's log) when a peer breaks the
//          protocol. A request that is merely wrong is answered by an Ack that
//          says so; a posted store that is wrong is dropped and counted.
// THREADS  The loop. A device's queue groups run beside it (queue_threads.h);
//          every frame but a doorbell finds them at rest.
//
// System calls, once it serves: ppoll, recvmsg, sendmsg, pwritev2 (eventfds,
// log, state), preadv2 (state), close; clock_gettime through the vDSO.

#ifndef BULKHEAD_SERVICES_RUNTIME_SERVER_H_
#define BULKHEAD_SERVICES_RUNTIME_SERVER_H_

#include <poll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/adaptive_spin.h"
#include "proto/channel.h"
#include "services/runtime/device.h"
#include "services/runtime/growth.h"
#include "services/runtime/live_context.h"
#include "services/runtime/queue_threads.h"

namespace bulkhead {

class Server {
 public:
  // Frames taken before the device gets its turn, and turns of a busy device
  // before the other descriptors are looked at.
  static constexpr int kBatch = 64;
  static constexpr int kBusyTurns = 16;
  // How long the shim may leave an answer lying in a full socket.
  static constexpr int kAnswerTimeoutMs = 30'000;

  struct Options {
    std::string model;
    Nanoseconds spin_limit = 0;  // 0: sleep at once
    // Of a device with queue_groups(); else nullptr. Outlives the server.
    QueueThreads* threads = nullptr;
  };

  // All outlive this. Nothing has been received on `shim` yet; on `control` the
  // handshake is over. context.Adopt has been called.
  Server(LiveContext& context, Device& device, Channel& shim, Channel& control,
         const Options& options);

  // On return the device is quiesced. One that cannot be so ends the service
  // here.
  absl::Status Serve();

 private:
  // In poll_.
  static constexpr size_t kFirstWatched = 2;

  struct KnownRegion {
    uint64_t size_bytes = 0;
    bool readable = false;
    bool writable = false;
  };

  struct RunningGrowth : Growth {
    uint64_t sequence = 0;  // the launcher's request; 0: none
  };

  struct Counters {
    uint64_t frames = 0;
    uint64_t region_reads = 0;
    uint64_t region_writes = 0;
    uint64_t refused_accesses = 0;
    uint64_t refused_requests = 0;
    uint64_t turns = 0;
    uint64_t sleeps = 0;
    uint64_t receives = 0;  // system calls: recvmsg on the shim's channel
    uint64_t polls = 0;     // system calls: ppoll
    uint64_t spins = 0;
    uint64_t spins_that_paid = 0;
    uint64_t rests = 0;  // of queue groups that ran apart
  };

  absl::Status Loop();
  // The loop's steps. `*frames` counts what was taken.
  absl::Status DrainShim(int limit, int* frames);
  // As many as usually come together; the rest is for the next look.
  absl::Status TakeShimFrames(int* frames);
  absl::Status DrainControl();
  absl::Status Idle(const Turn& turn);
  absl::Status Spin(Nanoseconds until, bool* found);
  absl::Status SpinOnDevice(Nanoseconds budget, Nanoseconds* idle_since,
                            Nanoseconds* deadline, bool* found);
  absl::Status Sleep(Nanoseconds deadline);
  absl::Status Poll(const timespec* timeout, bool* ready);
  void ShimClosed();
  // Quiesces the device unless it is quiesced.
  absl::Status Freeze();

  // Queue groups (server_groups.cc). After Rest the loop has the device to
  // itself, until the end of the loop's turn.
  void Rest();
  bool running_apart() const {
    return options_.threads != nullptr && options_.threads->running();
  }
  bool at_rest_with_groups() const {
    return options_.threads != nullptr && !options_.threads->running();
  }
  // One slice of the device, and of its groups where they are at rest.
  Turn RunDevice(Nanoseconds now);
  bool PrepareToSleep();
  // Who runs apart watches its own descriptors.
  void WatchGroups();
  void RunApart();
  // A doorbell of a group that runs apart.
  bool WakesGroup(const RegionWrite& request, uint64_t value);

  // One frame of the shim.
  absl::Status ServeShimFrame();
  absl::Status ShakeHands(const Frame& frame);
  absl::Status OnRegionRead(const RegionRead& request, uint64_t sequence);
  void OnRegionWrite(const RegionWrite& request);
  ErrorCode OnMemoryMap(const MemoryMap& request);
  ErrorCode OnMemoryUnmap(const MemoryUnmap& request);
  ErrorCode OnSetInterrupts(const SetInterrupts& request);
  void OnReset();
  bool Allows(const KnownRegion& region, bool permitted, uint64_t offset,
              uint32_t size_bytes) const;
  void Applied(uint64_t sequence);
  void ReportInterruptFailure();

  // One frame of the launcher.
  absl::Status ServeControlFrame();
  absl::Status OnQuiesce();
  absl::Status OnSaveState();
  absl::Status OnLoadState();
  absl::Status OnGrowDisk();
  void FillStatistics(Statistics* statistics) const;

  // Sends channel.outgoing() as the answer to `sequence`, waiting for room.
  absl::Status Answer(Channel& channel, uint64_t sequence);
  absl::Status AnswerAck(Channel& channel, uint64_t sequence, ErrorCode error,
                         absl::string_view message = "");
  absl::Status SendWaiting(Channel& channel, const std::vector<int>& fds);

  LiveContext& context_;
  Device& device_;
  Channel& shim_;
  Channel& control_;
  const Options options_;
  std::array<KnownRegion, 9> regions_ = {};
  // Room for LoadState, made at start and not touched before.
  std::unique_ptr<std::byte[]> loaded_state_;
  const size_t state_bytes_;
  std::vector<pollfd> poll_;  // control, shim, watched, the groups' own
  AdaptiveSpin spin_;
  // Kinds: 1 nothing was raised since the last wait, 2 an interrupt was.
  RecentEvents waits_;
  uint64_t raised_before_ = 0;
  Counters counters_;
  // Where a frame usually comes alone, no other is looked for behind it: the
  // next wait tells of one.
  bool frames_come_together_ = true;
  RunningGrowth growth_;
  bool hands_shaken_ = false;
  bool shim_open_ = true;
  bool control_open_ = true;
  bool quiesced_ = false;
  bool watches_groups_ = true;
};

// CPUs that this process may run on.
unsigned CpusOfThisProcess();

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_SERVER_H_
