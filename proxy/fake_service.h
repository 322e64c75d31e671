// FakeService is a service that a test steers: it answers frames in a thread of
// its own, records them, and misbehaves on demand. Its device has 256 bytes of
// configuration space, a 4 KiB memory BAR 0 (plain bytes, the first 64 of them
// shadowed), a 256 byte I/O BAR 1, a 16 KiB BAR 2 (with a doorbell page at
// 0x1000, if asked for), INTx, 4 MSI and 128 MSI-X vectors.
//
// THREADS  Its own thread answers; the methods are for the test's.

#ifndef BULKHEAD_PROXY_FAKE_SERVICE_H_
#define BULKHEAD_PROXY_FAKE_SERVICE_H_

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "proto/channel.h"
#include "proto/shadow.h"

namespace bulkhead::proxy {

class FakeService {
 public:
  struct Options {
    bool has_doorbell = false;
    int doorbell_memfd = -1;  // -1: a new one
    bool seals_shadow = true;
    bool says_hello = true;
    bool records = true;  // frames, for Frames and WaitFor
    // Edits the description before it is sent.
    std::function<void(DeviceDescription*)> describe;
  };

  static constexpr uint64_t kBarBytes = 4096;
  static constexpr uint64_t kShadowedBytes = 64;
  static constexpr uint64_t kMsixVectors = 128;

  // `fd` is the service's end of the channel, taken over.
  explicit FakeService(int fd) : FakeService(fd, Options()) {}
  FakeService(int fd, Options options);
  // Closes the channel, as a service that dies does.
  ~FakeService();
  FakeService(const FakeService&) = delete;
  FakeService& operator=(const FakeService&) = delete;

  // While frozen nothing is received, as from a stopped process.
  void Freeze(bool frozen) {
    const std::lock_guard<std::mutex> lock(mutex_);
    frozen_ = frozen;
  }
  // One frame is received while frozen.
  void TakeOne() { ++allowance_; }
  // While mute frames are received and not answered; then all answers come.
  void Mute(bool mute);
  // While lagging, stores are not reported as applied in the shadow page.
  void Lag(bool lagging) { lagging_ = lagging; }

  // A line of INTx, with the eventfd on its rising edge.
  void SetIntx(bool level);
  void ClaimIntxRaised(uint32_t count);
  // Writes an eventfd; false: the vector has none.
  bool Raise(InterruptKind kind, uint32_t vector);
  bool HasVector(InterruptKind kind, uint32_t vector);
  // What the shadow page shows at an offset of BAR 0.
  void SetShadow(uint64_t offset, uint8_t byte);
  void SetConfig(uint64_t offset, uint8_t byte);
  uint8_t bar(uint64_t offset);

  // Frames received so far of one type (Frame::kRegionRead ...).
  std::vector<Frame> Frames(Frame::BodyCase type);
  // Waits until there are `count` of them; false after two seconds.
  bool WaitFor(Frame::BodyCase type, size_t count);

  // Any frame, correctly numbered.
  void Send(const std::function<void(Frame*)>& fill);
  // Any packet at all.
  void SendPacket(const std::string& bytes);

  int doorbell_memfd() const { return doorbell_memfd_; }

 private:
  void Loop();
  void SayHello();
  void Handle();
  void Answer(const Frame& request);

  const Options options_;
  std::mutex mutex_;
  Channel channel_;
  int shadow_memfd_ = -1;
  int doorbell_memfd_ = -1;
  uint8_t* shadow_ = nullptr;
  std::array<std::array<uint8_t, 16384>, 8> regions_ = {};
  std::map<std::pair<int, uint32_t>, int> eventfds_;
  std::vector<Frame> frames_;
  std::vector<Frame> unanswered_;
  std::atomic<bool> frozen_ = false;
  std::atomic<int> allowance_ = 0;
  std::atomic<bool> lagging_ = false;
  std::atomic<bool> ended_ = false;
  bool mute_ = false;
  std::thread thread_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_FAKE_SERVICE_H_
