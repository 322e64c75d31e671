// What `vm` exits with, whoever of its processes decides it.
//
// TRUST    None needed: constants.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_BASE_EXIT_CODE_H_
#define BULKHEAD_BASE_EXIT_CODE_H_

namespace bulkhead {

enum ExitCode {
  kExitOk = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitNotReady = 4,     // something did not become ready in time
  kExitGuestReset = 32,  // the guest asked for a reset that ends the VM
  kExitQemuCrashed = 33,
  kExitGuestPanic = 34,
  kExitBadConfig = 64,
  kExitMissingFeature = 69,
  kExitDeviceCrashed = 70,
  kExitPermission = 77,
  kExitTerminalClosed = 129,  // as after SIGHUP
  kExitViolation = 148,       // a filter killed a process
};

}  // namespace bulkhead

#endif  // BULKHEAD_BASE_EXIT_CODE_H_
