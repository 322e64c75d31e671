// The policies of all that the launcher starts, by name: a device's model,
// "shim", "qemu", "image_tool". Null: there is none.

#ifndef BULKHEAD_LAUNCHER_POLICIES_H_
#define BULKHEAD_LAUNCHER_POLICIES_H_

#include <string>

#include "sandbox/compiled_policy.h"

namespace bulkhead::launcher {

const sandbox::CompiledPolicy* PolicyOf(const std::string& name);

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_POLICIES_H_
