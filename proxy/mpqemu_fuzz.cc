// The bytes of QEMU's x-pci-proxy-dev, cut as the input says, through
// MessageStream and the front end, to a device with a well-behaved service.
//
// Input: chunks of {u8 fds, u8 length, bytes}; fds & 15 eventfds ride along.

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "proxy/fake_service.h"
#include "proxy/mpqemu_front_end.h"
#include "proxy/remote_device.h"

namespace bulkhead::proxy {
namespace {

using Stream = MessageStream<mpqemu::Wire>;

class World {
 public:
  World() {
    std::array<int, 2> fds;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) !=
        0) {
      std::abort();
    }
    FakeService::Options options;
    options.records = false;
    service_ = std::make_unique<FakeService>(fds[1], options);
    device_ =
        std::make_unique<RemoteDevice>(Deadlines(), RamIdentity{1, 2, 1 << 20});
    device_->link().Connect(fds[0]);
    for (int i = 0; i < 5000 && !device_->Available(); ++i) {
      device_->link().Poll();
      device_->Settle();
      usleep(100);
    }
    if (!device_->Available()) std::abort();
  }
  RemoteDevice& device() { return *device_; }

 private:
  std::unique_ptr<FakeService> service_;
  std::unique_ptr<RemoteDevice> device_;
};

// The rules that hold for every reply: asks are answered once, with a value
// (a reset without), and what tells is not answered.
void CheckReply(int32_t command, absl::Span<const uint8_t> reply) {
  const auto asked = static_cast<mpqemu::Command>(command);
  if (asked == mpqemu::Command::kSyncSysmem ||
      asked == mpqemu::Command::kSetIrqfd) {
    if (!reply.empty()) std::abort();
    return;
  }
  mpqemu::Header header;
  if (reply.size() < sizeof header) std::abort();
  std::memcpy(&header, reply.data(), sizeof header);
  const size_t value_bytes = asked == mpqemu::Command::kDeviceReset ? 0 : 8;
  if (header.command != static_cast<int32_t>(mpqemu::Command::kReturn) ||
      header.size_bytes != value_bytes ||
      reply.size() != sizeof header + value_bytes) {
    std::abort();
  }
}

void FuzzOne(absl::Span<const uint8_t> input) {
  static World& world = *new World;
  auto front_end = std::make_unique<MpqemuFrontEnd>(-1, QemuSocket::kConnected,
                                                    world.device());
  auto stream = std::make_unique<Stream>();
  while (input.size() >= 2) {
    const size_t fd_count = input[0] & 15;
    const size_t length = std::min<size_t>(input[1], input.size() - 2);
    const absl::Span<uint8_t> room = stream->Room();
    // A message that does not end leaves room for less than it takes.
    const size_t taken = std::min(length, room.size());
    std::memcpy(room.data(), input.data() + 2, taken);
    input.remove_prefix(2 + length);
    std::vector<Fd> fds;
    for (size_t i = 0; i < fd_count; ++i) {
      fds.emplace_back(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    }
    if (!stream->Added(taken, &fds)) break;
    Stream::Message message;
    Stream::Next next;
    while ((next = stream->Take(&message)) == Stream::Next::kMessage) {
      if (!front_end->HandleMessage(message)) break;
      CheckReply(message.header.command, front_end->reply());
      world.device().link().Poll();
      world.device().Settle();
    }
    if (next != Stream::Next::kNothing) break;
  }
  world.device().Detach();
}

}  // namespace
}  // namespace bulkhead::proxy

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::proxy::FuzzOne({data, size});
  return 0;
}
