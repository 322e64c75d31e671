// A service's frames, any sequence of them, into the shim's end of the channel.
//
// Input: chunks of {u8 action, u8 length, bytes}. The bytes are a frame, which
// is numbered and given the fds that it asks for, so that it gets past the
// channel; the action says what QEMU does next.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

#include "proto/shadow.h"
#include "proxy/remote_device.h"

namespace bulkhead::proxy {
namespace {

int SealedMemfd() {
  const int fd = memfd_create("shadow", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (ftruncate(fd, kShadowBytes) != 0) std::abort();
  fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return fd;
}

void Fill(Frame* frame, DeviceDescription* device) {
  Region* config = device->add_regions();
  config->set_index(kConfigRegion);
  config->set_size_bytes(256);
  config->set_readable(true);
  config->set_writable(true);
  Region* bar = device->add_regions();
  *bar = *config;
  bar->set_index(0);
  device->add_shadows()->set_size_bytes(64);
  device->set_intx_pin(1);
  frame->mutable_hello()->set_version(kProtocolVersion);
}

void Send(Channel& service, Frame frame, int memfd) {
  size_t fds = 0;
  if (frame.has_hello() && frame.hello().has_device()) {
    fds = 1 + static_cast<size_t>(frame.hello().device().doorbells_size());
  }
  if (fds > kMaxFrameFds) return;
  service.outgoing() = std::move(frame);
  service.Send(std::vector<int>(fds, memfd)).IgnoreError();
}

void FuzzOne(absl::Span<const uint8_t> input) {
  static const int memfd = SealedMemfd();
  std::array<int, 2> fds;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    std::abort();
  }
  auto device = std::make_unique<RemoteDevice>(
      Deadlines{.access = 1, .reset = 1}, RamIdentity{});
  auto service = std::make_unique<Channel>(fds[1]);
  device->link().Connect(fds[0]);
  if (!input.empty() && input[0] % 2 == 0) {
    Frame hello;
    Fill(&hello, hello.mutable_hello()->mutable_device());
    Send(*service, hello, memfd);
  }
  while (input.size() >= 2) {
    const uint8_t action = input[0];
    const size_t length = std::min<size_t>(input[1], input.size() - 2);
    Frame frame;
    if (frame.ParseFromArray(input.data() + 2, static_cast<int>(length))) {
      Send(*service, frame, memfd);
    }
    input.remove_prefix(2 + length);
    std::array<uint8_t, 8> data = {};
    switch (action >> 1 & 3) {
      case 0:
        device->Read(0, action, absl::MakeSpan(data));
        break;
      case 1:
        device->Write(0, action, data);
        device->MaskIntx(false);
        break;
      case 2:
        device->Reset();
        break;
      case 3:
        device->UnmapAll();
        break;
    }
    device->link().Poll();
    device->Settle();
  }
  device->Detach();
}

}  // namespace
}  // namespace bulkhead::proxy

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::proxy::FuzzOne({data, size});
  return 0;
}
