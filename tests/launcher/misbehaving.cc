// A service that does one thing that no service may, after its lock-down.

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/lsi53c895a.h"
#include "sandbox/lock_down.h"

namespace bulkhead::misbehaving {

int* volatile nowhere = nullptr;

// The kernel is to find it, in a build with sanitizers as well.
__attribute__((noinline, no_sanitize("undefined"))) void FollowNowhere() {
  *nowhere = 1;
}

__attribute__((noinline)) void OpenAFile() {
  syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
}

}  // namespace bulkhead::misbehaving

int main() {
  if (!bulkhead::sandbox::LockDown(bulkhead::policy::Lsi53c895a()).ok()) {
    return 3;
  }
#ifdef MISBEHAVE_BREAK
  bulkhead::misbehaving::FollowNowhere();
#endif
#ifdef MISBEHAVE_OPEN
  bulkhead::misbehaving::OpenAFile();
#endif
  _exit(0);
}
