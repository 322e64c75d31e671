#include "policy/rules.h"

#include <algorithm>
#include <cstdint>

namespace bulkhead::policy {

bool Admits(const ArgumentConstraint& test, uint64_t value) {
  switch (test.test_case()) {
    case ArgumentConstraint::kEquals:
      return value == test.equals();
    case ArgumentConstraint::kLessOrEqual:
      return value <= test.less_or_equal();
    case ArgumentConstraint::kGreaterOrEqual:
      return value >= test.greater_or_equal();
    case ArgumentConstraint::kMasked:
      return (value & test.masked().mask()) == test.masked().value();
    case ArgumentConstraint::TEST_NOT_SET:
      return true;
  }
  return true;
}

namespace {

bool ConstraintCovers(const ArgumentConstraint& wide,
                      const ArgumentConstraint& narrow) {
  switch (narrow.test_case()) {
    case ArgumentConstraint::kEquals:
      return Admits(wide, narrow.equals());
    case ArgumentConstraint::kLessOrEqual:
      return wide.has_less_or_equal() &&
             narrow.less_or_equal() <= wide.less_or_equal();
    case ArgumentConstraint::kGreaterOrEqual:
      return wide.has_greater_or_equal() &&
             narrow.greater_or_equal() >= wide.greater_or_equal();
    case ArgumentConstraint::kMasked:
      return wide.has_masked() &&
             (wide.masked().mask() & ~narrow.masked().mask()) == 0 &&
             (narrow.masked().value() & wide.masked().mask()) ==
                 wide.masked().value();
    case ArgumentConstraint::TEST_NOT_SET:
      return false;
  }
  return false;
}

bool ConstraintsDisjoint(const ArgumentConstraint& a,
                         const ArgumentConstraint& b) {
  if (a.has_equals()) return !Admits(b, a.equals());
  if (b.has_equals()) return !Admits(a, b.equals());
  if (a.has_masked() && b.has_masked()) {
    const uint64_t both = a.masked().mask() & b.masked().mask();
    return (a.masked().value() & both) != (b.masked().value() & both);
  }
  if (a.has_less_or_equal() && b.has_greater_or_equal()) {
    return a.less_or_equal() < b.greater_or_equal();
  }
  if (b.has_less_or_equal() && a.has_greater_or_equal()) {
    return b.less_or_equal() < a.greater_or_equal();
  }
  return false;
}

}  // namespace

bool InPhase(const Policy& policy, const SyscallRule& rule, FilterPhase phase) {
  if (phase == FilterPhase::kSteady) return rule.phase() == STEADY;
  if (policy.jail().root() == Jail::TREE) return true;
  return rule.phase() != STEADY || rule.action() == SyscallRule::ALLOW;
}

bool Covers(const SyscallRule& wide, const SyscallRule& narrow) {
  if (wide.syscall() != narrow.syscall()) return false;
  return std::all_of(wide.arg().begin(), wide.arg().end(),
                     [&](const ArgumentConstraint& outer) {
                       return std::any_of(
                           narrow.arg().begin(), narrow.arg().end(),
                           [&](const ArgumentConstraint& inner) {
                             return inner.index() == outer.index() &&
                                    ConstraintCovers(outer, inner);
                           });
                     });
}

bool Disjoint(const SyscallRule& a, const SyscallRule& b) {
  for (const ArgumentConstraint& x : a.arg()) {
    for (const ArgumentConstraint& y : b.arg()) {
      if (x.index() == y.index() && ConstraintsDisjoint(x, y)) return true;
    }
  }
  return a.syscall() != b.syscall();
}

}  // namespace bulkhead::policy
