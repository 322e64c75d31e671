// PrepareJail makes a process in a jail: new namespaces, a root with nothing
// (or a runtime tree) in it, no capability, no new privileges, exact fds,
// resource limits, and its policy's launch filter. The program is executed from
// an fd.
//
// TRUST    Everything here is the launcher's own. The child is trusted until
//          its exec and never after.
// ERRORS   A Report: the step that failed and its errno. No process is left
//          behind. spawn.h has words and advice.
// GROUPS   Supplementary groups stay with the child, and no one can drop them
// in
//          its user namespace: a root that has some drops them before, as
//          Prepare does (spawn.h).
// THREADS  One thread; the caller must be single-threaded (clone), and must
//          not end that thread while the process lives (it dies with it).

#ifndef BULKHEAD_SANDBOX_JAIL_H_
#define BULKHEAD_SANDBOX_JAIL_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sandbox/compiled_policy.h"
#include "sandbox/step.h"
#include "sandbox/waiting_child.h"

namespace bulkhead::sandbox {

// The child finds the launcher's `source` as its `target`.
struct FdAssignment {
  int source;
  int target;
};

// A directory or file of the host that a TREE root shows. Device nodes work.
struct Bind {
  std::string source;
  std::string target;  // absolute, inside the root; made when it is missing
  bool writable = false;
  // A detached mount (fsmount) with a node for the source, the caller's to
  // close: it goes to the target as it is, and into one jail only.
  int mount_fd = -1;
};

struct JailSpec {
  const CompiledPolicy* policy = nullptr;
  int program_fd = -1;                 // what is executed (static-PIE, or, with
                                       // a tree, see `program_path`)
  std::vector<std::string> arguments;  // argv, with argv[0]
  std::vector<FdAssignment> fds;       // exactly these, nothing else; targets
                                       // below kProgramFd

  // The id outside, when the launcher is root: one per device. When it is not,
  // the child is the launcher's own user outside, whatever this says. Inside,
  // it is always kInsideId.
  uid_t outside_id = 0;

  // What the process will map besides its own memory (the guest's RAM): added
  // to the address space that its policy grants.
  uint64_t mapped_bytes = 0;

  // The largest file that it may write, if its policy allows larger ones; 0: as
  // the policy says.
  uint64_t file_bytes = 0;

  // TREE roots only. The root is a small read-only tmpfs that shows the entries
  // of `tree` read-only, then the binds, then an empty writable tmpfs for each
  // path in `scratch`.
  std::string tree;
  std::string program_path;  // inside the root, absolute
  std::vector<Bind> binds;
  std::vector<std::string> scratch;   // "/tmp"
  uint64_t scratch_bytes = 16 << 20;  // each
  std::vector<std::string> environment;
  bool mount_proc = false;
};

inline constexpr uid_t kInsideId = 65534;

struct JailedChild : WaitingChild {
  // What the host could not give; shown by the launcher's console, never
  // silently dropped.
  std::vector<Report> unavailable;
};

// A child that waits to be released; or nothing, and what failed in *failure.
std::optional<JailedChild> PrepareJail(const JailSpec& spec, Report* failure);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_JAIL_H_
