#include "vm/hand_over.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "console/console_fds.h"
#include "proto/launch.pb.h"
#include "vm/runfiles.h"

namespace bulkhead::vm {
namespace {

using Kind = Resource::Kind;
using Role = PlannedProcess::Role;

constexpr char kLauncher[] = "launcher/launcher";
constexpr char kLearner[] = "learn/learner";

absl::StatusOr<Fd> OpenProgram(const std::string& name,
                               const std::string& path) {
  Fd program(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (program.valid()) return program;
  return UserError{.exit_code = kExitMissingFeature,
                   .id = "BH-S204",
                   .what = absl::StrCat("the program ", Escape(name),
                                        " is missing: ", ErrnoText(errno)),
                   .fix = "./bazelw run //launcher:vm builds all of it"}
      .ToStatus();
}

JailedProcess::Role RoleOf(Role role) {
  switch (role) {
    case Role::kService:
      return JailedProcess::SERVICE;
    case Role::kShim:
      return JailedProcess::SHIM;
    case Role::kQemu:
      return JailedProcess::QEMU;
    case Role::kConnector:
      return JailedProcess::CONNECTOR;
    case Role::kRemote:
      return JailedProcess::REMOTE;
    case Role::kConsole:
      break;
  }
  return JailedProcess::CONSOLE;
}

// QEMU and its remote processes; everything else is a program of ours.
bool RunsInTree(const PlannedProcess& process) {
  return process.role == Role::kQemu || process.role == Role::kRemote;
}

// What a process is, in the line that says that it runs.
std::string RoleText(const Plan& plan, const PlannedProcess& process) {
  if (process.role == Role::kService) {
    const PlannedDevice& device = plan.devices[process.device];
    return absl::StrCat(device.model->name, " at ", device.slot);
  }
  if (process.role == Role::kConnector) {
    return absl::StrCat(
        "to ", Escape(plan.devices[process.device].images[process.image].path));
  }
  if (process.role == Role::kRemote) {
    return absl::StrCat("QEMU's own, at ", plan.devices[process.device].slot);
  }
  if (process.role != Role::kShim) return "the machine is built";
  return plan.frontend == X_PCI_PROXY ? "x-pci-proxy-dev's protocol to QEMU"
                                      : "vfio-user to QEMU";
}

void ConfigureConsole(const Plan& plan, const RunOptions& options,
                      ConsoleConfig* config) {
  for (const PlannedProcess& process : plan.processes) {
    if (process.role == Role::kConsole) continue;
    ConsoleConfig::Process* entry = config->add_processes();
    entry->set_name(process.name);
    if (process.device >= 0) {
      entry->set_device(plan.devices[process.device].id);
    }
    entry->set_role(
        absl::StrCat(options.learn ? "NO FILTER IS ENFORCED: LEARNING  " : "",
                     RoleText(plan, process)));
    entry->set_policy(process.policy->name);
    entry->set_policy_sha256(process.policy->sha256);
    entry->set_is_service(process.role == Role::kService);
    if (process.role == Role::kQemu) config->set_has_qemu(true);
  }
  config->set_vm_name(plan.name);
  config->set_running_text(options.running_text);
  config->set_interactive(options.interactive);
  config->set_read_stdin(options.read_stdin);
  config->set_grace_seconds(options.grace_seconds);
}

void ConfigureShim(const Plan& plan, const PlannedProcess& process,
                   const Resources& resources, ShimConfig* shim) {
  struct stat ram;
  if (fstat(resources.Get({Kind::kRam}), &ram) == 0) {
    shim->set_ram_device(ram.st_dev);
    shim->set_ram_inode(ram.st_ino);
  }
  shim->set_ram_bytes(plan.ram_bytes);
  shim->set_access_deadline_ms(plan.access_deadline_ms);
  if (plan.frontend == X_PCI_PROXY) shim->set_protocol(MPQEMU_PROTOCOL);
  shim->set_spin_limit_us(
      plan.devices[process.device].config.polling().spin_limit_us());
}

absl::Status Fill(const Plan& plan, const PlannedProcess& process, int index,
                  const Resources& resources, const RunOptions& options,
                  JailedProcess* out) {
  out->set_role(RoleOf(process.role));
  out->set_name(process.name);
  out->set_policy(process.policy->name);
  if (RunsInTree(process)) out->set_program_path(process.program);
  for (const std::string& argument : process.arguments) {
    out->add_arguments(argument);
  }
  for (const PlannedFd& fd : process.fds) {
    InheritedFd* inherited = out->add_fds();
    inherited->set_source(resources.Get(fd.resource));
    inherited->set_target(fd.target);
    // A log pipe stands three times; its last one goes.
    inherited->set_given_away(
        IsGivenAway(fd.resource.kind) &&
        (fd.resource.kind != Kind::kLog || fd.target == STDERR_FILENO));
    if (inherited->source() < 0) {
      return absl::InternalError(
          absl::StrCat(process.name, ": nothing was made for fd ", fd.target));
    }
  }
  out->set_outside_id(process.outside_id);
  out->set_mapped_bytes(process.mapped_bytes);
  out->set_file_bytes(process.file_bytes);
  out->set_tree(process.tree);
  for (const sandbox::Bind& bind : process.binds) {
    ShownPath* shown = out->add_shown();
    shown->set_source(bind.source);
    shown->set_target(bind.target);
    shown->set_writable(bind.writable);
  }
  for (const std::string& path : process.scratch) out->add_scratch(path);
  out->set_control_fd(resources.Get({Kind::kControlLauncher, -1, index}));
  switch (process.role) {
    case Role::kService:
      plan.devices[process.device].config.SerializeToString(
          out->mutable_configure()->mutable_service_config());
      break;
    case Role::kShim:
      ConfigureShim(plan, process, resources,
                    out->mutable_configure()->mutable_shim());
      break;
    case Role::kConsole:
      ConfigureConsole(plan, options,
                       out->mutable_configure()->mutable_console());
      break;
    case Role::kConnector:
      *out->mutable_configure()->mutable_connector() =
          plan.devices[process.device].servers.at(process.image);
      break;
    case Role::kQemu:
    case Role::kRemote:
      break;
  }
  return absl::OkStatus();
}

// The console names places in programs, so it reads their symbols.
void ShowProgram(int program, int index, LaunchPlan* plan) {
  JailedProcess* console = plan->mutable_processes(0);
  ConsoleConfig* config = console->mutable_configure()->mutable_console();
  struct stat status;
  if (index >= console::kMostProgramFds || fstat(program, &status) != 0) return;
  config->mutable_processes(index)->set_program_inode(status.st_ino);
  InheritedFd* fd = console->add_fds();
  fd->set_source(program);
  fd->set_target(console::kFirstProgramFd + index);
}

}  // namespace

absl::StatusOr<Handover> Handover::Make(const Plan& plan,
                                        const Resources& resources,
                                        const RunOptions& options) {
  Handover handover;
  const char* launcher = options.learn ? kLearner : kLauncher;
  handover.launcher_ = FindRunfile(launcher);
  if (absl::StatusOr<Fd> found = OpenProgram(launcher, handover.launcher_);
      !found.ok()) {
    return found.status();
  }

  LaunchPlan out;
  out.set_grace_seconds(options.grace_seconds);
  out.set_limit_seconds(options.limit_seconds);
  out.set_raw_terminal(options.interactive);
  out.set_filter_socket_fd(resources.filter_socket());
  for (const std::string& path : resources.leftovers()) {
    out.add_leftovers(path);
  }
  for (size_t i = 0; i < plan.processes.size(); ++i) {
    const PlannedProcess& process = plan.processes[i];
    JailedProcess* jailed = out.add_processes();
    absl::Status status =
        Fill(plan, process, static_cast<int>(i), resources, options, jailed);
    if (!status.ok()) return status;
    absl::StatusOr<Fd> program = OpenProgram(
        process.program, RunsInTree(process) ? process.tree + process.program
                                             : FindRunfile(process.program));
    if (!program.ok()) return program.status();
    jailed->set_program_fd(program->get());
    if (i > 0) ShowProgram(program->get(), static_cast<int>(i) - 1, &out);
    handover.programs_.push_back(*std::move(program));
  }
  handover.plan_ = Fd(memfd_create("plan", MFD_CLOEXEC));
  const std::string bytes = out.SerializeAsString();
  if (!handover.plan_.valid() ||
      write(handover.plan_.get(), bytes.data(), bytes.size()) !=
          static_cast<ssize_t>(bytes.size())) {
    return absl::InternalError("plan: " + ErrnoText(errno));
  }
  return handover;
}

absl::Status Handover::Execute(const Resources& resources) const {
  bool kept = resources.KeepOverExec();
  kept = kept && fcntl(plan_.get(), F_SETFD, 0) == 0;
  for (const Fd& program : programs_) {
    kept = kept && fcntl(program.get(), F_SETFD, 0) == 0;
  }
  for (const int fd : kept_) {
    kept = kept && (fd < 0 || fcntl(fd, F_SETFD, 0) == 0);
  }
  if (kept) {
    const std::string number = absl::StrCat(plan_.get());
    execl(launcher_.c_str(), "launcher", number.c_str(), nullptr);
  }
  return absl::InternalError("the launcher: " + ErrnoText(errno));
}

}  // namespace bulkhead::vm
