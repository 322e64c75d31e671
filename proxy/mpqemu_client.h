// MpqemuClient plays QEMU's side of the multi-process protocol
// (x-pci-proxy-dev), for tests and benchmarks: towards our shim, or towards
// QEMU's own remote process.
//
// TRUST    Test code: it believes the server.
// ERRORS   nullopt: the server has ended the connection.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_MPQEMU_CLIENT_H_
#define BULKHEAD_PROXY_MPQEMU_CLIENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proxy/mpqemu.h"

namespace bulkhead::proxy {

class MpqemuClient {
 public:
  // Takes `fd` over.
  explicit MpqemuClient(int fd) : fd_(fd) {}
  ~MpqemuClient() { Close(); }
  MpqemuClient(const MpqemuClient&) = delete;
  MpqemuClient& operator=(const MpqemuClient&) = delete;

  int fd() const { return fd_; }
  void Close();

  // A message of any form. `size_bytes` other than -1 is what its header says.
  void Send(mpqemu::Command command, absl::string_view body,
            const std::vector<int>& fds = {}, int64_t size_bytes = -1);
  void SendBytes(absl::string_view bytes, const std::vector<int>& fds = {});
  // The value of a reply; 0 for a reset's, which has none.
  std::optional<uint64_t> Receive();

  std::optional<uint64_t> ReadConfig(uint32_t address, int32_t size_bytes);
  std::optional<uint64_t> WriteConfig(uint32_t address, uint32_t value,
                                      int32_t size_bytes);
  std::optional<uint64_t> Read(uint64_t address, uint32_t size_bytes,
                               bool memory = true);
  std::optional<uint64_t> Write(uint64_t address, uint64_t value,
                                uint32_t size_bytes, bool memory = true);
  std::optional<uint64_t> Reset();
  void SetIrqfd(int raise, int resample);

  struct Range {
    uint64_t address;
    uint64_t size_bytes;
    uint64_t offset;
    int fd;
  };
  void SyncSysmem(const std::vector<Range>& ranges);

  template <typename T>
  static std::string Bytes(const T& value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  }

 private:
  std::optional<uint64_t> Ask(mpqemu::Command command, absl::string_view body);

  int fd_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MPQEMU_CLIENT_H_
