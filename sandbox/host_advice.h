// HostAdvice explains why this machine refuses to build a jail, and what its
// owner can do: it reads the settings that are known to refuse.
//
// TRUST    The host's own settings, read from /proc and /sys.
// ERRORS   None: "" where nothing explains it.
// THREADS  Any.

#ifndef BULKHEAD_SANDBOX_HOST_ADVICE_H_
#define BULKHEAD_SANDBOX_HOST_ADVICE_H_

#include <string>

namespace bulkhead::sandbox {

// After clone3 with new namespaces failed with `error`.
std::string WhyNoNamespaces(int error);

// After a mount, an id or a capability step inside new namespaces failed with
// `error`: the setting that allows the namespace but not its use, or "".
std::string WhyNoPrivileges(int error);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_HOST_ADVICE_H_
