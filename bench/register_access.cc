// How long does one register access of the guest take?
//
// Part 1, the crossing alone. The benchmark plays QEMU's side of both protocols
// towards the same chip: vfio-user to our shim with our lsi53c895a service
// behind it (both under their real filters), and x-pci-proxy-dev's to QEMU's
// own remote process (-machine x-remote -device lsi53c895a), which has one hop
// less. The rounds alternate.
//
// Part 2, from inside QEMU: `-accel qtest` makes QEMU itself do the loads and
// stores, through vfio-user-pci and the shim, and on its built-in lsi53c895a.
// (QEMU 11's x-pci-proxy-dev crashes without KVM, so it is not among them.)

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/report.h"
#include "policy/lsi53c895a.h"
#include "proxy/shim_process.h"
#include "proxy/vfio_user.h"
#include "proxy/vfio_user_client.h"
#include "services/runtime/testing/frame_rig.h"
#include "tests/support/own_qemu.h"

namespace bulkhead {
namespace {

using bench::Comparison;
using bench::Median;
namespace vfio_user = proxy::vfio_user;

constexpr int kStarts = 15;  // of all processes, for the first part
constexpr int kRounds = 10;  // of the second
constexpr int kLoads = 1000;
constexpr int kBursts = 30;
constexpr int kBurst = 32;
constexpr uint32_t kSpinLimitUs = 500;  // as in a VM
constexpr uint64_t kScratchA = 0x34;    // no side effect, not shadowed
constexpr uint64_t kDsa = 0x10;         // shadowed
constexpr uint32_t kMemoryBar = 1;
constexpr uint64_t kBarAddress = 0xe0000000;

double Microseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 +
         static_cast<double>(now.tv_nsec) / 1e3;
}

[[noreturn]] void Die(const char* what) {
  perror(what);
  exit(1);
}

// How QEMU's end of a stream waits for a reply: x-pci-proxy-dev in recv, which
// wakes it when the other side takes the request, too; vfio-user-pci in poll.
enum class Waits { kInReceive, kInPoll };

// One request and one reply, whose header is received by itself, as QEMU does.
void Exchange(int fd, Waits waits, const void* request, size_t request_bytes,
              void* reply, size_t header_bytes, size_t reply_bytes) {
  if (send(fd, request, request_bytes, MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request_bytes)) {
    Die("send");
  }
  if (reply_bytes == 0) return;
  pollfd poll_fd = {fd, POLLIN, 0};
  if (waits == Waits::kInPoll && poll(&poll_fd, 1, -1) != 1) Die("poll");
  const auto receive = [fd](void* to, size_t bytes) {
    if (recv(fd, to, bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes)) {
      Die("recv");
    }
  };
  receive(reply, header_bytes);
  receive(static_cast<char*>(reply) + header_bytes, reply_bytes - header_bytes);
}

// Our chip behind our shim.
class Bulkhead {
 public:
  Bulkhead(const std::string& path, uint32_t spin_limit_us) : path_(path) {
    ServiceConfig config;
    config.mutable_polling()->set_spin_limit_us(spin_limit_us);
    config.mutable_lsi53c895a();
    FrameRig::Options options;
    options.start = false;
    service_ = FrameRig::Spawn("services/lsi53c895a/service",
                               policy::Lsi53c895a(), config, {}, options);
    Channel& control = service_->control();
    config.set_ram_bytes(options.ram_bytes);
    control.outgoing().mutable_hello()->set_version(kProtocolVersion);
    control.Send().IgnoreError();
    control.outgoing().mutable_configure()->set_service_config(
        config.SerializeAsString());
    control.Send().IgnoreError();
    do {
      Channel::Received received;
      if (!control.Receive(/*wait=*/true, &received).ok()) Die("service");
    } while (!control.incoming().has_ready());

    ShimConfig shim;
    shim.set_spin_limit_us(spin_limit_us);
    shim.set_access_deadline_ms(5000);
    shim_ = std::make_unique<proxy::ShimProcess>("proxy/shim", path_, shim, -1,
                                                 service_->shim().fd());
    service_->CloseShim();
  }

  const std::string& path() const { return path_; }

  void Connect() {
    client_ = std::make_unique<proxy::VfioUserClient>(path_);
    if (client_->Negotiate().error() != 0) Die("negotiation");
    client_->Write(7, 0x04, 2, 0x6);  // memory, bus master
  }
  void Disconnect() { client_.reset(); }

  uint32_t Load(uint64_t offset) {
    struct {
      vfio_user::Header header;
      vfio_user::RegionAccess access;
      uint32_t data;
    } __attribute__((packed)) message = {};
    message.header = {1, static_cast<uint16_t>(vfio_user::Command::kRegionRead),
                      32, 0, 0};
    message.access = {offset, kMemoryBar, 4};
    Exchange(client_->fd(), Waits::kInPoll, &message, 32, &message,
             sizeof message.header, sizeof message);
    return message.data;
  }

  void Store(uint64_t offset, uint32_t value) {
    struct {
      vfio_user::Header header;
      vfio_user::RegionAccess access;
      uint32_t data;
    } __attribute__((packed)) message = {};
    message.header = {1,
                      static_cast<uint16_t>(vfio_user::Command::kRegionWrite),
                      sizeof message, vfio_user::kNoReply, 0};
    message.access = {offset, kMemoryBar, 4};
    message.data = value;
    Exchange(client_->fd(), Waits::kInPoll, &message, sizeof message, nullptr,
             0, 0);
  }

 private:
  std::string path_;
  std::unique_ptr<FrameRig> service_;
  std::unique_ptr<proxy::ShimProcess> shim_;
  std::unique_ptr<proxy::VfioUserClient> client_;
};

// QEMU's remote process, spoken to as x-pci-proxy-dev does: a header of
// {i32 command, padding, u64 size} and a body; BAR addresses are absolute.
class QemuRemote {
 public:
  QemuRemote() {
    std::array<int, 2> ends;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) Die("pair");
    fd_ = ends[0];
    const std::string fd = std::to_string(ends[1]);
    process_ = std::make_unique<testing::Process>(testing::QemuCommand(
        {"-machine", "x-remote", "-device", "lsi53c895a,id=lsi0", "-object",
         "x-remote-object,id=robj1,devid=lsi0,fd=" + fd, "-display", "none",
         "-nodefaults", "-monitor", "none"},
        {}));
    close(ends[1]);
    // QEMU resets its machine some time after it has begun to answer.
    for (int kept = 0; kept < 5; ++kept) {
      if (Config(kConfigRead, 0x14, 0, 4) != kBarAddress) kept = 0;
      Config(kConfigWrite, 0x14, kBarAddress, 4);  // BAR 1
      Config(kConfigWrite, 0x04, 0x6, 2);          // memory, bus master
      usleep(100'000);
    }
  }
  ~QemuRemote() { close(fd_); }

  uint32_t Load(uint64_t offset) {
    return static_cast<uint32_t>(Bar(kBarRead, offset, 0));
  }
  void Store(uint64_t offset, uint32_t value) { Bar(kBarWrite, offset, value); }

 private:
  static constexpr int32_t kConfigWrite = 2;
  static constexpr int32_t kConfigRead = 3;
  static constexpr int32_t kBarWrite = 4;
  static constexpr int32_t kBarRead = 5;
  struct Header {
    int32_t command;
    uint32_t padding;
    uint64_t size_bytes;
  };
  struct Return {
    Header header;
    uint64_t value;
  };

  uint64_t Config(int32_t command, uint32_t address, uint32_t value,
                  int32_t size_bytes) {
    struct {
      Header header;
      uint32_t address;
      uint32_t value;
      int32_t size_bytes;
    } __attribute__((packed))
    message = {{command, 0, 12}, address, value, size_bytes};
    Return reply;
    Exchange(fd_, Waits::kInReceive, &message, sizeof message, &reply,
             sizeof reply.header, sizeof reply);
    return reply.value;
  }
  uint64_t Bar(int32_t command, uint64_t offset, uint64_t value) {
    struct {
      Header header;
      uint64_t address;
      uint64_t value;
      uint32_t size_bytes;
      uint8_t memory;
      uint8_t padding[3];
    } message = {{command, 0, 24}, kBarAddress + offset, value, 4, 1, {}};
    static_assert(sizeof message == 40);
    Return reply;
    Exchange(fd_, Waits::kInReceive, &message, sizeof message, &reply,
             sizeof reply.header, sizeof reply);
    return reply.value;
  }

  int fd_;
  std::unique_ptr<testing::Process> process_;
};

template <typename Contestant>
double MedianLoad(Contestant& contestant, uint64_t offset) {
  std::vector<double> times;
  for (int i = 0; i < kLoads; ++i) {
    const double start = Microseconds();
    contestant.Load(offset);
    times.push_back(Microseconds() - start);
  }
  return Median(times);
}

// Bursts of stores, as a driver writes a few registers; each burst is waited
// for, outside the time that counts.
template <typename Contestant>
double MedianStore(Contestant& contestant) {
  std::vector<double> times;
  for (int i = 0; i < kBursts; ++i) {
    const double start = Microseconds();
    for (int j = 0; j < kBurst; ++j) {
      contestant.Store(kScratchA, static_cast<uint32_t>(j));
    }
    times.push_back((Microseconds() - start) / kBurst);
    if (contestant.Load(kScratchA) != kBurst - 1) Die("a store was lost");
  }
  return Median(times);
}

const std::string kOurs = "bulkhead";
const std::string kLoad = "read of 4 bytes";
const std::string kShadowed = "shadowed read";
const std::string kStore = "posted store";

template <typename Contestant>
void AddRound(Contestant& contestant, const std::string& name,
              Comparison* table) {
  table->Add(kLoad, name, MedianLoad(contestant, kScratchA));
  table->Add(kShadowed, name, MedianLoad(contestant, kDsa));
  table->Add(kStore, name, MedianStore(contestant));
}

bool CompareCrossings(const std::string& directory) {
  const std::string kPeer = "x-remote";
  const std::string kSleeping = "no spin";
  Comparison table("register access, QEMU's side to the device and back",
                   {kOurs, kPeer, kSleeping});
  table.Figure(kLoad, "us", /*more_is_better=*/false, {1.3});
  table.Figure(kShadowed, "us", /*more_is_better=*/false, {1.0});
  table.Figure(kStore, "us", /*more_is_better=*/false, {1.0});
  for (int round = 0; round < kStarts; ++round) {
    const std::string path = directory + "/" + std::to_string(round);
    const auto measure_ours = [&](const std::string& name, uint32_t limit_us) {
      Bulkhead ours(path + "-" + std::to_string(limit_us), limit_us);
      ours.Connect();
      AddRound(ours, name, &table);
      ours.Disconnect();
    };
    const auto measure_peer = [&] {
      QemuRemote remote;
      AddRound(remote, kPeer, &table);
    };
    if (round % 2 != 0) measure_peer();
    measure_ours(kOurs, kSpinLimitUs);
    if (round % 2 == 0) measure_peer();
    measure_ours(kSleeping, 0);
  }
  return table.Print();
}

// A QEMU whose CPU is this program: one line per access on a socket.
class QtestQemu {
 public:
  QtestQemu(const std::string& directory, const std::string& name,
            const std::string& device) {
    const std::string path = directory + "/" + name;
    std::vector<std::string> arguments = {
        "-accel",     "qtest",
        "-machine",   "pc,memory-backend=mem",
        "-m",         "64",
        "-object",    "memory-backend-memfd,id=mem,size=64M,share=on",
        "-display",   "none",
        "-qtest",     "unix:" + path + ",server=on,wait=off",
        "-device",    device,
        "-qtest-log", "/dev/null",
        "-nodefaults"};
    process_ = std::make_unique<testing::Process>(
        testing::QemuCommand(arguments, {directory}));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; connect(fd_, reinterpret_cast<sockaddr*>(&address),
                            sizeof address) != 0;
         ++i) {
      if (i == 2000) Die("QEMU's qtest socket");
      usleep(10'000);
    }
    // Device 6 on bus 0: BAR 1, then memory decoding.
    WriteConfig(0x14, "0xe0000000");
    WriteConfig(0x04, "0x6");
    if (Ask("readl 0xe0000034") != "OK 0x0000000000000000") {
      Store(kScratchA, 0);
    }
  }
  ~QtestQemu() { close(fd_); }

  uint32_t Load(uint64_t offset) {
    char line[64];
    snprintf(line, sizeof line, "readl 0x%lx", kBarAddress + offset);
    const std::string answer = Ask(line);
    return static_cast<uint32_t>(
        strtoull(answer.substr(3).c_str(), nullptr, 16));
  }
  void Store(uint64_t offset, uint32_t value) {
    char line[64];
    snprintf(line, sizeof line, "writel 0x%lx 0x%x", kBarAddress + offset,
             value);
    Ask(line);
  }
  // What a line costs that touches no device.
  double Idle() {
    std::vector<double> times;
    for (int i = 0; i < kLoads; ++i) {
      const double start = Microseconds();
      Ask("readl 0x1000");
      times.push_back(Microseconds() - start);
    }
    return Median(times);
  }

 private:
  void WriteConfig(uint32_t offset, const std::string& value) {
    char line[64];
    snprintf(line, sizeof line, "outl 0xcf8 0x%x", 0x80003000u | offset);
    Ask(line);
    Ask("outl 0xcfc " + value);
  }
  std::string Ask(const std::string& line) {
    const std::string request = line + "\n";
    if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) < 0) {
      Die("qtest");
    }
    while (buffer_.find('\n') == std::string::npos) {
      char bytes[256];
      const ssize_t received = recv(fd_, bytes, sizeof bytes, 0);
      if (received <= 0) Die("QEMU has ended");
      buffer_.append(bytes, static_cast<size_t>(received));
    }
    const size_t end = buffer_.find('\n');
    const std::string answer = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    return answer;
  }

  int fd_ = -1;
  std::string buffer_;
  std::unique_ptr<testing::Process> process_;
};

void CompareInsideQemu(const std::string& directory, Bulkhead& ours) {
  const std::string kBuiltIn = "built in";
  Comparison table(
      "the same inside QEMU 11 (qtest), less what qtest itself costs",
      {kOurs, kBuiltIn});
  for (const std::string& figure : {kLoad, kShadowed, kStore}) {
    table.Figure(figure, "us", /*more_is_better=*/false);
  }
  QtestQemu outside(directory, "outside",
                    R"({"driver":"vfio-user-pci","id":"d0","addr":"6",)"
                    R"("x-msg-timeout":30000,)"
                    R"("socket":{"type":"unix","path":")" +
                        ours.path() + R"("}})");
  QtestQemu inside(directory, "inside", "lsi53c895a,addr=6");
  for (int round = 0; round < kRounds; ++round) {
    const double idle_outside = outside.Idle();
    const double idle_inside = inside.Idle();
    table.Add(kLoad, kOurs, MedianLoad(outside, kScratchA) - idle_outside);
    table.Add(kLoad, kBuiltIn, MedianLoad(inside, kScratchA) - idle_inside);
    table.Add(kShadowed, kOurs, MedianLoad(outside, kDsa) - idle_outside);
    table.Add(kShadowed, kBuiltIn, MedianLoad(inside, kDsa) - idle_inside);
    table.Add(kStore, kOurs, MedianStore(outside) - idle_outside);
    table.Add(kStore, kBuiltIn, MedianStore(inside) - idle_inside);
  }
  table.Print();
}

}  // namespace
}  // namespace bulkhead

int main() {
  using bulkhead::Bulkhead;
  bulkhead::testing::ScratchDirectory directory;
  const bool met = bulkhead::CompareCrossings(directory.path());
  Bulkhead ours(directory.path() + "/qtest", bulkhead::kSpinLimitUs);
  bulkhead::CompareInsideQemu(directory.path(), ours);
  return met ? 0 : 1;
}
