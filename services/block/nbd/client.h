// Client keeps one disk on an NBD server, across as many connections as it
// takes. It lives on a thread of its own: the loop hands it requests and takes
// back what has ended (mailbox.h).
//
// A connection that breaks, or stays silent for too long, is given up; the
// launcher is asked for a socket, and on the new connection
//   1. the server is given again, in order, what it had acknowledged and no
//      flush had covered (WriteLog): it may have lost its cache;
//   2. what was in flight is sent again;
//   3. new requests follow.
// A flush that failed is treated as lost cache, too: the connection is given up
// before the next flush, so that this one covers everything anew. When the
// server stays away longer than `patience_ns`, requests end as kUnavailable
// until it is back; what was acknowledged is kept.
//
// TRUST    The server is hostile. What it says of the export is checked at each
//          connection; it can lie about data, and cost its own disk's requests.
// ERRORS   Connect tells what is wrong with the server or the export.
// THREADS  Connect: set-up. Run: the client's own thread.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_CLIENT_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_CLIENT_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "services/block/backend.h"
#include "services/block/file_io.h"
#include "services/block/nbd/mailbox.h"
#include "services/block/nbd/session.h"
#include "services/block/nbd/write_log.h"

namespace bulkhead::block::nbd {

struct ClientOptions {
  std::string export_name;
  bool read_only = false;
  bool ignore_flush = false;
  uint32_t block_bytes = 512;  // what the guest aligns its requests to
  uint64_t patience_ns = 60'000'000'000;
  uint64_t silence_ns = 30'000'000'000;  // of a server that owes an answer
  uint64_t log_bytes = 32 << 20;
};

// Written by the client, read by anyone.
struct ClientCounters {
  std::atomic<uint64_t> connections{0};
  std::atomic<uint64_t> replayed{0};
  std::atomic<uint64_t> own_flushes{0};
};

class Client {
 public:
  // `connector` stays the caller's.
  Client(Mailbox* mailbox, int connector, const ClientOptions& options);
  ~Client();

  // Waits for the first socket and shakes hands.
  absl::Status Connect(uint64_t deadline_ns);
  const Facts& facts() const { return facts_; }

  // Serves until the mailbox says stop.
  void Run();

  const ClientCounters& counters() const { return counters_; }

 private:
  static constexpr size_t kOpPieces = 60;
  static constexpr size_t kReplaysAtOnce = 16;
  // One more is the own flush's: nobody waits for pieces that the others hold.
  static constexpr size_t kPieces = kOpPieces + kReplaysAtOnce + 1;
  static constexpr uint64_t kPieceBytes = 256 << 10;
  static constexpr uint64_t kSmallestExport = 512;

  enum class Phase : uint8_t { kNoSocket, kHandshake, kReplay, kServing };

  // A request of the guest, cut into pieces.
  struct Op {
    Request* request = nullptr;
    uint64_t next_offset = 0;
    uint64_t end = 0;
    SegmentCursor cursor{nullptr, 0};
    size_t running = 0;
    bool flush_made = false;  // the only piece of a flush
    bool flush_at_end = false;
    bool queued = false;  // in the queue of those with pieces yet to make
    IoStatus failed = IoStatus::kOk;
    Op* next = nullptr;
  };

  // What is sent as one command. `op` is null for replays and own flushes.
  struct Piece : Command {
    enum class Kind : uint8_t { kFree, kOp, kReplay, kOwnFlush };
    Kind kind = Kind::kFree;
    bool sent = false;
    Op* op = nullptr;
    uint64_t logged_bytes = 0;  // reserved in the log
    bool is_logged = false;
    uint64_t mark = 0;                  // flushes
    SegmentCursor scatter{nullptr, 0};  // a read into the bounce buffer
    bool bounced = false;
    uint8_t* bounce = nullptr;
    Piece* next = nullptr;
  };

  struct PieceList {
    Piece* first = nullptr;
    Piece* last = nullptr;
    void Append(Piece* piece);
    Piece* TakeFirst();
  };

  // ---- client.cc: connections, waiting
  uint64_t NextDeadline() const;
  void Wait(uint64_t until_ns);
  void Tick(uint64_t now_ns);
  void TakeSocket();
  void Lose();
  void AskForSocket();
  void OnReady();
  std::string Objection() const;
  bool OverlapsReplay(const WriteLog::Entry& entry) const;
  void Replay();

  // ---- client_requests.cc: requests
  void TakeRequests();
  void Begin(Request* request);
  void Pump();
  bool NextPiece(Op* op);
  void Enqueue(Op* op);
  Op* Dequeue();
  static bool AllMade(const Op& op);
  void Send(Piece* piece);
  void TakeFinished();
  void FinishPiece(Piece* piece);
  void Settle(Op* op);
  void Finish(Op* op, IoStatus status);
  void FailEverything();
  bool MakeRoom();
  Piece* TakePiece(Piece::Kind kind);
  void FreePiece(Piece* piece);
  bool Durable(const Request& request) const;

  Mailbox* const mailbox_;
  const int connector_;
  const ClientOptions options_;
  Facts facts_;
  bool has_facts_ = false;
  std::string objection_;
  ClientCounters counters_;

  Phase phase_ = Phase::kNoSocket;
  std::unique_ptr<Session> session_;
  bool connector_open_ = true;
  uint64_t stuck_since_ns_ = 0;  // no request of the guest has ended since
  uint64_t heard_ns_ = 0;        // the server's last answer
  bool gave_up_ = false;         // requests fail until the server is back
  bool flush_failed_ = false;
  bool room_failed_ = false;  // an own flush failed: there is no room to make
  bool own_flush_running_ = false;

  WriteLog log_;
  uint64_t replay_next_ = 0;
  uint64_t replay_end_ = 0;

  std::array<Op, kMaxInFlight> ops_;
  Op* free_ops_ = nullptr;
  Op* waiting_first_ = nullptr;  // ops with pieces yet to make
  Op* waiting_last_ = nullptr;
  size_t ops_in_use_ = 0;
  std::array<Piece, kPieces> pieces_;
  std::unique_ptr<uint8_t[]> bounces_;
  std::unique_ptr<uint8_t[]> zeroes_;
  PieceList free_pieces_;
  size_t op_pieces_ = 0;
  PieceList resend_;
};

uint64_t MonotonicNs();

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_CLIENT_H_
