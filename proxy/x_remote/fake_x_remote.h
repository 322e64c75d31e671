// FakeXRemote is a remote process of QEMU's as a test steers it: it answers in
// a thread of its own, records what it was asked, and misbehaves on demand. Its
// device has vendor 0x1000, a 256 byte I/O BAR 0, a 4 KiB memory BAR 1, a 16
// KiB 64-bit BAR 4, a capability list and INTx.
//
// THREADS  Its own thread answers; the methods are for the test's.

#ifndef BULKHEAD_PROXY_X_REMOTE_FAKE_X_REMOTE_H_
#define BULKHEAD_PROXY_X_REMOTE_FAKE_X_REMOTE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proxy/mpqemu.h"

namespace bulkhead::proxy {

class FakeXRemote {
 public:
  struct Asked {
    mpqemu::Command command;
    std::string body;
    size_t fds;
  };

  // Takes `socket` over.
  explicit FakeXRemote(int socket);
  ~FakeXRemote();  // as a process that dies
  FakeXRemote(const FakeXRemote&) = delete;
  FakeXRemote& operator=(const FakeXRemote&) = delete;

  // While frozen nothing is received, as from a stopped process.
  void Freeze(bool frozen) { frozen_ = frozen; }
  // Any bytes at all.
  void SendBytes(const std::string& bytes);
  // Raises the interrupt's eventfd; false: it was never given one.
  bool Raise();
  // Has the resample eventfd been written since?
  bool TakeResample();

  // What has been asked so far by that command.
  std::vector<Asked> Log(mpqemu::Command command);
  bool WaitFor(mpqemu::Command command, size_t count);

 private:
  void Loop();
  // The reply's value.
  uint64_t Answer(mpqemu::Command command, const std::string& body);
  uint64_t Config(const mpqemu::ConfigAccess& access, bool is_write);

  const int socket_;
  std::mutex mutex_;
  std::array<uint8_t, 256> config_ = {};
  std::map<uint64_t, uint64_t> memory_;  // registers, by absolute address
  std::vector<Asked> log_;
  int raise_ = -1;
  int resample_ = -1;
  std::atomic<bool> frozen_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_X_REMOTE_FAKE_X_REMOTE_H_
