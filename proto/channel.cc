#include "proto/channel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/arena.h"
#include "proto/fd_socket.h"

namespace bulkhead {
namespace {

// Enough for every frame of the data path; larger ones take heap blocks, given
// back when the next frame comes.
constexpr size_t kArenaBytes = 4096;

static_assert(kMaxFrameFds <= kMaxRidingFds);

// A frame that is made anew in the same memory each time.
class ReusedFrame {
 public:
  ReusedFrame() : arena_(block_.data(), block_.size()) { Renew(); }

  Frame& operator*() { return *frame_; }
  Frame* get() { return frame_; }

  void Renew() {
    arena_.Reset();
    frame_ = google::protobuf::Arena::CreateMessage<Frame>(&arena_);
  }

 private:
  alignas(64) std::array<char, kArenaBytes> block_;
  google::protobuf::Arena arena_;
  Frame* frame_ = nullptr;
};

// How many fds the frame's type and contents ask for.
absl::Status CheckFds(const Frame& frame, size_t fd_count) {
  size_t expected = 0;
  switch (frame.body_case()) {
    case Frame::kHello:
      if (frame.hello().has_device()) {
        expected =
            1 + static_cast<size_t>(frame.hello().device().doorbells_size());
      }
      break;
    case Frame::kSetInterrupts: {
      const SetInterrupts& set = frame.set_interrupts();
      if (static_cast<uint32_t>(set.present_size()) != set.count()) {
        return absl::DataLossError("SetInterrupts: present does not match");
      }
      expected = static_cast<size_t>(
          std::count(set.present().begin(), set.present().end(), true));
      break;
    }
    case Frame::kSaveState:
    case Frame::kLoadState:
    case Frame::kReplaceChannel:
      expected = 1;
      break;
    default:
      break;
  }
  if (fd_count != expected) {
    return absl::DataLossError(
        absl::StrCat("frame of type ", static_cast<int>(frame.body_case()),
                     " has ", fd_count, " fds instead of ", expected));
  }
  return absl::OkStatus();
}

absl::Status SocketError(const char* what, int error) {
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) {
    return absl::UnavailableError("the peer has closed the channel");
  }
  return absl::InternalError(absl::StrCat(what, ": errno ", error));
}

}  // namespace

struct Channel::Buffers {
  // NOLINTNEXTLINE: the byte arrays stay untouched until used
  Buffers() { fds.reserve(kMaxFrameFds); }

  ReusedFrame incoming;
  ReusedFrame outgoing;
  bool outgoing_is_used = false;
  std::vector<Fd> fds;
  std::array<uint8_t, kMaxFrameBytes> received;
  std::array<uint8_t, kMaxFrameBytes> sent;
};

Channel::Channel(int fd, uint64_t sent)
    : fd_(fd), last_sent_(sent), buffers_(new Buffers) {}

Channel::~Channel() = default;

Frame& Channel::outgoing() {
  if (buffers_->outgoing_is_used) {
    buffers_->outgoing.Renew();
    buffers_->outgoing_is_used = false;
  }
  return *buffers_->outgoing;
}

absl::Status Channel::Send(absl::Span<const int> fds, uint64_t* sequence) {
  Frame& frame = outgoing();
  frame.set_sequence(last_sent_ + 1);
  const size_t size_bytes = frame.ByteSizeLong();
  buffers_->outgoing_is_used = true;
  if (size_bytes > kMaxFrameBytes || fds.size() > kMaxFrameFds) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of ", size_bytes,
                                                   " bytes and ", fds.size(),
                                                   " fds is too large"));
  }
  if (absl::Status status = CheckFds(frame, fds.size()); !status.ok()) {
    return absl::InvalidArgumentError(status.message());
  }
  frame.SerializeWithCachedSizesToArray(buffers_->sent.data());

  const ssize_t sent =
      SendWithFds(fd(), {buffers_->sent.data(), size_bytes}, fds);
  if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
    buffers_->outgoing_is_used = false;
    return absl::ResourceExhaustedError("the socket's buffer is full");
  }
  if (sent < 0) return SocketError("sendmsg", errno);
  ++last_sent_;
  if (sequence != nullptr) *sequence = last_sent_;
  return absl::OkStatus();
}

bool Channel::WaitToSend(int timeout_ms) {
  const timespec timeout = {timeout_ms / 1000,
                            (timeout_ms % 1000) * 1'000'000L};
  pollfd entry = {fd(), POLLOUT, 0};
  return ppoll(&entry, 1, timeout_ms < 0 ? nullptr : &timeout, nullptr) != 0;
}

absl::Status Channel::Receive(bool wait, Received* received) {
  *received = Received::kNothing;
  int flags = 0;
  const ssize_t size_bytes = ReceiveWithFds(
      fd(), absl::MakeSpan(buffers_->received), wait ? 0 : MSG_DONTWAIT,
      kMaxFrameFds, &buffers_->fds, &flags);
  if (size_bytes < 0) {
    return errno == EAGAIN && !wait ? absl::OkStatus()
                                    : SocketError("recvmsg", errno);
  }

  absl::Status status;
  if (size_bytes == 0) {
    // The end of the stream, or an empty packet, which no honest peer sends.
    status = absl::UnavailableError("the peer has closed the channel");
  } else if ((flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    status = absl::DataLossError("a packet is too large or has too many fds");
  } else {
    buffers_->incoming.Renew();
    status = ParseFrame(
        {buffers_->received.data(), static_cast<size_t>(size_bytes)},
        buffers_->fds.size(), last_received_ + 1, buffers_->incoming.get());
  }
  if (!status.ok()) {
    buffers_->fds.clear();
    return status;
  }
  ++last_received_;
  *received = Received::kFrame;
  return status;
}

const Frame& Channel::incoming() const { return *buffers_->incoming; }

absl::Span<const Fd> Channel::incoming_fds() const { return buffers_->fds; }

int Channel::TakeFd(size_t index) {
  return index < buffers_->fds.size() ? buffers_->fds[index].Release() : -1;
}

absl::Status ParseFrame(absl::Span<const uint8_t> packet, size_t fd_count,
                        uint64_t expected_sequence, Frame* frame) {
  if (packet.size() > kMaxFrameBytes ||
      !frame->ParseFromArray(packet.data(), static_cast<int>(packet.size()))) {
    return absl::DataLossError("a packet is not a frame");
  }
  if (frame->sequence() != expected_sequence) {
    return absl::DataLossError(absl::StrCat(
        "frame ", frame->sequence(), " came instead of ", expected_sequence));
  }
  return CheckFds(*frame, fd_count);
}

}  // namespace bulkhead
