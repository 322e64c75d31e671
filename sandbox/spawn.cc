#include "sandbox/spawn.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "sandbox/host_advice.h"
#include "sandbox/step_text.h"

namespace bulkhead::sandbox {
namespace {

absl::Status Wrong(const std::string& what) {
  return absl::InvalidArgumentError("jail: " + what);
}

// Of the source of a bind: a device that the policy does not name.
bool IsUnknownDevice(const Bind& bind, const CompiledPolicy& policy) {
  struct stat status;
  if (stat(bind.source.c_str(), &status) != 0 ||
      (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode))) {
    return bind.mount_fd >= 0;  // whatever it holds
  }
  return std::none_of(
      policy.device_nodes.begin(), policy.device_nodes.end(),
      [&bind](const char* node) { return bind.source == node; });
}

absl::Status CheckSpec(const JailSpec& spec) {
  if (spec.policy == nullptr) return Wrong("no policy");
  if (geteuid() == 0 && spec.outside_id == 0) {
    return Wrong("outside_id is 0: a jailed process must not be root outside");
  }
  if (spec.program_fd < 0 && spec.program_path.empty()) {
    return Wrong("no program");
  }
  if (spec.policy->empty_root && spec.program_fd < 0) {
    return Wrong("an empty root holds no program; give program_fd");
  }
  if (spec.arguments.empty()) return Wrong("no argv[0]");
  for (const Bind& bind : spec.binds) {
    if (IsUnknownDevice(bind, *spec.policy)) {
      return Wrong(bind.source + " is no device node that the policy names");
    }
  }
  for (size_t i = 0; i < spec.fds.size(); ++i) {
    const int target = spec.fds[i].target;
    if (target < 0 || target >= kProgramFd) {
      return Wrong(absl::StrCat("fd ", target, " is out of range"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (spec.fds[j].target == target) {
        return Wrong(absl::StrCat("fd ", target, " is given twice"));
      }
    }
  }
  return absl::OkStatus();
}

// Root's supplementary groups must not follow the child, and inside a user
// namespace that forbids setgroups no one can drop them any more.
class WithoutGroups {
 public:
  WithoutGroups() {
    if (geteuid() != 0) return;
    groups_.resize(64 * 1024);
    const int count =
        getgroups(static_cast<int>(groups_.size()), groups_.data());
    groups_.resize(count > 0 ? count : 0);
    if (!groups_.empty()) setgroups(0, nullptr);
  }
  ~WithoutGroups() {
    if (!groups_.empty()) setgroups(groups_.size(), groups_.data());
  }

 private:
  std::vector<gid_t> groups_;
};

// Which part of the root, where one failed.
std::string PathOf(const JailSpec& spec, const Report& failure) {
  if (failure.step == Step::kProgram) return " " + spec.program_path;
  if (failure.step != Step::kTree) return "";
  if (failure.detail < 0) return " " + spec.tree;
  return failure.detail < static_cast<int>(spec.binds.size())
             ? " " + spec.binds[failure.detail].source
             : "";
}

std::string AdviceFor(const JailSpec& spec, const Report& failure) {
  switch (failure.step) {
    case Step::kNamespaces:
      return WhyNoNamespaces(failure.error);
    case Step::kIdMaps:
      if (std::string why = WhyNoPrivileges(EPERM); !why.empty()) return why;
      if (geteuid() != 0) return "something on this host forbids to map ids";
      return absl::StrCat("id ", spec.outside_id,
                          " does not exist in this user namespace (a "
                          "container?): give ids that "
                          "it maps, or start the launcher as an ordinary user");
    case Step::kExec:
      if (failure.error != EACCES) break;
      return "the program's file must be executable by everyone and lie on a "
             "file system that is not mounted noexec";
    case Step::kPivot:
      if (failure.error != EINVAL) break;
      return "the host's root is an initial ramdisk, which cannot be left";
    default:
      break;
  }
  return WhyNoPrivileges(failure.error);
}

absl::Status Explain(const JailSpec& spec, const Report& failure) {
  const std::string text =
      absl::StrCat("cannot start a jail: ", FailureText(failure, spec.policy),
                   PathOf(spec, failure));
  const std::string advice = AdviceFor(spec, failure);
  if (advice.empty()) return absl::InternalError(text);
  return absl::FailedPreconditionError(absl::StrCat(text, "; ", advice));
}

}  // namespace

absl::StatusOr<JailedChild> Prepare(const JailSpec& spec) {
  if (absl::Status checked = CheckSpec(spec); !checked.ok()) return checked;
  const WithoutGroups without_groups;
  Report failure;
  std::optional<JailedChild> child = PrepareJail(spec, &failure);
  if (!child.has_value()) return Explain(spec, failure);
  return *std::move(child);
}

absl::StatusOr<Process> Spawn(const JailSpec& spec) {
  absl::StatusOr<JailedChild> child = Prepare(spec);
  if (!child.ok()) return child.status();
  int trace_error = 0;
  Report failure;
  if (!Release(*child, &trace_error, &failure)) {
    EndChild(child->pid, child->pidfd);
    close(child->pidfd);
    return Explain(spec, failure);
  }
  if (trace_error != 0) {
    child->unavailable.push_back(
        {Report::kUnavailable, Step::kTracing, trace_error, 0});
  }
  return Process{.pid = child->pid,
                 .pidfd = child->pidfd,
                 .watched = trace_error == 0,
                 .unavailable = std::move(child->unavailable)};
}

}  // namespace bulkhead::sandbox
