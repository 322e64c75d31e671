#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "vm/vm.h"

namespace {

// A standard stream that is closed would be the next file that is opened: the
// guest's terminal could end up in a disk.
void OpenStandardStreams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", O_RDWR);
  }
}

}  // namespace

int main(int argc, char** argv) {
  OpenStandardStreams();
  return bulkhead::vm::RunVm(std::vector<std::string>(argv + 1, argv + argc));
}
