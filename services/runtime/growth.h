// Growth is the launcher's wish that a disk be longer; Growable is a disk that
// can be asked. The server passes one to the other, and the answer back; the
// device sees its backend's new size by itself.
//
// TRUST    The size is the user's, by way of the launcher. It is checked by the
//          disk: against what it is now, and what its format can be.
// ERRORS   Growth::status. InvalidArgument: the size makes no sense for this
//          disk; FailedPrecondition: this disk cannot grow, and what could be
//          done; ResourceExhausted, Internal: the host refused. The disk is
//          then as it was.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_GROWTH_H_
#define BULKHEAD_SERVICES_RUNTIME_GROWTH_H_

#include <cstdint>

#include "absl/status/status.h"

namespace bulkhead {

struct Growth {
  uint64_t size_bytes = 0;
  absl::Status status;  // valid in `done`
  // Called once, from Grow or while the disk's device runs.
  void (*done)(Growth* growth) = nullptr;
  void* owner = nullptr;

  void End(const absl::Status& how) {
    status = how;
    done(this);
  }
};

class Growable {
 public:
  virtual ~Growable() = default;
  // One at a time. `growth` lives until it is done.
  virtual void Grow(Growth* growth) = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_GROWTH_H_
