// The launcher: the trusted process of a VM. `vm` becomes it by exec, with a
// plan in an fd whose number is the only argument. It opens no file of the
// user's and reads nothing that a guest or an image wrote.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/exit_code.h"
#include "base/fd.h"
#include "launcher/supervisor.h"
#include "proto/launch.pb.h"

namespace bulkhead::launcher {
namespace {

bool ReadPlan(int fd, LaunchPlan* plan) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  std::string bytes(status.st_size, '\0');
  return pread(fd, bytes.data(), bytes.size(), 0) == status.st_size &&
         plan->ParseFromString(bytes) && plan->processes_size() > 0 &&
         plan->processes(0).role() == JailedProcess::CONSOLE;
}

int Main(int argc, char** argv) {
  LaunchPlan plan;
  {
    const Fd file(argc == 2 ? std::atoi(argv[1]) : -1);
    if (!ReadPlan(file.get(), &plan)) {
      (void)std::fputs("launcher: started by `vm`, with a plan\n", stderr);
      return kExitUsage;
    }
  }
  const ExitCode code = Supervisor(plan).Run();
  for (int i = plan.leftovers_size() - 1; i >= 0; --i) {
    // Takes files and empty folders alike.
    (void)std::remove(plan.leftovers(i).c_str());
  }
  return code;
}

}  // namespace
}  // namespace bulkhead::launcher

int main(int argc, char** argv) { return bulkhead::launcher::Main(argc, argv); }
