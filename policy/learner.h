// Learner compares the calls that a process makes, while no filter holds it
// back, with its policy: which rules are missing, which were never used, and
// which arguments could be constrained more tightly.
//
// TRUST    What a process does while it is watched is taken for what it should
//          do: learn with guests and images that you trust.
// ERRORS   None.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_LEARNER_H_
#define BULKHEAD_POLICY_LEARNER_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "policy/explain.h"
#include "policy/rules.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

class Learner {
 public:
  explicit Learner(Policy policy);

  void Add(FilterPhase phase, const Call& call);

  uint64_t calls() const { return calls_; }
  // Calls that the policy does not allow, by phase and name.
  size_t missing() const { return missing_.size(); }
  // Everything in words, rules as policy/NAME.textproto would spell them.
  std::string Report() const;

 private:
  // What one argument was.
  struct Values {
    static constexpr size_t kMost = 3;
    std::set<uint64_t> seen;
    bool more = false;  // than are kept
    void Add(uint64_t value);
  };
  struct Use {
    uint64_t count = 0;
    Values args[6];
  };
  struct Missing {
    Use use;
    Explanation nearest;
  };

  static std::string ProposedRule(FilterPhase phase, const std::string& syscall,
                                  const Use& use);
  std::string Tighter(const SyscallRule& rule, const Use& use) const;

  const Policy policy_;
  std::vector<Use> uses_;  // one for each rule
  // By phase, and by name and interface.
  std::map<std::pair<FilterPhase, std::pair<std::string, std::string>>, Missing>
      missing_;
  uint64_t calls_ = 0;
};

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_LEARNER_H_
