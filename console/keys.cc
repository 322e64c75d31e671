#include "console/keys.h"

namespace bulkhead::console {
namespace {

constexpr char kPrefix = 'A' - '@';  // Ctrl-A

}  // namespace

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

}  // namespace bulkhead::console
