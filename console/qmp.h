// Qmp is QEMU's monitor as the launcher uses it: a few commands, a few events.
// Nobody else is connected to it, so nobody can ask QEMU to migrate, to open
// files or to add devices.
//
// TRUST    QEMU is jailed because a guest may take it over: what it says is
//          bounded in length and checked in type, and changes nothing but the
//          VM's own end.
// ERRORS   Read: DataLoss and Unavailable, see there.
// THREADS  One thread; the socket is non-blocking.

#ifndef BULKHEAD_CONSOLE_QMP_H_
#define BULKHEAD_CONSOLE_QMP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace bulkhead::console {

class Qmp {
 public:
  static constexpr size_t kLongestLine = 256 * 1024;

  // `fd` stays the caller's.
  explicit Qmp(int fd) : fd_(fd) {}

  // Reads what is there. DataLoss: not QMP; give it up. Unavailable: closed.
  absl::Status Read();

  // Sends a command without arguments: "system_powerdown", "quit", "cont".
  void Execute(const std::string& command);

  // QEMU has built the machine and answers commands.
  bool ready() const { return ready_; }
  // From the SHUTDOWN event: "guest-shutdown", "guest-reset", "guest-panic",
  // "host-qmp-quit", ...; "" while the VM runs.
  const std::string& shutdown_reason() const { return shutdown_reason_; }
  bool panicked() const { return panicked_; }
  // It has stopped the guest for good ("internal-error"): KVM could not go on.
  bool stuck() const { return stuck_; }
  int resets() const { return resets_; }
  // The last error that QEMU answered a command with, escaped.
  const std::string& error() const { return error_; }

 private:
  absl::Status TakeLine(absl::string_view line);

  int fd_;
  std::string buffer_;
  bool greeted_ = false;
  bool ready_ = false;
  bool panicked_ = false;
  bool stuck_ = false;
  int resets_ = 0;
  std::string shutdown_reason_;
  std::string error_;
};

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_QMP_H_
