// How long until a device process answers, and how much memory does it hold?
// Our jailed lsi53c895a service, from clone to its handshake, against QEMU as a
// remote device process (-machine x-remote) with the same device and image,
// from exec to its first answer.
//
//   bazel run //bench:service_start -- [ROUNDS]
//
// The guest's RAM is shared and untouched on both sides, and counts for
// neither.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "bench/report.h"
#include "policy/lsi53c895a.h"
#include "proto/channel.h"
#include "proto/service_config.pb.h"
#include "proto/service_fds.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr char kOurs[] = "bulkhead";
constexpr char kPeer[] = "qemu x-remote";
constexpr char kReady[] = "ready to answer";
constexpr char kResident[] = "resident";
constexpr char kAnonymous[] = "anonymous";
constexpr uint64_t kRamBytes = uint64_t{512} << 20;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

[[noreturn]] void Die(const std::string& what) {
  fprintf(stderr, "service_start: %s\n", what.c_str());
  exit(1);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Die(std::string(status.message()));
}

// The value of "Rss:" and the like, in MiB.
double Memory(pid_t pid, const std::string& field) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(field, 0) == 0) {
      return atof(line.c_str() + field.size()) / 1024;
    }
  }
  return 0;
}

void AddMemory(pid_t pid, const char* contestant, Comparison* comparison) {
  comparison->Add(kResident, contestant, Memory(pid, "Rss:"));
  comparison->Add(kAnonymous, contestant, Memory(pid, "Anonymous:"));
}

// SIGCHLD, as the launcher waits for it (sandbox/violation.h).
int child_signals = -1;

const Frame& Await(pid_t service, Channel* channel, Frame::BodyCase body) {
  for (;;) {
    pollfd ready[] = {{.fd = channel->fd(), .events = POLLIN, .revents = 0},
                      {.fd = child_signals, .events = POLLIN, .revents = 0}};
    if (poll(ready, 2, 10'000) <= 0) Die("the service does not answer");
    if (ready[1].revents != 0) {  // a watched thread waits for us
      signalfd_siginfo drained[8];
      if (read(child_signals, drained, sizeof(drained)) < 0) Die("signalfd");
      sandbox::HandleStops();
      if (const auto violation = sandbox::TakeDeath(service).violation) {
        Die("the service was killed for " +
            sandbox::DescribeViolation(*violation));
      }
      continue;
    }
    Channel::Received received;
    Check(channel->Receive(/*wait=*/true, &received));
    const Frame& frame = channel->incoming();
    if (frame.has_fault()) Die(frame.fault().message());
    if (frame.body_case() == body) return frame;
  }
}

void MeasureOurs(const std::string& image, Comparison* comparison) {
  int channel_fds[2], control_fds[2], log_fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel_fds) ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control_fds) ||
      pipe2(log_fds, O_CLOEXEC | O_NONBLOCK)) {
    Die("socketpair");
  }
  const int ram = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const int state = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (ftruncate(ram, kRamBytes) != 0 || ftruncate(state, 1 << 20) != 0) {
    Die("ftruncate");
  }
  fcntl(ram, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  fcntl(state, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  const int disk = open(image.c_str(), O_RDWR | O_CLOEXEC);
  const int program = open("services/lsi53c895a/service", O_RDONLY | O_CLOEXEC);

  ServiceConfig config;
  config.set_vm_name("bench");
  config.set_device_id("lsi0");
  config.set_ram_bytes(kRamBytes);
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(kFirstBackendFd);
  backend->mutable_image()->set_format(QCOW2);
  backend->mutable_image()->set_name(image);
  config.mutable_lsi53c895a()->add_units();

  sandbox::JailSpec jail;
  jail.policy = &policy::Lsi53c895a();
  jail.program_fd = program;
  jail.arguments = {"lsi53c895a"};
  jail.fds = {{log_fds[1], 0},
              {log_fds[1], 1},
              {log_fds[1], 2},
              {channel_fds[1], kChannelFd},
              {control_fds[1], kControlFd},
              {ram, kRamFd},
              {state, kStateFd},
              {disk, kFirstBackendFd}};
  jail.outside_id = 0x42480000;
  jail.mapped_bytes = kRamBytes;
  Channel shim(channel_fds[0]);
  Channel control(control_fds[0]);

  const Clock::time_point start = Clock::now();
  auto process = sandbox::Spawn(jail);
  Check(process.status());
  for (const int fd : {channel_fds[1], control_fds[1], log_fds[1], ram, state,
                       disk, program}) {
    close(fd);
  }
  control.outgoing().mutable_hello()->set_version(kProtocolVersion);
  Check(control.Send());
  config.SerializeToString(
      control.outgoing().mutable_configure()->mutable_service_config());
  Check(control.Send());
  Await(process->pid, &control, Frame::kReady);
  shim.outgoing().mutable_hello()->set_version(kProtocolVersion);
  Check(shim.Send());
  Await(process->pid, &shim, Frame::kHello);
  comparison->Add(kReady, kOurs, MillisecondsSince(start));
  AddMemory(process->pid, kOurs, comparison);

  kill(process->pid, SIGKILL);
  pollfd ended = {.fd = process->pidfd, .events = POLLIN, .revents = 0};
  while (poll(&ended, 1, 1) == 0) sandbox::HandleStops();
  waitpid(process->pid, nullptr, 0);
  close(process->pidfd);
  close(log_fds[0]);
}

// mpqemu: one configuration read, header and body.
struct RemoteRead {
  int32_t command = 3;  // CFGREAD
  uint32_t padding = 0;
  uint64_t size = 12;
  uint32_t address = 0;
  uint32_t value = 0;
  int32_t length = 2;
} __attribute__((packed));

void MeasurePeer(const std::string& image, const std::string& directory,
                 Comparison* comparison) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) Die("socketpair");
  fcntl(fds[0], F_SETFD, FD_CLOEXEC);
  const std::string link = std::to_string(fds[1]);
  testing::Process qemu(testing::QemuCommand(
      {"-machine", "x-remote", "-nodefaults", "-display", "none", "-device",
       "lsi53c895a,id=lsi0", "-drive",
       "id=d,file=" + image + ",if=none,format=qcow2", "-device",
       "scsi-hd,drive=d,bus=lsi0.0,scsi-id=0", "-object",
       "x-remote-object,id=robj1,devid=lsi0,fd=" + link},
      {directory}));
  close(fds[1]);
  // The clock starts when the tree is in place and QEMU is about to be
  // executed.
  if (!qemu.WaitFor(testing::kEnteringTree, testing::Seconds(20))) {
    Die("QEMU's tree: " + qemu.output());
  }
  const Clock::time_point start = Clock::now();
  const RemoteRead request;
  if (write(fds[0], &request, sizeof(request)) != sizeof(request)) {
    Die("x-remote socket");
  }
  char answer[24];  // header and one number
  size_t got = 0;
  while (got < sizeof(answer)) {
    pollfd ready = {.fd = fds[0], .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, 20'000) <= 0) Die("x-remote gives no answer");
    const ssize_t more = read(fds[0], answer + got, sizeof(answer) - got);
    if (more <= 0) Die("x-remote closed: " + qemu.output());
    got += more;
  }
  comparison->Add(kReady, kPeer, MillisecondsSince(start));
  // exec chain: the process keeps its pid from the shell to QEMU.
  AddMemory(qemu.pid(), kPeer, comparison);
  close(fds[0]);
}

int Run(int rounds) {
  signal(SIGPIPE, SIG_IGN);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  child_signals = signalfd(-1, &child, SFD_CLOEXEC);
  testing::ScratchDirectory scratch;
  const std::string image = scratch.path() + "/disk.qcow2";
  if (system(("qemu-img create -q -f qcow2 " + image + " 256M").c_str())) {
    Die("qemu-img");
  }
  Comparison comparison("A jailed service against QEMU as a remote process",
                        {kOurs, kPeer});
  comparison.Figure(kReady, "ms", false, {10.0 / 42});
  comparison.Figure(kResident, "MiB", false, {4 / 35.7});
  comparison.Figure(kAnonymous, "MiB", false, {1 / 11.7});
  for (int round = 0; round < rounds; ++round) {
    MeasureOurs(image, &comparison);
    MeasurePeer(image, scratch.path(), &comparison);
  }
  comparison.Print();
  return 0;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  return bulkhead::bench::Run(argc > 1 ? atoi(argv[1]) : 20);
}
