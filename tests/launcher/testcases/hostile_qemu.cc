// A QEMU that its guest has taken over, as far as the launcher can see it: it
// says that it is a QEMU, is ready, and then does what its name asks for.
//
//   flooding-qemu    sends events, console bytes and log lines without end, and
//                    obeys nothing
//   forbidden-qemu   asks the kernel for what its policy does not allow
//   stuck-qemu       is not hostile: KVM could not go on with its guest

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace {

constexpr int kConsoleFd = 4;
constexpr int kMonitorFd = 5;

void Say(int fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t sent = write(fd, text.data() + at, text.size() - at);
    if (sent <= 0) _exit(1);
    at += sent;
  }
}

[[noreturn]] void Flood() {
  fcntl(kConsoleFd, F_SETFL, O_RDWR | O_NONBLOCK);
  fcntl(kMonitorFd, F_SETFL, O_RDWR | O_NONBLOCK);
  const std::string event =
      R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET"})"
      "\n";
  std::string events;
  while (events.size() < 4096) events += event;
  for (unsigned round = 0;; ++round) {
    (void)!write(kMonitorFd, events.data(), events.size());
    (void)!write(kConsoleFd, events.data(), events.size());
    if (round % 16 == 0) (void)!write(STDERR_FILENO, "noise\n", 6);
  }
}

// Until it is killed; as QEMU does when KVM_RUN fails.
[[noreturn]] void StopForGood() {
  Say(STDERR_FILENO, "KVM internal error. Suberror: 1\nemulation failure\n");
  Say(kMonitorFd,
      R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"})"
      "\n");
  char command[512];
  for (;;) {
    const ssize_t got = read(kMonitorFd, command, sizeof(command));
    if (got <= 0) _exit(0);
    if (std::string(command, got).find("query-status") == std::string::npos) {
      continue;
    }
    Say(kMonitorFd,
        R"({"return": {"running": false, "status": "internal-error"}})"
        "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    puts("QEMU emulator version 11.1.3 (hostile)");
    return 0;
  }
  Say(kMonitorFd, "{\"QMP\": {}}\n");
  char command[512];
  if (read(kMonitorFd, command, sizeof(command)) <= 0) return 1;
  Say(kMonitorFd, "{\"return\": {}}\n");
  if (strstr(argv[0], "flooding") != nullptr) Flood();
  sleep(1);  // until the launcher has said that it is ready
  if (strstr(argv[0], "stuck") != nullptr) StopForGood();
  mount("none", "/", "tmpfs", 0, nullptr);
  return 0;
}
