#include "vm/vm.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "base/fd.h"
#include "demo/check_console.h"
#include "demo/check_run.h"
#include "demo/demo.h"
#include "demo/verify.h"
#include "policy/registry.h"
#include "vm/check.h"
#include "vm/description.h"
#include "vm/devices.h"
#include "vm/flags.h"
#include "vm/hand_over.h"
#include "vm/host.h"
#include "vm/ids.h"
#include "vm/kvm_access.h"
#include "vm/plan.h"
#include "vm/qemu_args.h"
#include "vm/resources.h"
#include "vm/runfiles.h"
#include "vm/size.h"

namespace bulkhead::vm {
namespace {

// Where --no_qemu wants x-pci-proxy-dev's sockets to be.
constexpr int kFirstOwnProxyFd = 16;
constexpr char kVersion[] = "0.1.0";
// How long --check may take; under TCG on a busy host it is half a minute.
constexpr uint32_t kCheckLimitSeconds = 300;

void Print(FILE* to, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

int Fail(const absl::Status& status) {
  Print(stderr, FormatError(status));
  return ExitCodeOf(status);
}

// `bazel run` starts us elsewhere and tells where the user stands.
std::string UserDirectory() {
  const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
  if (directory != nullptr && directory[0] == '/') return directory;
  char* here = get_current_dir_name();
  const std::string path = here != nullptr ? here : "/";
  std::free(here);
  return path;
}

void Say(const std::string& line) { Print(stderr, line + "\n"); }

// From here on there is something to take away at the end: the launcher reads
// these signals when it is there.
void HoldSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  sigprocmask(SIG_BLOCK, &set, nullptr);
  // Children inherit it: whoever reads from them may leave.
  signal(SIGPIPE, SIG_IGN);
}

std::string Absolute(const std::string& path) {
  if (path.empty() || path[0] == '/') return path;
  return absl::StrCat(UserDirectory(), "/", path);
}

absl::StatusOr<Description> ReadConfig(const std::string& name) {
  const std::string path = Absolute(name);
  std::string text;
  if (!ReadFile(path, &text)) {
    return UserError{.exit_code = kExitBadConfig,
                     .id = "BH-C104",
                     .where = "--config=" + Escape(name),
                     .what = "cannot read it: " + ErrnoText(errno),
                     .fix =
                         "name a textproto (proto/vm.proto) of at most "
                         "1 MiB"}
        .ToStatus();
  }
  absl::StatusOr<Description> description = Description::Parse(name, text);
  if (description.ok()) {
    description->set_base_directory(path.substr(0, path.rfind('/')));
  }
  return description;
}

// One run of `vm`, in the order of its steps.
class Run {
 public:
  explicit Run(Flags flags) : flags_(std::move(flags)) {}

  int Go() {
    absl::Status status = Describe();
    if (status.ok() && !flags_.print_qemu_args.empty() && !flags_.no_qemu) {
      Print(stdout, OwnQemuArguments());
      return kExitOk;
    }
    if (status.ok()) status = MakeThePlan();
    if (!status.ok()) return Fail(status);
    if (flags_.dry_run) {
      Print(stdout, FormatPlan(plan_));
      return kExitOk;
    }
    status = CheckMemory(plan_.ram_bytes);
    if (status.ok()) status = resources_.OpenImages(description_, &plan_);
    if (status.ok()) status = resources_.MakeMemories(description_, plan_);
    if (status.ok()) status = resources_.MakeStreams(plan_);
    if (status.ok()) {
      const std::string unreachable = resources_.MakeUserSocket(plan_.name);
      if (!unreachable.empty()) Say(unreachable);
      HoldSignals();
      status = resources_.MakeSockets(
          plan_, flags_.no_qemu ? Absolute(flags_.runtime_dir) : "");
    }
    if (!status.ok()) return Fail(status);
    PrintHead();
    if (flags_.check) return RunCheck();
    if (flags_.no_qemu) {
      // Where it always was: on stdout.
      Print(stdout, OwnQemuArguments());
      if (HasRemote() && OwnFrontend() == X_PCI_PROXY) {
        Say(WaitingText());
        absl::StatusOr<bool> came = resources_.AwaitProxyUsers(plan_);
        if (!came.ok()) return Fail(came.status());
        if (!*came) return Fail(StoppedWaiting());
      }
    }
    return Fail(HandOver());
  }

 private:
  absl::Status Describe() {
    const bool demo = !flags_.DescribesVm();
    if (flags_.check && !demo) {
      return UserError{.exit_code = kExitUsage,
                       .id = "BH-U001",
                       .where = "--check",
                       .what = "it checks the demo VM, with a disk of its own",
                       .fix = "leave out --config, --device and --kernel"}
          .ToStatus();
    }
    paths_ = ReadRuntimePaths();
    absl::Status status;
    if (!flags_.config.empty()) {
      absl::StatusOr<Description> read = ReadConfig(flags_.config);
      if (!read.ok()) return read.status();
      description_ = *std::move(read);
    } else {
      // Paths stay as the user wrote them: a qcow2 image names its parent so.
      description_.set_base_directory(UserDirectory());
      if (demo) status = DescribeDemoVm();
      if (!status.ok()) return status;
    }
    status = ApplyFlags(flags_, flags_.config.empty() ? "" : UserDirectory(),
                        &description_);
    if (!status.ok()) return status;
    return CheckAndComplete(&description_);
  }

  absl::Status DescribeDemoVm() {
    std::string disk = demo::DemoDiskPath();
    if (flags_.check) {
      absl::StatusOr<Fd> scratch = demo::MakeScratchDisk(demo::kDemoDiskBytes);
      if (!scratch.ok()) return scratch.status();
      scratch_disk_ = *std::move(scratch);
      disk = absl::StrCat("/proc/self/fd/", scratch_disk_.get());
    } else if (!flags_.dry_run && flags_.print_qemu_args.empty()) {
      absl::Status status = demo::MakeEmptyQcow2(disk, demo::kDemoDiskBytes);
      if (!status.ok()) return status;
    }
    return demo::DescribeDemo(paths_, disk, flags_.check, &description_);
  }

  absl::Status MakeThePlan() {
    const VmSpec& spec = description_.spec();
    if (geteuid() == 0 && !flags_.dry_run) {
      absl::StatusOr<IdBlock> ids = ReserveIds(flags_.first_id, kIdsFile);
      if (!ids.ok()) return ids.status();
      ids_ = *std::move(ids);
    }
    PlanInputs inputs{.no_qemu = flags_.no_qemu, .policy = &policy::FindPolicy};
    inputs.first_id = ids_.first;
    absl::Status status =
        flags_.no_qemu ? PlanWithoutQemu(&inputs) : PlanWithQemu(&inputs);
    if (!status.ok()) return status;
    // Spinning pays only where another CPU is free for it. A guest that waits
    // for each request comes again within this time; to wake a service costs it
    // an exit to QEMU, a message to the shim and two sleepers' wake-ups.
    constexpr uint32_t kSpinLimitUs = 1000;
    inputs.spin_limit_us =
        CpuCount() > spec.machine().vcpus() ? kSpinLimitUs : 0;
    // The other CPUs are the guest's and the other devices'.
    constexpr uint32_t kCpusOfAQueueThread = 4;
    constexpr uint32_t kMostQueueThreads = 4;
    inputs.queue_threads = std::clamp<uint32_t>(
        CpuCount() / kCpusOfAQueueThread, 1, kMostQueueThreads);
    const std::string no_io_uring = WhyNoIoUring();
    inputs.no_io_uring = !no_io_uring.empty();
    if (inputs.no_io_uring &&
        absl::StrContains(spec.ShortDebugString(), "engine: IO_URING")) {
      Say(absl::StrCat("io_uring: ", no_io_uring,
                       "; worker threads take its place"));
    }
    absl::StatusOr<Plan> plan = MakePlan(description_, inputs);
    if (!plan.ok()) return plan.status();
    plan_ = *std::move(plan);
    return absl::OkStatus();
  }

  absl::Status PlanWithQemu(PlanInputs* inputs) {
    const VmSpec& spec = description_.spec();
    absl::StatusOr<Qemu> qemu = FindQemu(Absolute(flags_.qemu), paths_);
    if (!qemu.ok()) return qemu.status();
    absl::StatusOr<Accel> accel = ChooseAccel(spec.machine().accel());
    if (!accel.ok()) return accel.status();
    absl::StatusOr<FrontendChoice> choice =
        ChooseFrontend(spec.frontend(), NeedsVfioUser(), *qemu, accel->use_kvm);
    if (!choice.ok()) return choice.status();
    if (accel->use_kvm) {
      absl::StatusOr<KvmAccess> kvm = FindKvmAccess(*qemu, inputs->first_id);
      if (!kvm.ok()) return kvm.status();
      kvm_folder_ = std::move(kvm->folder);
      inputs->qemu_takes_kvm_fd = kvm->takes_fd;
      inputs->kvm_bind = kvm->bind;
    }
    inputs->qemu_tree = qemu->tree;
    inputs->qemu_binds = qemu->binds;
    inputs->qemu_program = qemu->program;
    inputs->ovmf = qemu->ovmf;
    if (spec.boot().firmware() == Boot::OVMF && qemu->ovmf.empty() &&
        spec.boot().firmware_image().empty()) {
      return description_.ErrorAt(
          "boot.firmware", kExitMissingFeature, "BH-Q305",
          "there is no OVMF beside this QEMU (/usr/share/ovmf/OVMF.fd)",
          "./bazelw fetches one; or install ovmf, or --firmware=FILE");
    }
    inputs->qemu_has_monitor_object = qemu->has_monitor_object;
    inputs->use_kvm = accel->use_kvm;
    inputs->kvm_cpu = KvmCpuModel();
    inputs->frontend = choice->frontend;
    qemu_text_ = absl::StrCat(
        "QEMU ", qemu->version, " (", accel->use_kvm ? "kvm" : "tcg",
        accel->note.empty() ? "" : ": ", accel->note, ")  frontend=",
        choice->frontend == X_PCI_PROXY ? "x-pci-proxy-dev" : "vfio-user",
        choice->note.empty() ? "" : " (", choice->note,
        choice->note.empty() ? "" : ")");
    return absl::OkStatus();
  }

  // Somebody else's QEMU, which nobody can ask: what is wanted is done.
  absl::Status PlanWithoutQemu(PlanInputs* inputs) {
    inputs->frontend = OwnFrontend();
    if (inputs->frontend == X_PCI_PROXY && !NeedsVfioUser().empty()) {
      return ChooseFrontend(X_PCI_PROXY, NeedsVfioUser(), Qemu(), true)
          .status();
    }
    if (!HasRemote()) return absl::OkStatus();
    absl::StatusOr<Qemu> qemu = FindQemu(Absolute(flags_.qemu), paths_);
    if (!qemu.ok()) return qemu.status();
    inputs->qemu_tree = qemu->tree;
    inputs->qemu_binds = qemu->binds;
    inputs->qemu_program = qemu->program;
    return absl::OkStatus();
  }

  static absl::Status StoppedWaiting() {
    return UserError{.exit_code = kExitNotReady,
                     .id = "BH-D401",
                     .what = "stopped while waiting for QEMU",
                     .fix = "start QEMU with the arguments above"}
        .ToStatus();
  }

  bool HasRemote() const {
    const auto& devices = description_.spec().devices();
    return std::any_of(
        devices.begin(), devices.end(),
        [](const VmDevice& device) { return device.has_qemu_remote(); });
  }

  Frontend OwnFrontend() const {
    return description_.spec().frontend() == X_PCI_PROXY ? X_PCI_PROXY
                                                         : VFIO_USER;
  }

  // "web0 (virtio_blk) needs MSI-X", or "".
  std::string NeedsVfioUser() const {
    for (const VmDevice& device : description_.spec().devices()) {
      const DeviceModel& model = ModelOf(device);
      if (model.needs_vfio_user == nullptr) continue;
      return absl::StrCat(device.id(), " (", model.name, ") needs ",
                          model.needs_vfio_user);
    }
    return "";
  }

  std::string OwnQemuArguments() {
    const std::string directory = flags_.runtime_dir.empty()
                                      ? "RUNTIME_DIR"
                                      : Absolute(flags_.runtime_dir);
    const Boot& boot = description_.spec().boot();
    QemuWiring wiring{
        .ram = directory + "/ram",
        .kernel = description_.Resolve(boot.kernel()),
        .initrd = description_.Resolve(boot.initrd()),
        .firmware = description_.Resolve(boot.firmware_image()),
        .frontend = OwnFrontend(),
        .first_proxy_fd = kFirstOwnProxyFd,
        .use_kvm = description_.spec().machine().accel() == Machine::KVM,
        .kvm_cpu = KvmCpuModel()};
    for (const VmDevice& device : description_.spec().devices()) {
      wiring.sockets.push_back(
          absl::StrCat(directory, "/", device.id(), ".sock"));
    }
    return PrintArguments(
        QemuArguments(description_.spec(), wiring),
        flags_.print_qemu_args.empty() ? "shell" : flags_.print_qemu_args);
  }

  void PrintHead() {
    const Machine& machine = description_.spec().machine();
    Say(absl::StrFormat("bulkhead %s  vm=%s  memory=%s  vcpus=%d  %s", kVersion,
                        plan_.name, FormatSize(plan_.ram_bytes),
                        machine.vcpus(),
                        flags_.no_qemu ? "no QEMU" : qemu_text_));
  }

  // Returns only when this process could not become the launcher.
  absl::Status HandOver() {
    RunOptions options{.grace_seconds = flags_.grace_seconds,
                       .learn = flags_.learn};
    if (flags_.check) {
      options.grace_seconds = 0;
      options.limit_seconds = kCheckLimitSeconds;
    } else if (flags_.no_qemu) {
      options.running_text = HasRemote() && OwnFrontend() == X_PCI_PROXY
                                 ? "QEMU has come."
                                 : WaitingText();
    } else {
      options.interactive =
          isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
      options.read_stdin = !isatty(STDIN_FILENO);
      if (options.interactive) {
        options.running_text =
            "--- the guest's console (Ctrl-A X quits, Ctrl-A H helps) ---";
      }
    }
    absl::StatusOr<Handover> handover =
        Handover::Make(plan_, resources_, options);
    if (!handover.ok()) return handover.status();
    handover->Keep(ids_.lock.get());
    return handover->Execute(resources_);
  }

  std::string WaitingText() const {
    std::string prefix;
    if (OwnFrontend() == X_PCI_PROXY) {
      prefix = "  Its fds: bazel run //tools:with_sockets --";
      int fd = kFirstOwnProxyFd;
      for (const VmDevice& device : description_.spec().devices()) {
        absl::StrAppend(&prefix, " ", fd++, "=", Absolute(flags_.runtime_dir),
                        "/", device.id(), ".sock");
      }
      absl::StrAppend(&prefix, " -- qemu-system-x86_64 ...\n");
    }
    return absl::StrCat(
        "waiting for QEMU >= ", OwnFrontend() == X_PCI_PROXY ? "5.2" : "10.1",
        " with these arguments; Ctrl-C ends it.\n", prefix,
        "  The guest's RAM is ", Absolute(flags_.runtime_dir),
        "/ram, a link to a memfd of this process: QEMU must run as the same "
        "user, or as root.\n"
        "  Never migrate or snapshot this VM through QEMU: it does not know "
        "the devices' state, and says that it succeeded.");
  }

  int RunCheck() {
    demo::CheckConsole console([](const std::string& phase, bool ok,
                                  uint64_t ms, const std::string& detail) {
      Say(absl::StrFormat("  guest: %-8s %-4s %6d ms  %s", phase,
                          ok ? "ok" : "FAIL", ms, detail));
    });
    const absl::StatusOr<int> ended =
        demo::RunCheckVm([this] { return Fail(HandOver()); },
                         [this] { resources_.Abandon(); }, &console);
    if (!ended.ok()) return Fail(ended.status());
    if (!console.passed()) {
      Say("check: FAILED in the guest; its last lines:");
      for (const std::string& line : console.last_lines()) Say("  | " + line);
      return *ended != kExitOk ? *ended : kExitInternal;
    }
    if (*ended != kExitOk) return *ended;
    const absl::Status status = demo::VerifyDisk(
        scratch_disk_.get(), demo::kDemoDiskBytes, console.files(),
        ids_.first + kIdsOfOneVm - 1,
        [](const std::string& line) { Say("  host:  " + line); });
    if (!status.ok()) return Fail(status);
    Say("check: passed");
    return kExitOk;
  }

  const Flags flags_;
  std::map<std::string, std::string> paths_;
  Description description_;
  Plan plan_;
  IdBlock ids_{kDefaultFirstId, Fd()};
  std::string qemu_text_;
  Fd scratch_disk_;
  Fd kvm_folder_;  // the plan's QEMU refers to it
  Resources resources_;
};

}  // namespace

int RunVm(const std::vector<std::string>& arguments) {
  absl::StatusOr<Flags> flags = ParseFlags(arguments);
  if (!flags.ok()) return Fail(flags.status());
  if (flags->help) {
    Print(stdout, HelpText());
    return kExitOk;
  }
  if (flags->version) {
    Print(stdout, absl::StrCat("bulkhead ", kVersion, "\n"));
    return kExitOk;
  }
  return Run(*std::move(flags)).Go();
}

}  // namespace bulkhead::vm
