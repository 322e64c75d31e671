// ChildIo is how the child, between clone and exec, speaks with the launcher.
//
// TRUST    Both ends are the launcher's own code until the exec.
// ERRORS   Fail ends the child; a parent that is gone ends it too.
// THREADS  The child of a single-threaded process.

#ifndef BULKHEAD_SANDBOX_CHILD_IO_H_
#define BULKHEAD_SANDBOX_CHILD_IO_H_

#include <cstdint>

#include "sandbox/step.h"

namespace bulkhead::sandbox {

class ChildIo {
 public:
  explicit ChildIo(int socket) : socket_(socket) {}

  int socket() const { return socket_; }
  void set_socket(int socket) { socket_ = socket; }

  void Send(const Report& report);
  // The child ends here when the parent is gone.
  void AwaitParent(Step step);

  // The step that failed, with errno as it is.
  [[noreturn]] void Fail(Step step, int32_t detail = 0);
  void Unavailable(Step step, int error, int32_t detail = 0);

 private:
  int socket_;
};

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_CHILD_IO_H_
