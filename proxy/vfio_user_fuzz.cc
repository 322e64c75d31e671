// QEMU's bytes, cut as the input says, through MessageStream and the front end,
// to a device with a well-behaved service.
//
// Input: chunks of {u8 fds, u8 length, bytes}; fds & 3 eventfds ride along.

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "proxy/fake_service.h"
#include "proxy/remote_device.h"
#include "proxy/vfio_user_front_end.h"

namespace bulkhead::proxy {
namespace {

using Stream = MessageStream<VfioUserWire>;
using Message = Stream::Message;

class World {
 public:
  World() {
    std::array<int, 2> fds;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) !=
        0) {
      std::abort();
    }
    FakeService::Options options;
    options.has_doorbell = true;
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

// The rules that hold for every reply.
void CheckReply(const Message& message, absl::Span<const uint8_t> reply) {
  if ((message.header.flags & vfio_user::kNoReply) != 0) {
    if (!reply.empty()) std::abort();
    return;
  }
  vfio_user::Header header;
  if (reply.size() < sizeof header) std::abort();
  std::memcpy(&header, reply.data(), sizeof header);
  const bool is_error = (header.flags & vfio_user::kError) != 0;
  if (header.size_bytes != reply.size() ||
      header.message_id != message.header.message_id ||
      header.command != message.header.command ||
      (is_error && (header.error == 0 || reply.size() != sizeof header))) {
    std::abort();
  }
}

void FuzzOne(absl::Span<const uint8_t> input) {
  static World& world = *new World;
  auto front_end = std::make_unique<VfioUserFrontEnd>(-1, world.device());
  auto stream = std::make_unique<Stream>();
  // Most inputs should get past the first message.
  Message version = {};
  const std::array<uint8_t, 4> zero = {};
  version.header.command = static_cast<uint16_t>(vfio_user::Command::kVersion);
  version.payload = zero;
  front_end->HandleMessage(version);

  while (input.size() >= 2) {
    const size_t fd_count = input[0] & 3;
    const size_t length = std::min<size_t>(input[1], input.size() - 2);
    const absl::Span<uint8_t> room = stream->Room();
    if (room.size() < length) std::abort();
    std::memcpy(room.data(), input.data() + 2, length);
    input.remove_prefix(2 + length);
    std::vector<Fd> fds;
    for (size_t i = 0; i < fd_count; ++i) {
      fds.emplace_back(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    }
    if (!stream->Added(length, &fds)) break;
    Message message;
    Stream::Next next;
    while ((next = stream->Take(&message)) == Stream::Next::kMessage) {
      if (!front_end->HandleMessage(message)) break;
      CheckReply(message, front_end->reply());
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
