// Attempts to get out of a jail, as code that took a service over would make
// them: each is one call, or a few, of the kernel.
//
// THREADS  One.

#ifndef BULKHEAD_TESTS_CONTAINMENT_ATTEMPTS_H_
#define BULKHEAD_TESTS_CONTAINMENT_ATTEMPTS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bulkhead::containment {

// What there is to be reached, as told on the command line.
struct Surroundings {
  std::string folder;     // with files and a listening socket in it
  std::string abstract;   // name of an abstract listener, without the zero
  uint16_t tcp_port = 0;  // of a listener on 127.0.0.1
  pid_t sibling = 0;      // another device's service
  uint64_t word = 0;      // address of a word in it
  pid_t launcher = 0;

  std::vector<std::string> ToArguments() const;
  static Surroundings FromArguments(char** begin, char** end);
};

// What becomes of it in the jail.
enum class Jailed {
  kKilled,   // the filter kills the process, and the launcher names the call
  kRefused,  // the kernel says no, and nothing happened
  kBounded,  // it is allowed, and reaches nothing but the service's own
};

// What becomes of it without one, to show that it is a real attempt.
enum class Free {
  kDone,     // an ordinary user's process can do it
  kReached,  // the kernel looks at it: its answer depends on privileges, on the
             // hardware or on how the kernel was built
};

struct Attempt {
  const char* name;
  const char* group;
  Jailed jailed;
  const char* syscall;  // that the launcher names when it is killed
  Free free;
  long (*run)(const Surroundings&);  // as a call: -1 and errno
};

const std::vector<Attempt>& AllAttempts();

}  // namespace bulkhead::containment

#endif  // BULKHEAD_TESTS_CONTAINMENT_ATTEMPTS_H_
