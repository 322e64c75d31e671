#include "launcher/terminal.h"

#include <signal.h>
#include <unistd.h>

namespace bulkhead::launcher {

void Terminal::MakeRaw() {
  if (raw_ || tcgetattr(STDIN_FILENO, &saved_) != 0) return;
  termios raw = saved_;
  cfmakeraw(&raw);
  // Our own lines end in a plain newline; a guest's CR NL stays harmless.
  raw.c_oflag |= OPOST | ONLCR;
  raw_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

void Terminal::Restore() {
  if (!raw_) return;
  raw_ = false;
  // Also when the user has put us into the background meanwhile.
  (void)signal(SIGTTOU, SIG_IGN);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_);
}

}  // namespace bulkhead::launcher
