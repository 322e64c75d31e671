// OwnQemu is a QEMU that the test starts and steers by itself, as people do who
// use `vm --no_qemu`: the same QEMU that ./bazelw set up, with the test's own
// machine protocol socket.
//
// ERRORS   As Process and Qmp.
// THREADS  One.

#ifndef BULKHEAD_TESTS_SUPPORT_OWN_QEMU_H_
#define BULKHEAD_TESTS_SUPPORT_OWN_QEMU_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/qmp.h"

namespace bulkhead::testing {

// A value of @runtime//:paths ("qemu", "guest_kernel"); "" when absent.
std::string RuntimePath(const std::string& key);

// A short directory of the test's own, removed at its end. Unix socket names
// are too short for Bazel's own temporary directories.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Printed when everything is in place and QEMU itself is about to be executed.
inline constexpr char kEnteringTree[] = "entering the tree\n";

// argv that runs the set-up QEMU with `arguments`. `shared` are host
// directories that it finds at the same path.
std::vector<std::string> QemuCommand(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& shared);

class OwnQemu {
 public:
  // `directory` is visible to QEMU at the same path; the monitor's socket is
  // made in it.
  OwnQemu(std::vector<std::string> arguments, const std::string& directory,
          const std::vector<std::string>& shared = {});

  Process& process() { return *process_; }
  Qmp& qmp() { return qmp_; }
  // True once the monitor has answered.
  bool connected() const { return connected_; }

 private:
  std::unique_ptr<Process> process_;
  Qmp qmp_;
  bool connected_ = false;
};

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_SUPPORT_OWN_QEMU_H_
