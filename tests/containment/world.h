// World is what lies around a jail and must stay as it is: files, listening
// sockets, another device's service. It is looked at from outside.
//
// ERRORS   A world that cannot be made fails the test.
// THREADS  One, which is the tracer of the jails in it.

#ifndef BULKHEAD_TESTS_CONTAINMENT_WORLD_H_
#define BULKHEAD_TESTS_CONTAINMENT_WORLD_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "sandbox/violation.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

// How a process ended.
struct End {
  bool started = false;
  std::string output;  // what it said
  int signal = 0;
  int status = 0;
  std::optional<sandbox::Violation> violation;
};

class World {
 public:
  // `program_fd` is open for the taken_over program. Jailed or not, `sibling`
  // is a service like the one that is taken over.
  World(int program_fd, bool jailed_sibling);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Runs one attempt to its end. `channel_fd` is the service's channel, -1: one
  // that nobody reads.
  End RunJailed(const Attempt& attempt, int channel_fd = -1);
  End RunFree(const Attempt& attempt);

  // What is no longer as it was, in words.
  std::vector<std::string> Changes();

 private:
  struct Fds;  // a service's

  void MakeFiles();
  void MakeListeners();
  void StartSibling(bool jailed);
  // The sibling's word, as the sibling itself reads it.
  bool AskSibling(uint64_t* value);
  bool MakeFds(const Attempt& attempt, bool sealed, Fds* fds);

  const int program_fd_;
  Surroundings surroundings_;
  std::string canary_;  // how it looked: mode, size, time, content
  std::string affinity_;
  int listeners_[3] = {-1, -1, -1};
  pid_t sibling_ = -1;
  int sibling_pidfd_ = -1;
  int sibling_channel_ = -1;
  int ram_ = -1;    // of the last attempt, as are
  int state_ = -1;  // these
  int disk_ = -1;
  bool sibling_jailed_ = false;
};

}  // namespace bulkhead::containment

#endif  // BULKHEAD_TESTS_CONTAINMENT_WORLD_H_
