// What is compiled is what was reviewed, and a change is seen for what it does.

#include "policy/lock.h"

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "policy/names.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

PolicyLock Current(const Policy& policy) {
  const absl::StatusOr<Compiled> compiled =
      Compile({.policy = policy,
               .rule = std::vector<Location>(policy.rule_size()),
               .fd = std::vector<Location>(policy.fd_size()),
               .rlimit = std::vector<Location>(policy.rlimit_size())});
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return MakeLock(policy, *compiled);
}

Policy Load(const std::string& name) {
  absl::StatusOr<Source> source =
      LoadPolicy(absl::StrCat("policy/", name, ".textproto"));
  EXPECT_TRUE(source.ok()) << source.status();
  return source->policy;
}

class LockFileTest : public testing::TestWithParam<const char*> {};

TEST_P(LockFileTest, HoldsWhatIsCompiledNow) {
  const std::string path = absl::StrCat("policy/", GetParam(), ".lock");
  const absl::StatusOr<PolicyLock> lock = ParseLock(ReadFile(path), path);
  ASSERT_TRUE(lock.ok()) << lock.status();
  const PolicyLock now = Current(Load(GetParam()));
  for (const Change& change : Compare(*lock, now)) {
    ADD_FAILURE() << GetParam() << ": " << change.text
                  << "\nlook at `bazel run //policy:diff`; if it is meant, "
                     "`bazel run //policy:update_locks`";
  }
  EXPECT_EQ(lock->steady_calls(), now.steady_calls());
  EXPECT_EQ(lock->launch_calls(), now.launch_calls());
}

INSTANTIATE_TEST_SUITE_P(Policies, LockFileTest,
                         testing::ValuesIn(kPolicyNames),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

// The number that the device table promises. What speaks to an NBD server has a
// library's calls besides.
TEST(LockTest, WhatAGuestsDataPassesMakesAtMostTwelveCallsInItsSteadyState) {
  for (const char* name : {"lsi53c895a", "nvme", "virtio_blk", "example",
                           "shim", "x_remote_adapter"}) {
    EXPECT_LE(Current(Load(name)).steady_calls(), 12u) << name;
  }
  // What a backend adds is only there where the backend is.
  for (const char* name :
       {"lsi53c895a_uring", "nvme_uring", "virtio_blk_uring"}) {
    EXPECT_LE(Current(Load(name)).steady_calls(), 13u) << name;
  }
  EXPECT_LE(Current(Load("lsi53c895a_nbd")).steady_calls(), 16u);
}

struct Drift {
  Change::Effect effect;
  std::string text;
};

Drift OnlyChange(const Policy& before, const Policy& now) {
  const std::vector<Change> changes = Compare(Current(before), Current(now));
  EXPECT_GE(changes.size(), 1u);
  if (changes.empty()) return {Change::kWords, "nothing"};
  return {changes[0].effect, changes[0].text};
}

SyscallRule* FindRule(Policy* policy, const std::string& syscall,
                      ::bulkhead::Phase phase) {
  for (SyscallRule& rule : *policy->mutable_rule()) {
    if (rule.syscall() == syscall && rule.phase() == phase) return &rule;
  }
  return nullptr;
}

TEST(CompareTest, ANewCallWidens) {
  const Policy before = Load("shim");
  Policy now = before;
  SyscallRule* rule = now.add_rule();
  rule->set_syscall("getpid");
  rule->set_phase(STEADY);
  rule->set_why("Only for this test.");
  const Drift drift = OnlyChange(before, now);
  EXPECT_EQ(drift.effect, Change::kWidens);
  EXPECT_TRUE(
      absl::StrContains(drift.text, "getpid with any arguments is now allowed"))
      << drift.text;
}

TEST(CompareTest, AnArgumentThatIsNoLongerCheckedWidens) {
  const Policy before = Load("shim");
  Policy now = before;
  FindRule(&now, "newfstatat", STEADY)->clear_arg();
  const Drift drift = OnlyChange(before, now);
  EXPECT_EQ(drift.effect, Change::kWidens);
  EXPECT_TRUE(absl::StrContains(drift.text, "newfstatat with any arguments"))
      << drift.text;
}

TEST(CompareTest, ACallThatIsGoneNarrows) {
  const Policy before = Load("lsi53c895a");
  Policy now = before;
  FindRule(&now, "close", STEADY)->set_phase(SET_UP);
  const Drift drift = OnlyChange(before, now);
  EXPECT_EQ(drift.effect, Change::kNarrows);
  EXPECT_TRUE(absl::StrContains(
      drift.text, "steady: close with any arguments is no longer allowed"))
      << drift.text;
}

TEST(CompareTest, AHigherLimitWidensAndALowerOneNarrows) {
  const Policy before = Load("shim");
  Policy higher = before;
  higher.mutable_rlimit(1)->set_value(100000);
  EXPECT_EQ(OnlyChange(before, higher).effect, Change::kWidens);
  EXPECT_EQ(OnlyChange(higher, before).effect, Change::kNarrows);
}

TEST(CompareTest, AnotherFdWidens) {
  const Policy before = Load("shim");
  Policy now = before;
  FdRule* fd = now.add_fd();
  fd->set_name("secret");
  fd->set_first(50);
  fd->set_kind(FdRule::FILE);
  fd->set_access(FdRule::READ);
  fd->set_why("Only for this test.");
  EXPECT_EQ(OnlyChange(before, now).effect, Change::kWidens);
}

TEST(CompareTest, AnFdWithMoreSealsNarrowsAndWithFewerWidens) {
  const Policy before = Load("shim");
  Policy now = before;
  for (FdRule& fd : *now.mutable_fd()) {
    if (fd.kind() == FdRule::MEMFD) fd.add_seals("F_SEAL_SEAL");
  }
  EXPECT_EQ(OnlyChange(before, now).effect, Change::kNarrows);
  EXPECT_EQ(OnlyChange(now, before).effect, Change::kWidens);
}

TEST(CompareTest, ADeviceNodeMoreWidensAndOneLessNarrows) {
  const Policy before = Load("qemu_remote");
  Policy now = before;
  now.mutable_jail()->add_device_node("/dev/kvm");
  EXPECT_EQ(OnlyChange(before, now).effect, Change::kWidens);
  EXPECT_EQ(OnlyChange(now, before).effect, Change::kNarrows);
}

TEST(LockTest, DeviceNodesOfAnIncludedFileAreNotIncluded) {
  EXPECT_EQ(Load("qemu").jail().device_node_size(), 1);
  ASSERT_EQ(Load("image_tool").jail().device_node_size(), 1);
  EXPECT_EQ(Load("image_tool").jail().device_node(0), "/dev/null");
}

TEST(CompareTest, AnotherReasonIsOnlyWords) {
  const Policy before = Load("shim");
  Policy now = before;
  now.mutable_rule(0)->set_why("Because we like it so.");
  EXPECT_EQ(OnlyChange(before, now).effect, Change::kWords);
}

TEST(CompareTest, NothingChangedIsNothing) {
  const Policy policy = Load("shim");
  EXPECT_TRUE(Compare(Current(policy), Current(policy)).empty());
}

}  // namespace
}  // namespace bulkhead::policy
