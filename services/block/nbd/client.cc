#include "services/block/nbd/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/backend_connector.h"
#include "proto/clock.h"

namespace bulkhead::block::nbd {
namespace {

constexpr uint64_t kNever = ~uint64_t{0};
constexpr uint64_t kHandshakeNs = 10'000'000'000;
constexpr size_t kLogEntries = 8192;

}  // namespace

uint64_t MonotonicNs() { return MonotonicNow(); }

void Client::PieceList::Append(Piece* piece) {
  piece->next = nullptr;
  (last != nullptr ? last->next : first) = piece;
  last = piece;
}

Client::Piece* Client::PieceList::TakeFirst() {
  Piece* piece = first;
  if (piece == nullptr) return nullptr;
  first = piece->next;
  if (first == nullptr) last = nullptr;
  piece->next = nullptr;
  return piece;
}

Client::Client(Mailbox* mailbox, int connector, const ClientOptions& options)
    : mailbox_(mailbox),
      connector_(connector),
      options_(options),
      log_(options.read_only ? 1 : options.log_bytes, kLogEntries),
      bounces_(new uint8_t[kPieces * kPieceBytes]),
      zeroes_(new uint8_t[kPieceBytes]()) {
  for (Op& op : ops_) {
    op.next = free_ops_;
    free_ops_ = &op;
  }
  for (size_t i = 0; i < kPieces; ++i) {
    pieces_[i].bounce = bounces_.get() + i * kPieceBytes;
    free_pieces_.Append(&pieces_[i]);
  }
}

Client::~Client() = default;

absl::Status Client::Connect(uint64_t deadline_ns) {
  AskForSocket();
  while (phase_ != Phase::kServing) {
    const uint64_t now = MonotonicNs();
    if (!objection_.empty()) {
      return absl::FailedPreconditionError(objection_);
    }
    if (now >= deadline_ns) {
      return absl::DeadlineExceededError(
          phase_ == Phase::kNoSocket ? "no connection to the NBD server"
                                     : "the NBD server does not shake hands");
    }
    Wait(std::min(deadline_ns, NextDeadline()));
    Tick(MonotonicNs());
    if (phase_ == Phase::kReplay) Replay();
  }
  return absl::OkStatus();
}

void Client::Run() {
  for (;;) {
    bool sleeps = true;
    bool stop = false;
    Request* request = mailbox_->TakeNew(/*may_sleep=*/true, &sleeps, &stop);
    while (request != nullptr) {
      Request* next = request->next;
      Begin(request);
      request = next;
    }
    if (stop && ops_in_use_ == 0) break;
    Tick(MonotonicNs());
    if (phase_ == Phase::kReplay) Replay();
    if (phase_ == Phase::kServing) Pump();
    mailbox_->Deliver();
    Wait(sleeps || stop ? NextDeadline() : 0);
    TakeFinished();
    mailbox_->Deliver();
  }
  if (session_ != nullptr) session_->Disconnect();
  session_.reset();
}

// When something is to be done though nothing has come.
uint64_t Client::NextDeadline() const {
  uint64_t deadline = kNever;
  if (session_ != nullptr && session_->state() == Session::State::kDead) {
    return 0;
  }
  if (phase_ == Phase::kHandshake) deadline = heard_ns_ + kHandshakeNs;
  if (session_ != nullptr && session_->in_flight() > 0) {
    deadline = std::min(deadline, heard_ns_ + options_.silence_ns);
  }
  if (phase_ != Phase::kServing && ops_in_use_ > 0) {
    deadline = std::min(deadline, stuck_since_ns_ + options_.patience_ns);
  }
  return deadline;
}

void Client::Wait(uint64_t until_ns) {
  pollfd events[3] = {
      {mailbox_->wake_fd(), POLLIN, 0}, {-1, POLLIN, 0}, {-1, 0, 0}};
  if (phase_ == Phase::kNoSocket && connector_open_) {
    events[1].fd = connector_;
  }
  if (session_ != nullptr) {
    events[2].fd = session_->fd();
    events[2].events = session_->poll_events();
  }
  timespec time = {};
  const timespec* timeout = &time;
  if (until_ns == kNever) {
    timeout = nullptr;
  } else if (until_ns > 0) {
    const uint64_t now = MonotonicNs();
    const uint64_t left = until_ns > now ? until_ns - now : 0;
    time = {static_cast<time_t>(left / 1'000'000'000),
            static_cast<long>(left % 1'000'000'000)};
  }
  if (ppoll(events, 3, timeout, nullptr) <= 0) return;
  if (events[0].revents != 0) mailbox_->ClearWake();
  if (events[1].revents != 0) TakeSocket();
  if (events[2].revents != 0 && session_ != nullptr) {
    session_->OnEvents(events[2].revents);
  }
}

void Client::Tick(uint64_t now_ns) {
  if (session_ != nullptr) {
    const bool silent =
        (phase_ == Phase::kHandshake && now_ns >= heard_ns_ + kHandshakeNs) ||
        (session_->in_flight() > 0 &&
         now_ns >= heard_ns_ + options_.silence_ns);
    if (silent || session_->state() == Session::State::kDead) {
      TakeFinished();  // what had succeeded
      if (session_ != nullptr) Lose();
    } else if (phase_ == Phase::kHandshake &&
               session_->state() == Session::State::kReady) {
      OnReady();
    }
  }
  if (phase_ != Phase::kServing && ops_in_use_ > 0 &&
      now_ns >= stuck_since_ns_ + options_.patience_ns) {
    FailEverything();
  }
}

// ---- Connections

void Client::TakeSocket() {
  char byte = 0;
  iovec segment = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &segment;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got =
      recvmsg(connector_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 1) {
    // The launcher has gone; so will this process.
    if (got == 0) {
      connector_open_ = false;
      objection_ = "the launcher has closed the connector";
    }
    return;
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (byte != kConnected || header == nullptr ||
      header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return;
  }
  int socket = -1;
  memcpy(&socket, CMSG_DATA(header), sizeof(socket));
  auto session = Session::Create(socket, options_.export_name);
  if (!session.ok()) {
    AskForSocket();
    return;
  }
  session_ = *std::move(session);
  phase_ = Phase::kHandshake;
  heard_ns_ = MonotonicNs();
}

void Client::AskForSocket() {
  const char byte = kConnectPlease;
  const iovec segment = {const_cast<char*>(&byte), 1};
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(&segment);
  message.msg_iovlen = 1;
  // A full socket holds the same request already.
  [[maybe_unused]] const ssize_t sent =
      sendmsg(connector_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// Gives the connection up. What was sent on it and not answered is sent again.
void Client::Lose() {
  if (!has_facts_ && objection_.empty()) objection_ = session_->why();
  session_.reset();
  phase_ = Phase::kNoSocket;
  for (Piece& piece : pieces_) {
    if (!piece.sent) continue;
    piece.sent = false;
    if (piece.kind == Piece::Kind::kOp) {
      resend_.Append(&piece);
    } else {
      if (piece.kind == Piece::Kind::kOwnFlush) own_flush_running_ = false;
      FreePiece(&piece);
    }
  }
  AskForSocket();
}

// What makes the export impossible to use, or "".
std::string Client::Objection() const {
  const Facts& now = session_->facts();
  if (now.size_bytes < kSmallestExport) {
    return absl::StrCat("the export has only ", now.size_bytes, " bytes");
  }
  if (now.read_only && !options_.read_only) {
    return "the server offers the export read-only, and the disk is writable: "
           "access: READ_ONLY";
  }
  if (now.least_block_bytes > options_.block_bytes ||
      options_.block_bytes % now.least_block_bytes != 0) {
    return absl::StrCat("the server takes blocks of ", now.least_block_bytes,
                        " bytes, and the disk has blocks of ",
                        options_.block_bytes, ": block_size");
  }
  if (now.most_block_bytes < 4096) {
    return absl::StrCat("the server takes at most ", now.most_block_bytes,
                        " bytes at a time");
  }
  // Later connections: the guest has been promised all this.
  if (has_facts_ &&
      (now.size_bytes < facts_.size_bytes ||
       (facts_.can_flush && !now.can_flush) ||
       (facts_.can_fua && !now.can_fua) || (facts_.can_trim && !now.can_trim) ||
       (facts_.can_zero && !now.can_zero))) {
    return "the server came back with another export";
  }
  return "";
}

void Client::OnReady() {
  objection_ = Objection();
  if (!objection_.empty()) {
    if (has_facts_) Lose();  // perhaps the next one is right again
    return;
  }
  const uint64_t size = has_facts_ ? facts_.size_bytes : 0;
  facts_ = session_->facts();
  if (has_facts_) facts_.size_bytes = size;
  has_facts_ = true;
  counters_.connections.fetch_add(1, std::memory_order_relaxed);
  phase_ = Phase::kReplay;
  replay_next_ = log_.first();
  replay_end_ = log_.mark();
  flush_failed_ = false;
  room_failed_ = false;
}

bool Client::OverlapsReplay(const WriteLog::Entry& entry) const {
  for (const Piece& piece : pieces_) {
    if (piece.kind == Piece::Kind::kReplay &&
        piece.offset_bytes < entry.offset_bytes + entry.length_bytes &&
        entry.offset_bytes < piece.offset_bytes + piece.length_bytes) {
      return true;
    }
  }
  return false;
}

// The server may do at once what it gets at once: what overlaps goes alone.
void Client::Replay() {
  TakeFinished();
  size_t running = session_ != nullptr ? session_->in_flight() : 0;
  while (phase_ == Phase::kReplay && replay_next_ < replay_end_ &&
         running < kReplaysAtOnce && free_pieces_.first != nullptr) {
    const WriteLog::Entry& entry = log_.entry(replay_next_);
    if (OverlapsReplay(entry)) break;
    Piece* piece = TakePiece(Piece::Kind::kReplay);
    piece->operation = entry.operation;
    piece->may_unmap = entry.may_unmap;
    piece->offset_bytes = entry.offset_bytes;
    piece->length_bytes = entry.length_bytes;
    if (entry.operation == Operation::kWrite) {
      log_.CopyData(entry, piece->bounce);
      piece->data = piece->bounce;
    } else if (entry.operation == Operation::kWriteZeroes && !facts_.can_zero) {
      piece->operation = Operation::kWrite;
      piece->data = zeroes_.get();
    }
    ++replay_next_;
    ++running;
    counters_.replayed.fetch_add(1, std::memory_order_relaxed);
    Send(piece);
  }
  if (phase_ == Phase::kReplay && replay_next_ == replay_end_ &&
      session_->in_flight() == 0 &&
      session_->state() == Session::State::kReady) {
    phase_ = Phase::kServing;
    gave_up_ = false;
  }
}

}  // namespace bulkhead::block::nbd
