// StepText puts a Report into words. Not linked into the launcher: what failed
// there, the console says.
//
// TRUST    Numbers of the launcher's.
// ERRORS   None: an unknown step has a name too.
// THREADS  Any.

#ifndef BULKHEAD_SANDBOX_STEP_TEXT_H_
#define BULKHEAD_SANDBOX_STEP_TEXT_H_

#include <string>

#include "sandbox/compiled_policy.h"
#include "sandbox/step.h"

namespace bulkhead::sandbox {

// "resource limit RLIMIT_NOFILE of 16". `policy` is the process's; null is
// allowed.
std::string StepText(const Report& report, const CompiledPolicy* policy);

// "resource limit RLIMIT_NOFILE of 16: Operation not permitted"
std::string FailureText(const Report& report, const CompiledPolicy* policy);

// What a jail goes without: "core scheduling: this host has none".
std::string UnavailableText(const Report& report, const CompiledPolicy* policy);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_STEP_TEXT_H_
