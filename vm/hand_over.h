// HandOver turns a plan whose fds are all there into the launcher's own plan
// and becomes the launcher.
//
// TRUST    The last step of `vm`: nothing that a guest wrote exists yet.
// ERRORS   UserError: a program is missing. Internal: exec, with its errno.
// THREADS  One thread.

#ifndef BULKHEAD_VM_HAND_OVER_H_
#define BULKHEAD_VM_HAND_OVER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "vm/plan.h"
#include "vm/resources.h"

namespace bulkhead::vm {

// What the launcher and the console do besides what is planned.
struct RunOptions {
  uint32_t grace_seconds = 10;
  uint32_t limit_seconds = 0;
  bool interactive = false;  // the user's terminal is the guest's
  bool read_stdin = false;   // or what comes from a pipe is
  std::string running_text;  // printed when all runs
  bool learn = false;        // no filter is enforced, and every line says so
};

// Everything that the launcher needs, ready to be executed.
class Handover {
 public:
  static absl::StatusOr<Handover> Make(const Plan& plan,
                                       const Resources& resources,
                                       const RunOptions& options);
  // An fd (or -1) that the launcher holds for as long as it lives.
  void Keep(int fd) { kept_.push_back(fd); }
  // Returns only when it failed.
  absl::Status Execute(const Resources& resources) const;

 private:
  std::string launcher_;
  Fd plan_;
  std::vector<Fd> programs_;
  std::vector<int> kept_;
};

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_HAND_OVER_H_
