// The formats in which an audit leaves this program.

#include "policy/audit_format.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace bulkhead::policy {
namespace {

const std::vector<AuditedProcess> kAudited = {
    {41,
     "shim",
     {{Finding::kOk, "namespace net", "its own", "net:[1]"},
      {Finding::kOk, "namespace pid", "its own", "pid:[2]"},
      {Finding::kDrift, "fd 60", "in the table", "/tmp/\xff\x01 is not"}}},
    {42, "lsi53c895a", {{Finding::kUnread, "launch filter", "1", "refused"}}},
};

// SARIF 2.1.0, sections 3.27.9 (kind) and 3.27.10 (level): what did not fail
// has level "none".
TEST(AuditFormatTest, SarifHasOneResultForEachFindingAndARuleForEachKind) {
  const nlohmann::json sarif =
      nlohmann::json::parse(AuditSarif(kAudited), nullptr, false);
  ASSERT_TRUE(sarif.is_object());
  EXPECT_EQ(sarif["version"], "2.1.0");
  ASSERT_EQ(sarif["runs"].size(), 1u);
  const nlohmann::json& run = sarif["runs"][0];
  ASSERT_EQ(run["results"].size(), 4u);
  std::set<std::string> rules;
  for (const nlohmann::json& rule : run["tool"]["driver"]["rules"]) {
    EXPECT_TRUE(rules.insert(rule["id"]).second);
  }
  EXPECT_EQ(rules.size(), 3u);
  for (const nlohmann::json& result : run["results"]) {
    EXPECT_EQ(rules.count(result["ruleId"]), 1u);
    EXPECT_EQ(result["level"] == "none", result["kind"] != "fail");
    EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
    ASSERT_EQ(result["locations"].size(), 1u);
    const std::string uri =
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    EXPECT_EQ(uri.substr(0, 7), "policy/");
  }
  EXPECT_EQ(run["results"][2]["kind"], "fail");
  EXPECT_EQ(run["results"][2]["ruleId"], "bulkhead/fd");
  EXPECT_EQ(run["results"][3]["kind"], "open");
}

TEST(AuditFormatTest, JsonHasOneObjectForEachFinding) {
  const nlohmann::json json =
      nlohmann::json::parse(AuditJson(kAudited), nullptr, false);
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[2]["result"], "DRIFT");
  EXPECT_EQ(json[3]["policy"], "lsi53c895a");
}

TEST(AuditFormatTest, TextEndsWithTheSum) {
  const std::string text = AuditText(kAudited);
  EXPECT_NE(text.find("FAIL 2 checks agree, 1 drifted, 1 could not be read"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace bulkhead::policy
