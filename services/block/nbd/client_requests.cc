// The client's half that cuts requests into commands and puts them together.

#include <errno.h>
#include <string.h>

#include <algorithm>

#include "services/block/nbd/client.h"
#include "services/block/request_check.h"

namespace bulkhead::block::nbd {
namespace {

// A run of guest memory this long is worth a command of its own; shorter ones
// are gathered.
constexpr uint64_t kLongRunBytes = 64 << 10;
// Of a command without data.
constexpr uint64_t kLargestRange = 64 << 20;

bool MovesData(Operation operation) {
  return operation == Operation::kRead || operation == Operation::kWrite;
}

// Copies `bytes` between the segments at `cursor` and a buffer.
template <bool kToBuffer>
void Copy(SegmentCursor cursor, uint8_t* buffer, uint64_t bytes) {
  while (bytes > 0 && !cursor.at_end()) {
    iovec piece;
    uint64_t length = 0;
    if (cursor.Peek(&piece, 1, bytes, &length) == 0) return;
    if (kToBuffer) {
      memcpy(buffer, piece.iov_base, length);
    } else {
      memcpy(piece.iov_base, buffer, length);
    }
    cursor.Skip(length);
    buffer += length;
    bytes -= length;
  }
}

IoStatus StatusOf(int error) {
  return error == EPERM || error == EROFS ? IoStatus::kReadOnly
                                          : StatusOfErrno(error);
}

}  // namespace

bool Client::Durable(const Request& request) const {
  if (options_.ignore_flush) return false;
  return (request.operation == Operation::kWrite ||
          request.operation == Operation::kWriteZeroes) &&
         (request.force_unit_access || mailbox_->durable_writes());
}

void Client::Begin(Request* request) {
  Op* op = free_ops_;
  if (op == nullptr) {
    request->status = IoStatus::kInvalid;
    mailbox_->End(request);
    return;
  }
  free_ops_ = op->next;
  if (ops_in_use_ == 0) stuck_since_ns_ = MonotonicNs();
  ++ops_in_use_;
  *op = Op{};
  op->request = request;
  if (gave_up_) {
    Finish(op, IoStatus::kUnavailable);
    return;
  }
  if (request->operation != Operation::kFlush) {
    op->next_offset = request->offset_bytes;
    op->end = request->offset_bytes + request->length_bytes;
  }
  op->cursor = SegmentCursor(request->segments, request->segment_count);
  op->flush_at_end = Durable(*request) && !facts_.can_fua && facts_.can_flush;
  const bool nothing_to_do =
      request->operation == Operation::kFlush
          ? !facts_.can_flush || options_.ignore_flush || options_.read_only
          : request->length_bytes == 0 ||
                (request->operation == Operation::kDiscard && !facts_.can_trim);
  if (nothing_to_do) {
    Finish(op, IoStatus::kOk);
    return;
  }
  Enqueue(op);
}

void Client::Enqueue(Op* op) {
  op->next = nullptr;
  op->queued = true;
  (waiting_last_ != nullptr ? waiting_last_->next : waiting_first_) = op;
  waiting_last_ = op;
}

Client::Op* Client::Dequeue() {
  Op* op = waiting_first_;
  waiting_first_ = op->next;
  if (waiting_first_ == nullptr) waiting_last_ = nullptr;
  op->next = nullptr;
  op->queued = false;
  return op;
}

bool Client::AllMade(const Op& op) {
  if (op.failed != IoStatus::kOk) return true;
  return op.request->operation == Operation::kFlush ? op.flush_made
                                                    : op.next_offset == op.end;
}

void Client::Pump() {
  while (phase_ == Phase::kServing && resend_.first != nullptr) {
    Piece* piece = resend_.TakeFirst();
    if (piece->operation == Operation::kFlush) piece->mark = log_.mark();
    Send(piece);
  }
  while (phase_ == Phase::kServing && waiting_first_ != nullptr &&
         op_pieces_ < kOpPieces) {
    Op* op = waiting_first_;
    if (!AllMade(*op) && !NextPiece(op)) break;
    if (AllMade(*op)) Settle(Dequeue());
  }
}

// False: the op has to wait for room in the log, or for a new connection.
bool Client::NextPiece(Op* op) {
  const Request& request = *op->request;
  if (request.operation == Operation::kFlush && flush_failed_) {
    // The server may have dropped what it could not flush: all of it again.
    Lose();
    return false;
  }
  const bool by_zeroes =
      request.operation == Operation::kWriteZeroes && !facts_.can_zero;
  const bool has_data = MovesData(request.operation) || by_zeroes;
  const uint64_t most =
      has_data ? std::min<uint64_t>(kPieceBytes,
                                    facts_.most_block_bytes / 4096 * 4096)
               : kLargestRange;
  uint64_t bytes = std::min(most, op->end - op->next_offset);
  iovec run = {};
  bool direct = false;
  if (MovesData(request.operation)) {
    uint64_t run_bytes = 0;
    op->cursor.Peek(&run, 1, bytes, &run_bytes);
    direct = run_bytes == bytes || (run_bytes >= kLongRunBytes &&
                                    run_bytes % options_.block_bytes == 0);
    if (direct) bytes = run_bytes;
  }
  const bool is_logged = facts_.can_flush && !options_.ignore_flush &&
                         request.operation != Operation::kRead &&
                         request.operation != Operation::kFlush;
  const uint64_t logged_bytes =
      request.operation == Operation::kWrite ? bytes : 0;
  if (is_logged && !log_.Reserve(logged_bytes)) {
    if (MakeRoom()) return false;
    op->failed = IoStatus::kIoError;
    return true;
  }
  Piece* piece = TakePiece(Piece::Kind::kOp);
  piece->op = op;
  ++op->running;
  piece->operation = by_zeroes ? Operation::kWrite : request.operation;
  piece->durable = Durable(request) && facts_.can_fua;
  piece->may_unmap = request.may_unmap;
  piece->offset_bytes = op->next_offset;
  piece->length_bytes = bytes;
  piece->is_logged = is_logged;
  piece->logged_bytes = logged_bytes;
  piece->mark = log_.mark();
  if (by_zeroes) {
    piece->data = zeroes_.get();
  } else if (MovesData(request.operation)) {
    piece->bounced = !direct;
    piece->data = direct ? run.iov_base : piece->bounce;
    piece->scatter = op->cursor;
    if (!direct && request.operation == Operation::kWrite) {
      Copy<true>(op->cursor, piece->bounce, bytes);
    }
    op->cursor.Skip(bytes);
  }
  op->next_offset += bytes;
  op->flush_made = request.operation == Operation::kFlush;
  Send(piece);
  return true;
}

// True: wait. False: room cannot be made.
bool Client::MakeRoom() {
  if (own_flush_running_) return true;
  if (room_failed_) return false;
  Piece* piece = TakePiece(Piece::Kind::kOwnFlush);
  piece->operation = Operation::kFlush;
  piece->mark = log_.mark();
  own_flush_running_ = true;
  counters_.own_flushes.fetch_add(1, std::memory_order_relaxed);
  Send(piece);
  return true;
}

Client::Piece* Client::TakePiece(Piece::Kind kind) {
  Piece* piece = free_pieces_.TakeFirst();
  uint8_t* const bounce = piece->bounce;
  *piece = Piece{};
  piece->bounce = bounce;
  piece->kind = kind;
  if (kind == Piece::Kind::kOp) ++op_pieces_;
  return piece;
}

void Client::FreePiece(Piece* piece) {
  if (piece->kind == Piece::Kind::kOp) --op_pieces_;
  piece->kind = Piece::Kind::kFree;
  piece->sent = false;
  piece->op = nullptr;
  free_pieces_.Append(piece);
}

void Client::Send(Piece* piece) {
  // Silence counts from the moment at which an answer is owed.
  if (session_->in_flight() == 0) heard_ns_ = MonotonicNs();
  piece->sent = true;
  if (session_->Start(piece)) return;
  if (session_->state() == Session::State::kDead) return;  // Tick notices
  piece->sent = false;
  FinishPiece(piece);
}

void Client::TakeFinished() {
  while (session_ != nullptr) {
    auto* piece = static_cast<Piece*>(session_->TakeFinished());
    if (piece == nullptr) return;
    FinishPiece(piece);
  }
}

void Client::FinishPiece(Piece* piece) {
  piece->sent = false;
  heard_ns_ = MonotonicNs();
  // A server that shuts down says so, and does the rest after its return.
  const bool shutting_down =
      piece->error == ESHUTDOWN || piece->error == ENOTCONN;
  if (piece->error != 0 &&
      (shutting_down || piece->kind == Piece::Kind::kReplay)) {
    if (piece->kind == Piece::Kind::kOp) {
      resend_.Append(piece);
    } else {
      if (piece->kind == Piece::Kind::kOwnFlush) own_flush_running_ = false;
      FreePiece(piece);
    }
    Lose();
    return;
  }
  if (piece->operation == Operation::kFlush) {
    if (piece->error == 0) {
      log_.DropBefore(piece->mark);
      room_failed_ = false;
    } else {
      flush_failed_ = true;
    }
  }
  if (piece->kind == Piece::Kind::kOwnFlush) {
    own_flush_running_ = false;
    room_failed_ = piece->error != 0;
  }
  if (piece->is_logged) {
    if (piece->error == 0) {
      log_.Append({.operation = piece->operation == Operation::kWrite &&
                                        piece->logged_bytes == 0
                                    ? Operation::kWriteZeroes
                                    : piece->operation,
                   .may_unmap = piece->may_unmap,
                   .offset_bytes = piece->offset_bytes,
                   .length_bytes = piece->length_bytes},
                  piece->data, piece->logged_bytes);
      if (log_.half_full() && phase_ == Phase::kServing) MakeRoom();
    } else {
      log_.Release(piece->logged_bytes);
    }
  }
  if (piece->error == 0 && piece->bounced &&
      piece->operation == Operation::kRead) {
    Copy<false>(piece->scatter, piece->bounce, piece->length_bytes);
  }
  Op* op = piece->op;
  const int error = piece->error;
  FreePiece(piece);
  if (op == nullptr) return;
  --op->running;
  stuck_since_ns_ = heard_ns_;
  if (error != 0 && op->failed == IoStatus::kOk) op->failed = StatusOf(error);
  if (!op->queued) Settle(op);
}

// Ends the op if nothing of it is left to do.
void Client::Settle(Op* op) {
  if (op->running > 0) return;
  if (op->failed == IoStatus::kOk && op->flush_at_end) {
    if (phase_ != Phase::kServing) {
      Enqueue(op);  // Pump comes back here
      return;
    }
    op->flush_at_end = false;
    Piece* piece = TakePiece(Piece::Kind::kOp);
    piece->op = op;
    ++op->running;
    piece->operation = Operation::kFlush;
    piece->mark = log_.mark();
    Send(piece);
    return;
  }
  Finish(op, op->failed);
}

void Client::Finish(Op* op, IoStatus status) {
  op->request->status = status;
  mailbox_->End(op->request);
  op->request = nullptr;
  op->next = free_ops_;
  free_ops_ = op;
  --ops_in_use_;
}

// The server stays away. Nothing is in flight: there is no session that serves.
void Client::FailEverything() {
  while (Piece* piece = resend_.TakeFirst()) {
    if (piece->is_logged) log_.Release(piece->logged_bytes);
    Op* op = piece->op;
    op->failed = IoStatus::kUnavailable;
    FreePiece(piece);
    --op->running;
    if (!op->queued && op->running == 0) Finish(op, op->failed);
  }
  while (waiting_first_ != nullptr) Finish(Dequeue(), IoStatus::kUnavailable);
  gave_up_ = true;
}

}  // namespace bulkhead::block::nbd
