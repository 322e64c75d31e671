// RunCheckVm runs the check's VM in a child process, reads what its guest
// prints, and passes on the signals that end it.
//
// TRUST    The guest's bytes go to CheckConsole, which bounds them. This
// process
//          holds the scratch disk and nothing of the running VM.
// ERRORS   Internal: no pipe or no process.
// THREADS  One thread (fork). SIGINT, SIGTERM, SIGHUP and SIGQUIT are blocked.

#ifndef BULKHEAD_DEMO_CHECK_RUN_H_
#define BULKHEAD_DEMO_CHECK_RUN_H_

#include <functional>

#include "absl/status/statusor.h"
#include "demo/check_console.h"

namespace bulkhead::demo {

// `become_vm` is called in the child, with the guest's console as stdout; its
// result is the child's exit status. `let_go` is called in the parent, which
// must not hold what is the child's. The child's exit status; 128 + signal.
absl::StatusOr<int> RunCheckVm(const std::function<int()>& become_vm,
                               const std::function<void()>& let_go,
                               CheckConsole* console);

}  // namespace bulkhead::demo

#endif  // BULKHEAD_DEMO_CHECK_RUN_H_
