// Mailbox is where the loop and the client's thread meet: requests one way,
// ended ones the other, an eventfd for each direction.
//
// TRUST    Nothing hostile passes here.
// ERRORS   None.
// THREADS  Put, Take...: as each says.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_MAILBOX_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_MAILBOX_H_

#include <atomic>
#include <cstdint>
#include <mutex>

#include "absl/status/status.h"
#include "services/block/backend.h"

namespace bulkhead::block::nbd {

class Mailbox {
 public:
  Mailbox() = default;
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  absl::Status Open();

  // ---- The loop
  void Put(Request* request);
  void Stop();
  // Ended requests, linked by Request::next.
  Request* TakeEnded();
  int ended_fd() const { return ended_fd_; }
  // Makes ended_fd readable.
  void Ring() { SignalEnded(); }
  void SetDurableWrites(bool durable) {
    durable_writes_.store(durable, std::memory_order_relaxed);
  }

  // ---- The client's thread
  // New requests, linked. `sleeps`: nothing was there, and the next Put will
  // make wake_fd readable.
  Request* TakeNew(bool may_sleep, bool* sleeps, bool* stop);
  int wake_fd() const { return wake_fd_; }
  void ClearWake() { Clear(wake_fd_); }
  // Collected until Deliver.
  void End(Request* request);
  void Deliver();
  bool durable_writes() const {
    return durable_writes_.load(std::memory_order_relaxed);
  }

 private:
  struct List {
    Request* first = nullptr;
    Request* last = nullptr;
    void Append(Request* request);
  };
  void SignalEnded();
  static void Signal(int fd);
  static void Clear(int fd);

  std::mutex mutex_;
  List new_;
  List ended_;
  bool sleeping_ = false;
  bool stop_ = false;
  std::atomic<bool> has_ended_{false};
  std::atomic<uint64_t> signals_{0};  // writes to ended_fd_
  uint64_t signals_seen_ = 0;         // the loop's
  std::atomic<bool> durable_writes_{false};
  List collected_;  // the client's
  int wake_fd_ = -1;
  int ended_fd_ = -1;
};

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_MAILBOX_H_
