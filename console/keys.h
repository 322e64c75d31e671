// Keys is what the user types on the guest's terminal. Ctrl-A is the prefix of
// what is not for the guest, twice for itself.
//
// TRUST    The user's own keys.
// ERRORS   None.
// THREADS  One thread.

#ifndef BULKHEAD_CONSOLE_KEYS_H_
#define BULKHEAD_CONSOLE_KEYS_H_

#include <string>

namespace bulkhead::console {

class Keys {
 public:
  enum class Command { kNone, kQuit, kPowerDown, kStatus, kHelp };

  // Takes one byte from the user: appends what is for the guest to `to_guest`.
  Command Take(char byte, std::string* to_guest);

  static const char* Help();

 private:
  bool prefix_ = false;
};

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_KEYS_H_
