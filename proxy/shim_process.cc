#include "proxy/shim_process.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "policy/shim.h"
#include "proxy/shim_fds.h"
#include "sandbox/compiled_policy.h"

namespace bulkhead::proxy {
namespace {

void Check(bool condition, const char* what) {
  if (condition) return;
  perror(what);
  abort();
}

std::array<int, 2> SocketPair() {
  std::array<int, 2> ends;
  Check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0,
        "socketpair");
  return ends;
}

int Listen(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  Check(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
            listen(fd, 1) == 0,
        "listen");
  return fd;
}

// Between fork and exec: the fds, and of the launcher's jail what the shim's
// own lock-down insists on.
[[noreturn]] void Execute(int program, int channel, int control, int listener) {
  constexpr int kOutOfTheWay = 64;
  const std::array<std::pair<int, int>, 3> fds = {
      {{fcntl(channel, F_DUPFD, kOutOfTheWay), kShimChannelFd},
       {fcntl(control, F_DUPFD, kOutOfTheWay), kShimControlFd},
       {fcntl(listener, F_DUPFD, kOutOfTheWay), kShimQemuFd}}};
  dup3(program, sandbox::kProgramFd, O_CLOEXEC);
  for (const auto& [from, to] : fds) dup2(from, to);
  close_range(kFirstReceivedFd, sandbox::kProgramFd - 1, 0);
  close_range(sandbox::kProgramFd + 1, ~0u, 0);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const sandbox::CompiledPolicy& policy = policy::Shim();
  const sock_fprog filter = {
      .len = static_cast<unsigned short>(policy.launch_filter.size()),
      .filter = const_cast<sock_filter*>(policy.launch_filter.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
    _exit(126);
  }
  char name[] = "shim";
  char* const arguments[] = {name, nullptr};
  char* const environment[] = {nullptr};
  syscall(SYS_execveat, sandbox::kProgramFd, "", arguments, environment,
          AT_EMPTY_PATH);
  _exit(127);
}

}  // namespace

ShimProcess::ShimProcess(const std::string& program,
                         const std::string& socket_path,
                         const ShimConfig& config, int ram_fd, int channel_fd)
    : socket_path_(socket_path) {
  std::array<int, 2> channel = {dup(channel_fd), -1};
  if (channel_fd < 0) channel = SocketPair();
  const std::array<int, 2> control = SocketPair();
  const int listener = Listen(socket_path);
  const int executable = open(program.c_str(), O_RDONLY | O_CLOEXEC);
  Check(executable >= 0, program.c_str());
  pid_ = fork();
  Check(pid_ >= 0, "fork");
  if (pid_ == 0) Execute(executable, channel[0], control[0], listener);
  close(executable);
  close(channel[0]);
  close(control[0]);
  close(listener);
  service_end_ = channel[1];
  control_ = std::make_unique<Channel>(control[1]);

  control_->outgoing().mutable_hello()->set_version(kProtocolVersion);
  Check(control_->Send().ok(), "Hello");
  ShimConfig* shim = control_->outgoing().mutable_configure()->mutable_shim();
  *shim = config;
  struct stat ram;
  if (ram_fd >= 0 && fstat(ram_fd, &ram) == 0) {
    shim->set_ram_device(ram.st_dev);
    shim->set_ram_inode(ram.st_ino);
    shim->set_ram_bytes(static_cast<uint64_t>(ram.st_size));
  }
  Check(control_->Send().ok(), "Configure");
  do {
    Channel::Received received;
    Check(control_->Receive(/*wait=*/true, &received).ok(), "the shim's Ready");
  } while (!control_->incoming().has_ready());
}

ShimProcess::~ShimProcess() {
  if (pid_ > 0) End();
  if (service_end_ >= 0) close(service_end_);
  unlink(socket_path_.c_str());
}

int ShimProcess::TakeServiceEnd() {
  const int fd = service_end_;
  service_end_ = -1;
  return fd;
}

int ShimProcess::ReplaceChannel() {
  const std::array<int, 2> channel = SocketPair();
  control_->outgoing().mutable_replace_channel();
  Check(control_->Send({channel.data(), 1}).ok(), "ReplaceChannel");
  close(channel[0]);
  return channel[1];
}

bool ShimProcess::running() const {
  siginfo_t ended = {};
  return pid_ > 0 &&
         waitid(P_PID, static_cast<id_t>(pid_), &ended,
                WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == 0;
}

int ShimProcess::End() {
  control_.reset();
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace bulkhead::proxy
