#include "policy/generate.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "policy/check.h"
#include "policy/constants.h"
#include "policy/filter.h"

namespace bulkhead::policy {
namespace {

std::string Guard(const std::string& path) {
  std::string guard = "BULKHEAD_";
  for (const char c : path) {
    guard +=
        std::isalnum(static_cast<unsigned char>(c))
            ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
            : '_';
  }
  return guard + "_";
}

std::string FilterArray(const char* name,
                        const std::vector<sock_filter>& filter) {
  std::string text = absl::StrFormat("constexpr sock_filter %s[] = {\n", name);
  for (const sock_filter& in : filter) {
    absl::StrAppendFormat(&text, "    {0x%02x, %d, %d, 0x%08xu},\n", in.code,
                          in.jt, in.jf, in.k);
  }
  return text + "};\n\n";
}

std::string LimitsArray(const Policy& policy) {
  if (policy.rlimit_size() == 0) return "";
  std::string text = "constexpr sandbox::CompiledLimit kLimits[] = {\n";
  for (const ResourceLimit& limit : policy.rlimit()) {
    absl::StrAppendFormat(&text, "    {%d, \"%s\", %du},\n",
                          *ResourceNumber(limit.name()), limit.name(),
                          limit.value());
  }
  return text + "};\n\n";
}

std::string FdsArray(const Policy& policy) {
  if (policy.fd_size() == 0) return "";
  std::string text = "constexpr sandbox::CompiledFd kFds[] = {\n";
  for (const FdRule& fd : policy.fd()) {
    uint64_t seals = 0;
    for (const std::string& seal : fd.seals()) seals |= *SealValue(seal);
    absl::StrAppendFormat(&text, "    {\"%s\", %d, %d, %d, %d, %s, 0x%xu},\n",
                          fd.name(),
                          fd.received() ? -1 : static_cast<int>(fd.first()),
                          std::max(fd.max_count(), 1u), fd.kind(), fd.access(),
                          fd.received() ? "true" : "false", seals);
  }
  return text + "};\n\n";
}

std::string DeviceNodesArray(const Policy& policy) {
  if (policy.jail().device_node_size() == 0) return "";
  std::string text = "constexpr const char* kDeviceNodes[] = {\n";
  for (const std::string& node : policy.jail().device_node()) {
    absl::StrAppendFormat(&text, "    \"%s\",\n", node);
  }
  return text + "};\n\n";
}

uint64_t CloneFlags(const Policy& policy) {
  uint64_t flags = 0;
  for (const std::string& name : policy.jail().namespace_()) {
    flags |= *NamespaceFlag(name);
  }
  return flags;
}

const char* Bool(bool value) { return value ? "true" : "false"; }

}  // namespace

absl::StatusOr<Compiled> Compile(const Source& source) {
  if (absl::Status checked = Check(source); !checked.ok()) return checked;
  Compiled compiled;
  absl::StatusOr<std::vector<sock_filter>> filter =
      BuildFilter(source.policy, FilterPhase::kLaunch);
  if (!filter.ok()) return filter.status();
  compiled.launch = *std::move(filter);
  filter = BuildFilter(source.policy, FilterPhase::kSteady);
  if (!filter.ok()) return filter.status();
  compiled.steady = *std::move(filter);
  return compiled;
}

std::string FunctionName(const std::string& policy_name) {
  std::string name;
  bool up = true;
  for (const char c : policy_name) {
    if (c == '_') {
      up = true;
      continue;
    }
    name +=
        up ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    up = false;
  }
  return name;
}

std::string HeaderText(const Policy& policy, const std::string& header_path) {
  const std::string guard = Guard(header_path);
  return absl::StrCat(
      "// Made by //policy:compiler from ", policy.name(),
      ".textproto. Do not edit.\n\n#ifndef ", guard, "\n#define ", guard,
      "\n\n#include \"sandbox/compiled_policy.h\"\n\n"
      "namespace bulkhead::policy {\n\nconst sandbox::CompiledPolicy& ",
      FunctionName(policy.name()),
      "();\n\n}  // namespace bulkhead::policy\n\n#endif  // ", guard, "\n");
}

std::string SourceText(const Policy& policy, const Compiled& compiled,
                       const std::string& header_path) {
  std::string text =
      absl::StrCat("// Made by //policy:compiler from ", policy.name(),
                   ".textproto. Do not edit.\n\n#include \"", header_path,
                   "\"\n\nnamespace bulkhead::policy {\nnamespace {\n\n",
                   FilterArray("kLaunch", compiled.launch),
                   FilterArray("kSteady", compiled.steady), LimitsArray(policy),
                   FdsArray(policy), DeviceNodesArray(policy));
  absl::StrAppend(&text,
                  "constexpr sandbox::CompiledPolicy kPolicy = {\n    \"",
                  policy.name(), "\",\n    kLaunch,\n    kSteady,\n    ",
                  policy.rlimit_size() > 0 ? "kLimits" : "{}", ",\n    ",
                  policy.fd_size() > 0 ? "kFds" : "{}", ",\n");
  absl::StrAppendFormat(
      &text, "    0x%xu,\n    %s,\n    %s,\n    %s,\n    \"%s\",\n};\n\n",
      CloneFlags(policy), Bool(policy.jail().root() == Jail::EMPTY),
      Bool(policy.jail().memory_deny_write_execute()),
      policy.jail().device_node_size() > 0 ? "kDeviceNodes" : "{}",
      FilterHash(compiled.launch, compiled.steady));
  absl::StrAppend(&text, "}  // namespace\n\nconst sandbox::CompiledPolicy& ",
                  FunctionName(policy.name()),
                  "() { return kPolicy; }\n\n}  // namespace "
                  "bulkhead::policy\n");
  return text;
}

std::string ListingText(const Policy& policy, const Compiled& compiled) {
  return absl::StrCat(
      "# ", policy.name(), ": made with ", FilterBackend(), "\n# sha256 ",
      FilterHash(compiled.launch, compiled.steady), "\n\nlaunch filter, ",
      compiled.launch.size(), " instructions\n", Disassemble(compiled.launch),
      "\nsteady filter, ", compiled.steady.size(), " instructions\n",
      Disassemble(compiled.steady));
}

}  // namespace bulkhead::policy
