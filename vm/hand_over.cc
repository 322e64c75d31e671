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
#include "learn/stop_filter.h"
#include "proto/channel.h"
#include "proto/launch.pb.h"
#include "sandbox/spawn.h"
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
  shim->set_spin_limit_us(
      plan.devices[process.device].config.polling().spin_limit_us());
}

void Fill(const Plan& plan, const PlannedProcess& process, int index,
          const Resources& resources, const RunOptions& options,
          JailedProcess* out, Configure* configure) {
  out->set_role(RoleOf(process.role));
  out->set_name(process.name);
  out->set_policy(process.policy->name);
  for (const std::string& argument : process.arguments) {
    out->add_arguments(argument);
  }
  out->set_control_fd(resources.Get({Kind::kControlLauncher, -1, index}));
  switch (process.role) {
    case Role::kService:
      plan.devices[process.device].config.SerializeToString(
          configure->mutable_service_config());
      break;
    case Role::kShim:
      ConfigureShim(plan, process, resources, configure->mutable_shim());
      break;
    case Role::kConsole:
      ConfigureConsole(plan, options, configure->mutable_console());
      break;
    case Role::kConnector:
      *configure->mutable_connector() =
          plan.devices[process.device].servers.at(process.image);
      break;
    case Role::kQemu:
    case Role::kRemote:
      break;
  }
}

// What a process is told first waits in its channel until it reads: so the
// launcher need not know it.
absl::Status SendFirstFrames(int control_fd, const Configure& configure) {
  Channel channel(fcntl(control_fd, F_DUPFD_CLOEXEC, 0));
  channel.outgoing().mutable_hello()->set_version(kProtocolVersion);
  if (absl::Status status = channel.Send(); !status.ok()) return status;
  *channel.outgoing().mutable_configure() = configure;
  return channel.Send();
}

// The console names places in programs, so it reads their symbols.
void ShowPrograms(const std::vector<Fd>& programs, ConsoleConfig* config,
                  sandbox::JailSpec* console) {
  for (int i = 0; i < config->processes_size(); ++i) {
    const int program = programs[i + 1].get();
    struct stat status;
    if (i >= console::kMostProgramFds || fstat(program, &status) != 0) return;
    config->mutable_processes(i)->set_program_inode(status.st_ino);
    console->fds.push_back({program, console::kFirstProgramFd + i});
  }
}

absl::StatusOr<sandbox::JailSpec> JailOf(const PlannedProcess& process,
                                         int program_fd,
                                         const Resources& resources) {
  sandbox::JailSpec jail;
  jail.policy = process.policy;
  jail.program_fd = program_fd;
  if (RunsInTree(process)) jail.program_path = process.program;
  jail.arguments = process.arguments;
  for (const PlannedFd& fd : process.fds) {
    jail.fds.push_back({resources.Get(fd.resource), fd.target});
    if (jail.fds.back().source < 0) {
      return absl::InternalError(
          absl::StrCat(process.name, ": nothing was made for fd ", fd.target));
    }
  }
  jail.outside_id = process.outside_id;
  jail.mapped_bytes = process.mapped_bytes;
  jail.file_bytes = process.file_bytes;
  jail.tree = process.tree;
  jail.binds = process.binds;
  jail.scratch = process.scratch;
  jail.mount_proc = process.role == Role::kQemu;
  return jail;
}

absl::Status NoJail(const std::string& name, const absl::Status& why) {
  const std::string said(why.message());
  const size_t advice = said.find("; ");
  return UserError{
      .exit_code =
          absl::IsFailedPrecondition(why) ? kExitMissingFeature : kExitInternal,
      .id = "BH-S201",
      .what = absl::StrCat("cannot jail ", name, ": ", said.substr(0, advice)),
      .fix = advice == std::string::npos
                 ? "nothing that is known explains it: report it, with the "
                   "kernel's version"
                 : said.substr(advice + 2)}
      .ToStatus();
}

}  // namespace

Handover::~Handover() {
  for (const sandbox::JailedChild& child : children_) {
    sandbox::EndChild(child.pid, child.pidfd);
    close(child.pidfd);
    close(child.socket);
  }
}

// From here on it waits, with all that it will ever have.
absl::Status Handover::Prepare(const PlannedProcess& process,
                               const sandbox::JailSpec& jail, bool learn,
                               JailedProcess* out) {
  sandbox::JailSpec spec = jail;
  sandbox::CompiledPolicy open = *jail.policy;
  if (learn) {
    open.launch_filter = learn::kStopAtEachCall;
    spec.policy = &open;
  }
  absl::StatusOr<sandbox::JailedChild> child = sandbox::Prepare(spec);
  if (!child.ok()) return NoJail(process.name, child.status());
  children_.push_back(*std::move(child));
  out->set_pid(children_.back().pid);
  out->set_pidfd(children_.back().pidfd);
  out->set_jail_socket(children_.back().socket);
  for (const sandbox::Report& missing : children_.back().unavailable) {
    JailStep* step = out->add_unavailable();
    step->set_step(static_cast<uint32_t>(missing.step));
    step->set_error(missing.error);
    step->set_detail(missing.detail);
  }
  return absl::OkStatus();
}

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
  out.set_user_socket_fd(resources.user_socket());
  for (const std::string& path : resources.leftovers()) {
    out.add_leftovers(path);
  }
  std::vector<Fd> programs;
  std::vector<Configure> configures(plan.processes.size());
  for (size_t i = 0; i < plan.processes.size(); ++i) {
    const PlannedProcess& process = plan.processes[i];
    Fill(plan, process, static_cast<int>(i), resources, options,
         out.add_processes(), &configures[i]);
    absl::StatusOr<Fd> program = OpenProgram(
        process.program, RunsInTree(process) ? process.tree + process.program
                                             : FindRunfile(process.program));
    if (!program.ok()) return program.status();
    programs.push_back(*std::move(program));
  }
  for (size_t i = 0; i < plan.processes.size(); ++i) {
    const PlannedProcess& process = plan.processes[i];
    JailedProcess* planned = out.mutable_processes(static_cast<int>(i));
    absl::StatusOr<sandbox::JailSpec> jail =
        JailOf(process, programs[i].get(), resources);
    if (!jail.ok()) return jail.status();
    if (process.role == Role::kConsole) {
      ShowPrograms(programs, configures[i].mutable_console(), &*jail);
    }
    absl::Status status =
        handover.Prepare(process, *jail, options.learn, planned);
    if (status.ok() && planned->control_fd() >= 0) {
      status = SendFirstFrames(planned->control_fd(), configures[i]);
    }
    if (!status.ok()) return status;
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
  for (const sandbox::JailedChild& child : children_) {
    kept = kept && fcntl(child.pidfd, F_SETFD, 0) == 0 &&
           fcntl(child.socket, F_SETFD, 0) == 0;
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
