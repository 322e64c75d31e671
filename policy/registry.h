// Every policy there is, compiled. The source is made by policy.bzl.
//
// TRUST    Compiled in; nothing is read at run time.
// ERRORS   Null for an unknown name.
// THREADS  Safe: constant data.

#ifndef BULKHEAD_POLICY_REGISTRY_H_
#define BULKHEAD_POLICY_REGISTRY_H_

#include <string>
#include <vector>

#include "sandbox/compiled_policy.h"

namespace bulkhead::policy {

std::vector<const sandbox::CompiledPolicy*> AllPolicies();

// Null: there is none of that name.
const sandbox::CompiledPolicy* FindPolicy(const std::string& name);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_REGISTRY_H_
