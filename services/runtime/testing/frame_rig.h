// FrameRig drives a service as its launcher and its shim do, with frames over
// real sockets: a service in a thread of the test, or the real program under
// its real policy.
//
//   auto rig = FrameRig::InProcess("mydevice", factory, config);
//   rig->Write(1, 0x2c, 4, 0x1000);
//   EXPECT_EQ(rig->Read(1, 0x14, 1), 0x01);
//   EXPECT_TRUE(rig->WaitForInterrupt(INTX, 0));
//
// RAM is mapped at guest address 0, whole, and INTx is connected, unless the
// options say otherwise.
//
// TRUST    For tests only.
// ERRORS   What a well-behaved service never does (an answer that does not
//          come within ten seconds, a closed channel) prints why and aborts the
//          test. Tests of misbehaviour use shim() and control().
// THREADS  One, beside the service's own.

#ifndef BULKHEAD_SERVICES_RUNTIME_TESTING_FRAME_RIG_H_
#define BULKHEAD_SERVICES_RUNTIME_TESTING_FRAME_RIG_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/channel.h"
#include "proto/frame.pb.h"
#include "proto/service_config.pb.h"
#include "proto/shadow.h"
#include "sandbox/compiled_policy.h"
#include "services/runtime/service.h"

namespace bulkhead {

class FrameRig {
 public:
  struct Options {
    uint64_t ram_bytes = uint64_t{16} << 20;
    // False: stop after the channels are made; the test shakes hands itself.
    bool start = true;
    // False: no RAM mapped, no interrupt connected.
    bool attach = true;
  };

  // ram_bytes is filled into `config`.
  static std::unique_ptr<FrameRig> InProcess(const char* model,
                                             DeviceFactory factory,
                                             ServiceConfig config,
                                             const Options& options);
  static std::unique_ptr<FrameRig> InProcess(const char* model,
                                             DeviceFactory factory,
                                             ServiceConfig config = {});
  // Executes the program from an fd, with no new privileges and the policy's
  // launch filter, but in the test's own namespaces. `backend_fds` become
  // kFirstBackendFd and up; they stay the caller's.
  static std::unique_ptr<FrameRig> Spawn(const std::string& program,
                                         const sandbox::CompiledPolicy& policy,
                                         ServiceConfig config,
                                         const std::vector<int>& backend_fds,
                                         const Options& options);

  ~FrameRig();

  // ---- the guest's accesses
  uint64_t Read(uint32_t region, uint64_t offset, uint32_t size_bytes);
  // The Ack's error where the service refuses; OK otherwise.
  ErrorCode TryRead(uint32_t region, uint64_t offset, uint32_t size_bytes,
                    uint64_t* value);
  void Write(uint32_t region, uint64_t offset, uint32_t size_bytes,
             uint64_t value);

  // ---- the shim's requests
  ErrorCode Map(uint64_t address, uint64_t size_bytes, uint64_t ram_offset,
                bool readable = true, bool writable = true);
  ErrorCode Unmap(uint64_t address, uint64_t size_bytes);
  ErrorCode Reset();
  ErrorCode Ping();  // returns once every earlier store has been applied
  // Gives the vector a new eventfd.
  ErrorCode Connect(InterruptKind kind, uint32_t vector);
  ErrorCode Disconnect(InterruptKind kind);
  // Signals since the last call.
  uint64_t Interrupts(InterruptKind kind, uint32_t vector);
  bool WaitForInterrupt(InterruptKind kind, uint32_t vector,
                        int timeout_ms = 10'000);

  // ---- the launcher's requests
  ErrorCode Quiesce();
  ErrorCode Resume();
  ErrorCode SaveState(int fd);
  ErrorCode LoadState(int fd);
  Ack GrowDisk(uint32_t backend, uint64_t size_bytes);
  // All counters by name.
  std::map<std::string, uint64_t> Statistics();

  // ---- what the service shares
  const DeviceDescription& description() const { return description_; }
  const ShadowHeader& shadow() const;
  // A little-endian value of the shadow image.
  uint64_t ReadShadow(uint64_t shadow_offset, uint32_t size_bytes) const;
  // The memfd's bytes of doorbell `index`, as the guest sees the region.
  uint8_t* doorbell(size_t index) const;

  // ---- guest RAM, by offset in the memfd
  std::string ram(uint64_t offset, size_t size_bytes) const;
  void set_ram(uint64_t offset, absl::string_view bytes);
  uint8_t* ram_base() const { return ram_; }
  int ram_fd() const { return ram_fd_; }

  // ---- the raw channels, and how the service ended
  Channel& shim() { return *shim_; }
  Channel& control() { return *control_; }
  void CloseShim() { shim_.reset(); }
  // Shakes hands as launcher and shim; false when the service sends Fault
  // instead (its message is then in fault()).
  bool Start();
  const std::string& fault() const { return fault_; }
  // Closes what is open and waits for the end. For a program: its exit status
  // as waitpid tells it. In process: 0, or 1 for an error.
  int Finish();
  // Waits for an end that the service itself brings about, and takes its Fault.
  int WaitForEnd();
  pid_t pid() const { return pid_; }
  // Frames that were not answers: interrupt fall-backs and the like.
  const std::vector<Frame>& events() const { return events_; }

 private:
  FrameRig(ServiceConfig config, const Options& options);

  uint64_t Send(Channel& channel, const std::vector<int>& fds = {});
  // Waits for the answer to `sequence`; events go to events_.
  const Frame& AwaitAnswer(Channel& channel, uint64_t sequence);
  bool ReceiveWithin(Channel& channel, int timeout_ms);
  ErrorCode Ask(Channel& channel, const std::vector<int>& fds = {});
  void TakeSharedMemory();

  ServiceConfig config_;
  const Options options_;
  int ram_fd_ = -1;
  uint8_t* ram_ = nullptr;
  int service_shim_fd_ = -1;
  int service_control_fd_ = -1;
  std::unique_ptr<Channel> shim_;
  std::unique_ptr<Channel> control_;
  DeviceDescription description_;
  std::vector<std::pair<uint8_t*, size_t>> shared_;  // shadow, doorbells
  std::map<std::pair<int, uint32_t>, int> eventfds_;
  std::vector<Frame> events_;
  std::string fault_;

  std::thread thread_;
  absl::Status ended_;
  pid_t pid_ = -1;
  bool finished_ = false;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_TESTING_FRAME_RIG_H_
