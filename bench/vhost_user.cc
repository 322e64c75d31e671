#include "bench/vhost_user.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "services/virtio/spec.h"

namespace bulkhead::bench {
namespace {

enum Request : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kSetVringEnable = 18,
};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kProtocolFeatures = uint64_t{1} << 30;

struct Header {
  uint32_t request;
  uint32_t flags;
  uint32_t size_bytes;
};
struct VringState {
  uint32_t index;
  uint32_t value;
};
struct VringAddress {
  uint32_t index;
  uint32_t flags;
  uint64_t descriptors;
  uint64_t used;
  uint64_t available;
  uint64_t log;
};
struct MemoryTable {
  uint32_t regions;
  uint32_t padding;
  uint64_t guest_address;
  uint64_t size_bytes;
  uint64_t user_address;
  uint64_t offset;
};

[[noreturn]] void Die(const char* what) {
  perror(what);
  exit(1);
}

}  // namespace

VhostUser::VhostUser(const std::string& path) {
  for (int i = 0; i < 500; ++i) {
    socket_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address),
                sizeof address) == 0) {
      kick_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      call_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      return;
    }
    close(socket_);
    usleep(10'000);
  }
  Die(path.c_str());
}

VhostUser::~VhostUser() {
  close(socket_);
  close(kick_);
  close(call_);
}

void VhostUser::Send(uint32_t request, const void* payload, uint32_t size_bytes,
                     int fd) {
  Header header = {request, kVersion, size_bytes};
  iovec segments[2] = {{&header, sizeof header},
                       {const_cast<void*>(payload), size_bytes}};
  msghdr message = {};
  message.msg_iov = segments;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
  }
  if (sendmsg(socket_, &message, MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sizeof header + size_bytes)) {
    Die("vhost-user: send");
  }
}

uint64_t VhostUser::Ask(uint32_t request) {
  Send(request, nullptr, 0);
  struct {
    Header header;
    uint64_t value;
  } __attribute__((packed)) reply;
  if (recv(socket_, &reply, sizeof reply, MSG_WAITALL) != sizeof reply) {
    Die("vhost-user: reply");
  }
  return reply.value;
}

void VhostUser::Start(int ram_fd, uint8_t* ram, uint64_t ram_bytes,
                      const virtio::DriverQueue& queue) {
  const uint64_t offered = Ask(kGetFeatures);
  Send(kSetOwner, nullptr, 0);
  const uint64_t features =
      offered & (virtio::kFeatureVersion1 | virtio::kFeatureEventIndex |
                 virtio::kFeatureIndirect | kProtocolFeatures);
  if ((features & virtio::kFeatureEventIndex) == 0) Die("no event index");
  if ((features & kProtocolFeatures) != 0) {
    Ask(kGetProtocolFeatures);
    const uint64_t none = 0;
    Send(kSetProtocolFeatures, &none, sizeof none);
  }
  Send(kSetFeatures, &features, sizeof features);
  const auto base = reinterpret_cast<uint64_t>(ram);
  const MemoryTable table = {1, 0, 0, ram_bytes, base, 0};
  Send(kSetMemTable, &table, sizeof table, ram_fd);
  const VringState size = {0, queue.size()};
  Send(kSetVringNum, &size, sizeof size);
  const VringState start = {0, 0};
  Send(kSetVringBase, &start, sizeof start);
  const VringAddress address = {0,
                                0,
                                base + queue.descriptors(),
                                base + queue.device(),
                                base + queue.driver(),
                                0};
  Send(kSetVringAddr, &address, sizeof address);
  const uint64_t index = 0;
  Send(kSetVringCall, &index, sizeof index, call_);
  Send(kSetVringKick, &index, sizeof index, kick_);
  if ((features & kProtocolFeatures) != 0) {
    const VringState enable = {0, 1};
    Send(kSetVringEnable, &enable, sizeof enable);
  }
}

void VhostUser::Kick() {
  const uint64_t one = 1;
  if (write(kick_, &one, sizeof one) != sizeof one) Die("kick");
}

void VhostUser::Wait() {
  pollfd event = {call_, POLLIN, 0};
  if (poll(&event, 1, 10'000) != 1) Die("no answer within ten seconds");
  uint64_t count;
  if (read(call_, &count, sizeof count) < 0) Die("call");
}

}  // namespace bulkhead::bench
