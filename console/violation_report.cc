#include "console/violation_report.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "policy/explain.h"
#include "policy/registry.h"
#include "sandbox/symbols.h"
#include "sandbox/violation_text.h"

namespace bulkhead::console {
namespace {

// UTC. Not by libc, which would look for the time zone's file.
std::string Now() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t seconds = now.tv_sec % 86400;
  // Years that begin in March end with the leap day; 146097 days are 400.
  const int64_t days = now.tv_sec / 86400 + 719468;
  const int64_t era_day = days % 146097;
  const int64_t era_year =
      (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
  const int64_t year_day =
      era_day - (365 * era_year + era_year / 4 - era_year / 100);
  const int64_t march_month = (5 * year_day + 2) / 153;
  const int64_t month = march_month < 10 ? march_month + 3 : march_month - 9;
  const int64_t year = days / 146097 * 400 + era_year + (month <= 2 ? 1 : 0);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month,
                         year_day - (153 * march_month + 2) / 5 + 1,
                         seconds / 3600, seconds / 60 % 60, seconds % 60,
                         now.tv_nsec / 1000000);
}

}  // namespace

std::string DescribePlace(const ConsoleConfig::Process& process, int program_fd,
                          const sandbox::Place& place) {
  const bool is_program = process.program_inode() != 0 &&
                          process.program_inode() == place.file_inode;
  const std::string symbol =
      is_program ? sandbox::Symbol(program_fd, place.file_offset) : "";
  const std::string name =
      is_program ? "program" : place.file.substr(place.file.rfind('/') + 1);
  const std::string offset =
      place.file_inode == 0
          ? absl::StrFormat("0x%x", place.instruction_pointer)
          : absl::StrFormat("%s+0x%x", Escape(name), place.file_offset);
  return symbol.empty() ? offset
                        : absl::StrCat(Escape(symbol), " (", offset, ")");
}

ViolationReport Report(const std::string& vm,
                       const ConsoleConfig::Process& process, int program_fd,
                       const sandbox::Violation& violation) {
  const sandbox::CompiledPolicy* policy = policy::FindPolicy(process.policy());
  const bool steady =
      policy != nullptr && policy->empty_root && violation.filters > 1;
  const std::string syscall = sandbox::SyscallOf(violation);
  const std::string abi = sandbox::NameOf(violation.abi);
  policy::Call call{.syscall = syscall, .abi = abi};
  std::copy(std::begin(violation.args), std::end(violation.args), call.args);
  const policy::Explanation explanation = policy::Explain(
      policy::CompiledInPolicy(process.policy()),
      steady ? policy::FilterPhase::kSteady : policy::FilterPhase::kLaunch,
      call);
  const std::string text = sandbox::DescribeViolation(violation);
  const std::string place = DescribePlace(process, program_fd, violation);
  const char* phase = steady ? "steady state" : "set-up";

  ViolationReport report;
  report.lines.push_back(absl::StrFormat(
      "VIOLATION %s: %s at %s: killed by policy %s %.12s, %s", process.name(),
      text, place, process.policy(), process.policy_sha256(), phase));
  if (!explanation.rule.empty()) {
    report.lines.push_back("  nearest rule: " + explanation.rule);
  }
  report.lines.push_back("  why not: " + explanation.difference);
  report.lines.push_back("  what to do: " + explanation.advice);

  nlohmann::json args = nlohmann::json::array();
  for (const uint64_t arg : violation.args) {
    args.push_back(absl::StrFormat("0x%x", arg));
  }
  const nlohmann::json json = {{"ts", Now()},
                               {"event", "policy_violation"},
                               {"vm", vm},
                               {"device", process.device()},
                               {"process", process.name()},
                               {"pid", violation.pid},
                               {"thread", violation.thread},
                               {"action", "kill"},
                               {"syscall", syscall},
                               {"number", violation.number},
                               {"abi", abi},
                               {"args", args},
                               {"call", text},
                               {"pc", place},
                               {"policy", process.policy()},
                               {"sha256", process.policy_sha256()},
                               {"phase", phase},
                               {"nearest_rule", explanation.rule},
                               {"why_not", explanation.difference},
                               {"what_to_do", explanation.advice}};
  // Arguments are escaped already; whatever is not UTF-8 is replaced.
  report.json =
      json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return report;
}

}  // namespace bulkhead::console
