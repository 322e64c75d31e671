#include "proto/channel.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace {
std::atomic<int64_t> allocations = 0;
}  // namespace

// Counts what the process allocates; sanitizers keep their own operators.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BULKHEAD_COUNTS_ALLOCATIONS 1
void* operator new(size_t size_bytes) {
  ++allocations;
  void* memory = std::malloc(size_bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
// Not inline: GCC warns where it sees the one operator's insides alone.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
#endif

namespace bulkhead {
namespace {

using Received = Channel::Received;

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    left_ = std::make_unique<Channel>(ends[0]);
    right_ = std::make_unique<Channel>(ends[1]);
    descriptors_ = OpenDescriptors();
  }

  static int OpenDescriptors() {
    int count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
  }

  // Sends raw bytes on the left side's socket, past its checks.
  void SendRaw(const std::string& bytes, const std::vector<int>& fds = {}) {
    alignas(cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))] = {};
    iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_GE(sendmsg(left_->fd(), &message, 0), 0);
  }

  absl::StatusCode ReceiveError() {
    Received received;
    const absl::Status status = right_->Receive(/*wait=*/true, &received);
    EXPECT_EQ(received, Received::kNothing);
    EXPECT_EQ(OpenDescriptors(), descriptors_);  // none leaked
    return status.code();
  }

  Frame& Receive() {
    Received received;
    const absl::Status status = right_->Receive(/*wait=*/true, &received);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(received, Received::kFrame);
    return const_cast<Frame&>(right_->incoming());
  }

  static std::string RawFrame(Frame frame, uint64_t sequence = 1) {
    frame.set_sequence(sequence);
    return frame.SerializeAsString();
  }

  std::unique_ptr<Channel> left_;
  std::unique_ptr<Channel> right_;
  int descriptors_;
};

TEST_F(ChannelTest, FramesArriveInOrderWithConsecutiveSequences) {
  for (uint64_t i = 1; i <= 3; ++i) {
    left_->outgoing().mutable_region_write()->set_value(i * 100);
    uint64_t sequence = 0;
    ASSERT_TRUE(left_->Send({}, &sequence).ok());
    EXPECT_EQ(sequence, i);
  }
  for (uint64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(Receive().region_write().value(), i * 100);
    EXPECT_EQ(right_->incoming().sequence(), i);
  }
}

TEST_F(ChannelTest, OutgoingIsEmptyAfterEachSend) {
  left_->outgoing().mutable_region_write()->set_value(7);
  left_->outgoing().set_in_reply_to(9);
  ASSERT_TRUE(left_->Send().ok());
  EXPECT_EQ(left_->outgoing().body_case(), Frame::BODY_NOT_SET);
  EXPECT_EQ(left_->outgoing().in_reply_to(), 0u);
}

TEST_F(ChannelTest, NothingWaitingIsNotAnError) {
  Received received = Received::kFrame;
  EXPECT_TRUE(right_->Receive(/*wait=*/false, &received).ok());
  EXPECT_EQ(received, Received::kNothing);
}

TEST_F(ChannelTest, DescriptorsTravelAndAreClosedUnlessTaken) {
  const int event = eventfd(0, EFD_CLOEXEC);
  SetInterrupts* set = left_->outgoing().mutable_set_interrupts();
  set->set_kind(MSI);
  set->set_count(3);
  for (bool present : {true, false, true}) set->add_present(present);
  const int fds[] = {event, event};
  ASSERT_TRUE(left_->Send(fds).ok());

  Receive();
  ASSERT_EQ(right_->incoming_fds().size(), 2u);
  const int taken = right_->TakeFd(1);
  EXPECT_FALSE(right_->incoming_fds()[1].valid());
  EXPECT_EQ(fcntl(taken, F_GETFD), FD_CLOEXEC);
  const uint64_t one = 1;
  EXPECT_EQ(write(taken, &one, sizeof one), 8);
  uint64_t count = 0;
  EXPECT_EQ(read(event, &count, sizeof count), 8);

  left_->outgoing().mutable_ping();
  ASSERT_TRUE(left_->Send().ok());
  Receive();  // closes the fd that was not taken
  close(taken);
  close(event);
  EXPECT_EQ(OpenDescriptors(), descriptors_);
}

TEST_F(ChannelTest, PeerThatClosedIsUnavailableInBothDirections) {
  left_.reset();
  Received received;
  EXPECT_EQ(right_->Receive(/*wait=*/true, &received).code(),
            absl::StatusCode::kUnavailable);
  right_->outgoing().mutable_ping();
  EXPECT_EQ(right_->Send().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ChannelTest, FramesSentBeforeTheCloseStillArrive) {
  left_->outgoing().mutable_ping();
  ASSERT_TRUE(left_->Send().ok());
  left_.reset();
  EXPECT_TRUE(Receive().has_ping());
  Received received;
  EXPECT_EQ(right_->Receive(/*wait=*/true, &received).code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(ChannelTest, FullBufferKeepsTheFrameForAnotherTry) {
  absl::Status status;
  uint64_t sent = 0;
  for (; status.ok(); ++sent) {
    left_->outgoing().mutable_region_write()->set_value(sent);
    status = left_->Send();
  }
  --sent;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(left_->outgoing().region_write().value(), sent);
  EXPECT_EQ(left_->last_sent(), sent);
  EXPECT_FALSE(left_->WaitToSend(/*timeout_ms=*/0));

  for (uint64_t i = 0; i < sent; ++i) {
    EXPECT_EQ(Receive().region_write().value(), i);
  }
  EXPECT_TRUE(left_->WaitToSend(/*timeout_ms=*/1000));
  ASSERT_TRUE(left_->Send().ok());
  EXPECT_EQ(Receive().region_write().value(), sent);
}

TEST_F(ChannelTest, UnknownRequestArrivesWithoutABody) {
  Frame frame;
  frame.set_sequence(1);
  std::string bytes = frame.SerializeAsString();
  bytes += "\xfa\x06\x01x";  // field 111, one byte
  SendRaw(bytes);
  EXPECT_EQ(Receive().body_case(), Frame::BODY_NOT_SET);
}

// ---- a hostile peer

TEST_F(ChannelTest, PacketOverTheLimitIsDataLoss) {
  SendRaw(std::string(kMaxFrameBytes + 1, '\0'));
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, GarbageIsDataLoss) {
  SendRaw("\xff\xff\xff\xff\xff");
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, EmptyPacketEndsTheChannel) {
  SendRaw("");
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kUnavailable);
}

TEST_F(ChannelTest, RepeatedSequenceIsDataLoss) {
  Frame frame;
  frame.mutable_ping();
  SendRaw(RawFrame(frame, 1));
  SendRaw(RawFrame(frame, 1));
  Receive();
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, SkippedSequenceIsDataLoss) {
  Frame frame;
  frame.mutable_ping();
  SendRaw(RawFrame(frame, 2));
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, DescriptorOnAFrameThatTakesNoneIsClosedAndDataLoss) {
  Frame frame;
  frame.mutable_region_write();
  SendRaw(RawFrame(frame), {0});
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, FewerDescriptorsThanPresentVectorsIsDataLoss) {
  Frame frame;
  frame.mutable_set_interrupts()->set_count(2);
  frame.mutable_set_interrupts()->add_present(true);
  frame.mutable_set_interrupts()->add_present(true);
  SendRaw(RawFrame(frame), {0});
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, PresentThatDoesNotMatchCountIsDataLoss) {
  Frame frame;
  frame.mutable_set_interrupts()->set_count(2);
  frame.mutable_set_interrupts()->add_present(true);
  SendRaw(RawFrame(frame), {0});
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, MoreDescriptorsThanAFrameHoldsAreClosedAndDataLoss) {
  Frame frame;
  frame.mutable_save_state();
  SendRaw(RawFrame(frame), std::vector<int>(kMaxFrameFds + 10, 0));
  EXPECT_EQ(ReceiveError(), absl::StatusCode::kDataLoss);
}

TEST_F(ChannelTest, HelloOfADeviceNeedsOneShadowAndOneMemfdPerDoorbell) {
  Frame frame;
  frame.mutable_hello()->mutable_device()->add_doorbells();
  SendRaw(RawFrame(frame), {0, 0});
  EXPECT_TRUE(Receive().has_hello());
  SendRaw(RawFrame(frame, 2), {0});
  Received received;
  EXPECT_EQ(right_->Receive(/*wait=*/true, &received).code(),
            absl::StatusCode::kDataLoss);
}

// ---- our own mistakes

TEST_F(ChannelTest, FrameTooLargeIsRefusedAndDoesNotUseASequence) {
  left_->outgoing().mutable_fault()->set_message(
      std::string(kMaxFrameBytes, 'x'));
  EXPECT_EQ(left_->Send().code(), absl::StatusCode::kInvalidArgument);
  left_->outgoing().mutable_ping();
  ASSERT_TRUE(left_->Send().ok());
  EXPECT_TRUE(Receive().has_ping());
}

TEST_F(ChannelTest, DescriptorsThatTheTypeForbidsAreRefusedAtTheSender) {
  left_->outgoing().mutable_ping();
  const int fds[] = {0};
  EXPECT_EQ(left_->Send(fds).code(), absl::StatusCode::kInvalidArgument);
}

#ifdef BULKHEAD_COUNTS_ALLOCATIONS
TEST_F(ChannelTest, DataPathFramesAllocateNothingOnceWarm) {
  const int event = eventfd(0, EFD_CLOEXEC);
  const auto exchange = [&] {
    Received received;
    bool ok = true;
    left_->outgoing().mutable_region_write()->set_value(5);
    ok &= left_->Send().ok();
    ok &= right_->Receive(true, &received).ok();
    left_->outgoing().mutable_region_read()->set_offset(4096);
    ok &= left_->Send().ok();
    ok &= right_->Receive(true, &received).ok();
    right_->outgoing().set_in_reply_to(right_->incoming().sequence());
    right_->outgoing().mutable_region_read_reply()->set_value(~0ull);
    ok &= right_->Send().ok();
    ok &= left_->Receive(true, &received).ok();
    SetInterrupts* set = left_->outgoing().mutable_set_interrupts();
    set->set_kind(MSIX);
    set->set_count(1);
    set->add_present(true);
    ok &= left_->Send({&event, 1}).ok();
    ok &= right_->Receive(true, &received).ok();
    right_->outgoing().set_in_reply_to(right_->incoming().sequence());
    right_->outgoing().mutable_ack();
    ok &= right_->Send().ok();
    ok &= left_->Receive(true, &received).ok();
    return ok;
  };
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(exchange());

  const int64_t before = allocations;
  for (int i = 0; i < 1000; ++i) {
    if (!exchange()) FAIL();
  }
  EXPECT_EQ(allocations - before, 0);
  close(event);
}
#endif

}  // namespace
}  // namespace bulkhead
