// The policies there are.

#ifndef BULKHEAD_POLICY_NAMES_H_
#define BULKHEAD_POLICY_NAMES_H_

namespace bulkhead::policy {

inline constexpr const char* kPolicyNames[] = {"image", "image_tool",
                                               "lsi53c895a", "qemu", "shim"};

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_NAMES_H_
