// Terminal is the user's terminal while it is the guest's: raw, and as it was
// before on every way out. (Only SIGKILL leaves it raw; `reset` helps.)
//
// TRUST    Nothing is read here: the console process has the bytes.
// ERRORS   None: what is no terminal stays as it is.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_TERMINAL_H_
#define BULKHEAD_LAUNCHER_TERMINAL_H_

#include <termios.h>

namespace bulkhead::launcher {

class Terminal {
 public:
  Terminal() = default;
  ~Terminal() { Restore(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void MakeRaw();
  void Restore();

 private:
  bool raw_ = false;
  termios saved_ = {};
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_TERMINAL_H_
