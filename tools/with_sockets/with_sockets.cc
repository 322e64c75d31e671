// with_sockets FD=SOCKET... -- PROGRAM ARGUMENT...
//
// Connects to each unix socket and becomes PROGRAM, which finds the connections
// as those fds: how a QEMU of one's own gets x-pci-proxy-dev's sockets from
// `vm --no_qemu --frontend=x_pci_proxy`.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

void ConnectAs(const char* argument) {
  char* end = nullptr;
  const long fd = strtol(argument, &end, 10);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (*end != '=' || end == argument || fd < 3 || fd > 1000 ||
      strlen(end + 1) >= sizeof address.sun_path) {
    fprintf(stderr, "with_sockets: %s: want FD=SOCKET\n", argument);
    exit(2);
  }
  strcpy(address.sun_path, end + 1);
  const int made = socket(AF_UNIX, SOCK_STREAM, 0);
  if (made < 0 || connect(made, reinterpret_cast<sockaddr*>(&address),
                          sizeof address) != 0) {
    Fail(end + 1);
  }
  if (made == fd) return;
  if (dup2(made, static_cast<int>(fd)) < 0) Fail("dup2");
  close(made);
}

}  // namespace

int main(int count, char** arguments) {
  int at = 1;
  while (at < count && strcmp(arguments[at], "--") != 0) {
    ConnectAs(arguments[at++]);
  }
  if (at + 1 >= count) {
    fprintf(stderr, "with_sockets FD=SOCKET... -- PROGRAM ARGUMENT...\n");
    return 2;
  }
  execvp(arguments[at + 1], &arguments[at + 1]);
  Fail(arguments[at + 1]);
}
