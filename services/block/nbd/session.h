// Session is one connection to an NBD server, from its handshake to its end:
// libnbd's handle, and nothing that outlives it.
//
//   session->Start(&command) ... OnEvents(revents) ... session->TakeFinished()
//
// SPEC     https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
// TRUST    The server is hostile: libnbd checks its framing, Facts are checked
//          by the client, and an error that came with the connection's end is
//          not taken for the server's answer.
// ERRORS   A session that breaks is dead; why() tells people.
// THREADS  One, which need not be the one that made it.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_SESSION_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/block/backend.h"

struct nbd_handle;

namespace bulkhead::block::nbd {

// What the server says of the export.
struct Facts {
  uint64_t size_bytes = 0;
  bool read_only = false;
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_zero = false;
  uint64_t least_block_bytes = 1;
  uint64_t best_block_bytes = 4096;
  uint64_t most_block_bytes = 32 << 20;
};

// One request to the server. Lives until it is finished or its session gone.
struct Command {
  Operation operation = Operation::kRead;
  bool durable = false;    // FUA
  bool may_unmap = false;  // kWriteZeroes
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  void* data = nullptr;
  int error = 0;  // when finished: a positive errno of the server

  // The session's.
  class Session* session = nullptr;
  Command* next_finished = nullptr;
};

class Session {
 public:
  enum class State : uint8_t { kHandshake, kReady, kDead };

  // Takes the socket over and begins to shake hands.
  static absl::StatusOr<std::unique_ptr<Session>> Create(
      int socket, const std::string& export_name);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  State state() const { return state_; }
  // Of the last error.
  const std::string& why() const { return why_; }
  // Valid when ready.
  const Facts& facts() const { return facts_; }

  // What to wait for; none when dead.
  int fd() const;
  short poll_events() const;
  void OnEvents(short events);

  // False: it was not taken, and command->error says why (or the session has
  // died).
  bool Start(Command* command);
  // Commands that the server has answered, in its order; nullptr: none. Those
  // of a session that died are not among them, unless they had succeeded.
  Command* TakeFinished();
  size_t in_flight() const { return in_flight_; }

  // Tells the server that no more will come.
  void Disconnect();

 private:
  explicit Session(nbd_handle* handle) : handle_(handle) {}
  void Look();
  bool IsReadable() const;
  void Die();
  bool ReadFacts();
  static int OnDone(void* command, int* error);

  nbd_handle* const handle_;
  State state_ = State::kHandshake;
  Facts facts_;
  std::string why_;
  size_t in_flight_ = 0;
  Command* finished_first_ = nullptr;
  Command* finished_last_ = nullptr;
};

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_SESSION_H_
