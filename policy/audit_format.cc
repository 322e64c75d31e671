#include "policy/audit_format.h"

#include <cctype>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace bulkhead::policy {
namespace {

// Names and paths in findings may hold any byte.
std::string Dump(const nlohmann::json& json) {
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace);
}

const char* ResultName(Finding::Result result) {
  switch (result) {
    case Finding::kOk:
      return "ok";
    case Finding::kDrift:
      return "DRIFT";
    case Finding::kUnread:
      break;
  }
  return "unread";
}

// Checks of one kind are one rule: "fd 60" and "fd 3" are "fd".
std::string RuleId(const std::string& check) {
  for (const char* kind :
       {"fd", "namespace", "capabilities", "RLIMIT", "Uid", "Gid"}) {
    if (absl::StartsWith(check, kind)) {
      return absl::StrCat("bulkhead/",
                          std::string(kind) == "RLIMIT" ? "limit" : kind);
    }
  }
  std::string id;
  for (const char c : check) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) {
      id += static_cast<char>(std::tolower(byte));
    } else if (!id.empty() && id.back() != '-') {
      id += '-';
    }
  }
  return absl::StrCat("bulkhead/", id);
}

std::string Message(const AuditedProcess& process, const Finding& finding) {
  std::string text =
      absl::StrCat(process.policy, " (process ", process.pid,
                   "): ", finding.check, ": expected ", finding.expected);
  absl::StrAppend(
      &text,
      finding.result == Finding::kUnread ? "; not read: " : "; observed ",
      finding.observed);
  return text;
}

// The file that says what is expected, and the process.
nlohmann::json Location(const AuditedProcess& process) {
  nlohmann::json location = {
      {"logicalLocations",
       {{{"name", process.policy},
         {"kind", "process"},
         {"fullyQualifiedName",
          absl::StrCat(process.policy, "/", process.pid)}}}}};
  if (process.policy != "launcher") {  // it has no policy
    location["physicalLocation"] = {
        {"artifactLocation",
         {{"uri", absl::StrCat("policy/", process.policy, ".lock")},
          {"uriBaseId", "SOURCE_ROOT"}}}};
  }
  return location;
}

nlohmann::json Result(const AuditedProcess& process, const Finding& finding) {
  const bool drift = finding.result == Finding::kDrift;
  return {
      {"ruleId", RuleId(finding.check)},
      {"kind", drift                            ? "fail"
               : finding.result == Finding::kOk ? "pass"
                                                : "open"},
      {"level", drift ? "error" : "none"},
      {"message", {{"text", Message(process, finding)}}},
      {"locations", nlohmann::json::array({Location(process)})},
      {"properties",
       {{"check", finding.check},
        {"expected", finding.expected},
        {"observed", finding.observed}}},
  };
}

}  // namespace

AuditCounts Count(const std::vector<AuditedProcess>& processes) {
  AuditCounts counts;
  for (const AuditedProcess& process : processes) {
    for (const Finding& finding : process.findings) {
      counts.ok += finding.result == Finding::kOk;
      counts.drifted += finding.result == Finding::kDrift;
      counts.unread += finding.result == Finding::kUnread;
    }
  }
  return counts;
}

std::string AuditText(const std::vector<AuditedProcess>& processes) {
  std::string text;
  for (const AuditedProcess& process : processes) {
    absl::StrAppend(&text, process.policy, "  pid ", process.pid, "\n");
    for (const Finding& finding : process.findings) {
      absl::StrAppendFormat(&text, "  %-6s %-37s %-27s %s\n",
                            ResultName(finding.result), finding.check,
                            finding.expected, finding.observed);
    }
  }
  const AuditCounts counts = Count(processes);
  absl::StrAppend(&text, counts.drifted == 0 ? "PASS " : "FAIL ", counts.ok,
                  " checks agree, ", counts.drifted, " drifted, ",
                  counts.unread, " could not be read\n");
  return text;
}

std::string AuditJson(const std::vector<AuditedProcess>& processes) {
  nlohmann::json report = nlohmann::json::array();
  for (const AuditedProcess& process : processes) {
    for (const Finding& finding : process.findings) {
      report.push_back({{"pid", process.pid},
                        {"policy", process.policy},
                        {"check", finding.check},
                        {"expected", finding.expected},
                        {"observed", finding.observed},
                        {"result", ResultName(finding.result)}});
    }
  }
  return Dump(report) + "\n";
}

std::string AuditSarif(const std::vector<AuditedProcess>& processes) {
  nlohmann::json results = nlohmann::json::array();
  std::map<std::string, std::string> kinds;  // rule id to an example
  for (const AuditedProcess& process : processes) {
    for (const Finding& finding : process.findings) {
      results.push_back(Result(process, finding));
      kinds.emplace(RuleId(finding.check), finding.check);
    }
  }
  nlohmann::json rules = nlohmann::json::array();
  for (const auto& [id, example] : kinds) {
    rules.push_back(
        {{"id", id},
         {"shortDescription",
          {{"text", absl::StrCat("A running process has what its policy says (",
                                 example, ").")}}}});
  }
  const nlohmann::json sarif = {
      {"$schema",
       "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
       "sarif-schema-2.1.0.json"},
      {"version", "2.1.0"},
      {"runs",
       {{{"tool", {{"driver", {{"name", "bulkhead-audit"}, {"rules", rules}}}}},
         {"results", results}}}}};
  return Dump(sarif) + "\n";
}

}  // namespace bulkhead::policy
