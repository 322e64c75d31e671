// Every policy there is as text, includes expanded, with the why of each rule:
// what is locked and counted. For those who explain; the filters are in
// registry.h. The source is made by policy.bzl.
//
// TRUST    Compiled in; nothing is read at run time.
// ERRORS   Null for an unknown name.
// THREADS  Safe: constant data.

#ifndef BULKHEAD_POLICY_TEXTS_H_
#define BULKHEAD_POLICY_TEXTS_H_

#include <string>

namespace bulkhead::policy {

// A bulkhead.Policy in text format. Null: there is none of that name.
const char* PolicyText(const std::string& name);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_TEXTS_H_
