// VmWithService is the launcher with another program in the place of one
// service.
//
// TRUST    For tests.
// ERRORS   A failed expectation.
// THREADS  One.

#ifndef BULKHEAD_TESTS_LAUNCHER_ANOTHER_SERVICE_H_
#define BULKHEAD_TESTS_LAUNCHER_ANOTHER_SERVICE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

namespace bulkhead::testing {

// A copy of what Bazel built in the folder `root`, which is made, with
// tests/launcher/SERVICE as its lsi53c895a: the path of its `vm`, which finds
// its parts beside itself.
inline std::string VmWithService(const std::string& root,
                                 const std::string& service) {
  const std::string copy =
      "for f in launcher/vm launcher/launcher launcher/runtime_paths "
      "console/console proxy/shim learn/learner services/nvme/service; do "
      "mkdir -p " +
      root + "/$(dirname $f) && cp -L $f " + root + "/$f || exit 1; done; " +
      "mkdir -p " + root + "/services/lsi53c895a && cp -L tests/launcher/" +
      service + " " + root + "/services/lsi53c895a/service";
  EXPECT_EQ(system(copy.c_str()), 0);
  return root + "/launcher/vm";
}

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_LAUNCHER_ANOTHER_SERVICE_H_
