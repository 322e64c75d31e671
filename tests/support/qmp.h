// Qmp talks to a QEMU's machine protocol over a unix socket.
//
// ERRORS   A command that QEMU refuses, or does not answer in time, gives a
//          JSON object with "error".
// THREADS  One.

#ifndef BULKHEAD_TESTS_SUPPORT_QMP_H_
#define BULKHEAD_TESTS_SUPPORT_QMP_H_

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace bulkhead::testing {

class Qmp {
 public:
  Qmp() = default;
  ~Qmp();
  Qmp(const Qmp&) = delete;
  Qmp& operator=(const Qmp&) = delete;

  // Connects to the socket at `path` as soon as it is there.
  bool Connect(const std::string& path, double timeout_seconds);
  // Takes over the monitor that another process holds as `fd`, for a test that
  // has stopped that process. False without the right to (CAP_SYS_PTRACE).
  bool TakeFrom(pid_t process, int fd);

  nlohmann::json Execute(const std::string& command,
                         nlohmann::json arguments = nlohmann::json::object(),
                         double timeout_seconds = 20);
  // How long QEMU's monitor takes to answer, in seconds; < 0: it does not.
  double AnswerSeconds(double timeout_seconds = 10);
  // Waits for an event of that name; events seen on the way are dropped.
  bool WaitForEvent(const std::string& name, double timeout_seconds);

 private:
  bool ReadMessage(nlohmann::json* message, double timeout_seconds);

  int fd_ = -1;
  std::string buffer_;
  std::vector<std::string> events_;
};

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_SUPPORT_QMP_H_
