#include "proxy/vfio_user_client.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>

namespace bulkhead::proxy {

using vfio_user::Command;
using vfio_user::Header;

VfioUserClient::VfioUserClient(const std::string& path) {
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) !=
      0) {
    Close();
  }
}

VfioUserClient::~VfioUserClient() { Close(); }

void VfioUserClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void VfioUserClient::SendBytes(absl::string_view bytes,
                               const std::vector<int>& fds) {
  iovec vector = {const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  sendmsg(fd_, &message, MSG_NOSIGNAL);
}

uint16_t VfioUserClient::Send(Command command, absl::string_view payload,
                              const std::vector<int>& fds, uint32_t flags) {
  const Header header = {
      .message_id = next_id_++,
      .command = static_cast<uint16_t>(command),
      .size_bytes = static_cast<uint32_t>(sizeof(Header) + payload.size()),
      .flags = flags,
      .error = 0};
  std::string bytes = Bytes(header);
  bytes.append(payload.data(), payload.size());
  SendBytes(bytes, fds);
  return header.message_id;
}

VfioUserClient::Reply VfioUserClient::Receive() {
  Reply reply;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control;
  iovec vector = {&reply.header, sizeof reply.header};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(fd_, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC) !=
      sizeof reply.header) {
    reply.closed = true;
    return reply;
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    reply.fds.resize(count);
    memcpy(reply.fds.data(), CMSG_DATA(header), count * sizeof(int));
  }
  reply.payload.resize(reply.header.size_bytes - sizeof reply.header);
  if (!reply.payload.empty() &&
      recv(fd_, reply.payload.data(), reply.payload.size(), MSG_WAITALL) !=
          static_cast<ssize_t>(reply.payload.size())) {
    reply.closed = true;
  }
  return reply;
}

VfioUserClient::Reply VfioUserClient::Ask(Command command,
                                          absl::string_view payload,
                                          const std::vector<int>& fds) {
  Send(command, payload, fds);
  return Receive();
}

VfioUserClient::Reply VfioUserClient::Negotiate() {
  std::string payload = Bytes(vfio_user::Version{0, 0});
  payload +=
      R"({"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,)"
      R"("pgsizes":4096,"max_dma_maps":65535,"write_multiple":true}})";
  payload += '\0';
  return Ask(Command::kVersion, payload);
}

std::string VfioUserClient::Access(uint32_t region, uint64_t offset,
                                   uint32_t count, absl::string_view data) {
  std::string payload = Bytes(vfio_user::RegionAccess{offset, region, count});
  payload.append(data.data(), data.size());
  return payload;
}

uint64_t VfioUserClient::Read(uint32_t region, uint64_t offset,
                              uint32_t size_bytes) {
  const Reply reply =
      Ask(Command::kRegionRead, Access(region, offset, size_bytes));
  uint64_t value = 0;
  constexpr size_t kAt = sizeof(vfio_user::RegionAccess);
  if (reply.payload.size() == kAt + size_bytes) {
    reply.payload.copy(reinterpret_cast<char*>(&value), size_bytes, kAt);
  }
  return value;
}

VfioUserClient::Reply VfioUserClient::Write(uint32_t region, uint64_t offset,
                                            uint32_t size_bytes,
                                            uint64_t value) {
  return Ask(Command::kRegionWrite, Access(region, offset, size_bytes,
                                           Bytes(value).substr(0, size_bytes)));
}

void VfioUserClient::PostedWrite(uint32_t region, uint64_t offset,
                                 uint32_t size_bytes, uint64_t value) {
  Send(Command::kRegionWrite,
       Access(region, offset, size_bytes, Bytes(value).substr(0, size_bytes)),
       {}, vfio_user::kNoReply);
}

VfioUserClient::Reply VfioUserClient::SetIrqs(uint32_t flags, uint32_t index,
                                              uint32_t start, uint32_t count,
                                              const std::vector<int>& fds,
                                              absl::string_view data) {
  const auto argsz = static_cast<uint32_t>(sizeof(vfio_irq_set) + data.size());
  std::string payload = Bytes(vfio_irq_set{argsz, flags, index, start, count});
  payload.append(data.data(), data.size());
  return Ask(Command::kDeviceSetIrqs, payload, fds);
}

VfioUserClient::Reply VfioUserClient::Map(uint64_t address, uint64_t size_bytes,
                                          uint64_t offset, int fd) {
  const vfio_user::DmaMap map = {
      32, vfio_user::kDmaReadable | vfio_user::kDmaWritable, offset, address,
      size_bytes};
  return Ask(Command::kDmaMap, Bytes(map),
             fd < 0 ? std::vector<int>() : std::vector<int>{fd});
}

VfioUserClient::Reply VfioUserClient::Unmap(uint64_t address,
                                            uint64_t size_bytes,
                                            uint32_t flags) {
  return Ask(Command::kDmaUnmap,
             Bytes(vfio_user::DmaUnmap{24, flags, address, size_bytes}));
}

}  // namespace bulkhead::proxy
