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
    {40, "launcher", {{Finding::kOk, "threads", "1", "1"}}},
};

// Whether an object has no property but these; the schema of SARIF 2.1.0 allows
// no others.
bool HasOnly(const nlohmann::json& object,
             const std::set<std::string>& properties) {
  if (!object.is_object()) return false;
  for (const auto& [name, value] : object.items()) {
    if (properties.count(name) == 0) return false;
  }
  return true;
}

// SARIF 2.1.0, sections 3.27.9 (kind) and 3.27.10 (level): what did not fail
// has level "none".
TEST(AuditFormatTest, SarifHasOneResultForEachFindingAndARuleForEachKind) {
  const nlohmann::json sarif =
      nlohmann::json::parse(AuditSarif(kAudited), nullptr, false);
  ASSERT_TRUE(sarif.is_object());
  EXPECT_EQ(sarif["version"], "2.1.0");
  ASSERT_EQ(sarif["runs"].size(), 1u);
  const nlohmann::json& run = sarif["runs"][0];
  ASSERT_EQ(run["results"].size(), 5u);
  std::set<std::string> rules;
  for (const nlohmann::json& rule : run["tool"]["driver"]["rules"]) {
    EXPECT_TRUE(rules.insert(rule["id"]).second);
  }
  EXPECT_EQ(rules.size(), 4u);
  for (const nlohmann::json& result : run["results"]) {
    EXPECT_EQ(rules.count(result["ruleId"]), 1u);
    EXPECT_EQ(result["level"] == "none", result["kind"] != "fail");
    EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
    ASSERT_EQ(result["locations"].size(), 1u);
    const nlohmann::json& location = result["locations"][0];
    const std::string name = location["logicalLocations"][0]["name"];
    if (name == "launcher") {
      EXPECT_FALSE(location.contains("physicalLocation")) << "it has no policy";
      continue;
    }
    const std::string uri =
        location["physicalLocation"]["artifactLocation"]["uri"];
    EXPECT_EQ(uri, "policy/" + name + ".lock");
  }
  EXPECT_EQ(run["results"][2]["kind"], "fail");
  EXPECT_EQ(run["results"][2]["ruleId"], "bulkhead/fd");
  EXPECT_EQ(run["results"][3]["kind"], "open");
}

// Sections 3.13, 3.14, 3.18, 3.19, 3.27, 3.28, 3.33 and 3.49: names and types,
// as far as this program uses them. The whole schema accepts it; it is not kept
// here.
TEST(AuditFormatTest, SarifHasNoPropertyThatTheStandardDoesNotKnow) {
  const nlohmann::json sarif =
      nlohmann::json::parse(AuditSarif(kAudited), nullptr, false);
  EXPECT_TRUE(HasOnly(sarif, {"$schema", "version", "runs"}));
  ASSERT_TRUE(sarif["runs"].is_array());
  const nlohmann::json& run = sarif["runs"][0];
  EXPECT_TRUE(HasOnly(run, {"tool", "results"}));
  EXPECT_TRUE(HasOnly(run["tool"], {"driver"}));
  EXPECT_TRUE(HasOnly(run["tool"]["driver"], {"name", "rules"}));
  ASSERT_TRUE(run["tool"]["driver"]["rules"].is_array());
  for (const nlohmann::json& rule : run["tool"]["driver"]["rules"]) {
    EXPECT_TRUE(HasOnly(rule, {"id", "shortDescription"}));
    EXPECT_TRUE(HasOnly(rule["shortDescription"], {"text"}));
    EXPECT_TRUE(rule["shortDescription"]["text"].is_string());
  }
  ASSERT_TRUE(run["results"].is_array());
  const std::set<std::string> kKinds = {"pass", "fail", "open"};
  for (const nlohmann::json& result : run["results"]) {
    EXPECT_TRUE(HasOnly(result, {"ruleId", "kind", "level", "message",
                                 "locations", "properties"}));
    EXPECT_EQ(kKinds.count(result["kind"]), 1u);
    EXPECT_TRUE(HasOnly(result["message"], {"text"}));
    ASSERT_TRUE(result["locations"].is_array());
    const nlohmann::json& location = result["locations"][0];
    EXPECT_TRUE(HasOnly(location, {"logicalLocations", "physicalLocation"}));
    ASSERT_TRUE(location["logicalLocations"].is_array());
    EXPECT_TRUE(HasOnly(location["logicalLocations"][0],
                        {"name", "kind", "fullyQualifiedName"}));
    if (!location.contains("physicalLocation")) continue;
    EXPECT_TRUE(HasOnly(location["physicalLocation"], {"artifactLocation"}));
    EXPECT_TRUE(HasOnly(location["physicalLocation"]["artifactLocation"],
                        {"uri", "uriBaseId"}));
  }
}

TEST(AuditFormatTest, JsonHasOneObjectForEachFinding) {
  const nlohmann::json json =
      nlohmann::json::parse(AuditJson(kAudited), nullptr, false);
  ASSERT_EQ(json.size(), 5u);
  EXPECT_EQ(json[2]["result"], "DRIFT");
  EXPECT_EQ(json[3]["policy"], "lsi53c895a");
}

TEST(AuditFormatTest, TextEndsWithTheSum) {
  const std::string text = AuditText(kAudited);
  EXPECT_NE(text.find("FAIL 3 checks agree, 1 drifted, 1 could not be read"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace bulkhead::policy
