#include "demo/verify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "base/fd.h"
#include "policy/registry.h"
#include "policy/sha256.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"
#include "vm/memory.h"

namespace bulkhead::demo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kToolLimit{60};
// What a tool prints, beside its output.
constexpr uint64_t kTextBytes = 64 * 1024;
// As the tool sees them.
constexpr int kInputFd = 3;
constexpr int kOutputFd = 4;
constexpr char kInput[] = "/proc/self/fd/3";
constexpr char kOutput[] = "/proc/self/fd/4";

absl::Status CheckError(const std::string& what, const std::string& fix) {
  return UserError{.id = "BH-V501", .what = "check: " + what, .fix = fix}
      .ToStatus();
}

absl::StatusOr<Fd> MakeOutput(const std::string& name, uint64_t bytes) {
  Fd fd(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return absl::InternalError("memfd: " + ErrnoText(errno));
  }
  return fd;
}

// Waits until the jailed tool has ended; its exit status, or -1.
int WaitForEnd(int pidfd) {
  const auto deadline = Clock::now() + kToolLimit;
  bool killed = false;
  for (;;) {
    // A traced child that exits waits for HandleStops; SIGCHLD is blocked.
    sandbox::HandleStops();
    pollfd ready = {.fd = pidfd, .events = POLLIN, .revents = 0};
    siginfo_t info = {};
    // Not before: a tracer's waitid would swallow the child's other stops.
    if (poll(&ready, 1, 10) == 1 &&
        waitid(static_cast<idtype_t>(P_PIDFD), pidfd, &info,
               WEXITED | WNOHANG) == 0 &&
        info.si_pid != 0) {
      return info.si_code == CLD_EXITED && !killed ? info.si_status : -1;
    }
    if (Clock::now() > deadline && !killed) {
      killed = true;
      syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
    }
  }
}

// Runs a program of the host in a jail that holds `input`, `output` and
// nothing else. What it prints is shown when it fails.
absl::Status RunTool(const std::string& program,
                     std::vector<std::string> arguments, uid_t id, int input,
                     int output, uint64_t output_bytes) {
  const Fd file(open(program.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return CheckError(absl::StrCat(program, " is missing"),
                      "./bazelw installs it (qemu-utils, e2fsprogs)");
  }
  absl::StatusOr<Fd> text = MakeOutput("text", 0);
  if (!text.ok()) return text.status();
  sandbox::JailSpec jail;
  jail.policy = policy::FindPolicy("image_tool");
  jail.program_fd = file.get();
  jail.program_path = program;
  arguments.insert(arguments.begin(), program);
  jail.arguments = std::move(arguments);
  jail.outside_id = id;
  // A hostile file system could have the tools write without end.
  jail.file_bytes = output_bytes + kTextBytes;
  jail.binds = {
      {.source = "/usr", .target = "/usr"},
      {.source = "/dev/null", .target = "/dev/null", .writable = true}};
  jail.mount_proc = true;
  jail.fds = {{text->get(), 0},
              {text->get(), 1},
              {text->get(), 2},
              {input, kInputFd},
              {output, kOutputFd}};
  absl::StatusOr<sandbox::Process> child = sandbox::Spawn(jail);
  if (!child.ok()) return child.status();
  const Fd pidfd(child->pidfd);
  const int status = WaitForEnd(pidfd.get());
  if (status == 0) return absl::OkStatus();
  std::string said(400, '\0');
  const ssize_t got = pread(text->get(), said.data(), said.size(), 0);
  said.resize(got > 0 ? got : 0);
  const auto violation = sandbox::TakeDeath(child->pid).violation;
  const std::string why =
      violation ? sandbox::DescribeViolation(*violation) : "";
  return CheckError(
      absl::StrCat(program, status < 0 ? " was killed: " + why
                                       : absl::StrCat(" says ", status)),
      absl::StrCat("it printed: ", Escape(said)));
}

std::string Sha256Of(int fd, uint64_t* bytes) {
  policy::Sha256 sum;
  std::string piece(64 * 1024, '\0');
  *bytes = 0;
  for (;;) {
    const ssize_t got =
        pread(fd, piece.data(), piece.size(), static_cast<off_t>(*bytes));
    if (got <= 0) return sum.Hex();
    sum.Add(piece.data(), got);
    *bytes += got;
  }
}

absl::Status VerifyFile(int raw, const CheckConsole::File& file, uid_t id) {
  absl::StatusOr<Fd> copy = MakeOutput("file", 0);
  if (!copy.ok()) return copy.status();
  absl::Status status =
      RunTool("/usr/sbin/debugfs",
              {"-R", absl::StrCat("dump ", file.path, " ", kOutput), kInput},
              id, raw, copy->get(), file.bytes);
  if (!status.ok()) return status;
  uint64_t bytes = 0;
  const std::string sum = Sha256Of(copy->get(), &bytes);
  if (bytes == file.bytes && sum == file.sha256) return absl::OkStatus();
  return CheckError(
      absl::StrCat(file.path, " differs: the guest wrote ", file.bytes,
                   " bytes with SHA-256 ", file.sha256, ", the image holds ",
                   bytes, " with ", sum),
      "");
}

}  // namespace

absl::Status VerifyDisk(int image, uint64_t disk_bytes,
                        const std::vector<CheckConsole::File>& files,
                        uid_t tool_id,
                        const std::function<void(const std::string&)>& say) {
  auto start = Clock::now();
  const auto passed = [&](const std::string& what) {
    const std::chrono::duration<double, std::milli> took = Clock::now() - start;
    say(absl::StrFormat("%-8s ok   %6.0f ms", what, took.count()));
    start = Clock::now();
  };
  constexpr char kQemuImg[] = "/usr/bin/qemu-img";
  // In a jail's root there is no file that could be opened twice, as the tools
  // do; a memfd can.
  (void)lseek(image, 0, SEEK_SET);
  absl::StatusOr<Fd> copy = vm::MakeSealedCopy("image", image);
  if (!copy.ok()) return copy.status();
  absl::StatusOr<Fd> raw = MakeOutput("raw", disk_bytes);
  if (!raw.ok()) return raw.status();

  absl::Status status = RunTool(kQemuImg, {"check", "-f", "qcow2", kInput},
                                tool_id, copy->get(), raw->get(), disk_bytes);
  if (!status.ok()) return status;
  passed("image");
  status = RunTool(
      kQemuImg, {"convert", "-n", "-f", "qcow2", "-O", "raw", kInput, kOutput},
      tool_id, copy->get(), raw->get(), disk_bytes);
  if (!status.ok()) return status;
  passed("convert");
  if (files.empty()) return CheckError("the guest reported no file", "");
  for (const CheckConsole::File& file : files) {
    status = VerifyFile(raw->get(), file, tool_id);
    if (!status.ok()) return status;
  }
  passed(absl::StrCat(files.size(), " files"));
  return absl::OkStatus();
}

}  // namespace bulkhead::demo
