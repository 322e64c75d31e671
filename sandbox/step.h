// Steps on the way into a jail, and what became of one: numbers, so that the
// launcher need not find words. step_text.h does, elsewhere.
//
// TRUST    The launcher's own code until the exec.
// ERRORS   None: constants and structures.
// THREADS  Any.

#ifndef BULKHEAD_SANDBOX_STEP_H_
#define BULKHEAD_SANDBOX_STEP_H_

#include <cstdint>

namespace bulkhead::sandbox {

enum class Step : uint8_t {
  // The parent's.
  kSpec,
  kSocket,
  kOwnCapabilities,
  kNamespaces,
  kGroups,
  kIdMaps,
  kEarlyEnd,
  kTracing,
  kPolicy,
  // The child's, in their order.
  kFds,
  kWait,
  kSession,
  kIds,
  kParentDeath,
  kPropagation,
  kTree,
  kRootMount,
  kBind,
  kProc,
  kScratch,
  kPivot,
  kReadOnly,
  kHostname,
  kProgram,
  kNoNewPrivs,
  kLandlock,
  kLimit,
  kCoreScheduling,
  kStoreBypass,
  kIndirectBranch,
  kWriteExecute,
  kSecurebits,
  kCapabilities,
  kFilter,
  kExec,
  kCount,
};

struct Report {
  enum Kind : uint8_t {
    kReady,        // all is done but the filter and the exec
    kUnavailable,  // the host cannot give this; the jail goes on without
    kFailed,
  };
  Kind kind = kFailed;
  Step step = Step::kSpec;
  int32_t error = 0;   // errno
  int32_t detail = 0;  // which limit, bind, fd, system call
};

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_STEP_H_
