// Terminal is the user's side of the guest's console: raw while the guest has
// it, and as it was before on every way out, crashes included. (Only SIGKILL
// leaves it raw; `reset` helps.)
//
// TRUST    Bytes from the guest go to the terminal as they are, as on a serial
//          line; nothing in them is interpreted.
// THREADS  One thread; one Terminal at a time.

#ifndef BULKHEAD_LAUNCHER_TERMINAL_H_
#define BULKHEAD_LAUNCHER_TERMINAL_H_

#include <string>

#include "absl/strings/string_view.h"

namespace bulkhead::launcher {

class Terminal {
 public:
  Terminal() = default;
  ~Terminal() { Restore(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Whether stdin is a terminal that is ours to read.
  static bool IsInteractive();

  // Raw mode; signals that crash restore it first.
  void MakeRaw();
  void Restore();
  bool raw() const { return raw_; }

 private:
  bool raw_ = false;
};

// What a key press asks for. Ctrl-A is the prefix, twice for itself.
class Keys {
 public:
  enum class Command { kNone, kQuit, kPowerDown, kStatus, kHelp };

  // Takes one byte from the user: appends what is for the guest to `to_guest`.
  Command Take(char byte, std::string* to_guest);

  static const char* Help();

 private:
  bool prefix_ = false;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_TERMINAL_H_
