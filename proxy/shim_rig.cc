#include "proxy/shim_rig.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "proxy/mpqemu_front_end.h"
#include "proxy/vfio_user_front_end.h"

namespace bulkhead::proxy {
namespace {

constexpr Nanoseconds kHandshakeTime = 300'000'000;

std::pair<int, int> ChannelPair() {
  std::array<int, 2> fds = {-1, -1};
  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data());
  return {fds[0], fds[1]};
}

}  // namespace

ShimRig::ShimRig(FakeService::Options options, FrontEndKind kind) {
  char name[] = "/tmp/shimXXXXXX";
  directory_ = mkdtemp(name);
  path_ = directory_ + "/vfio-user.sock";
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) !=
          0 ||
      listen(listener_, 1) != 0) {
    abort();
  }

  ram_memfd_ = memfd_create("ram", MFD_CLOEXEC);
  [[maybe_unused]] const int sized = ftruncate(ram_memfd_, kRamBytes);
  struct stat status;
  fstat(ram_memfd_, &status);

  const auto [ours, theirs] = ChannelPair();
  control_ = std::make_unique<Channel>(ours);
  shim_control_ = std::make_unique<Channel>(theirs);
  control_->outgoing().mutable_hello()->set_version(kProtocolVersion);
  control_->Send().IgnoreError();
  ShimConfig* config = control_->outgoing().mutable_configure()->mutable_shim();
  config->set_ram_device(status.st_dev);
  config->set_ram_inode(status.st_ino);
  config->set_ram_bytes(kRamBytes);
  control_->Send().IgnoreError();
  ShimSettings settings = ReceiveSettings(*shim_control_).value();
  settings.deadlines.handshake = kHandshakeTime;
  settings.deadlines.acknowledge = kAcknowledgeTime;
  WaitForControl(Frame::kHello);

  const auto [shim_end, service_end] = ChannelPair();
  service_ = std::make_unique<FakeService>(service_end, std::move(options));
  device_ = std::make_unique<RemoteDevice>(settings.deadlines, settings.ram);
  if (kind == FrontEndKind::kMpqemu) {
    std::array<int, 2> ends;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      abort();
    }
    front_end_ = std::make_unique<MpqemuFrontEnd>(
        ends[0], QemuSocket::kConnected, *device_);
    mpqemu_ = std::make_unique<MpqemuClient>(ends[1]);
  } else {
    front_end_ = std::make_unique<VfioUserFrontEnd>(listener_, *device_);
  }
  shim_ = std::make_unique<Shim>(*shim_control_, *device_, *front_end_);
  device_->link().Connect(shim_end);
  thread_ = std::thread([this] { shim_->Run(); });
}

ShimRig::~ShimRig() {
  control_.reset();  // the launcher's end closes: the shim ends
  thread_.join();
  front_end_.reset();
  device_.reset();
  close(listener_);
  close(ram_memfd_);
  unlink(path_.c_str());
  rmdir(directory_.c_str());
}

std::unique_ptr<VfioUserClient> ShimRig::Connect() {
  return std::make_unique<VfioUserClient>(path_);
}

std::unique_ptr<VfioUserClient> ShimRig::Attach() {
  auto qemu = Connect();
  qemu->Negotiate();
  return qemu;
}

void ShimRig::ReplaceService(FakeService::Options options) {
  const auto [shim_end, service_end] = ChannelPair();
  service_ = std::make_unique<FakeService>(service_end, std::move(options));
  control_->outgoing().mutable_replace_channel();
  control_->Send({&shim_end, 1}).IgnoreError();
  close(shim_end);
  WaitForControl(Frame::kAck);
}

bool ShimRig::WaitForControl(Frame::BodyCase type) {
  for (;;) {
    pollfd entry = {control_->fd(), POLLIN, 0};
    if (poll(&entry, 1, 2000) != 1) return false;
    Channel::Received received;
    if (!control_->Receive(/*wait=*/false, &received).ok()) return false;
    if (control_->incoming().body_case() == type) return true;
  }
}

TestEventfd::TestEventfd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

TestEventfd::~TestEventfd() { close(fd_); }

uint64_t TestEventfd::Take(int milliseconds) {
  pollfd entry = {fd_, POLLIN, 0};
  uint64_t count = 0;
  if (poll(&entry, 1, milliseconds) != 1 ||
      read(fd_, &count, sizeof count) != sizeof count) {
    return 0;
  }
  return count;
}

}  // namespace bulkhead::proxy
