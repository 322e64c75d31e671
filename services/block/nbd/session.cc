#include "services/block/nbd/session.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::block::nbd {
namespace {

constexpr int kRepliesAtOnce = 32;

std::string LastError() {
  const char* error = nbd_get_error();
  return error != nullptr ? error : "unknown error";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> Session::Create(
    int socket, const std::string& export_name) {
  nbd_handle* handle = nbd_create();
  if (handle == nullptr) {
    close(socket);
    return absl::ResourceExhaustedError(LastError());
  }
  std::unique_ptr<Session> session(new Session(handle));
  if (nbd_set_export_name(handle, export_name.c_str()) != 0) {
    close(socket);
    return absl::InvalidArgumentError(LastError());
  }
  // libnbd closes the socket, also when this fails.
  if (nbd_aio_connect_socket(handle, socket) != 0) {
    return absl::UnavailableError(LastError());
  }
  session->Look();
  return session;
}

Session::~Session() { nbd_close(handle_); }

int Session::fd() const {
  return state_ == State::kDead ? -1 : nbd_aio_get_fd(handle_);
}

short Session::poll_events() const {
  const unsigned direction = nbd_aio_get_direction(handle_);
  short events = 0;
  if (direction & LIBNBD_AIO_DIRECTION_READ) events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE) events |= POLLOUT;
  return events;
}

void Session::OnEvents(short events) {
  if (state_ == State::kDead) return;
  const unsigned direction = nbd_aio_get_direction(handle_);
  const bool readable = (events & (POLLIN | POLLHUP | POLLERR)) != 0;
  if (readable && (direction & LIBNBD_AIO_DIRECTION_READ) != 0) {
    // Each call takes one reply; more may wait. It must not be called when
    // nothing does: libnbd would wait for what it cannot notice.
    for (int i = 0; i < kRepliesAtOnce; ++i) {
      if (nbd_aio_notify_read(handle_) != 0) {
        Die();
        return;
      }
      if (in_flight_ == 0 || !IsReadable()) break;
    }
  } else if ((events & POLLOUT) != 0 &&
             (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
    if (nbd_aio_notify_write(handle_) != 0) {
      Die();
      return;
    }
  } else if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    why_ = "the connection broke";
    Die();
    return;
  }
  Look();
}

bool Session::IsReadable() const {
  if ((nbd_aio_get_direction(handle_) & LIBNBD_AIO_DIRECTION_READ) == 0) {
    return false;
  }
  pollfd event = {nbd_aio_get_fd(handle_), POLLIN, 0};
  const timespec now = {};
  return ppoll(&event, 1, &now, nullptr) > 0 && (event.revents & POLLIN) != 0;
}

void Session::Look() {
  if (nbd_aio_is_dead(handle_) || nbd_aio_is_closed(handle_)) {
    if (why_.empty()) why_ = "the server closed the connection";
    Die();
    return;
  }
  if (state_ != State::kHandshake || nbd_aio_is_connecting(handle_)) return;
  if (!ReadFacts()) {
    Die();
    return;
  }
  state_ = State::kReady;
}

void Session::Die() {
  if (why_.empty()) why_ = LastError();
  state_ = State::kDead;
  // An error that came with the end may be the end's: the command is to be
  // sent again.
  Command* command = finished_first_;
  finished_first_ = finished_last_ = nullptr;
  while (command != nullptr) {
    Command* next = command->next_finished;
    command->next_finished = nullptr;
    if (command->error == 0) {
      (finished_last_ != nullptr ? finished_last_->next_finished
                                 : finished_first_) = command;
      finished_last_ = command;
    }
    command = next;
  }
}

bool Session::ReadFacts() {
  const int64_t size = nbd_get_size(handle_);
  const int read_only = nbd_is_read_only(handle_);
  if (size < 0 || read_only < 0) {
    why_ = LastError();
    return false;
  }
  facts_.size_bytes = static_cast<uint64_t>(size);
  facts_.read_only = read_only != 0;
  facts_.can_flush = nbd_can_flush(handle_) == 1;
  facts_.can_fua = nbd_can_fua(handle_) == 1;
  facts_.can_trim = nbd_can_trim(handle_) == 1;
  facts_.can_zero = nbd_can_zero(handle_) == 1;
  const auto block = [this](int which, uint64_t otherwise) {
    const int64_t bytes = nbd_get_block_size(handle_, which);
    return bytes > 0 ? static_cast<uint64_t>(bytes) : otherwise;
  };
  facts_.least_block_bytes = block(LIBNBD_SIZE_MINIMUM, 1);
  facts_.best_block_bytes = block(LIBNBD_SIZE_PREFERRED, 4096);
  facts_.most_block_bytes = block(LIBNBD_SIZE_MAXIMUM, 32 << 20);
  return true;
}

bool Session::Start(Command* command) {
  command->session = this;
  command->next_finished = nullptr;
  command->error = 0;
  if (state_ != State::kReady) return false;
  const nbd_completion_callback done = {
      .callback = OnDone, .user_data = command, .free = nullptr};
  const uint32_t fua = command->durable ? LIBNBD_CMD_FLAG_FUA : 0;
  const uint64_t offset = command->offset_bytes;
  const uint64_t length = command->length_bytes;
  int64_t cookie = -1;
  ++in_flight_;  // the callback may come from inside
  switch (command->operation) {
    case Operation::kRead:
      cookie =
          nbd_aio_pread(handle_, command->data, length, offset, done, /*f=*/0);
      break;
    case Operation::kWrite:
      cookie =
          nbd_aio_pwrite(handle_, command->data, length, offset, done, fua);
      break;
    case Operation::kFlush:
      cookie = nbd_aio_flush(handle_, done, /*flags=*/0);
      break;
    case Operation::kDiscard:
      cookie = nbd_aio_trim(handle_, length, offset, done, fua);
      break;
    case Operation::kWriteZeroes:
      cookie = nbd_aio_zero(
          handle_, length, offset, done,
          fua | (command->may_unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE));
      break;
  }
  if (cookie < 0) {
    --in_flight_;
    command->error = nbd_get_errno() != 0 ? nbd_get_errno() : EIO;
    why_ = LastError();
    Look();
    return false;
  }
  Look();
  return true;
}

Command* Session::TakeFinished() {
  Command* command = finished_first_;
  if (command == nullptr) return nullptr;
  finished_first_ = command->next_finished;
  if (finished_first_ == nullptr) finished_last_ = nullptr;
  return command;
}

// From inside libnbd: only remembers.
int Session::OnDone(void* data, int* error) {
  auto* command = static_cast<Command*>(data);
  Session* self = command->session;
  command->error = *error;
  command->next_finished = nullptr;
  (self->finished_last_ != nullptr ? self->finished_last_->next_finished
                                   : self->finished_first_) = command;
  self->finished_last_ = command;
  --self->in_flight_;
  return 1;  // libnbd may forget it
}

void Session::Disconnect() {
  if (state_ == State::kReady) nbd_aio_disconnect(handle_, /*flags=*/0);
}

}  // namespace bulkhead::block::nbd
