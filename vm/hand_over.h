// HandOver makes the processes of a plan whose fds are all there, each waiting
// in its jail, and becomes the launcher, which lets them go.
//
// TRUST    The last step of `vm`: no program has run in a jail yet.
// ERRORS   UserError: a program is missing, or this host refuses a jail, and
//          what to do about it. Internal: exec, with its errno. No process is
//          left behind.
// THREADS  One thread.

#ifndef BULKHEAD_VM_HAND_OVER_H_
#define BULKHEAD_VM_HAND_OVER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "proto/launch.pb.h"
#include "sandbox/jail.h"
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
  Handover() = default;
  Handover(Handover&&) = default;
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;
  ~Handover();

  static absl::StatusOr<Handover> Make(const Plan& plan,
                                       const Resources& resources,
                                       const RunOptions& options);
  // An fd (or -1) that the launcher holds for as long as it lives.
  void Keep(int fd) { kept_.push_back(fd); }
  // Returns only when it failed.
  absl::Status Execute(const Resources& resources) const;

 private:
  absl::Status Prepare(const PlannedProcess& process,
                       const sandbox::JailSpec& jail, bool learn,
                       JailedProcess* out);

  std::string launcher_;
  Fd plan_;
  std::vector<sandbox::JailedChild> children_;
  std::vector<int> kept_;
};

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_HAND_OVER_H_
