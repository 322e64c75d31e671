// The launcher: the trusted process of a VM. `vm` becomes it by exec, with a
// plan in an fd whose number is the only argument. It opens no file of the
// user's and reads nothing that a guest or an image wrote.

#include <cstdio>
#include <cstdlib>

#include "base/exit_code.h"
#include "base/fd.h"
#include "launcher/plan_file.h"
#include "launcher/supervisor.h"
#include "proto/launch.pb.h"

namespace bulkhead::launcher {
namespace {

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
  RemoveLeftovers(plan);
  return code;
}

}  // namespace
}  // namespace bulkhead::launcher

int main(int argc, char** argv) { return bulkhead::launcher::Main(argc, argv); }
