// Child is what the launcher's child does between clone and exec: it takes
// everything away from itself, step by step, and becomes the program. What goes
// wrong is reported to the parent as a step and an errno.
//
// TRUST    The launcher's own code and data until the exec.
// ERRORS   A failed step is reported and ends the child.
// THREADS  The child of a single-threaded process: allocation is safe.

#ifndef BULKHEAD_SANDBOX_CHILD_H_
#define BULKHEAD_SANDBOX_CHILD_H_

#include <cstdint>

#include "sandbox/jail.h"

namespace bulkhead::sandbox {

enum class Step : uint8_t {
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

// "making the root read-only"
const char* StepName(Step step);

// What goes from child to parent, one per packet.
struct Report {
  enum Kind : uint8_t {
    kReady,        // all is done but the filter and the exec
    kUnavailable,  // the host cannot give this; the jail goes on without
    kFailed,
  };
  Kind kind;
  Step step;
  int32_t error;   // errno
  int32_t detail;  // which limit, bind, ...
};

// `socket` is the child's end of a SOCK_SEQPACKET pair: one byte from the
// parent lets it go on, once when its ids are mapped and once after kReady.
[[noreturn]] void RunChild(const JailSpec& spec, int socket);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_CHILD_H_
