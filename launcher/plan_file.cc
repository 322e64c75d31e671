#include "launcher/plan_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace bulkhead::launcher {

bool ReadPlan(int fd, LaunchPlan* plan) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  std::string bytes(status.st_size, '\0');
  return pread(fd, bytes.data(), bytes.size(), 0) == status.st_size &&
         plan->ParseFromString(bytes) && plan->processes_size() > 0 &&
         plan->processes(0).role() == JailedProcess::CONSOLE;
}

void RemoveLeftovers(const LaunchPlan& plan) {
  for (int i = plan.leftovers_size() - 1; i >= 0; --i) {
    // Takes files and empty folders alike.
    (void)std::remove(plan.leftovers(i).c_str());
  }
}

}  // namespace bulkhead::launcher
