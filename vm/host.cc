#include "vm/host.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/fd.h"
#include "proto/clock.h"
#include "vm/kvm_probe.h"
#include "vm/runfiles.h"
#include "vm/size.h"

namespace bulkhead::vm {
namespace {

constexpr std::pair<int, int> kVfioUserSince = {10, 1};
constexpr std::pair<int, int> kProxySince = {5, 2};
// From here on x-pci-proxy-dev takes KVM for granted, and crashes without.
constexpr std::pair<int, int> kProxyNeedsKvmSince = {8, 2};
// Where -mon is deprecated.
constexpr std::pair<int, int> kMonitorObjectSince = {11, 1};
// What services, shims and QEMU need besides the guest's RAM.
constexpr uint64_t kSpareBytes = uint64_t{96} << 20;

absl::Status QemuError(const char* id, const std::string& what,
                       const std::string& fix) {
  return UserError{
      .exit_code = kExitMissingFeature, .id = id, .what = what, .fix = fix}
      .ToStatus();
}

// The first line that `program --version` prints, or 4096 bytes of it; all of
// it within five seconds, however it comes.
absl::StatusOr<std::string> VersionLine(const std::string& program) {
  constexpr size_t kMostBytes = 4096;
  constexpr Nanoseconds kPatience = 5'000'000'000;
  const auto failed = [&program](const std::string& why) {
    return QemuError("BH-Q301", absl::StrCat(Escape(program), " ", why),
                     "name a QEMU");
  };
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return failed(ErrnoText(errno));
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) return failed(ErrnoText(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(write_end.get(), STDOUT_FILENO);
    execl(program.c_str(), program.c_str(), "--version", nullptr);
    _exit(127);
  }
  write_end.Close();
  const Nanoseconds deadline = MonotonicNow() + kPatience;
  std::string text;
  char piece[512];
  bool late = false;
  while (text.size() < kMostBytes && text.find('\n') == std::string::npos) {
    const Nanoseconds now = MonotonicNow();
    const timespec left = ToTimespec(now < deadline ? deadline - now : 0);
    pollfd ready = {.fd = read_end.get(), .events = POLLIN, .revents = 0};
    late = ppoll(&ready, 1, &left, nullptr) != 1;
    if (late) break;
    const ssize_t got = read(read_end.get(), piece, sizeof(piece));
    if (got <= 0) break;
    text.append(piece, got);
  }
  kill(child, SIGKILL);
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (late) return failed("--version: no answer within five seconds");
  return text;
}

absl::Status CheckVersion(const std::string& name, const std::string& text,
                          Qemu* qemu) {
  qemu->release = ParseQemuVersion(text, &qemu->version);
  if (qemu->release < kProxySince) {
    return QemuError(
        "BH-Q301",
        qemu->release.first == 0
            ? absl::StrCat(Escape(name), " is not a QEMU")
            : absl::StrCat("QEMU ", qemu->version, " (", Escape(name),
                           ") has no out-of-process devices: those need 5.2"),
        "--qemu=PATH to QEMU >= 10.1, or ./bazelw, which fetches one");
  }
  qemu->has_monitor_object = qemu->release >= kMonitorObjectSince;
  return absl::OkStatus();
}

// Where Debian puts UEFI firmware in one piece, variables included.
void FindOvmf(Qemu* qemu) {
  constexpr char kOvmf[] = "/usr/share/ovmf/OVMF.fd";
  if (access((qemu->tree + kOvmf).c_str(), R_OK) == 0) qemu->ovmf = kOvmf;
}

// A root for a program of the host: its libraries and firmware, nothing else.
// Least of all the folder that it lies in, which may be the user's home.
void ShowHostPrograms(const std::string& program, Qemu* qemu) {
  qemu->binds = {{.source = "/usr", .target = "/usr"}};
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(program, error);
  if (error || absl::StartsWith(real.string(), "/usr/")) return;
  // PREFIX/bin/qemu-system-x86_64 with PREFIX/share/qemu.
  std::filesystem::path prefix = real.parent_path();
  if (prefix.filename() == "bin") prefix = prefix.parent_path();
  for (const std::filesystem::path& path :
       {real, prefix / "lib", prefix / "lib64", prefix / "share/qemu"}) {
    if (!std::filesystem::exists(path, error)) continue;
    qemu->binds.push_back({.source = path.string(), .target = path.string()});
  }
}

}  // namespace

std::pair<int, int> ParseQemuVersion(const std::string& text,
                                     std::string* version) {
  int major = 0;
  int minor = 0;
  int micro = 0;
  if (std::sscanf(text.c_str(), "QEMU emulator version %9d.%9d.%9d", &major,
                  &minor, &micro) < 2) {
    return {0, 0};
  }
  *version = absl::StrCat(major, ".", minor, ".", micro);
  return {major, minor};
}

absl::StatusOr<Qemu> FindQemu(const std::string& chosen,
                              const std::map<std::string, std::string>& paths) {
  const auto path = [&](const char* key) {
    const auto found = paths.find(key);
    return found == paths.end() ? std::string() : found->second;
  };
  Qemu qemu;
  if (!chosen.empty()) {
    if (access(chosen.c_str(), X_OK) != 0) {
      return QemuError(
          "BH-Q301",
          absl::StrCat("--qemu=", Escape(chosen), ": ", ErrnoText(errno)),
          "name an executable QEMU");
    }
    const absl::StatusOr<std::string> version = VersionLine(chosen);
    if (!version.ok()) return version.status();
    absl::Status status = CheckVersion(chosen, *version, &qemu);
    if (!status.ok()) return status;
    qemu.program = chosen;
    ShowHostPrograms(chosen, &qemu);
    FindOvmf(&qemu);
    return qemu;
  }
  qemu.tree = path("qemu_root");
  qemu.program = path("qemu");
  const std::string program = qemu.tree + qemu.program;
  if (qemu.program.empty() || access(program.c_str(), X_OK) != 0) {
    return QemuError(
        "BH-Q301",
        qemu.program.empty() ? std::string("no QEMU has been set up")
                             : absl::StrCat("QEMU is gone: ", Escape(program)),
        "./bazelw run //launcher:vm fetches one; or --qemu=PATH to QEMU >= "
        "10.1");
  }
  absl::Status status = CheckVersion(
      program, absl::StrCat("QEMU emulator version ", path("qemu_version")),
      &qemu);
  if (!status.ok()) return status;
  if (qemu.tree.empty()) ShowHostPrograms(qemu.program, &qemu);
  FindOvmf(&qemu);
  return qemu;
}

absl::StatusOr<FrontendChoice> ChooseFrontend(
    Frontend wanted, const std::string& needs_vfio_user, const Qemu& qemu,
    bool use_kvm) {
  const std::string name = absl::StrCat("QEMU ", qemu.version);
  const bool has_vfio_user = qemu.release >= kVfioUserSince;
  constexpr char kNewer[] = "--qemu=PATH to QEMU >= 10.1";
  if (wanted == FRONTEND_AUTO) {
    // Without KVM x-pci-proxy-dev has no interrupts.
    const bool proxy_does = needs_vfio_user.empty() && use_kvm;
    wanted = proxy_does ? X_PCI_PROXY : VFIO_USER;
    if (!proxy_does && !has_vfio_user) {
      return QemuError(
          "BH-Q302",
          absl::StrCat(name, " has no vfio-user-pci (that needs 10.1), and ",
                       !needs_vfio_user.empty()
                           ? absl::StrCat(needs_vfio_user,
                                          ", which x-pci-proxy-dev does not "
                                          "carry")
                           : "without KVM x-pci-proxy-dev has no interrupts"),
          needs_vfio_user.empty()
              ? absl::StrCat(kNewer,
                             ", or --accel=kvm; --frontend=x_pci_proxy for a "
                             "guest that polls")
              : kNewer);
    }
  }
  FrontendChoice choice{.frontend = wanted, .note = ""};
  if (wanted == VFIO_USER) {
    if (has_vfio_user) return choice;
    return QemuError(
        "BH-Q302", absl::StrCat(name, " has no vfio-user-pci: that needs 10.1"),
        absl::StrCat(kNewer, needs_vfio_user.empty() && use_kvm
                                 ? ", or --frontend=x_pci_proxy"
                                 : ""));
  }
  if (!needs_vfio_user.empty()) {
    return QemuError(
        "BH-Q308",
        absl::StrCat(needs_vfio_user, ", which x-pci-proxy-dev does not carry"),
        has_vfio_user ? "--frontend=vfio_user" : kNewer);
  }
  if (use_kvm) return choice;
  if (qemu.release >= kProxyNeedsKvmSince) {
    return QemuError("BH-Q306",
                     absl::StrCat(name,
                                  " crashes at start when it has "
                                  "x-pci-proxy-dev and no KVM"),
                     has_vfio_user ? "--frontend=vfio_user, or --accel=kvm"
                                   : absl::StrCat("--accel=kvm, or ", kNewer));
  }
  choice.note =
      "without KVM x-pci-proxy-dev has no interrupts: guests must poll";
  return choice;
}

absl::StatusOr<Accel> ChooseAccel(Machine::Accel wanted) {
  Accel accel;
  if (wanted == Machine::TCG) return accel;
  if (wanted == Machine::KVM) {
    // The user may know better than the probe (a 32-bit guest): only what
    // certainly fails is refused.
    const Fd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm.valid()) {
      return UserError{.exit_code = kExitMissingFeature,
                       .id = "BH-Q303",
                       .what = absl::StrCat("KVM is not available: /dev/kvm: ",
                                            ErrnoText(errno)),
                       .fix =
                           "--accel=tcg, or enable virtualization; "
                           "/dev/kvm is usually for the group kvm"}
          .ToStatus();
    }
    accel.use_kvm = true;
    return accel;
  }
  const KvmVerdict verdict = ProbeKvm();
  accel.use_kvm = verdict.usable;
  accel.note = verdict.reason;
  return accel;
}

std::string KvmCpuModel() {
  unsigned leaf;
  unsigned vendor;
  unsigned unused;
  if (__get_cpuid(0, &leaf, &vendor, &unused, &unused) == 0) return "host";
  // IA32_ARCH_CAPABILITIES is Intel's. Some KVMs offer it on other CPUs and
  // then refuse the value, at which QEMU before 10.1 aborts.
  return vendor == signature_INTEL_ebx ? "host" : "host,arch-capabilities=off";
}

absl::Status CheckMemory(uint64_t ram_bytes) {
  std::string text;
  uint64_t available_kib = 0;
  if (!ReadFile("/proc/meminfo", &text)) return absl::OkStatus();
  const size_t at = text.find("MemAvailable:");
  if (at == std::string::npos ||
      std::sscanf(text.c_str() + at, "MemAvailable: %lu", &available_kib) !=
          1) {
    return absl::OkStatus();
  }
  const uint64_t available = available_kib * 1024;
  if (ram_bytes + kSpareBytes <= available) return absl::OkStatus();
  return UserError{
      .exit_code = kExitMissingFeature,
      .id = "BH-S202",
      .what = absl::StrCat(FormatSize(ram_bytes),
                           " of guest RAM do not fit: this host has ",
                           available >> 20, "MiB available"),
      .fix = absl::StrCat(
          "--memory=",
          available > 2 * kSpareBytes ? (available - kSpareBytes) >> 20 : 64,
          "MiB or less, or end other programs")}
      .ToStatus();
}

unsigned CpuCount() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::string WhyNoIoUring() {
  io_uring_params parameters = {};
  const Fd ring(static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters)));
  if (ring.valid()) return "";
  return absl::StrCat(ErrnoText(errno),
                      " (kernel.io_uring_disabled, or a filter around us)");
}

}  // namespace bulkhead::vm
