// The page that an auditor files holds everything, is well formed, and loads
// nothing.

#include "policy/report.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "policy/explain.h"
#include "policy/filter.h"
#include "policy/names.h"

namespace bulkhead::policy {
namespace {

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::vector<ReportedPolicy> AllReported() {
  std::vector<ReportedPolicy> policies;
  for (const char* name : kPolicyNames) {
    ReportedPolicy reported;
    reported.policy = CompiledInPolicy(name);
    reported.compiled.launch =
        *BuildFilter(reported.policy, FilterPhase::kLaunch);
    reported.compiled.steady =
        *BuildFilter(reported.policy, FilterPhase::kSteady);
    reported.launch = {.classes = 12345, .probes = 6789};
    reported.locked = true;
    policies.push_back(std::move(reported));
  }
  return policies;
}

const std::string& Page() {
  static const std::string& page = *new std::string(ReportPage(
      {"2026-01-02 03:04 UTC", "0.1.0", "Linux 6.1.0", FilterBackend()},
      AllReported()));
  return page;
}

TEST(ReportTest, NamesEveryRuleFdAndLimitWithItsWhy) {
  for (const char* name : kPolicyNames) {
    const Policy policy = CompiledInPolicy(name);
    EXPECT_TRUE(absl::StrContains(Page(), Escaped(policy.description())));
    for (const SyscallRule& rule : policy.rule()) {
      EXPECT_TRUE(absl::StrContains(
          Page(), absl::StrCat("<code>", rule.syscall(), "</code>")));
      EXPECT_TRUE(absl::StrContains(Page(), Escaped(rule.why()))) << rule.why();
    }
    for (const FdRule& fd : policy.fd()) {
      EXPECT_TRUE(absl::StrContains(Page(), Escaped(fd.why()))) << fd.why();
    }
    for (const ResourceLimit& limit : policy.rlimit()) {
      EXPECT_TRUE(absl::StrContains(Page(), limit.name()));
      EXPECT_TRUE(absl::StrContains(Page(), Escaped(limit.why())));
    }
  }
}

TEST(ReportTest, TellsKernelDateVersionsProofsAndTheOthersSources) {
  for (const char* text :
       {"2026-01-02 03:04 UTC", "0.1.0", "Linux 6.1.0", "libseccomp ", "12345",
        "6789", "google/crosvm", "firecracker-microvm/firecracker",
        "qemu-seccomp.c"}) {
    EXPECT_TRUE(absl::StrContains(Page(), text)) << text;
  }
}

// Every tag is closed in its order, attributes are quoted, & begins an entity.
TEST(ReportTest, IsWellFormed) {
  std::vector<std::string> open;
  const std::string& page = Page();
  size_t at = page.find("<html");
  ASSERT_NE(at, std::string::npos);
  while (at < page.size()) {
    if (page[at] == '&') {
      const size_t end = page.find(';', at);
      ASSERT_LE(end - at, 6u) << page.substr(at, 30);
    }
    if (page[at] != '<') {
      ++at;
      continue;
    }
    const size_t end = page.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = page.substr(at + 1, end - at - 1);
    ASSERT_FALSE(tag.empty());
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty()) << tag;
      ASSERT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  EXPECT_TRUE(open.empty()) << open.back();
}

TEST(ReportTest, LoadsNothingAndRunsNothing) {
  for (const char* text : {"<script", "src=", "<link", "url(", "@import",
                           "javascript:", "<iframe", "<img"}) {
    EXPECT_FALSE(absl::StrContains(Page(), text)) << text;
  }
}

TEST(ReportTest, ADifferenceCannotBeOverlooked) {
  std::vector<ReportedPolicy> policies = AllReported();
  policies[0].steady.differences.push_back("read <arg0>");
  policies[0].locked = false;
  const std::string page = ReportPage({}, policies);
  EXPECT_TRUE(absl::StrContains(page, "class=\"bad\""));
  EXPECT_TRUE(absl::StrContains(page, "difference: read &lt;arg0&gt;"));
  EXPECT_TRUE(absl::StrContains(page, "differs from its lock file"));
  EXPECT_FALSE(absl::StrContains(Page(), "class=\"bad\""));
}

}  // namespace
}  // namespace bulkhead::policy
