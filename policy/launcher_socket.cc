#include "policy/launcher_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace bulkhead::policy {
namespace {

constexpr char kPrefix[] = "@bulkhead/";
// Flags of a socket that listens (__SO_ACCEPTCON): what it has accepted bears
// its name as well.
constexpr char kListens[] = " 00010000 ";

}  // namespace

// /proc/net/unix shows abstract names with an @ in front.
std::vector<LauncherSocket> LauncherSockets() {
  std::vector<LauncherSocket> sockets;
  std::ifstream in("/proc/net/unix");
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find(kPrefix);
    if (at == std::string::npos || line.find(kListens) > at) continue;
    const std::string name = line.substr(at + 1);
    const std::vector<std::string> parts = absl::StrSplit(name, '/');
    pid_t launcher = 0;
    if (parts.size() == 3 && absl::SimpleAtoi(parts[2], &launcher)) {
      sockets.push_back({name, parts[1], launcher});
    }
  }
  return sockets;
}

absl::StatusOr<int> Connect(const LauncherSocket& launcher_socket,
                            int seconds) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string& name = launcher_socket.name;
  memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  ucred peer = {};
  socklen_t peer_size = sizeof(peer);
  const timeval limit = {.tv_sec = seconds, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  std::string problem;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    problem = absl::StrCat("connecting to ", name, ": ", strerror(errno));
  } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 ||
             peer.pid != launcher_socket.launcher) {
    problem = absl::StrCat("another process listens on ", name);
  }
  if (problem.empty()) return fd;
  close(fd);
  return absl::UnavailableError(problem);
}

}  // namespace bulkhead::policy
