#include "launcher/terminal.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

namespace bulkhead::launcher {
namespace {

constexpr char kPrefix = 'A' - '@';  // Ctrl-A
constexpr int kCrashSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

termios saved;  // what the terminal was

extern "C" void RestoreAndDie(int signal) {
  tcsetattr(STDIN_FILENO, TCSANOW, &saved);
  // SA_RESETHAND: this time it is deadly.
  raise(signal);
}

}  // namespace

bool Terminal::IsInteractive() {
  return isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
}

void Terminal::MakeRaw() {
  if (raw_ || tcgetattr(STDIN_FILENO, &saved) != 0) return;
  for (const int signal : kCrashSignals) {
    struct sigaction action = {};
    action.sa_handler = RestoreAndDie;
    action.sa_flags = SA_RESETHAND | SA_NODEFER;
    sigaction(signal, &action, nullptr);
  }
  termios raw = saved;
  cfmakeraw(&raw);
  // Our own lines end in a plain newline; a guest's CR NL stays harmless.
  raw.c_oflag |= OPOST | ONLCR;
  raw_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

void Terminal::Restore() {
  if (!raw_) return;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
  raw_ = false;
}

Keys::Command Keys::Take(char byte, std::string* to_guest) {
  if (!prefix_) {
    if (byte == kPrefix) {
      prefix_ = true;
    } else {
      to_guest->push_back(byte);
    }
    return Command::kNone;
  }
  prefix_ = false;
  switch (byte) {
    case 'x':
    case 'X':
      return Command::kQuit;
    case 'p':
    case 'P':
      return Command::kPowerDown;
    case 'c':
    case 'C':
    case 's':
    case 'S':
      return Command::kStatus;
    case kPrefix:
    case 'a':
      to_guest->push_back(kPrefix);
      return Command::kNone;
    default:
      return Command::kHelp;
  }
}

const char* Keys::Help() {
  return "Ctrl-A X  quit: end the VM at once\n"
         "Ctrl-A P  press the guest's power button\n"
         "Ctrl-A S  status of the VM's processes\n"
         "Ctrl-A A  send Ctrl-A to the guest\n"
         "Ctrl-A H  this help\n";
}

}  // namespace bulkhead::launcher
