#include "sandbox/step_text.h"

#include <string.h>

#include <iterator>

#include "absl/strings/str_cat.h"

namespace bulkhead::sandbox {
namespace {

constexpr const char* kNames[] = {
    "a description that is not whole",
    "speaking with the child",
    "reading own capabilities",
    "new namespaces",
    "dropping supplementary groups",
    "mapping ids",
    "the child ended early",
    "tracing",
    "the policy does not allow system call",
    "giving fds their numbers",
    "waiting for the launcher",
    "making a session",
    "taking its ids",
    "asking to die with the launcher",
    "making mounts private",
    "opening a part of the root",
    "mounting the root",
    "showing a part of the root",
    "mounting /proc",
    "mounting a scratch folder",
    "entering the root",
    "making the root read-only",
    "naming the host",
    "opening the program",
    "giving up new privileges",
    "Landlock",
    "resource limit",
    "core scheduling",
    "speculative store bypass control",
    "indirect branch speculation control",
    "memory-deny-write-execute",
    "locking securebits",
    "dropping capabilities",
    "installing the launch filter",
    "executing the program",
};
static_assert(std::size(kNames) == static_cast<size_t>(Step::kCount));

}  // namespace

std::string StepText(const Report& report, const CompiledPolicy* policy) {
  const auto step = static_cast<size_t>(report.step);
  if (step >= std::size(kNames)) return absl::StrCat("step ", step);
  std::string text = kNames[step];
  if (report.step == Step::kFds) {
    absl::StrAppend(&text, " (fd ", report.detail, ")");
  } else if (report.step == Step::kPolicy) {
    absl::StrAppend(&text, " ", report.detail);
  } else if (report.step == Step::kLimit && policy != nullptr) {
    for (const CompiledLimit& limit : policy->limits) {
      if (limit.resource == report.detail) {
        absl::StrAppend(&text, " ", limit.name, " of ", limit.value);
      }
    }
  }
  return text;
}

std::string FailureText(const Report& report, const CompiledPolicy* policy) {
  const std::string text = StepText(report, policy);
  return report.error == 0 ? text
                           : absl::StrCat(text, ": ", strerror(report.error));
}

std::string UnavailableText(const Report& report,
                            const CompiledPolicy* policy) {
  const std::string text = StepText(report, policy);
  if (report.step == Step::kGroups) {
    return absl::StrCat(text,
                        ": only root can; the empty root leaves nothing that "
                        "they would open");
  }
  if (report.step == Step::kTracing) {
    return absl::StrCat("violation reports: tracing is refused (",
                        strerror(report.error),
                        "); kernel.yama.ptrace_scope 3, or a container's "
                        "profile, does that");
  }
  return absl::StrCat(text, ": ",
                      report.error == 0 ? "the host's own limit is lower"
                                        : "this host has none");
}

}  // namespace bulkhead::sandbox
