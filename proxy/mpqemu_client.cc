#include "proxy/mpqemu_client.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace bulkhead::proxy {

using mpqemu::Command;
using mpqemu::Header;

void MpqemuClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void MpqemuClient::SendBytes(absl::string_view bytes,
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

void MpqemuClient::Send(Command command, absl::string_view body,
                        const std::vector<int>& fds, int64_t size_bytes) {
  std::string bytes = Bytes(
      Header{.command = static_cast<int32_t>(command),
             .padding = 0,
             .size_bytes = size_bytes < 0 ? body.size()
                                          : static_cast<uint64_t>(size_bytes)});
  bytes.append(body.data(), body.size());
  SendBytes(bytes, fds);
}

std::optional<uint64_t> MpqemuClient::Receive() {
  Header header;
  uint64_t value = 0;
  if (recv(fd_, &header, sizeof header, MSG_WAITALL) != sizeof header ||
      header.command != static_cast<int32_t>(Command::kReturn) ||
      header.size_bytes > sizeof value ||
      (header.size_bytes != 0 &&
       recv(fd_, &value, header.size_bytes, MSG_WAITALL) !=
           static_cast<ssize_t>(header.size_bytes))) {
    return std::nullopt;
  }
  return value;
}

std::optional<uint64_t> MpqemuClient::Ask(Command command,
                                          absl::string_view body) {
  Send(command, body);
  return Receive();
}

std::optional<uint64_t> MpqemuClient::ReadConfig(uint32_t address,
                                                 int32_t size_bytes) {
  return Ask(Command::kConfigRead,
             Bytes(mpqemu::ConfigAccess{address, 0, size_bytes}));
}

std::optional<uint64_t> MpqemuClient::WriteConfig(uint32_t address,
                                                  uint32_t value,
                                                  int32_t size_bytes) {
  return Ask(Command::kConfigWrite,
             Bytes(mpqemu::ConfigAccess{address, value, size_bytes}));
}

std::optional<uint64_t> MpqemuClient::Read(uint64_t address,
                                           uint32_t size_bytes, bool memory) {
  return Ask(Command::kBarRead,
             Bytes(mpqemu::BarAccess{
                 address, 0, size_bytes, static_cast<uint8_t>(memory), {}}));
}

std::optional<uint64_t> MpqemuClient::Write(uint64_t address, uint64_t value,
                                            uint32_t size_bytes, bool memory) {
  return Ask(
      Command::kBarWrite,
      Bytes(mpqemu::BarAccess{
          address, value, size_bytes, static_cast<uint8_t>(memory), {}}));
}

std::optional<uint64_t> MpqemuClient::Reset() {
  return Ask(Command::kDeviceReset, "");
}

void MpqemuClient::SetIrqfd(int raise, int resample) {
  Send(Command::kSetIrqfd, "", {raise, resample});
}

void MpqemuClient::SyncSysmem(const std::vector<Range>& ranges) {
  mpqemu::SyncSysmem table = {};
  std::vector<int> fds;
  for (size_t i = 0; i < ranges.size() && i < mpqemu::kMaxRanges; ++i) {
    table.address[i] = ranges[i].address;
    table.size_bytes[i] = ranges[i].size_bytes;
    table.offset[i] = ranges[i].offset;
    fds.push_back(ranges[i].fd);
  }
  Send(Command::kSyncSysmem, Bytes(table), fds);
}

}  // namespace bulkhead::proxy
