// ShimRig is a whole shim in a thread, with a launcher's control channel, a
// socket for QEMU and a FakeService: what the story tests are told with.
//
// THREADS  The shim has its own; everything else is the test's.

#ifndef BULKHEAD_PROXY_SHIM_RIG_H_
#define BULKHEAD_PROXY_SHIM_RIG_H_

#include <memory>
#include <string>
#include <thread>

#include "proxy/fake_service.h"
#include "proxy/front_end.h"
#include "proxy/mpqemu_client.h"
#include "proxy/remote_device.h"
#include "proxy/shim.h"
#include "proxy/vfio_user_client.h"

namespace bulkhead::proxy {

inline constexpr uint64_t kRamBytes = 16 << 20;
// Long enough for a test on a busy machine to be inside it.
inline constexpr Nanoseconds kAcknowledgeTime = 400'000'000;

class ShimRig {
 public:
  ShimRig() : ShimRig(FakeService::Options()) {}
  enum class FrontEndKind { kVfioUser, kMpqemu };
  explicit ShimRig(FakeService::Options options,
                   FrontEndKind kind = FrontEndKind::kVfioUser);
  ~ShimRig();

  // A QEMU that has negotiated.
  std::unique_ptr<VfioUserClient> Attach();
  // A QEMU that has only connected.
  std::unique_ptr<VfioUserClient> Connect();
  // kMpqemu: the QEMU that holds the other end.
  MpqemuClient& mpqemu() { return *mpqemu_; }

  FakeService& service() { return *service_; }
  void KillService() { service_.reset(); }
  // Hands the shim a new service, as the launcher does.
  void ReplaceService(FakeService::Options options = {});

  // The launcher's view: waits for a frame of that type, dropping others.
  bool WaitForControl(Frame::BodyCase type);
  Channel& control() { return *control_; }

  int ram_memfd() const { return ram_memfd_; }

 private:
  std::string directory_;
  std::string path_;
  int listener_ = -1;
  int ram_memfd_ = -1;
  std::unique_ptr<Channel> control_;  // the launcher's end
  std::unique_ptr<Channel> shim_control_;
  std::unique_ptr<FakeService> service_;
  std::unique_ptr<RemoteDevice> device_;
  std::unique_ptr<FrontEnd> front_end_;
  std::unique_ptr<MpqemuClient> mpqemu_;
  std::unique_ptr<Shim> shim_;
  std::thread thread_;
};

// An eventfd as QEMU makes it.
class TestEventfd {
 public:
  TestEventfd();
  ~TestEventfd();
  int fd() const { return fd_; }
  // Waits for a signal; how often it was signalled, 0 after `milliseconds`.
  uint64_t Take(int milliseconds = 1000);

 private:
  int fd_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SHIM_RIG_H_
