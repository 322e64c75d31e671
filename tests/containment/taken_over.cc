// A service that was taken over: it locks itself down like any other, and then
// runs code of the attacker's choice.
//
//   taken_over jailed|free ATTEMPT SURROUNDINGS...
//   taken_over jailed|free wait
//
// "NAME returned R errno E" goes to fd 1 when the attempt comes back. "wait"
// says "ready ADDRESS" of a word, and then answers each packet on the channel
// with the word's value, until the channel closes.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "policy/lsi53c895a.h"
#include "proto/service_fds.h"
#include "sandbox/heap.h"
#include "sandbox/lock_down.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {
namespace {

volatile uint64_t word = 0x0123456789abcdef;

void Say(const char* text, size_t size) {
  const iovec bytes = {const_cast<char*>(text), size};
  (void)!pwritev2(1, &bytes, 1, -1, 0);
}

int Wait() {
  char line[64];
  Say(line, snprintf(line, sizeof(line), "ready %llu\n",
                     static_cast<unsigned long long>(
                         reinterpret_cast<uintptr_t>(&word))));
  for (;;) {
    uint64_t value;
    iovec data = {&value, sizeof(value)};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (recvmsg(kChannelFd, &message, 0) <= 0) return 0;
    value = word;
    (void)sendmsg(kChannelFd, &message, MSG_NOSIGNAL);
  }
}

int Run(const char* name, const Surroundings& surroundings) {
  for (const Attempt& attempt : AllAttempts()) {
    if (strcmp(attempt.name, name) != 0) continue;
    errno = 0;
    const long result = attempt.run(surroundings);
    const int error = errno;
    char line[128];
    Say(line, snprintf(line, sizeof(line), "%s returned %ld errno %d\n", name,
                       result, result == -1 ? error : 0));
    syscall(SYS_exit_group, 0);
  }
  return 4;
}

int Main(int argc, char** argv) {
  if (argc < 3) return 2;
  const Surroundings surroundings =
      Surroundings::FromArguments(argv + 3, argv + argc);
  (void)AllAttempts();
  if (strcmp(argv[1], "jailed") == 0) {
    // As ServiceMain does it.
    sandbox::ConfigureHeap();
    if (!sandbox::ReserveHeap(8 << 20)) return 5;
    const absl::Status locked = sandbox::LockDown(policy::Lsi53c895a());
    if (!locked.ok()) {
      Say(locked.message().data(), locked.message().size());
      return 3;
    }
  }
  return strcmp(argv[2], "wait") == 0 ? Wait() : Run(argv[2], surroundings);
}

}  // namespace
}  // namespace bulkhead::containment

int main(int argc, char** argv) {
  return bulkhead::containment::Main(argc, argv);
}
