// VfioUserClient plays QEMU's side of vfio-user, for tests and benchmarks.
//
// TRUST    Test code: it believes the server's sizes up to its own buffer.
// ERRORS   A Reply with `closed` set: the server has ended the connection.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_VFIO_USER_CLIENT_H_
#define BULKHEAD_PROXY_VFIO_USER_CLIENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proxy/vfio_user.h"

namespace bulkhead::proxy {

class VfioUserClient {
 public:
  struct Reply {
    bool closed = false;
    vfio_user::Header header = {};
    std::string payload;
    std::vector<int> fds;  // the receiver's to close

    uint32_t error() const {
      return (header.flags & vfio_user::kError) != 0 ? header.error : 0;
    }
    template <typename T>
    T As(size_t offset = 0) const {
      T value = {};
      if (payload.size() >= offset + sizeof value) {
        payload.copy(reinterpret_cast<char*>(&value), sizeof value, offset);
      }
      return value;
    }
  };

  // Connects to the unix socket at `path`.
  explicit VfioUserClient(const std::string& path);
  ~VfioUserClient();
  VfioUserClient(const VfioUserClient&) = delete;
  VfioUserClient& operator=(const VfioUserClient&) = delete;

  int fd() const { return fd_; }
  void Close();

  // A whole message with `fds`; returns its id.
  uint16_t Send(vfio_user::Command command, absl::string_view payload,
                const std::vector<int>& fds = {}, uint32_t flags = 0);
  void SendBytes(absl::string_view bytes, const std::vector<int>& fds = {});
  Reply Receive();
  // Send and Receive.
  Reply Ask(vfio_user::Command command, absl::string_view payload,
            const std::vector<int>& fds = {});

  // QEMU's first messages: VERSION with its capabilities.
  Reply Negotiate();
  uint64_t Read(uint32_t region, uint64_t offset, uint32_t size_bytes);
  Reply Write(uint32_t region, uint64_t offset, uint32_t size_bytes,
              uint64_t value);
  void PostedWrite(uint32_t region, uint64_t offset, uint32_t size_bytes,
                   uint64_t value);
  Reply SetIrqs(uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
                const std::vector<int>& fds = {}, absl::string_view data = "");
  Reply Map(uint64_t address, uint64_t size_bytes, uint64_t offset, int fd);
  Reply Unmap(uint64_t address, uint64_t size_bytes, uint32_t flags = 0);

  template <typename T>
  static std::string Bytes(const T& value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static std::string Access(uint32_t region, uint64_t offset, uint32_t count,
                            absl::string_view data = "");

 private:
  int fd_ = -1;
  uint16_t next_id_ = 1;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_VFIO_USER_CLIENT_H_
